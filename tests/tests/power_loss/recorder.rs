//! Makes a [`Log`] of what a running program does.
//!
//! A call counts once it has been made, and before the program knows: so whatever the program does
//! because of it comes later in the log. A flush counts for what was done before it began. What is
//! said counts from the moment on at which it is about to be said.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use shoal_tests::trace::{Call, Thread, Watcher};

use crate::log::{Entry, Log, Step};

/// What the daemon says when it has done something: the end of an answer that takes time, what was
/// unshared, and how much was dropped.
const ANSWERS: [&str; 3] = [r#"{"event":"done""#, r#"{"removed":"#, DROPPED];

/// What it says when replicas were dropped.
pub(crate) const DROPPED: &str = r#"{"roots":"#;

/// Says in a call of `fallocate` that what lies there is to go.
const PUNCH: u64 = libc::FALLOC_FL_PUNCH_HOLE.cast_unsigned() as u64;

/// The longest answer that is looked at; none of a test's is longer.
const ANSWER_BYTES_MAX: u64 = 1 << 16;

pub(crate) struct Recorder(pub(crate) Log);

/// What a call was before it was made.
pub(crate) enum Begun {
    /// It may make an entry.
    Making(Entry, PathBuf),
    Unlinking(Entry),
    Renaming(Entry, Entry, PathBuf),
    /// It writes at this offset of a descriptor; where that stands without one.
    Writing(u64, Option<u64>),
    /// It gives what this stands for the bytes of another file.
    Cloning(PathBuf),
    /// It takes the bytes at this offset and of this length out of a descriptor.
    Punching(u64, u64, u64),
    /// It changes the length, the times or the mode of what this stands for.
    Changing(PathBuf),
    Flushing(u64, usize),
    FlushingAll(u64, usize),
}

impl Watcher for Recorder {
    type Begun = Begun;

    fn begin(&mut self, thread: Thread, call: &Call) -> Option<Begun> {
        let log = &mut self.0;
        let [a, b, c, d, ..] = call.args;
        let at_cwd = i64::from(libc::AT_FDCWD).cast_unsigned();
        let path = |at, address| thread.path_at(at, address).ok();
        let making = |log: &Log, at, address| {
            let path = path(at, address)?;
            Some(Begun::Making(log.entry(&path)?, path))
        };
        let unlinking =
            |log: &Log, at, address| log.entry(&path(at, address)?).map(Begun::Unlinking);
        let renaming = |log: &Log, from: (u64, u64), to: (u64, u64)| {
            let (from, to) = (path(from.0, from.1)?, path(to.0, to.1)?);
            Some(Begun::Renaming(log.entry(&from)?, log.entry(&to)?, to))
        };
        let now = log.steps.len();
        match call.number {
            libc::SYS_open | libc::SYS_creat | libc::SYS_mkdir | libc::SYS_mknod => {
                making(log, at_cwd, a)
            }
            libc::SYS_openat | libc::SYS_mkdirat | libc::SYS_mknodat => making(log, a, b),
            libc::SYS_symlink | libc::SYS_link => making(log, at_cwd, b),
            libc::SYS_symlinkat => making(log, b, c),
            libc::SYS_linkat => making(log, c, d),
            libc::SYS_unlink | libc::SYS_rmdir => unlinking(log, at_cwd, a),
            libc::SYS_unlinkat => unlinking(log, a, b),
            libc::SYS_rename => renaming(log, (at_cwd, a), (at_cwd, b)),
            libc::SYS_renameat | libc::SYS_renameat2 => renaming(log, (a, b), (c, d)),
            libc::SYS_write | libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg => {
                self.heard(thread, call);
                Some(Begun::Writing(a, None))
            }
            libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 => {
                Some(Begun::Writing(a, Some(d)))
            }
            libc::SYS_copy_file_range => Some(Begun::Writing(c, None)),
            libc::SYS_sendfile => Some(Begun::Writing(a, None)),
            libc::SYS_fallocate if b & PUNCH != 0 => Some(Begun::Punching(a, c, d)),
            libc::SYS_ftruncate | libc::SYS_fallocate | libc::SYS_fchmod | libc::SYS_fchown => {
                Some(Begun::Changing(thread.fd(a)))
            }
            libc::SYS_ioctl if b == libc::FICLONE => Some(Begun::Cloning(thread.fd(a))),
            libc::SYS_truncate | libc::SYS_chmod => path(at_cwd, a).map(Begun::Changing),
            libc::SYS_utimensat if b == 0 => Some(Begun::Changing(thread.fd(a))),
            libc::SYS_utimensat | libc::SYS_fchmodat => path(a, b).map(Begun::Changing),
            libc::SYS_fsync | libc::SYS_fdatasync => Some(Begun::Flushing(a, now)),
            libc::SYS_syncfs => Some(Begun::FlushingAll(a, now)),
            _ => None,
        }
    }

    fn end(&mut self, thread: Thread, begun: Begun, call: &Call, result: i64) {
        if result < 0 {
            return;
        }
        let log = &mut self.0;
        match begun {
            Begun::Making(entry, path) => {
                log.made(entry, &path);
                let truncating = match call.number {
                    libc::SYS_open => call.args[1],
                    libc::SYS_openat => call.args[2],
                    _ => 0,
                };
                if truncating & u64::from(libc::O_TRUNC.cast_unsigned()) != 0 {
                    self.resized(&path);
                }
            }
            Begun::Unlinking(entry) => log.unlinked(entry),
            Begun::Renaming(from, to, path) => log.renamed(from, to, &path),
            Begun::Writing(fd, offset) => {
                let path = thread.fd(fd);
                let len = result.cast_unsigned();
                let offset = match offset {
                    Some(offset) => offset,
                    None => thread.position(fd).unwrap_or(0).saturating_sub(len),
                };
                self.written(&path, offset, len);
            }
            Begun::Cloning(path) => {
                let len = path.metadata().map_or(0, |it| it.len());
                self.written(&path, 0, len);
            }
            Begun::Punching(fd, offset, len) => self.written(&thread.fd(fd), offset, len),
            Begun::Changing(path) => self.resized(&path),
            Begun::Flushing(fd, begun) => {
                if let Some((id, _)) = log.known(&thread.fd(fd)) {
                    log.steps.push(Step::Flush { id, begun });
                }
            }
            Begun::FlushingAll(fd, begun) => {
                if log.is_beside(&thread.fd(fd)) {
                    log.steps.push(Step::FlushAll { begun });
                }
            }
        }
    }
}

impl Recorder {
    /// Reads back what was written: what lies in the file is what was meant to, whichever way it
    /// came there.
    fn written(&mut self, path: &Path, offset: u64, len: u64) {
        let Some((id, metadata)) = self.0.known(path) else {
            return;
        };
        let mut bytes = vec![0; usize::try_from(len).expect("it fits in memory")];
        let read = File::open(path).and_then(|it| it.read_exact_at(&mut bytes, offset));
        read.expect("what was written can be read");
        self.0.steps.push(Step::Write { id, offset, bytes });
        self.0.stat(id, &metadata);
    }

    fn resized(&mut self, path: &Path) {
        if let Some((id, metadata)) = self.0.known(path) {
            if metadata.is_file() {
                let len = metadata.len();
                self.0.steps.push(Step::Resize { id, len });
            }
            self.0.stat(id, &metadata);
        }
    }

    /// Notes what a client is told.
    fn heard(&mut self, thread: Thread, call: &Call) {
        let Ok(said) = said(thread, call) else {
            return;
        };
        let said = String::from_utf8_lossy(&said);
        let begin = ANSWERS.iter().find_map(|answer| said.find(answer));
        if let Some(begin) = begin {
            let line = said[begin..].lines().next().unwrap_or_default();
            self.0.steps.push(Step::Said(line.to_owned()));
        }
    }
}

/// The bytes that a call sends.
fn said(thread: Thread, call: &Call) -> io::Result<Vec<u8>> {
    let [_, address, len, ..] = call.args;
    let piece = |address, len: u64| {
        let len = len.min(ANSWER_BYTES_MAX);
        thread.read(address, usize::try_from(len).map_err(io::Error::other)?)
    };
    let word = |bytes: &[u8], index: usize| {
        let word = bytes.chunks_exact(8).nth(index);
        word.map_or(0, |it| {
            it.iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        })
    };
    let (pieces, count) = match call.number {
        libc::SYS_write | libc::SYS_sendto => return piece(address, len),
        libc::SYS_writev => (address, len),
        // The head of a message: its third and fourth words are the pieces and their number.
        _ => {
            let head = piece(address, 32)?;
            (word(&head, 2), word(&head, 3))
        }
    };
    let table = piece(pieces, count.saturating_mul(16))?;
    let mut all = Vec::new();
    for index in (0..table.len() / 8).step_by(2) {
        all.extend(piece(word(&table, index), word(&table, index + 1))?);
    }
    Ok(all)
}
