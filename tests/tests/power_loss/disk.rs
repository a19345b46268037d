//! The disk as a power loss may leave it.
//!
//! What was flushed before the cut is there. Of the rest, chance decides: entries that were made,
//! moved or removed may be so or not; of a file any page may be as it was or as it became, with a
//! length and times that may be either, as file systems that journal those do without the data.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _, symlink,
    },
    path::Path,
};

use shoal_tests::dice::Dice;

use crate::log::{Id, Log, Made, Stat, Step, TOP};

/// What reaches the disk as a whole or not.
const PAGE_BYTES: usize = 4096;

/// How much of what was not flushed survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it: the process died, and not the machine.
    None,
    /// Nothing.
    All,
    /// Entries up to some moment, as of a file system with a journal, where any flush is one of the
    /// journal; anything of the data.
    Data,
    /// Each entry by itself, as the standard has it, where a flush is one of its file; anything of
    /// the data.
    Anything,
}

impl Loss {
    pub(crate) const EACH: [Self; 4] = [Self::None, Self::All, Self::Data, Self::Anything];

    fn has_journal(self) -> bool {
        self == Self::Data
    }
}

/// The files of one moment.
pub(crate) struct Disk<'a> {
    log: &'a Log,
    folders: BTreeMap<Id, BTreeMap<OsString, Id>>,
    files: HashMap<Id, Content>,
}

#[derive(Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    stat: Option<Stat>,
}

/// What has to look as it did although it was built anew: by the inode that it has now.
pub(crate) type Lookalikes = HashMap<u64, Lookalike>;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookalike {
    /// How it was.
    pub(crate) was: Stat,
    /// How it is as long as nobody touches it.
    pub(crate) built: Stat,
}

impl<'a> Disk<'a> {
    /// The disk after a cut between two steps: `steps` were done.
    pub(crate) fn after(log: &'a Log, steps: usize, loss: Loss, dice: &mut Dice) -> Self {
        let done = &log.steps[..steps];
        let durable = Durable::of(done, loss);
        let mut disk = Self {
            log,
            folders: BTreeMap::from([(TOP, BTreeMap::new())]),
            files: HashMap::new(),
        };
        // Where the journal ends that has reached the disk: it may be all of it.
        let flushed = durable.entries.max(durable.all);
        let journal = match dice.one_in(2) {
            true => steps,
            false => flushed + dice.index(steps + 1 - flushed),
        };
        for (at, step) in done.iter().enumerate() {
            let survives = durable.entry(at, step)
                || match loss {
                    Loss::None => true,
                    Loss::All => false,
                    Loss::Data => at < journal,
                    Loss::Anything => dice.one_in(2),
                };
            if survives {
                disk.entry(step);
            }
        }
        for id in (0..log.made.len()).map(Id) {
            let flushed = durable.data_of(id);
            let old = content(&done[..flushed], id);
            let new = content(done, id);
            let mut content = match loss {
                Loss::None => new,
                Loss::All => old,
                Loss::Data | Loss::Anything => mixed(&old, new, dice),
            };
            // An entry that survives leads to an inode as it was made at least.
            content.stat = content.stat.or(log.first_stat(id));
            disk.files.insert(id, content);
        }
        disk
    }

    fn entry(&mut self, step: &Step) {
        match step {
            Step::Link { entry, id } => self.put(&entry.0, &entry.1, *id),
            Step::Unlink { entry } => drop(self.take(&entry.0, &entry.1)),
            Step::Rename { from, to } => {
                if let Some(id) = self.take(&from.0, &from.1) {
                    self.put(&to.0, &to.1, id);
                }
            }
            _ => {}
        }
    }

    fn put(&mut self, folder: &Id, name: &OsString, id: Id) {
        self.folders
            .entry(*folder)
            .or_default()
            .insert(name.clone(), id);
    }

    fn take(&mut self, folder: &Id, name: &OsString) -> Option<Id> {
        self.folders.get_mut(folder)?.remove(name)
    }

    /// Makes the files below `top`, in which nothing is.
    pub(crate) fn build(&self, top: &Path) -> Lookalikes {
        let mut lookalikes = Lookalikes::new();
        self.build_folder(TOP, top, 0o700, &mut lookalikes);
        lookalikes
    }

    fn build_folder(&self, folder: Id, path: &Path, mode: u32, lookalikes: &mut Lookalikes) {
        for (name, id) in self.folders.get(&folder).into_iter().flatten() {
            let path = path.join(name);
            self.build_one(*id, &path, lookalikes);
        }
        // Only now, as it may be read-only.
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("our folder");
        self.note(folder, path, lookalikes);
    }

    fn build_one(&self, id: Id, path: &Path, lookalikes: &mut Lookalikes) {
        let content = &self.files[&id];
        let mode = content.stat.map_or(0o700, |stat| stat.mode);
        match &self.log.made[id.0] {
            Made::Symlink(target) => symlink(target, path).expect("a symlink"),
            Made::Folder => {
                // Two entries may lead to it, when only one end of a move survived.
                let made = DirBuilder::new().mode(0o700).create(path);
                made.expect("a folder");
                self.build_folder(id, path, mode, lookalikes);
            }
            Made::File => {
                let file = File::create(path).expect("a file");
                write_sparse(&file, &content.bytes).expect("room for it");
                let permissions = Permissions::from_mode(mode);
                file.set_permissions(permissions).expect("our file");
                self.note(id, path, lookalikes);
            }
        }
    }

    fn note(&self, id: Id, path: &Path, lookalikes: &mut Lookalikes) {
        let metadata = fs::metadata(path).expect("it was just built");
        let built = Stat::of(&metadata);
        if let Some(was) = self.files[&id].stat {
            lookalikes.insert(metadata.ino(), Lookalike { was, built });
        }
    }
}

/// What flushes have made durable.
struct Durable {
    /// Of everything, up to this step.
    all: usize,
    /// Of all entries.
    entries: usize,
    /// Of single files and folders.
    by_id: HashMap<Id, usize>,
}

impl Durable {
    fn of(done: &[Step], loss: Loss) -> Self {
        let mut durable = Self {
            all: 0,
            entries: 0,
            by_id: HashMap::new(),
        };
        for step in done {
            match step {
                Step::FlushAll { begun } => durable.all = durable.all.max(*begun),
                Step::Flush { id, begun } => {
                    let of_id = durable.by_id.entry(*id).or_default();
                    *of_id = (*of_id).max(*begun);
                    if loss.has_journal() {
                        durable.entries = durable.entries.max(*begun);
                    }
                }
                _ => {}
            }
        }
        durable
    }

    /// Up to which step the data of a file is.
    fn data_of(&self, id: Id) -> usize {
        let flushed = self.by_id.get(&id).copied().unwrap_or_default();
        flushed.max(self.all)
    }

    /// Whether a step changed an entry that was flushed since.
    fn entry(&self, at: usize, step: &Step) -> bool {
        let in_folder = |folder: Id| at < self.data_of(folder).max(self.entries);
        match step {
            Step::Link { entry, .. } | Step::Unlink { entry } => in_folder(entry.0),
            // In one step: no file system loses only one end of it.
            Step::Rename { from, to } => in_folder(from.0) || in_folder(to.0),
            _ => false,
        }
    }
}

/// Writes all but pages of zeros: a slab of replicas is 64 MiB of little else.
fn write_sparse(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(bytes.len() as u64)?;
    for (index, page) in bytes.chunks(PAGE_BYTES).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, (index * PAGE_BYTES) as u64)?;
        }
    }
    Ok(())
}

/// A file after these steps.
fn content(steps: &[Step], of: Id) -> Content {
    let mut content = Content::default();
    for step in steps {
        match step {
            Step::Write { id, offset, bytes } if *id == of => {
                let offset = usize::try_from(*offset).expect("small files");
                let end = offset + bytes.len();
                if content.bytes.len() < end {
                    content.bytes.resize(end, 0);
                }
                content.bytes[offset..end].copy_from_slice(bytes);
            }
            Step::Resize { id, len } if *id == of => {
                let len = usize::try_from(*len).expect("small files");
                content.bytes.resize(len, 0);
            }
            Step::Stat { id, stat } if *id == of => content.stat = Some(*stat),
            _ => {}
        }
    }
    content
}

/// What may be of a file that was `old` and became `new`.
fn mixed(old: &Content, mut new: Content, dice: &mut Dice) -> Content {
    let keeps = match dice.below(4) {
        0 => return old.clone(),
        1 => return new,
        // The length and the times have changed and no data has: what journals do.
        2 => 0,
        _ => 2,
    };
    for (index, page) in new.bytes.chunks_mut(PAGE_BYTES).enumerate() {
        if keeps > 0 && dice.one_in(keeps) {
            continue;
        }
        page.fill(0);
        let start = index * PAGE_BYTES;
        let was = old.bytes.get(start..).unwrap_or_default();
        let len = page.len().min(was.len());
        page[..len].copy_from_slice(&was[..len]);
    }
    new
}
