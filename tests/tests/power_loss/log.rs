//! What a program did to the files of one folder, in order.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A file, folder or symlink, from its making on: an index into [`Log::made`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) usize);

/// The folder that everything lies in.
pub(crate) const TOP: Id = Id(0);

/// What was made.
#[derive(Debug, Clone)]
pub(crate) enum Made {
    File,
    Folder,
    Symlink(PathBuf),
}

/// What the system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) inode: u64,
    pub(crate) mode: u32,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl Stat {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            mode: metadata.mode() & 0o7777,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A place in a folder.
pub(crate) type Entry = (Id, OsString);

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// An entry leads to `id` from now on, which may be new.
    Link { entry: Entry, id: Id },
    /// An entry is gone.
    Unlink { entry: Entry },
    /// An entry has moved, over whatever was there.
    Rename { from: Entry, to: Entry },
    /// Bytes were written.
    Write { id: Id, offset: u64, bytes: Vec<u8> },
    /// A file has another length.
    Resize { id: Id, len: u64 },
    /// A file's times or mode are others, as they are after every other step too.
    Stat { id: Id, stat: Stat },
    /// What was done to a file or folder before the step `begun` has reached the disk.
    Flush { id: Id, begun: usize },
    /// Everything that was done before the step `begun` has reached the disk.
    FlushAll { begun: usize },
    /// Something was said to a client.
    Said(String),
}

/// All steps, and what is needed to follow the program.
pub(crate) struct Log {
    pub(crate) steps: Vec<Step>,
    pub(crate) made: Vec<Made>,
    /// The program's first step; those before are the test's.
    pub(crate) begin: usize,
    /// Where everything is now.
    entries: BTreeMap<Entry, Id>,
    /// Numbers are used again once what had them is gone.
    inodes: HashMap<u64, Id>,
    device: u64,
}

impl Step {
    /// What a client was told.
    pub(crate) fn said(&self) -> Option<&str> {
        match self {
            Self::Said(said) => Some(said),
            _ => None,
        }
    }

    /// Whether something is different after it, whatever chance does.
    pub(crate) fn is_turning(&self) -> bool {
        matches!(
            self,
            Self::Flush { .. } | Self::FlushAll { .. } | Self::Rename { .. }
        )
    }
}

impl Log {
    /// Begins with the empty folder `top`.
    pub(crate) fn new(top: &Path) -> Self {
        let metadata = fs::metadata(top).expect("the folder");
        let mut log = Self {
            steps: Vec::new(),
            made: vec![Made::Folder],
            begin: 0,
            entries: BTreeMap::new(),
            inodes: HashMap::from([(metadata.ino(), TOP)]),
            device: metadata.dev(),
        };
        log.stat(TOP, &metadata);
        log
    }

    /// What the path stands for, if it is below the folder.
    pub(crate) fn known(&self, path: &Path) -> Option<(Id, Metadata)> {
        let metadata = fs::metadata(path).ok()?;
        let id = self.inodes.get(&metadata.ino())?;
        (metadata.dev() == self.device).then_some((*id, metadata))
    }

    /// Notes what the test itself has made, and that it is on the disk.
    pub(crate) fn made_by_us(&mut self, path: &Path) {
        let entry = self.entry(path).expect("below the folder");
        self.made(entry, path);
        let begun = self.steps.len();
        self.steps.push(Step::FlushAll { begun });
        self.begin = self.steps.len();
    }

    /// What a step was, in short.
    pub(crate) fn name(&self, at: usize) -> String {
        let name = |entry: &Entry| entry.1.to_string_lossy().into_owned();
        let of = |id: &Id| {
            let mut entries = self.steps[..at].iter().rev();
            let entry = entries.find_map(|step| match step {
                Step::Link { entry, id: made } if made == id => Some(name(entry)),
                _ => None,
            });
            entry.unwrap_or_default()
        };
        match &self.steps[at] {
            Step::Link { entry, .. } => format!("making {}", name(entry)),
            Step::Unlink { entry } => format!("removing {}", name(entry)),
            Step::Rename { from, to } => format!("moving {} to {}", name(from), name(to)),
            Step::Write { id, bytes, .. } => format!("writing {} bytes of {}", bytes.len(), of(id)),
            Step::Resize { id, .. } | Step::Stat { id, .. } => format!("changing {}", of(id)),
            Step::Flush { id, .. } => format!("flushing {}", of(id)),
            Step::FlushAll { .. } => "flushing all".to_owned(),
            Step::Said(said) => format!("saying {}", &said[..said.len().min(40)]),
        }
    }

    /// What the system said of a file when it was made.
    pub(crate) fn first_stat(&self, of: Id) -> Option<Stat> {
        self.steps.iter().find_map(|step| match step {
            Step::Stat { id, stat } if *id == of => Some(*stat),
            _ => None,
        })
    }

    /// Whether the path lies on the same file system.
    pub(crate) fn is_beside(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| metadata.dev() == self.device)
    }

    /// The entry that the path names, if its folder is known; it need not be there.
    pub(crate) fn entry(&self, path: &Path) -> Option<Entry> {
        let (folder, _) = self.known(path.parent()?)?;
        Some((folder, path.file_name()?.to_owned()))
    }

    /// Notes what is at `entry`, which is the `path`, unless that is known.
    pub(crate) fn made(&mut self, entry: Entry, path: &Path) {
        let Ok(metadata) = path.symlink_metadata() else {
            return;
        };
        let found = self.inodes.get(&metadata.ino()).copied();
        if found.is_some() && self.entries.get(&entry).copied() == found {
            return;
        }
        let made = match metadata.file_type() {
            kind if kind.is_dir() => Made::Folder,
            kind if kind.is_symlink() => match fs::read_link(path) {
                Ok(target) => Made::Symlink(target),
                Err(_) => return,
            },
            _ => Made::File,
        };
        let id = match found.filter(|_| metadata.is_file() && metadata.nlink() > 1) {
            Some(id) => id,
            None => self.new_id(made, &metadata),
        };
        self.entries.insert(entry.clone(), id);
        self.steps.push(Step::Link { entry, id });
        self.stat(id, &metadata);
    }

    fn new_id(&mut self, made: Made, metadata: &Metadata) -> Id {
        let id = Id(self.made.len());
        self.made.push(made);
        self.inodes.insert(metadata.ino(), id);
        id
    }

    pub(crate) fn unlinked(&mut self, entry: Entry) {
        if self.entries.remove(&entry).is_some() {
            self.steps.push(Step::Unlink { entry });
        }
    }

    pub(crate) fn renamed(&mut self, from: Entry, to: Entry, path: &Path) {
        let Some(id) = self.entries.remove(&from) else {
            return;
        };
        self.entries.insert(to.clone(), id);
        self.steps.push(Step::Rename { from, to });
        if let Ok(metadata) = path.symlink_metadata() {
            self.stat(id, &metadata);
        }
    }

    pub(crate) fn stat(&mut self, id: Id, metadata: &Metadata) {
        let stat = Stat::of(metadata);
        self.steps.push(Step::Stat { id, stat });
    }
}
