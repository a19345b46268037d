//! The blocking ends of a fetch: opening the part, publishing it, and cleaning up.

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use libp2p::PeerId;
use shoal_ground::said;
use shoal_protocol::{
    address::Cid,
    walk::{EntryKind, Tree},
};
use shoal_store::{FileStat, FileState, ShareRecord, ShareState};

use super::{Begun, Job};
use crate::fetch::{
    FetchError, Fetched, FetcherInner, fits,
    landing::Landing,
    names::{self, Renamed},
    place::{Folder, Part, Unkept},
    record::LandingPlace,
    supply::Fed,
    unflushed::Unflushed,
};

impl Job {
    /// Opens the part for `tree`, once it is known that its names and its files are acceptable there.
    pub(super) fn open(&self, begun: &Begun, mut tree: Tree) -> Result<Opened, FetchError> {
        let path = begun.destination.path();
        let _touch = self.progress.disk.touch();
        check_destination(&path, &tree)?;
        let part_name = begun.record.base.file_name().unwrap_or_default().to_owned();
        let (part, attributes) = match &tree.root {
            EntryKind::Dir { attributes } => (
                Part::tree(&begun.destination, part_name, attributes),
                attributes,
            ),
            EntryKind::File { attributes, .. } => {
                (Part::file(&begun.destination, part_name), attributes)
            }
            EntryKind::Symlink { .. } => return Err(FetchError::BareSymlink),
        };
        let part = part.and_then(|part| part.probe(attributes).map(|()| part));
        let part = part.map_err(|cause| FetchError::NoDestination {
            path: path.clone(),
            cause: said::of_disk(&path, &cause),
        })?;
        if matches!(tree.root, EntryKind::Dir { .. }) {
            let rules = part.name_rules().map_err(FetchError::at(&path))?;
            tree = names::settle(tree, rules, self.request.rename_unsafe)?;
            fits::check_names(&tree, &part, &path)?;
        }
        let symlinks =
            tree.symlinks() == 0 || part.keeps_symlinks().map_err(FetchError::at(&path))?;
        let mut short = None;
        if !begun.resume.resumed {
            fits::check_sizes(&tree, &part, &path)?;
            let free = shortage(&part, tree.bytes()).map_err(FetchError::at(&path))?;
            short = free.map(|free| free.saturating_add(self.yielding(begun)));
        }
        Ok(Opened {
            part,
            tree,
            symlinks,
            short,
            zeros: 0,
        })
    }

    /// Takes room for what was opened; returns the tree as it lands there, and what of it has new
    /// names.
    pub(super) fn settle_in(
        &self,
        begun: &Begun,
        opened: Opened,
    ) -> Result<(Arc<Landing>, Tree, Renamed), FetchError> {
        let Opened {
            part,
            tree,
            symlinks,
            zeros,
            ..
        } = opened;
        if !begun.resume.resumed {
            let needed = tree.bytes().saturating_sub(zeros);
            self.take_room(begun, needed);
            let _touch = self.progress.disk.touch();
            self.check_space(&part, needed)?;
        }
        let (journal, progress) = (Arc::clone(&begun.journal), Arc::clone(&self.progress));
        let landing = Landing::new(part, journal, progress, symlinks);
        let renamed = Renamed::of(&tree, symlinks);
        Ok((Arc::new(landing), tree, renamed))
    }

    /// Bytes of copies for others that would yield where it lands.
    fn yielding(&self, begun: &Begun) -> u64 {
        let replicas = self.inner.replicator.replicas();
        let yielding = replicas.yielding(&begun.destination.parent);
        yielding.unwrap_or_else(|error| {
            tracing::warn!(%error, "it is not known what copies for others would yield");
            0
        })
    }

    /// Has copies for others yield where the disk has too little room beside them.
    fn take_room(&self, begun: &Begun, needed: u64) {
        let replicas = self.inner.replicator.replicas();
        match replicas.make_room(&begun.destination.parent, needed) {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "copies for others made room"),
            Err(error) => tracing::warn!(%error, "copies for others made no room"),
        }
    }

    /// Makes sure that there is room. What the system says of that is an estimate, and some say
    /// nothing: only taking the room decides.
    fn check_space(&self, part: &Part, needed: u64) -> Result<(), FetchError> {
        let free = part.free_bytes();
        let free = free.map_err(|error| FetchError::Destination(part.about("", &error)))?;
        tracing::debug!(bytes = needed, ?free, "landing begins");
        match free {
            Some(free) if needed > free && part.is_too_large(needed) => {
                Err(FetchError::NoSpace { needed, free })
            }
            Some(free) if needed > free => {
                tracing::warn!(needed, free, "the disk says that it has too little room");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Moves the part into place, and makes the share servable unless that is not wanted.
    pub(super) fn finish(&self, begun: &Begun, mut landed: Landed) -> Result<Fetched, FetchError> {
        begun.journal.write()?;
        let part = landed.landing.part();
        // Before it is noted how the part looks that is moved.
        let sealed = {
            let _touch = self.progress.disk.touch();
            let sealed = part.seal(&landed.fed.folders);
            sealed.map_err(FetchError::Destination)?
        };
        if self.request.sync {
            self.flush(part)?;
        }
        let merged = self.move_into_place(begun, part, &landed.fed.folders)?;
        tracing::debug!("landed: all is in its place");
        if self.request.sync {
            self.flush(part)?;
        }
        landed.fed.unkept.add(landed.landing.unkept());
        landed.fed.unkept.add(merged.unwrap_or(sealed));
        let record = ShareRecord {
            root: landed.root,
            base: begun.destination.path(),
            size: (landed.fed.bytes).saturating_add(landed.landing.leaf_bytes()),
            files: landed.fed.files,
            chunks: landed.fed.chunks,
            state: ShareState::Live,
            announce: begun.record.announce && self.heard.is_open(),
            replicate: begun.record.replicate && !self.heard.marks().no_replicate,
            unflushed_boot: begun.record.unflushed_boot.filter(|_| !self.request.sync),
            ..begun.record.clone()
        };
        if self.request.is_served() {
            self.serve(&record, landed.landing)?;
        } else {
            self.inner.transfers.let_go(self.id)?;
            self.inner.library.discard(record.id)?;
        }
        Ok(self.fetched(&record, landed.fed, landed.from))
    }

    fn flush(&self, part: &Part) -> Result<(), FetchError> {
        let flushed = part.flush();
        flushed.map_err(|error| FetchError::Destination(part.about("", &error)))
    }

    fn move_into_place(
        &self,
        begun: &Begun,
        part: &Part,
        folders: &[Folder],
    ) -> Result<Option<Unkept>, FetchError> {
        let path = begun.destination.path();
        self.note_moving(begun)?;
        let _touch = self.progress.disk.touch();
        part.publish(&begun.destination, self.request.overwrite, folders)
            .map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => FetchError::DestinationExists(path),
                ErrorKind::NotADirectory | ErrorKind::IsADirectory => FetchError::OtherKind(path),
                _ => FetchError::Destination(part.about("", &error)),
            })
    }

    /// Offers what is in place from now on.
    fn serve(&self, record: &ShareRecord, landing: Arc<Landing>) -> Result<(), FetchError> {
        self.refresh_stat(record)?;
        let is_flushed = self.request.sync;
        if !is_flushed && let Some(place) = self.inner.transfers.place(self.id) {
            Unflushed::of(self.store()).note(self.id, &place)?;
        }
        self.inner
            .library
            .publish(self.store().batch(), record.clone())?;
        if !is_flushed {
            self.inner.flush_later(landing, record.id, self.id);
        }
        Ok(())
    }

    /// Notes what is about to be moved, so that a run after a crash can tell it from a stranger's.
    fn note_moving(&self, begun: &Begun) -> Result<(), FetchError> {
        let moving = {
            let _touch = self.progress.disk.touch();
            let found = begun.record.base.symlink_metadata();
            FileStat::of(&found.map_err(FetchError::at(&begun.destination.path()))?)
        };
        let Some(mut place) = self.inner.transfers.place(self.id) else {
            return Err(FetchError::Internal("a fetch without a place".to_owned()));
        };
        place.moving = Some(moving);
        Ok(self.inner.transfers.set_place(self.id, Some(place))?)
    }

    /// A rename changes the ctime of a single file; the index has to know the new one.
    fn refresh_stat(&self, share: &ShareRecord) -> Result<(), FetchError> {
        let Some((id, mut row)) = self.store().file_by_path(share.id, "")? else {
            return Ok(());
        };
        let now = {
            let _touch = self.progress.disk.touch();
            let found = share.base.symlink_metadata();
            FileStat::of(&found.map_err(FetchError::at(&share.base))?)
        };
        let moved = FileStat {
            ctime_ns: now.ctime_ns,
            ..row.stat
        };
        // Whatever else differs was done by somebody else, and the next look at the file finds it.
        if row.state != FileState::Stable || moved != now {
            return Ok(());
        }
        row.stat = moved;
        let mut batch = self.store().batch();
        batch.put_file(id, &row)?;
        Ok(batch.commit(false)?)
    }

    /// Takes away what a fetch without any progress left; anything else stays for the next run.
    pub(super) fn clean_up(&self, begun: &Begun) -> Result<(), FetchError> {
        // A run that ended before it came to what an earlier one had landed has not lost it.
        let earlier = self.store().files_of(begun.record.id).next();
        if self.progress.snapshot().verified() > 0 || (begun.resume.resumed && earlier.is_some()) {
            return Ok(begun.journal.write()?);
        }
        let place = self.inner.transfers.place(self.id);
        if let Err(error) = self.inner.take_away(place) {
            tracing::warn!(%error, part = %begun.record.base.display(), "a part was not removed");
            return Ok(());
        }
        Ok(self.inner.transfers.set_place(self.id, None)?)
    }

    pub(super) fn fetched(
        &self,
        share: &ShareRecord,
        fed: Fed,
        from: Vec<(PeerId, u64)>,
    ) -> Fetched {
        let done = self.progress.snapshot();
        Fetched {
            cid: share.root.clone(),
            path: share.base.clone(),
            size: share.size,
            files: share.files,
            elapsed: self.started.elapsed(),
            downloaded_bytes: done.downloaded,
            resumed_bytes: done.resumed,
            local_bytes: done.local,
            left_out: fed.left_out,
            renamed: fed.renamed,
            skipped: fed.skipped,
            unmade: fed.unmade,
            unkept: fed.unkept,
            from,
        }
    }
}

impl FetcherInner {
    /// Takes away the part of a transfer and its rows. What is there already under the final name
    /// is left alone, unless it is the part itself on its way. Blocking.
    pub(in crate::fetch) fn take_away(
        &self,
        place: Option<LandingPlace>,
    ) -> Result<(), FetchError> {
        let Some(place) = place else {
            return Ok(());
        };
        let landing = self.store.share(place.share)?;
        if landing.is_some_and(|share| share.state == ShareState::Landing) {
            let removed = place.take_back().and_then(|()| place.remove_part());
            removed.map_err(FetchError::at(&place.destination.parent.join(&place.part)))?;
            self.library.discard(place.share)?;
        }
        Ok(())
    }
}

impl LandingPlace {
    /// Gives a part back its hidden name that was about to be published when its process ended: it
    /// is finished like any other then.
    pub(in crate::fetch) fn take_back(&self) -> io::Result<()> {
        let there = self.destination.path().symlink_metadata();
        let is_part = |moving: FileStat| {
            let there = there.map(|it| FileStat::of(&it));
            there.is_ok_and(|there| {
                FileStat {
                    ctime_ns: moving.ctime_ns,
                    ..there
                } == moving
            })
        };
        if self.moving.is_some_and(is_part) {
            self.destination.take_back(&self.part)?;
        }
        Ok(())
    }

    fn remove_part(&self) -> io::Result<()> {
        self.existing_part()?.map_or(Ok(()), |part| part.remove())
    }

    /// The part, if it has its hidden name.
    pub(in crate::fetch) fn existing_part(&self) -> io::Result<Option<Part>> {
        let path = self.destination.parent.join(&self.part);
        let there = match path.symlink_metadata() {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let part = match there.is_dir() {
            true => Part::existing_tree(&self.destination, self.part.clone()),
            false => Part::file(&self.destination, self.part.clone()),
        };
        part.map(Some)
    }
}

/// A part that is open for what is to land in it.
pub(super) struct Opened {
    pub(super) part: Part,
    /// The tree under the names that it lands under.
    pub(super) tree: Tree,
    /// Whether there are symlinks.
    pub(super) symlinks: bool,
    /// The bytes that are free or are of copies that yield, where those that are free are fewer than those of
    /// the tree and zeros take none.
    pub(super) short: Option<u64>,
    /// Bytes of the tree that take no room, as far as they were counted.
    pub(super) zeros: u64,
}

/// The free bytes, where they are fewer than those that are needed and zeros take none.
fn shortage(part: &Part, needed: u64) -> io::Result<Option<u64>> {
    let free = part.free_bytes()?.filter(|free| needed > *free);
    // Where that cannot be tried there are none.
    Ok(free.filter(|_| part.keeps_holes().unwrap_or_default()))
}

/// Refuses a destination whose name is too long there, or that is of another kind.
fn check_destination(path: &Path, tree: &Tree) -> Result<(), FetchError> {
    let is_tree = matches!(tree.root, EntryKind::Dir { .. });
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() != is_tree => Err(FetchError::OtherKind(path.to_owned())),
        Err(cause) if cause.kind() == ErrorKind::InvalidFilename => {
            let path = path.to_owned();
            Err(FetchError::NoDestination { path, cause })
        }
        _ => Ok(()),
    }
}

/// Everything that a fetch leaves for its last step.
pub(super) struct Landed {
    pub(super) root: Cid,
    pub(super) landing: Arc<Landing>,
    pub(super) fed: Fed,
    pub(super) from: Vec<(PeerId, u64)>,
}
