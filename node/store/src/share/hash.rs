//! The threads that read and hash files.
//!
//! They take jobs from one bounded queue and answer into another; order is the business of whoever
//! asks. A small file is one job. A large one is asked for in pieces, so that one file keeps all
//! cores busy, or, when its cuts depend on its content, as one stream of pieces. Every thread owns
//! one buffer of at most 4 MiB. The threads end when the queue of jobs is closed, when nobody takes
//! answers, or on cancellation.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Scope;
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::OFlags;
use shoal_protocol::address::{BLOCK_BYTES_MAX, CHUNK_BYTES, Digest};
use shoal_protocol::chunker::Chunker;
use shoal_protocol::unixfs::{Attributes, Mtime};
use tokio_util::sync::CancellationToken;

use super::ShareError;
use crate::disks::Disk;
use crate::{FileStat, Recipe};

/// Files up to this size are one job: 3 ms of hashing at 2.7 GB/s.
pub(super) const SMALL_BYTES_MAX: u64 = 8 << 20;

/// What is read and hashed in one piece of a large file: a multiple of a chunk.
pub(super) const PIECE_BYTES: u64 = 8 << 20;

/// Jobs that are queued or running at most. Enough that the threads find work while the asker
/// writes rows, little enough that answers waiting for their turn stay small.
pub(super) const JOBS_MAX: usize = 256;

/// What is read of a file that does not say how long it is: what answers without an end is not a
/// file to share.
const UNSIZED_BYTES_MAX: u64 = 1 << 40;

/// Chunks in one answer of a stream: as many as in a piece.
const STREAM_CHUNKS: usize = (PIECE_BYTES >> 20) as usize;

/// The chunks of a file or a piece of one, in order, each with its length.
pub(super) type Chunks = Vec<(Digest, u32)>;

/// Something to read and hash.
pub(super) enum Job {
    /// A file that was not opened yet.
    File { seq: u64, path: PathBuf },
    /// The bytes `from..to` of a large file.
    Piece {
        seq: u64,
        file: Arc<LargeFile>,
        from: u64,
        to: u64,
    },
    /// All of a large file, answered in pieces that are numbered from 0.
    Stream { file: Arc<LargeFile> },
}

/// What came of a job.
pub(super) enum Done {
    /// The file with this number.
    File {
        seq: u64,
        found: Result<Hashed, ShareError>,
    },
    /// The piece with this number of the large file that is being read; `last` when its job is
    /// over.
    Piece {
        seq: u64,
        found: Result<Chunks, ShareError>,
        last: bool,
    },
    /// A thread panicked; its answer will never come.
    Panicked,
}

/// A file that was looked at.
pub(super) struct Hashed {
    pub(super) stat: FileStat,
    pub(super) attributes: Attributes,
    /// `None` for a file over [`SMALL_BYTES_MAX`], which is to be asked for in pieces.
    pub(super) chunks: Option<Chunks>,
}

/// An open file that is read in pieces.
pub(super) struct LargeFile {
    file: File,
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

/// The asker's side of the threads.
pub(super) struct Hashers {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    running: usize,
}

impl Hashers {
    /// Starts one thread per core in `scope`, or as many as there are to be had.
    ///
    /// # Errors
    /// The system's, when there is not one.
    pub(super) fn spawn<'scope>(
        scope: &'scope Scope<'scope, '_>,
        recipe: &'scope Recipe,
        disk: &'scope Disk,
        cancel: &'scope CancellationToken,
    ) -> io::Result<Self> {
        let (jobs, to_do) = bounded(JOBS_MAX);
        let (answers, done) = bounded(JOBS_MAX);
        for number in 0..std::thread::available_parallelism()?.get() {
            let thread = Thread {
                recipe,
                disk,
                cancel,
                jobs: to_do.clone(),
                answers: answers.clone(),
                buffer: vec![0; buffer_bytes(recipe.chunker)],
            };
            let started = std::thread::Builder::new()
                .name("shoal-hash".to_owned())
                .spawn_scoped(scope, move || thread.run());
            match started {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "files are hashed on {number} threads, for there are no more");
                    break;
                }
            }
        }
        Ok(Self {
            jobs,
            done,
            running: 0,
        })
    }

    /// Whether another job may be asked for.
    pub(super) fn has_room(&self) -> bool {
        self.running < JOBS_MAX
    }

    /// Asks for a job. Never waits while [`has_room`](Self::has_room).
    pub(super) fn ask(&mut self, job: Job) -> Result<(), ShareError> {
        self.jobs.send(job).map_err(|_| ShareError::Panicked)?;
        self.running += 1;
        Ok(())
    }

    /// Waits for an answer. There has to be a job running.
    pub(super) fn answer(&mut self) -> Result<Done, ShareError> {
        let done = self.done.recv().map_err(|_| ShareError::Panicked)?;
        Ok(self.note(done))
    }

    /// An answer that is there already.
    pub(super) fn try_answer(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        Some(self.note(done))
    }

    fn note(&mut self, done: Done) -> Done {
        if !matches!(done, Done::Piece { last: false, .. }) {
            self.running = self.running.saturating_sub(1);
        }
        done
    }
}

impl LargeFile {
    /// Opens a file that is to be as it was when it was first looked at.
    pub(super) fn open(path: PathBuf, before: FileStat) -> Result<Self, ShareError> {
        let (file, stat, _) = open(&path)?;
        if stat != before {
            return Err(ShareError::ChangedWhileSharing(path));
        }
        Ok(Self {
            file,
            path,
            size: stat.size,
        })
    }

    /// Makes sure that the file is as it was before it was read, and says how it may be recorded.
    pub(super) fn unchanged(&self, before: FileStat) -> Result<FileStat, ShareError> {
        if has_byte_at(&self.file, &self.path, before.size)? {
            return Err(ShareError::ChangedWhileSharing(self.path.clone()));
        }
        unchanged(&self.file, &self.path, before)
    }
}

/// One hashing thread.
struct Thread<'a> {
    recipe: &'a Recipe,
    /// Told of the calls that may hang, so that the disk is named.
    disk: &'a Disk,
    cancel: &'a CancellationToken,
    jobs: Receiver<Job>,
    answers: Sender<Done>,
    buffer: Vec<u8>,
}

/// Tells the asker when its thread panics, who would wait for the answer forever.
struct PanicAlarm(Sender<Done>);

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // When nobody listens any more there is nobody to tell.
            let _ = self.0.send(Done::Panicked);
        }
    }
}

impl Thread<'_> {
    fn run(mut self) {
        let _alarm = PanicAlarm(self.answers.clone());
        while let Ok(job) = self.jobs.recv() {
            let heard = match job {
                Job::File { seq, path } => {
                    let found = self.file(&path);
                    self.answers.send(Done::File { seq, found })
                }
                Job::Piece {
                    seq,
                    file,
                    from,
                    to,
                } => {
                    let mut chunks = Vec::with_capacity(STREAM_CHUNKS);
                    let found = self.chunks(&file.file, &file.path, from..to, |digest, len| {
                        chunks.push((digest, len));
                    });
                    let found = found.map(|()| chunks);
                    self.answers.send(Done::Piece {
                        seq,
                        found,
                        last: true,
                    })
                }
                Job::Stream { file } => {
                    let last = self.stream(&file);
                    self.answers.send(last)
                }
            };
            if heard.is_err() {
                return;
            }
        }
    }

    fn file(&mut self, path: &Path) -> Result<Hashed, ShareError> {
        let (file, before, attributes) = {
            let _touch = self.disk.touch();
            open(path)?
        };
        let attributes = self.recipe.kept(attributes);
        if before.size > SMALL_BYTES_MAX {
            return Ok(Hashed {
                stat: before,
                attributes,
                chunks: None,
            });
        }
        let mut chunks = Vec::new();
        let mut size = 0;
        self.chunks(&file, path, 0..before.size, |digest, len| {
            chunks.push((digest, len));
        })?;
        let has_more = has_byte_at(&file, path, before.size)?;
        if has_more && before.size == 0 {
            // Files of the system's own say that they are empty: only their end tells how long
            // they are.
            self.read_to_end(&file, path, |digest, len| {
                chunks.push((digest, len));
                size += u64::from(len);
            })?;
        } else if has_more {
            return Err(ShareError::ChangedWhileSharing(path.to_owned()));
        }
        let stat = unchanged(&file, path, before)?;
        Ok(Hashed {
            stat: match size {
                0 => stat,
                size => stat.unsized_with(size),
            },
            attributes,
            chunks: Some(chunks),
        })
    }

    /// Reads a file of unknown length and hands over its chunks in order.
    fn read_to_end(
        &mut self,
        file: &File,
        path: &Path,
        mut on_chunk: impl FnMut(Digest, u32),
    ) -> Result<(), ShareError> {
        let (mut at, mut filled, mut ended) = (0, 0, false);
        while !ended || filled > 0 {
            while !ended && filled < self.buffer.len() {
                let touch = self.disk.touch();
                let read = file.read_at(&mut self.buffer[filled..], at);
                drop(touch);
                let read = match read {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read.map_err(|error| ShareError::io(path, error))?,
                };
                ended = read == 0;
                at += read as u64;
                filled += read;
            }
            if at > UNSIZED_BYTES_MAX {
                return Err(ShareError::Endless(path.to_owned()));
            }
            filled = self.cut(filled, ended, &mut on_chunk)?;
        }
        Ok(())
    }

    /// Answers all pieces of `file` but the last, and returns that.
    fn stream(&mut self, file: &LargeFile) -> Done {
        let mut seq = 0;
        let mut chunks = Vec::with_capacity(STREAM_CHUNKS);
        let answers = self.answers.clone();
        let found = self.chunks(&file.file, &file.path, 0..file.size, |digest, len| {
            if chunks.len() == STREAM_CHUNKS {
                let full = std::mem::replace(&mut chunks, Vec::with_capacity(STREAM_CHUNKS));
                // When nobody listens any more, the last answer ends the thread.
                let _ = answers.send(Done::Piece {
                    seq,
                    found: Ok(full),
                    last: false,
                });
                seq += 1;
            }
            chunks.push((digest, len));
        });
        Done::Piece {
            seq,
            found: found.map(|()| chunks),
            last: true,
        }
    }

    /// Reads `range` of a file and hands over its chunks in order.
    fn chunks(
        &mut self,
        file: &File,
        path: &Path,
        range: std::ops::Range<u64>,
        mut on_chunk: impl FnMut(Digest, u32),
    ) -> Result<(), ShareError> {
        let mut at = range.start;
        // Bytes at the front of the buffer that were read and not cut.
        let mut filled = 0;
        while at < range.end || filled > 0 {
            let room = &mut self.buffer[filled..];
            let wanted = usize::try_from(range.end - at)
                .unwrap_or(usize::MAX)
                .min(room.len());
            let read = {
                let _touch = self.disk.touch();
                file.read_exact_at(&mut room[..wanted], at)
            };
            read.map_err(|error| too_short(file, path, range.end, error))?;
            at += wanted as u64;
            filled += wanted;
            filled = self.cut(filled, at == range.end, &mut on_chunk)?;
        }
        Ok(())
    }

    /// Hands over the chunks at the front of the buffer, of which `filled` bytes were read, and says
    /// how many are left over; none at the `end`.
    fn cut(
        &mut self,
        filled: usize,
        end: bool,
        on_chunk: &mut impl FnMut(Digest, u32),
    ) -> Result<usize, ShareError> {
        let mut cut = 0;
        while let Some(len) = self.recipe.chunker.cut(&self.buffer[cut..filled], end) {
            if self.cancel.is_cancelled() {
                return Err(ShareError::Cancelled);
            }
            let chunk = &self.buffer[cut..cut + len];
            on_chunk(Digest::of(self.recipe.hash, chunk), chunk_len(len));
            cut += len;
        }
        self.buffer.copy_within(cut..filled, 0);
        Ok(filled - cut)
    }
}

impl Recipe {
    /// The attributes that the recipe keeps.
    pub(super) fn kept(&self, found: Attributes) -> Attributes {
        Attributes {
            mode: found.mode.filter(|_| self.preserve_mode),
            mtime: found.mtime.filter(|_| self.preserve_mtime),
        }
    }
}

/// All attributes of what `metadata` is about.
pub(super) fn attributes(metadata: &std::fs::Metadata) -> Attributes {
    let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or_default();
    Attributes {
        mode: Some(metadata.mode() & Attributes::MODE_MASK),
        mtime: Mtime::new(metadata.mtime(), nanos),
    }
}

/// A buffer that can be cut at least once after every read. Content-defined cuts leave up to a
/// block over, so they get twice that, or most of a read would be moving bytes.
fn buffer_bytes(chunker: Chunker) -> usize {
    match chunker {
        Chunker::Fixed => CHUNK_BYTES,
        Chunker::Cdc => 2 * BLOCK_BYTES_MAX,
    }
}

/// Opens a file, says how it is, and has the system read ahead.
fn open(path: &Path) -> Result<(File, FileStat, Attributes), ShareError> {
    let failed = |error| ShareError::io(path, error);
    let file = open_to_read(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(ShareError::ChangedWhileSharing(path.to_owned()));
    }
    if metadata.size() > CHUNK_BYTES as u64 {
        read_ahead(&file);
    }
    Ok((file, FileStat::of(&metadata), attributes(&metadata)))
}

/// Opens a file that a walk has found to be one, without following a symlink or waiting on a fifo
/// that has taken its place.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Asks the system to read ahead further than it would. Advice only: what does not take it is read
/// as well.
fn read_ahead(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Whether a file goes on at `end`.
fn has_byte_at(file: &File, path: &Path, end: u64) -> Result<bool, ShareError> {
    let read = file.read_at(&mut [0], end);
    Ok(read.map_err(|error| ShareError::io(path, error))? > 0)
}

/// What it means that a file ends before `end`, or cannot be read up to there.
fn too_short(file: &File, path: &Path, end: u64, error: io::Error) -> ShareError {
    let is_short = error.kind() == io::ErrorKind::UnexpectedEof;
    let says_so_still = file.metadata().is_ok_and(|now| now.size() >= end);
    match is_short && says_so_still {
        true => ShareError::WrongSize(path.to_owned()),
        false => ShareError::io(path, error),
    }
}

fn unchanged(file: &File, path: &Path, before: FileStat) -> Result<FileStat, ShareError> {
    let after = file
        .metadata()
        .map_err(|error| ShareError::io(path, error))?;
    if FileStat::of(&after) != before {
        return Err(ShareError::ChangedWhileSharing(path.to_owned()));
    }
    Ok(before.recorded_at(SystemTime::now()))
}

fn chunk_len(len: usize) -> u32 {
    u32::try_from(len).expect("a chunk has at most BLOCK_BYTES_MAX bytes")
}
