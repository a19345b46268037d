//! Makes a program believe that the machine has booted anew, and that files which were built again
//! are those that it knows.
//!
//! It changes what the program is told, and nothing else: the identity of the boot, and the inode
//! and times of files that nobody has touched since they were built.

use std::{io, path::Path};

use shoal_tests::trace::{Call, Thread, Watcher};

use crate::{
    disk::{Lookalike, Lookalikes},
    log::Stat,
};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(crate) struct Pretender {
    pub(crate) files: Lookalikes,
    /// The identity of the boot, as the system would write it.
    pub(crate) boot: String,
}

/// Where a call leaves what it finds.
pub(crate) enum Begun {
    Boot { fd: u64, at: u64 },
    Stat(u64, &'static Layout),
}

/// Where in a system's structure what stands.
pub(crate) struct Layout {
    bytes: usize,
    inode: usize,
    modified: usize,
    changed: usize,
}

const STAT: Layout = Layout {
    bytes: 144,
    inode: 8,
    modified: 88,
    changed: 104,
};

const STATX: Layout = Layout {
    bytes: 256,
    inode: 32,
    modified: 112,
    changed: 96,
};

impl Watcher for Pretender {
    type Begun = Begun;

    fn begin(&mut self, thread: Thread, call: &Call) -> Option<Begun> {
        let [a, b, c, _, e, _] = call.args;
        match call.number {
            libc::SYS_stat | libc::SYS_lstat | libc::SYS_fstat => Some(Begun::Stat(b, &STAT)),
            libc::SYS_newfstatat => Some(Begun::Stat(c, &STAT)),
            libc::SYS_statx => Some(Begun::Stat(e, &STATX)),
            libc::SYS_read => {
                let of = std::fs::read_link(thread.fd(a)).ok()?;
                (of == Path::new(BOOT_ID)).then_some(Begun::Boot { fd: a, at: b })
            }
            _ => None,
        }
    }

    fn end(&mut self, thread: Thread, begun: Begun, _: &Call, result: i64) {
        let pretended = match begun {
            Begun::Boot { fd, at } => self.boot(thread, fd, at, result),
            Begun::Stat(at, layout) if result == 0 => self.stat(thread, at, layout),
            Begun::Stat(..) => Ok(()),
        };
        pretended.expect("what was just written can be changed");
    }
}

impl Pretender {
    /// It may be read in pieces.
    fn boot(&self, thread: Thread, fd: u64, at: u64, read: i64) -> io::Result<()> {
        let read = usize::try_from(read).unwrap_or_default();
        let end = usize::try_from(thread.position(fd)?).map_err(io::Error::other)?;
        let piece = self.boot.as_bytes().get(end.saturating_sub(read)..end);
        thread.write(at, piece.unwrap_or_default())
    }

    fn stat(&self, thread: Thread, at: u64, layout: &Layout) -> io::Result<()> {
        let mut bytes = thread.read(at, layout.bytes)?;
        let inode = u64::from_ne_bytes(*field(&mut bytes, layout.inode));
        let Some(Lookalike { was, built }) = self.files.get(&inode) else {
            return Ok(());
        };
        let is_untouched = layout.times(&mut bytes) == (built.modified, built.changed);
        *field(&mut bytes, layout.inode) = was.inode.to_ne_bytes();
        if is_untouched {
            layout.set_times(&mut bytes, was);
        }
        thread.write(at, &bytes)
    }
}

/// Seconds and nanoseconds.
type Time = (i64, i64);

impl Layout {
    fn times(&self, bytes: &mut [u8]) -> (Time, Time) {
        let mut time = |at| {
            let seconds = i64::from_ne_bytes(*field(bytes, at));
            let nanoseconds = u32::from_ne_bytes(*field(bytes, at + 8));
            (seconds, i64::from(nanoseconds))
        };
        (time(self.modified), time(self.changed))
    }

    fn set_times(&self, bytes: &mut [u8], stat: &Stat) {
        for (at, (seconds, nanoseconds)) in
            [(self.modified, stat.modified), (self.changed, stat.changed)]
        {
            *field(bytes, at) = seconds.to_ne_bytes();
            let nanoseconds = u32::try_from(nanoseconds).expect("less than a second");
            *field(bytes, at + 8) = nanoseconds.to_ne_bytes();
        }
    }
}

fn field<const N: usize>(bytes: &mut [u8], at: usize) -> &mut [u8; N] {
    let field = bytes[at..].first_chunk_mut();
    field.expect("the structure is longer")
}
