//! From a walk to a DAG: keeps the hashing threads busy and puts what they find back in order.
//!
//! One thread walks, asks for files to be hashed, and builds. Steps wait in a bounded window until
//! everything before them is built; what is built goes to the database in batches. So memory does
//! not depend on how many files there are or how large one is, but for the names in the folders
//! that are open.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use shoal_protocol::address::Cid;
use shoal_protocol::chunker::Chunker;
use shoal_protocol::unixfs::{
    Attributes, Block, BuildError, Built, DirBuilder, FileBuilder, symlink,
};
use tokio_util::sync::CancellationToken;

use super::hash::{self, Chunks, Done, Hashed, Hashers, Job, LargeFile, PIECE_BYTES};
use super::place::SharePlace;
use super::walk::{Walk, WalkStep};
use super::{Meter, ShareError};
use crate::disks::Disk;
use crate::{BATCH_BYTES, Batch, FileId, FileRow, FileStat, FileState, Recipe, ShareId, Store};

/// Steps that may wait for their turn: at some 200 bytes each, 400 KiB. A file that takes long
/// holds up at most this many after it.
const WINDOW_STEPS_MAX: usize = 2048;

/// Pieces of one large file that may be asked for ahead: 512 MiB of it, 20 KiB of digests.
const WINDOW_PIECES_MAX: usize = 64;

/// What a share is made of, once it is built.
pub(super) struct Tree {
    pub(super) root: Built,
    pub(super) files: u64,
    pub(super) chunks: u64,
    /// Whether a file changed so recently that a power loss may still take its bytes.
    pub(super) unflushed: bool,
}

/// Where what is built goes.
pub(super) struct Target {
    pub(super) store: Store,
    pub(super) share: ShareId,
    /// The disk that is read.
    pub(super) disk: Arc<Disk>,
    /// Rows that were not committed yet.
    pub(super) batch: Batch,
}

/// Builds the DAG of `place`, leaving the last rows in the target's batch.
pub(super) fn build(
    place: &SharePlace,
    walk: &mut Walk<'_>,
    recipe: &Recipe,
    target: &mut Target,
    meter: &mut Meter<'_>,
    cancel: &CancellationToken,
) -> Result<Tree, ShareError> {
    let disk = Arc::clone(&target.disk);
    std::thread::scope(|scope| {
        let hashers = Hashers::spawn(scope, recipe, &disk, cancel).map_err(ShareError::NoThread)?;
        let builder = Builder {
            place,
            recipe,
            target,
            meter,
            cancel,
            hashers,
            window: Window::default(),
            pieces: Window::default(),
            open: Vec::new(),
            root: None,
            files: 0,
            chunks: 0,
            unflushed: false,
        };
        builder.run(walk)
    })
}

struct Builder<'a, 'b> {
    place: &'a SharePlace,
    recipe: &'a Recipe,
    target: &'a mut Target,
    meter: &'a mut Meter<'b>,
    cancel: &'a CancellationToken,
    hashers: Hashers,
    /// Steps in walk order, of which the files wait for their hashes.
    window: Window<Waiting>,
    /// Pieces of the large file that is being read.
    pieces: Window<Option<Result<Chunks, ShareError>>>,
    /// The folders that were entered and not left, outermost first.
    open: Vec<Folder>,
    root: Option<Built>,
    files: u64,
    chunks: u64,
    unflushed: bool,
}

struct Folder {
    name: String,
    entries: DirBuilder,
}

/// A step that waits for its turn.
struct Waiting {
    step: WalkStep,
    /// For a file, what the hashing threads found.
    found: Option<Result<Hashed, ShareError>>,
}

impl Builder<'_, '_> {
    fn run(mut self, walk: &mut Walk<'_>) -> Result<Tree, ShareError> {
        let mut walked = false;
        loop {
            if self.cancel.is_cancelled() {
                return Err(ShareError::Cancelled);
            }
            while !walked && self.window.len() < WINDOW_STEPS_MAX && self.hashers.has_room() {
                match walk.next()? {
                    Some(step) => self.queue(step)?,
                    None => walked = true,
                }
            }
            while self.window.front().is_some_and(Waiting::is_ready) {
                if let Some(waiting) = self.window.pop() {
                    self.take(waiting)?;
                }
            }
            if self.window.len() > 0 {
                self.receive()?;
            } else if walked {
                break;
            }
        }
        let root = self.root.ok_or_else(|| {
            // A walk yields its place or fails.
            ShareError::ChangedWhileSharing(self.place.base.clone())
        })?;
        Ok(Tree {
            root,
            files: self.files,
            chunks: self.chunks,
            unflushed: self.unflushed,
        })
    }

    /// Puts a step in line and has it hashed if it is a file.
    fn queue(&mut self, step: WalkStep) -> Result<(), ShareError> {
        let path = match &step {
            WalkStep::File { below, .. } => Some(self.place.path(below)),
            _ => None,
        };
        let seq = self.window.push(Waiting { step, found: None });
        match path {
            Some(path) => self.hashers.ask(Job::File { seq, path }),
            None => Ok(()),
        }
    }

    /// Waits for an answer and puts it, and all others that are there, where they are waited for.
    fn receive(&mut self) -> Result<(), ShareError> {
        let mut next = Some(self.hashers.answer()?);
        while let Some(done) = next {
            match done {
                Done::File { seq, found } => {
                    if let Some(waiting) = self.window.get_mut(seq) {
                        waiting.found = Some(found);
                    }
                }
                Done::Piece { seq, found, .. } => {
                    self.pieces.extend_to(seq);
                    if let Some(piece) = self.pieces.get_mut(seq) {
                        *piece = Some(found);
                    }
                }
                Done::Panicked => return Err(ShareError::Panicked),
            }
            next = self.hashers.try_answer();
        }
        Ok(())
    }

    /// Builds what the frontmost step says.
    fn take(&mut self, waiting: Waiting) -> Result<(), ShareError> {
        match (waiting.step, waiting.found) {
            (WalkStep::Enter { name, below }, _) => {
                let attributes = self.attributes(below.as_deref())?;
                let entries = DirBuilder::new(self.recipe.hash, attributes);
                self.open.push(Folder { name, entries });
                Ok(())
            }
            (WalkStep::Leave, _) => self.leave(),
            (
                WalkStep::Symlink {
                    name,
                    below,
                    target,
                },
                _,
            ) => {
                let attributes = self.attributes(Some(&below))?;
                let (block, built) = symlink(self.recipe.hash, &target, attributes)
                    .map_err(|cause| self.unbuildable(&below, cause))?;
                self.target.keep(&block);
                self.place_in_folder(&name, built)
            }
            (WalkStep::File { name, below }, Some(found)) => {
                let built = self.file(below, found?)?;
                self.place_in_folder(&name, built)
            }
            // The window only yields files that were answered.
            (WalkStep::File { .. }, None) => Err(ShareError::Panicked),
        }
    }

    fn leave(&mut self) -> Result<(), ShareError> {
        let Some(Folder { name, entries }) = self.open.pop() else {
            return Ok(());
        };
        let built = entries
            .finish(&mut |block| self.target.keep(&block))
            .map_err(|cause| self.unbuildable(&name, cause))?;
        self.place_in_folder(&name, built)
    }

    /// Adds an entry to the innermost folder; without one it is the root.
    fn place_in_folder(&mut self, name: &str, built: Built) -> Result<(), ShareError> {
        match self.open.last_mut() {
            Some(folder) => {
                let added = folder.entries.add(name, &built);
                added.map_err(|cause| self.unbuildable(name, cause))?;
            }
            None => self.root = Some(built),
        }
        self.target.commit_when_full()
    }

    fn file(&mut self, below: String, found: Hashed) -> Result<Built, ShareError> {
        let id = self
            .target
            .store
            .new_file_ids(1)?
            .next()
            .ok_or(ShareError::Panicked)?;
        let mut file = OpenFile {
            id,
            offset: 0,
            dag: FileBuilder::new(self.recipe.hash, found.attributes),
        };
        let mut row = FileRow {
            share: self.target.share,
            path: below,
            stat: found.stat,
            state: FileState::Stable,
        };
        row.stat = match found.chunks {
            Some(chunks) => {
                self.add_chunks(&mut file, chunks);
                found.stat
            }
            None => {
                // Its chunks are committed before it is read to its end, and rows are taken out by
                // file: without this one, nobody would find them after a failure.
                self.target.batch.put_file(id, &row)?;
                self.large(&mut file, &row.path, found.stat)?
            }
        };
        self.target.batch.put_file(id, &row)?;
        self.files += 1;
        self.unflushed |= row.stat.may_be_unflushed(SystemTime::now());
        self.meter.file();
        Ok(file.dag.finish(&mut |block| self.target.keep(&block)))
    }

    /// Has a large file hashed in pieces; other files go on being hashed meanwhile.
    fn large(
        &mut self,
        file: &mut OpenFile,
        below: &str,
        before: FileStat,
    ) -> Result<FileStat, ShareError> {
        let large = Arc::new(LargeFile::open(self.place.path(below), before)?);
        self.pieces = Window::default();
        let mut asked = 0;
        while file.offset < large.size {
            if self.cancel.is_cancelled() {
                return Err(ShareError::Cancelled);
            }
            match self.recipe.chunker {
                Chunker::Fixed => self.ask_pieces(&large, &mut asked)?,
                Chunker::Cdc if asked == 0 => {
                    self.hashers.ask(Job::Stream {
                        file: Arc::clone(&large),
                    })?;
                    asked = large.size;
                }
                Chunker::Cdc => {}
            }
            self.receive()?;
            while self.pieces.front().is_some_and(Option::is_some) {
                if let Some(Some(chunks)) = self.pieces.pop() {
                    self.add_chunks(file, chunks?);
                    self.target.commit_when_full()?;
                }
            }
        }
        large.unchanged(before)
    }

    /// Asks for as many further pieces as the windows have room for; `asked` bytes were asked for.
    fn ask_pieces(&mut self, large: &Arc<LargeFile>, asked: &mut u64) -> Result<(), ShareError> {
        while *asked < large.size
            && self.pieces.len() < WINDOW_PIECES_MAX
            && self.hashers.has_room()
        {
            let to = large.size.min(*asked + PIECE_BYTES);
            let seq = self.pieces.push(None);
            self.hashers.ask(Job::Piece {
                seq,
                file: Arc::clone(large),
                from: *asked,
                to,
            })?;
            *asked = to;
        }
        Ok(())
    }

    fn add_chunks(&mut self, file: &mut OpenFile, chunks: Chunks) {
        for (digest, len) in chunks {
            self.target
                .batch
                .put_chunk(file.id, file.offset, &digest, len);
            file.dag
                .push(Cid::raw(digest), u64::from(len), &mut |block| {
                    self.target.keep(&block);
                });
            file.offset += u64::from(len);
            self.chunks += 1;
            self.meter.bytes(u64::from(len));
        }
    }

    /// The attributes that are kept of a folder or symlink.
    fn attributes(&self, below: Option<&str>) -> Result<Attributes, ShareError> {
        let wanted = self.recipe.preserve_mode || self.recipe.preserve_mtime;
        let Some(below) = below.filter(|_| wanted) else {
            return Ok(Attributes::default());
        };
        let path = self.place.path(below);
        let metadata = path
            .symlink_metadata()
            .map_err(|error| ShareError::io(&path, error))?;
        Ok(self.recipe.kept(hash::attributes(&metadata)))
    }

    fn unbuildable(&self, name: &str, cause: BuildError) -> ShareError {
        ShareError::Unbuildable {
            path: self.place.path(name),
            cause,
        }
    }
}

/// A file whose DAG is being built.
struct OpenFile {
    id: FileId,
    offset: u64,
    dag: FileBuilder,
}

impl Target {
    fn keep(&mut self, block: &Block) {
        // Blocks that are built are addressed by a digest, never inline.
        if let Some(digest) = block.cid.digest() {
            self.batch.put_block(self.share, &digest, &block.data);
        }
    }

    fn commit_when_full(&mut self) -> Result<(), ShareError> {
        if self.batch.bytes() >= BATCH_BYTES {
            let full = std::mem::replace(&mut self.batch, self.store.batch());
            full.commit(false)?;
        }
        Ok(())
    }
}

impl Waiting {
    fn is_ready(&self) -> bool {
        self.found.is_some() || !matches!(self.step, WalkStep::File { .. })
    }
}

/// Things in order, numbered as they come in, that leave at the front.
struct Window<T> {
    items: VecDeque<T>,
    first: u64,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            first: 0,
        }
    }
}

impl<T> Window<T> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn push(&mut self, item: T) -> u64 {
        self.items.push_back(item);
        self.first + self.items.len() as u64 - 1
    }

    fn front(&self) -> Option<&T> {
        self.items.front()
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.first += 1;
        Some(item)
    }

    fn get_mut(&mut self, seq: u64) -> Option<&mut T> {
        let index = seq.checked_sub(self.first)?;
        self.items.get_mut(usize::try_from(index).ok()?)
    }
}

impl<T> Window<Option<T>> {
    /// Makes room for the item `seq` of a stream, whose items come in order and are not asked for.
    fn extend_to(&mut self, seq: u64) {
        while self.first + (self.items.len() as u64) <= seq {
            self.items.push_back(None);
        }
    }
}
