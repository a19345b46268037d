//! The start: what rows say is what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shoal_protocol::replicate::cache::{RunId, Standing};
use shoal_protocol::replicate::helper::Helper;
use shoal_protocol::replicate::slabs::{EXTENT_ALIGN, Extent, Slabs};
use shoal_protocol::replicate::{Key, Salt};

use super::books::Books;
use super::files::SlabFiles;
use super::rows::{self, Part, PieceId, PieceRow, RootRow};
use super::{REPLICAS_DIR, ReplicaConfig, ReplicaEvent, Replicas, ReplicasInner, Writer};
use crate::layout::Family;
use crate::{Store, StoreError, rows as store_rows};

/// What is read of the rows.
#[derive(Default)]
struct Found {
    roots: BTreeMap<Key, RootRow>,
    runs: Vec<(RunId, Standing, PieceRow)>,
    nodes: Vec<(PieceId, PieceRow)>,
    /// Pieces that cannot be read or count for nothing, whose rows are to go.
    refused: Vec<(PieceId, PieceRow)>,
    /// Roots of which nothing is left.
    roots_gone: Vec<Key>,
}

impl Replicas {
    /// Opens the replicas of a home, and has the disk follow the rows: bytes that no row names are
    /// punched out, rows whose bytes cannot be there go, and what does not fit the quota.
    ///
    /// `on_event` is told of every change, on the thread that makes it and in its order; it must
    /// neither block nor call back.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn open(
        store: &Store,
        config: ReplicaConfig,
        salt: Salt,
        now: Duration,
        on_event: impl Fn(ReplicaEvent) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let files = SlabFiles::open(store.home(), store.home().join(REPLICAS_DIR))?;
        let mut helper = Helper::new(config.helper, salt, now);
        for key in denied(store)? {
            helper.deny(key, now);
        }
        let mut found = Found::read(store, &files.present()?)?;
        let slabs = found.place();
        let mut books = Books::default();
        found.restore(&mut helper, &mut books);
        let next_piece = found.next_piece();
        found.clear(store)?;
        let inner = ReplicasInner {
            store: store.clone(),
            files,
            floor: config.floor,
            helper: Mutex::new(helper),
            books: Mutex::new(books),
            writer: Mutex::new(Writer {
                slabs,
                next_piece,
                owed: BTreeSet::new(),
            }),
            on_event: Box::new(on_event),
        };
        inner.clear_slabs()?;
        let replicas = Self {
            inner: Arc::new(inner),
        };
        replicas.set_quota(config.helper.quota)?;
        Ok(replicas)
    }
}

impl ReplicasInner {
    /// Has nothing in the slabs but what rows name.
    fn clear_slabs(&self) -> Result<(), StoreError> {
        let writer = self.writer();
        let slabs: BTreeSet<_> = writer.slabs.slabs().collect();
        self.files.retain(|slab| slabs.contains(&slab))?;
        writer.slabs.gaps().for_each(|gap| self.files.punch(gap));
        Ok(())
    }
}

impl Found {
    fn read(store: &Store, slabs: &[u32]) -> Result<Self, StoreError> {
        let slabs: BTreeSet<_> = slabs.iter().collect();
        let scan = store.inner.scan(Family::Replicas, &rows::ROOT_ALL);
        let roots =
            scan.rows(|key, value| Ok((rows::take_key(key)?.0, store_rows::decode(value)?)));
        let mut found = Self {
            roots: roots.collect::<Result<_, _>>()?,
            ..Self::default()
        };
        let scan = store.inner.scan(Family::Replicas, &rows::PIECE_ALL);
        let pieces = scan.rows(|key, value| Ok((PieceId::parse(key)?, store_rows::decode(value)?)));
        for piece in pieces {
            let (id, row): (PieceId, PieceRow) = piece?;
            if !found.roots.contains_key(&id.key) || !slabs.contains(&row.slab) {
                found.refused.push((id, row));
                continue;
            }
            match id.part {
                Part::Nodes(_) => found.nodes.push((id, row)),
                Part::Run(run) => {
                    let id = RunId { key: id.key, run };
                    let standing = store.inner.get(Family::Replicas, &rows::standing_key(id))?;
                    match standing.map(|it| rows::decode_standing(&it)).transpose()? {
                        Some(standing) => found.runs.push((id, standing, row)),
                        None => found.refused.push((PieceId::of(id), row)),
                    }
                }
            }
        }
        Ok(found)
    }

    /// The slabs with all pieces in them; those that cannot lie there are refused.
    fn place(&mut self) -> Slabs {
        let nodes = self.nodes.iter().map(|(_, row)| row.extent());
        let runs = self.runs.iter().map(|(_, _, row)| row.extent());
        let (_, refused) = Slabs::restore(nodes.chain(runs));
        let refused: BTreeSet<Extent> = refused.into_iter().collect();
        self.refuse(|_, row| refused.contains(&row.extent()));
        self.forget_roots_without_runs();
        let nodes = self.nodes.iter().map(|(_, row)| row.extent());
        let runs = self.runs.iter().map(|(_, _, row)| row.extent());
        Slabs::restore(nodes.chain(runs)).0
    }

    /// A root without a run is what a pull left that was cut off.
    fn forget_roots_without_runs(&mut self) {
        let held: BTreeSet<_> = self.runs.iter().map(|(id, ..)| id.key).collect();
        self.refuse(|id, _| !held.contains(&id.key));
        let gone = self.roots.extract_if(.., |key, _| !held.contains(key));
        self.roots_gone.extend(gone.map(|(key, _)| key));
    }

    fn refuse(&mut self, is_refused: impl Fn(PieceId, &PieceRow) -> bool) {
        let nodes = self.nodes.extract_if(.., |(id, row)| is_refused(*id, row));
        self.refused.extend(nodes);
        let runs = self
            .runs
            .extract_if(.., |(id, _, row)| is_refused(PieceId::of(*id), row));
        self.refused
            .extend(runs.map(|(id, _, row)| (PieceId::of(id), row)));
    }

    fn restore(&self, helper: &mut Helper, books: &mut Books) {
        for (key, row) in &self.roots {
            books.restore_root(*key, *row);
        }
        for (id, standing, row) in &self.runs {
            let Some(root) = self.roots.get(&id.key) else {
                continue;
            };
            helper.restore_run(*id, *standing, root.shape());
            books.put_piece(
                PieceId::of(*id),
                row.number,
                row.bytes.into(),
                standing.used,
            );
        }
        for (id, row) in &self.nodes {
            let bytes = u64::from(row.bytes.next_multiple_of(EXTENT_ALIGN));
            helper.restore_nodes(id.key, bytes);
            books.put_piece(*id, row.number, row.bytes.into(), Duration::ZERO);
        }
    }

    fn next_piece(&self) -> u64 {
        let nodes = self.nodes.iter().map(|(_, row)| row.number);
        let runs = self.runs.iter().map(|(_, _, row)| row.number);
        let last = nodes.chain(runs).max();
        last.map_or(0, |last| last.saturating_add(1))
    }

    /// Deletes the rows of what is refused, before their bytes are punched out.
    fn clear(self, store: &Store) -> Result<(), StoreError> {
        let mut batch = store.batch();
        for (id, row) in &self.refused {
            rows::delete_piece(&mut batch, *id, row);
        }
        for key in self.roots_gone {
            batch.delete(Family::Replicas, rows::root_key(key));
        }
        if !self.refused.is_empty() {
            tracing::info!(
                pieces = self.refused.len(),
                "replicas that were not whole are gone"
            );
        }
        batch.commit(!self.refused.is_empty())
    }
}

fn denied(store: &Store) -> Result<Vec<Key>, StoreError> {
    let scan = store.inner.scan(Family::Replicas, &rows::DENIED_ALL);
    scan.rows(|key, _| Ok(rows::take_key(key)?.0)).collect()
}
