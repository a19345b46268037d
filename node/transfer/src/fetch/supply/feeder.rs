//! The files of one tree, one after the other: what is here is landed, the rest becomes needs.

use std::{collections::HashMap, fs::Metadata, io, os::fd::AsFd as _, path::Path, sync::Arc};

use parking_lot::Mutex;
use rustix::fs::SeekFrom;
use shoal_protocol::{
    address::{BLOCK_BYTES_MAX, Cid, Codec, Digest, HashFn},
    name::SafeName,
    unixfs::{Attributes, DagError},
    walk::{EntryKind, FileStep, FileWalk, joined, symlink_stays_inside},
};
use shoal_store::{BATCH_BYTES, FileId, FileRow, FileStat, FileState};

use super::{Fed, Need, Resume, Supply};
use crate::fetch::{
    FetchError,
    landing::{LandError, Landing, LandingFile, Target},
    place::{Folder, Found, Unkept},
    zeros::ZeroChunks,
};

/// File ids taken from the store at a time; what is not used is lost, and there are 2^64.
const FILE_IDS_TAKEN: u64 = 1024;

/// Feeds the files of one tree.
pub(super) struct Feeder<'a> {
    supply: &'a Supply,
    landing: &'a Landing,
    resume: &'a Resume,
    fed: Fed,
    ids: Box<dyn Iterator<Item = FileId> + 'a>,
    /// One chunk, read from another share.
    buffer: Vec<u8>,
    zeros: ZeroChunks,
}

/// What the journal of an earlier run says of one file: the chunks that are in place.
type Journalled = HashMap<u64, Digest>;

impl<'a> Feeder<'a> {
    pub(super) fn new(supply: &'a Supply, landing: &'a Landing, resume: &'a Resume) -> Self {
        let (fed, ids) = (Fed::default(), Box::new(std::iter::empty()));
        Self {
            supply,
            landing,
            resume,
            fed,
            ids,
            buffer: Vec::new(),
            zeros: ZeroChunks::default(),
        }
    }

    pub(super) fn done(self) -> Fed {
        self.fed
    }

    /// Lands or asks for one entry; `path` are its names from the root down.
    pub(super) fn entry(&mut self, path: &[&SafeName], kind: &EntryKind) -> Result<(), FetchError> {
        if self.supply.needs.is_closed() {
            return Err(FetchError::Cancelled);
        }
        let text = joined(path);
        match kind {
            EntryKind::Dir { attributes } => self.folder(&text, attributes),
            EntryKind::Symlink { target, attributes } => {
                if symlink_stays_inside(path, target) {
                    self.symlink(text, target, attributes)
                } else {
                    self.fed.skipped.add(text);
                    Ok(())
                }
            }
            EntryKind::File {
                cid,
                size,
                attributes,
            } => self.file(text, cid, *size, attributes),
        }
    }

    fn folder(&mut self, path: &str, attributes: &Attributes) -> Result<(), FetchError> {
        if !attributes.is_empty() {
            self.fed.folders.push(Folder {
                path: path.into(),
                attributes: *attributes,
            });
        }
        // The root of a tree is the part itself.
        if path.is_empty() {
            return Ok(());
        }
        let _touch = self.supply.progress.disk.touch();
        let part = self.landing.part();
        let made = part.make_directory(Path::new(path), attributes);
        made.map_err(|error| FetchError::Destination(part.about(path, &error)))
    }

    fn symlink(
        &mut self,
        path: String,
        target: &str,
        attributes: &Attributes,
    ) -> Result<(), FetchError> {
        if !self.landing.has_symlinks() {
            self.fed.unmade.add(path);
            return Ok(());
        }
        let _touch = self.supply.progress.disk.touch();
        let part = self.landing.part();
        let made = part.make_symlink(Path::new(&path), target, attributes);
        let unkept = made.map_err(|error| FetchError::Destination(part.about(&path, &error)))?;
        self.fed.unkept.add(unkept);
        Ok(())
    }

    fn file(
        &mut self,
        path: String,
        cid: &Cid,
        size: Option<u64>,
        attributes: &Attributes,
    ) -> Result<(), FetchError> {
        self.fed.files += 1;
        let known = self.known(&path)?;
        if let Some((id, row)) = &known
            && let Some(found) = self.completed(row)
        {
            self.landing.not_kept(Unkept::between(attributes, found));
            return self.complete(*id, row);
        }
        let id = match &known {
            Some((id, _)) => *id,
            None => self.next_id()?,
        };
        let exact = size.filter(|_| cid.codec() == Codec::DagPb);
        let file = Arc::new(LandingFile {
            id,
            path,
            size: exact,
            attributes: *attributes,
            landed: Mutex::new(0),
            writing: Mutex::default(),
        });
        if let Some(bytes) = whole(cid) {
            self.fed.bytes += bytes.len() as u64;
            return self.landing.write_whole(&file, &bytes).map_err(refused);
        }
        let journalled = match &known {
            Some((id, row)) if self.is_same_file(row) => self.journalled(*id)?,
            Some((id, _)) => self.forget_chunks(*id)?,
            None => Journalled::new(),
        };
        match cid.codec() {
            Codec::Raw => {
                let Some(digest) = cid.digest() else {
                    return Ok(());
                };
                // How many bytes it has is known when it has landed.
                let claimed = size.and_then(|size| u32::try_from(size).ok());
                self.chunk(&file, (0, digest), (None, claimed), &journalled)
            }
            Codec::DagPb => self.chunks(&file, cid, &journalled),
        }
    }

    /// Walks the leaves of a file that has nodes.
    fn chunks(
        &mut self,
        file: &Arc<LandingFile>,
        cid: &Cid,
        journalled: &Journalled,
    ) -> Result<(), FetchError> {
        self.landing.begin(file).map_err(refused)?;
        let mut walk = FileWalk::new(cid.clone());
        loop {
            match walk.step()? {
                FileStep::Need(node) => {
                    let bytes = self.supply.node(&node)?;
                    walk.feed(&node, &bytes)?;
                }
                FileStep::Leaf { offset, len, cid } => {
                    let Some(digest) = cid.digest() else { continue };
                    let len = len.map(block_len).transpose()?;
                    self.chunk(file, (offset, digest), (len, len), journalled)?;
                }
                FileStep::Inline { offset, data } => self.inline(file, offset, &data)?,
                FileStep::Done { size } => {
                    let size = size.unwrap_or(0);
                    self.fed.bytes = self.fed.bytes.saturating_add(size);
                    return match size {
                        0 => self.landing.write_whole(file, &[]).map_err(refused),
                        _ => Ok(()),
                    };
                }
            }
        }
    }
}

impl Feeder<'_> {
    /// One chunk at its offset, as long as is known and as is claimed: from the part, from another
    /// share on this disk, or from the network.
    fn chunk(
        &mut self,
        file: &Arc<LandingFile>,
        (offset, digest): (u64, Digest),
        (len, claimed): (Option<u32>, Option<u32>),
        journalled: &Journalled,
    ) -> Result<(), FetchError> {
        if self.supply.needs.is_closed() {
            return Err(FetchError::Cancelled);
        }
        let target = Target {
            file: Arc::clone(file),
            offset,
            leaf: self.next_leaf(),
            len,
        };
        let resumed = self.resume.resumed
            && match len {
                Some(len) => self.resume_chunk(&target, digest, len, journalled)?,
                None => self.resume_leaf(&target, digest)?,
            };
        let is_here = resumed
            || self.zero_chunk(&target, digest, claimed)?
            || self.copy_chunk(&target, digest)?;
        if is_here {
            return Ok(());
        }
        self.supply.need(Need::Chunk {
            digest,
            len,
            claimed,
            target,
        })
    }

    /// Lands a chunk whose address says that it is zeros.
    fn zero_chunk(
        &mut self,
        target: &Target,
        digest: Digest,
        len: Option<u32>,
    ) -> Result<bool, FetchError> {
        let Some(len) = len.filter(|len| self.zeros.is(&digest, *len)) else {
            return Ok(false);
        };
        let landed = self.landing.land_zeros(target, digest, len);
        landed.map_err(refused)?;
        self.supply.progress.local(u64::from(len));
        Ok(true)
    }

    /// Takes a chunk from the part. What the journal vouches for counts as it is; whatever else
    /// lies there counts if it hashes to what belongs there.
    fn resume_chunk(
        &self,
        target: &Target,
        digest: Digest,
        len: u32,
        journalled: &Journalled,
    ) -> Result<bool, FetchError> {
        let vouched = self.resume.trusted && journalled.get(&target.offset) == Some(&digest);
        if !vouched && !self.is_there(target, digest, len)? {
            return Ok(false);
        }
        self.landing.landed(target, digest, len).map_err(refused)?;
        self.supply.progress.resumed(u64::from(len));
        Ok(true)
    }

    /// Takes a file of one leaf from the part, if it hashes to what belongs there.
    fn resume_leaf(&self, target: &Target, digest: Digest) -> Result<bool, FetchError> {
        let path = Path::new(&target.file.path);
        let touch = self.supply.progress.disk.touch();
        // What is not there, or cannot be read, is fetched.
        let Ok(file) = self.landing.part().open_existing(path) else {
            return Ok(false);
        };
        let len = file.metadata();
        drop(touch);
        let len = len.map_err(|error| self.about(target, &error))?.len();
        match u32::try_from(len) {
            Ok(len) if len as usize <= BLOCK_BYTES_MAX => {
                self.resume_chunk(target, digest, len, &Journalled::new())
            }
            _ => Ok(false),
        }
    }

    fn is_there(&self, target: &Target, digest: Digest, len: u32) -> Result<bool, FetchError> {
        let handle = self.landing.handle(&target.file);
        let handle = handle.map_err(FetchError::Destination)?;
        // A hole holds nothing worth hashing. Files without that notion say "data" everywhere.
        match rustix::fs::seek(handle.as_fd(), SeekFrom::Data(target.offset)) {
            Ok(data) if data < target.offset + u64::from(len) => {}
            _ => return Ok(false),
        }
        match self.landing.read(&target.file, target.offset, len) {
            Ok(bytes) => Ok(digest.matches(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.about(target, &error)),
        }
    }

    fn about(&self, target: &Target, error: &io::Error) -> FetchError {
        let part = self.landing.part();
        FetchError::Destination(part.about(&target.file.path, error))
    }

    /// Copies a chunk from another share, or from what is kept for others. What turns out to be wrong
    /// there is asked for elsewhere.
    fn copy_chunk(&mut self, target: &Target, digest: Digest) -> Result<bool, FetchError> {
        let library = &self.supply.library;
        if library.read(&digest, None, &mut self.buffer).is_err() {
            let Some(kept) = self.supply.kept_for_others(&digest) else {
                return Ok(false);
            };
            self.buffer = kept;
        }
        match self
            .landing
            .land(&digest, &self.buffer, std::slice::from_ref(target))
        {
            Ok(()) => {
                self.supply.progress.local(self.buffer.len() as u64);
                Ok(true)
            }
            Err(LandError::Mismatch) => Ok(false),
            Err(error) => Err(refused(error)),
        }
    }

    /// Bytes that stand in a node or an address.
    fn inline(
        &mut self,
        file: &Arc<LandingFile>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), FetchError> {
        let target = Target {
            file: Arc::clone(file),
            offset,
            leaf: self.next_leaf(),
            len: None,
        };
        self.supply.progress.local(bytes.len() as u64);
        // Addressed here so that they can be found in the file when it is served.
        let digest = Digest::of(HashFn::Blake3, bytes);
        self.landing
            .land(&digest, bytes, std::slice::from_ref(&target))
            .map_err(refused)
    }

    /// The number of the next leaf; leaves are counted in the order of the whole DAG, so there is
    /// none where only a part of that is fetched.
    fn next_leaf(&mut self) -> Option<u64> {
        let leaf = self.fed.chunks;
        self.fed.chunks += 1;
        self.supply.is_whole.then_some(leaf)
    }

    /// The row that an earlier run left for a file.
    fn known(&self, path: &str) -> Result<Option<(FileId, FileRow)>, FetchError> {
        if !self.resume.resumed {
            return Ok(None);
        }
        Ok(self.supply.store.file_by_path(self.resume.share, path)?)
    }

    /// What a file has that an earlier run finished, if nobody touched it since.
    fn completed(&self, row: &FileRow) -> Option<Found> {
        let is_whole = self.resume.trusted && row.state == FileState::Stable;
        let found = is_whole.then(|| self.look(row).ok()).flatten()?;
        (FileStat::of(&found) == row.stat).then(|| Found::from(&found))
    }

    /// Whether what lies in the part is the file that the journal speaks of. The part may have been
    /// moved, merged or deleted since; a file made anew in its place holds nothing.
    fn is_same_file(&self, row: &FileRow) -> bool {
        let written = |stat: FileStat| (stat.dev, stat.ino, stat.size);
        row.state == FileState::Landing
            && self
                .look(row)
                .is_ok_and(|found| written(FileStat::of(&found)) == written(row.stat))
    }

    /// What the system says of a file, which need not be readable: it may have the mode already that
    /// it is to have.
    fn look(&self, row: &FileRow) -> io::Result<Metadata> {
        let _touch = self.supply.progress.disk.touch();
        self.landing.part().look(Path::new(&row.path))
    }

    fn complete(&mut self, id: FileId, row: &FileRow) -> Result<(), FetchError> {
        let first = self.fed.chunks;
        for chunk in self.supply.store.chunks_of(id) {
            chunk?;
            self.fed.chunks += 1;
        }
        if let Some(journal) = self
            .supply
            .journal
            .as_ref()
            .filter(|_| self.supply.is_whole)
        {
            journal.are_written(first..self.fed.chunks);
        }
        self.fed.bytes = self.fed.bytes.saturating_add(row.stat.size);
        self.supply.progress.resumed(row.stat.size);
        self.supply.progress.file_done();
        Ok(())
    }

    fn journalled(&self, id: FileId) -> Result<Journalled, FetchError> {
        let chunks = self.supply.store.chunks_of(id);
        Ok(chunks
            .map(|it| it.map(|it| (it.offset, it.digest)))
            .collect::<Result<_, _>>()?)
    }

    /// Takes out what is journalled of a file that is not there any more, before another one in its
    /// place is: a later run would take the old rows for the new file's.
    fn forget_chunks(&self, id: FileId) -> Result<Journalled, FetchError> {
        let store = &self.supply.store;
        let mut batch = store.batch();
        for chunk in store.chunks_of(id) {
            let chunk = chunk?;
            batch.remove_chunk(id, chunk.offset, &chunk.digest);
            if batch.bytes() >= BATCH_BYTES {
                std::mem::replace(&mut batch, store.batch()).commit(false)?;
            }
        }
        batch.commit(false)?;
        Ok(Journalled::new())
    }

    fn next_id(&mut self) -> Result<FileId, FetchError> {
        if let Some(id) = self.ids.next() {
            return Ok(id);
        }
        self.ids = Box::new(self.supply.store.new_file_ids(FILE_IDS_TAKEN)?);
        self.ids
            .next()
            .ok_or_else(|| FetchError::Internal("no file ids are left".to_owned()))
    }
}

/// The length of a leaf, as the exchange counts it.
fn block_len(len: u64) -> Result<u32, FetchError> {
    u32::try_from(len)
        .map_err(|_| DagError::Malformed("a leaf is longer than a block may be").into())
}

/// The bytes of a file that nobody has to be asked for.
pub(in crate::fetch) fn whole(cid: &Cid) -> Option<Vec<u8>> {
    if cid.codec() != Codec::Raw {
        return None;
    }
    match cid.digest() {
        Some(digest) => digest.matches(&[]).then(Vec::new),
        None => cid.inline().map(<[u8]>::to_vec),
    }
}

fn refused(error: LandError) -> FetchError {
    let own = || FetchError::Internal("own bytes do not match".to_owned());
    error.fatal().unwrap_or_else(own)
}
