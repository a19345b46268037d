//! A disk that hangs when a test says so: a FUSE file system over a folder, served by this process.
//!
//! It passes everything through, and holds every call back while it hangs. It also has the habit of
//! some real ones to say that it has 0 of 0 blocks, and refuses what [`Refusals`] say, as FAT and
//! eCryptfs do. A test must not touch it while it hangs. Where
//! there is no FUSE a test says so and does nothing; in CI that is a failure.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// The system asks again each time, so that a disk that hangs is felt at once.
const TTL: Duration = Duration::ZERO;

/// What a disk does not take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals {
    /// Symbolic links, with this error.
    pub symlinks: Option<rustix::io::Errno>,
    /// Permissions of a file that is there.
    pub modes: bool,
    /// Times.
    pub times: bool,
    /// Names of more bytes.
    pub name_bytes: Option<usize>,
    /// Files of more bytes.
    pub file_bytes: Option<u64>,
}

impl Refusals {
    fn name(self, name: &OsStr) -> io::Result<()> {
        refuse(
            self.name_bytes.is_some_and(|max| name.len() > max),
            rustix::io::Errno::NAMETOOLONG,
        )
    }

    fn length(self, bytes: u64) -> io::Result<()> {
        let is_longer = self.file_bytes.is_some_and(|max| bytes > max);
        refuse(is_longer, rustix::io::Errno::FBIG)
    }
}

fn refuse(is_refused: bool, with: rustix::io::Errno) -> io::Result<()> {
    match is_refused {
        true => Err(with.into()),
        false => Ok(()),
    }
}

/// A mounted disk; unmounted when dropped, after it was woken.
pub struct OddDisk {
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
    /// Where it is mounted.
    pub at: PathBuf,
    /// The folder behind it, which never hangs.
    pub behind: PathBuf,
}

#[derive(Default)]
struct Gate {
    hangs: Mutex<bool>,
    /// It begins to hang when something gets these permissions.
    hangs_at: Mutex<Option<u32>>,
    woken: Condvar,
}

impl OddDisk {
    /// Mounts one in `folder`; none, with a word on why, where that is not possible.
    ///
    /// # Panics
    /// In CI when there is none.
    pub fn mount(folder: &Path) -> Option<Self> {
        Self::mount_refusing(folder, Refusals::default())
    }

    /// Mounts one that refuses something.
    ///
    /// # Panics
    /// In CI when there is none.
    pub fn mount_refusing(folder: &Path, refusals: Refusals) -> Option<Self> {
        let (at, behind) = (folder.join("mounted"), folder.join("behind"));
        fs::create_dir_all(&at).expect("a folder");
        fs::create_dir_all(&behind).expect("a folder");
        let gate = Arc::<Gate>::default();
        let disk = PassThrough {
            gate: Arc::clone(&gate),
            refusals,
            paths: Mutex::new(vec![behind.clone()]),
        };
        match fuser::spawn_mount(disk, &at, &Config::default()) {
            Ok(session) => Some(Self {
                gate,
                session: Some(session),
                at,
                behind,
            }),
            Err(error) => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "CI has to have FUSE: {error}"
                );
                #[expect(clippy::print_stderr, reason = "a test that does nothing says why")]
                {
                    eprintln!("skipped: no FUSE file system can be mounted here: {error}");
                }
                None
            }
        }
    }

    /// No call on it returns from now on.
    pub fn hang(&self) {
        *self.gate.lock() = true;
    }

    /// No call on it returns any more once something there has got these permissions.
    pub fn hang_at_mode(&self, mode: u32) {
        *self.gate.hangs_at.lock() = Some(mode);
    }

    /// It answers again.
    pub fn wake(&self) {
        *self.gate.lock() = false;
        self.gate.woken.notify_all();
    }
}

impl Drop for OddDisk {
    fn drop(&mut self) {
        self.wake();
        // Also while somebody has a file of it open, as a stick is pulled out.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
        drop(self.session.take());
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.hangs.lock()
    }

    fn changed(&self, mode: Option<u32>) {
        let mode = mode.map(|mode| mode & 0o7777);
        let mut hangs_at = self.hangs_at.lock();
        if mode.is_some() && *hangs_at == mode {
            *hangs_at = None;
            *self.lock() = true;
        }
    }

    fn pass(&self) {
        let mut hangs = self.lock();
        while *hangs {
            self.woken.wait(&mut hangs);
        }
    }
}

struct PassThrough {
    gate: Arc<Gate>,
    refusals: Refusals,
    /// Of each inode, whose number is one more than its place here.
    paths: Mutex<Vec<PathBuf>>,
}

impl PassThrough {
    fn paths(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.gate.pass();
        self.paths.lock()
    }

    fn path(&self, ino: INodeNo) -> io::Result<PathBuf> {
        let index = usize::try_from(u64::from(ino)).unwrap_or(0).wrapping_sub(1);
        let found = self.paths().get(index).cloned();
        found.ok_or_else(|| io::Error::from_raw_os_error(libc_stale()))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        self.refusals.name(name)?;
        Ok(self.path(parent)?.join(name))
    }

    fn attr(&self, path: &Path) -> io::Result<FileAttr> {
        let found = path.symlink_metadata()?;
        let mut paths = self.paths();
        let known = paths.iter().position(|known| known == path);
        let index = known.unwrap_or_else(|| {
            paths.push(path.to_owned());
            paths.len() - 1
        });
        let time = |secs: i64, nanos: i64| {
            let since = Duration::from_secs(secs.unsigned_abs());
            let whole = match secs {
                0.. => UNIX_EPOCH + since,
                _ => UNIX_EPOCH - since,
            };
            whole + Duration::from_nanos(nanos.unsigned_abs())
        };
        Ok(FileAttr {
            ino: INodeNo(index as u64 + 1),
            size: found.size(),
            blocks: found.blocks(),
            atime: time(found.atime(), found.atime_nsec()),
            mtime: time(found.mtime(), found.mtime_nsec()),
            ctime: time(found.ctime(), found.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind: kind(found.file_type()),
            perm: u16::try_from(found.mode() & 0o7777).unwrap_or(0o644),
            nlink: 1,
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            flags: 0,
            blksize: 4096,
        })
    }

    fn set(
        &self,
        ino: INodeNo,
        (mode, size): (Option<u32>, Option<u64>),
        mtime: Option<TimeOrNow>,
    ) -> io::Result<FileAttr> {
        let path = self.path(ino)?;
        if let Some(mode) = mode {
            refuse(self.refusals.modes, rustix::io::Errno::PERM)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        if let Some(size) = size {
            self.refusals.length(size)?;
            fs::File::options().write(true).open(&path)?.set_len(size)?;
        }
        if let Some(mtime) = mtime {
            let time = match mtime {
                TimeOrNow::SpecificTime(time) => time,
                TimeOrNow::Now => SystemTime::now(),
            };
            refuse(self.refusals.times, rustix::io::Errno::PERM)?;
            set_modified(&path, time)?;
        }
        self.attr(&path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        for path in self.paths().iter_mut() {
            if let Ok(below) = path.strip_prefix(from) {
                *path = match below.as_os_str().is_empty() {
                    true => to.to_owned(),
                    false => to.join(below),
                };
            }
        }
        Ok(())
    }
}

/// Sets a time, of a symlink itself too.
fn set_modified(path: &Path, time: SystemTime) -> io::Result<()> {
    let (secs, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs().cast_signed(), since.subsec_nanos()),
        Err(before) => {
            let (secs, nanos) = (
                before.duration().as_secs(),
                before.duration().subsec_nanos(),
            );
            match nanos {
                0 => (-secs.cast_signed(), 0),
                _ => (-secs.cast_signed() - 1, 1_000_000_000 - nanos),
            }
        }
    };
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: secs,
            tv_nsec: nanos.into(),
        },
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
}

/// `ESTALE`: the handle is of nothing that is there.
fn libc_stale() -> i32 {
    rustix::io::Errno::STALE.raw_os_error()
}

fn kind(of: fs::FileType) -> FileType {
    match () {
        () if of.is_dir() => FileType::Directory,
        () if of.is_symlink() => FileType::Symlink,
        () => FileType::RegularFile,
    }
}

impl Filesystem for PassThrough {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.child(parent, name).and_then(|path| self.attr(&path)) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.path(ino).and_then(|path| self.attr(&path)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.set(ino, (mode, size), mtime);
        self.gate.changed(mode);
        match set {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777 & !umask))?;
            self.attr(&path)
        });
        match made {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn symlink(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            let refused = self.refusals.symlinks;
            refused.map_or(Ok(()), |error| Err(io::Error::from(error)))?;
            std::os::unix::fs::symlink(target, &path)?;
            self.attr(&path)
        });
        match made {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.path(ino).and_then(fs::read_link) {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(error) => reply.error(error.into()),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.child(parent, name).and_then(fs::remove_file) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.child(parent, name).and_then(fs::remove_dir) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        into: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            // As sshfs and others say.
            return reply.error(Errno::EINVAL);
        }
        let moved = self.child(parent, name).and_then(|from| {
            let to = self.child(into, new)?;
            PassThrough::rename(self, &from, &to)
        });
        match moved {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.gate.pass();
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            let mut options = fs::File::options();
            options.write(true).create(true).truncate(false).mode(mode);
            options.open(&path)?;
            self.attr(&path)
        });
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        match made {
            Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), direct),
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.path(ino).and_then(|path| {
            let mut bytes = vec![0; size as usize];
            let read = fs::File::open(path)?.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            Ok(bytes)
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.path(ino).and_then(|path| {
            self.refusals.length(offset + data.len() as u64)?;
            let file = fs::File::options().write(true).open(path)?;
            file.write_all_at(data, offset)
        });
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.path(ino).and_then(|path| {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                entries.push((kind(entry.file_type()?), entry.file_name()));
            }
            entries.sort_by(|(_, one), (_, other)| one.cmp(other));
            Ok(entries)
        });
        let entries = match listed {
            Ok(entries) => entries,
            Err(error) => return reply.error(error.into()),
        };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (kind, name)) in entries.iter().enumerate().skip(skipped) {
            // The system looks each of them up by name.
            if reply.add(INodeNo(u64::MAX), index as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
