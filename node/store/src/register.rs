//! The register: which shares were acknowledged, written down beside the database.
//!
//! The database can be damaged in ways that RocksDB cannot tell from a state that was never
//! written: a log whose first record is unreadable opens as an empty database. The register lets
//! the next start compare. It is a text file, `shares.register` in the home, with one line per
//! event: a share at a place was acknowledged, or taken back. Each line carries a checksum.
//!
//! Order of writes: a share enters the register after its synced commit and before it is
//! acknowledged; an unshare is written down before its commit. So what the register has is in the
//! database, unless the database is damaged, and what the register lacks was never acknowledged.
//!
//! The register never decides what is served. It owns its file alone and ends when it is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::rows::{Origin, ShareId, ShareRecord};

/// The file of the home that holds the register.
const FILE: &str = "shares.register";

/// Hexadecimal digits of the BLAKE3 checksum before each line: 64 bits, so that one damaged line
/// in 2^64 is taken for a good one.
const CHECKSUM_DIGITS: usize = 16;

/// Lines beyond those that are needed after which the file is written anew: about 64 KiB of
/// history.
const STALE_LINES_MAX: usize = 256;

/// Places of which the register remembers that they were unshared, so that an old state of the
/// database does not bring a share back; the oldest are forgotten. About 300 bytes each.
const UNSHARED_MAX: usize = 1024;

/// Where a share is: one place has one listed share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SharePlace {
    /// What was shared: a file, a folder, or the folder that the selected paths are below.
    pub source: PathBuf,
    /// The selected paths; empty when the source is the whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selection: Vec<String>,
}

/// A share as the register knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Where it is.
    #[serde(flatten)]
    pub place: SharePlace,
    /// Its address, as a CID prints itself.
    pub root: String,
    /// Its name.
    pub name: String,
    /// How its bytes came to be here.
    pub origin: Origin,
}

/// What the register says of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Shared(Registered),
    /// The number grows with every unshare: the lowest is the oldest.
    Unshared(u64),
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Shared(Registered),
    Unshared(SharePlace),
    /// Something was fetched to the place, and a power loss may take it until it is flushed:
    /// nothing is expected there.
    Unflushed(SharePlace),
}

/// The register of one home.
pub(super) struct Register {
    path: PathBuf,
    book: Mutex<Book>,
}

struct Book {
    /// None until the first line is written by this process.
    file: Option<File>,
    words: BTreeMap<SharePlace, Word>,
    next_unshare: u64,
    /// Lines in the file, those that say nothing any more included.
    lines: usize,
    /// Lines that could not be read when it was opened.
    unreadable: usize,
    /// Whether the file has to be written anew before a line is appended.
    is_torn: bool,
}

impl SharePlace {
    /// Where `share` is.
    #[must_use]
    pub fn of(share: &ShareRecord) -> Self {
        Self {
            source: share.source.clone(),
            selection: share.selection.clone(),
        }
    }

    /// What a person would share again: one path, or the several that the share was made of.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        match self.selection.as_slice() {
            [] => vec![self.source.clone()],
            selection => selection
                .iter()
                .map(|path| self.source.join(path))
                .collect(),
        }
    }
}

impl Registered {
    fn of(share: &ShareRecord) -> Self {
        Self {
            place: SharePlace::of(share),
            root: share.root.to_string(),
            name: share.name.clone(),
            origin: share.origin,
        }
    }

    /// Whether `share` is what was acknowledged, whatever it is called.
    fn is(&self, share: &ShareRecord) -> bool {
        self.root == share.root.to_string() && self.place == SharePlace::of(share)
    }
}

/// What a comparison of the register with the database found.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Acknowledged, and not in the database.
    pub(super) lost: Vec<Registered>,
    /// In the database, and unshared since: an old state of it came back.
    pub(super) unshared: Vec<ShareId>,
    /// Lines of the register that could not be read.
    pub(super) unreadable: usize,
}

impl Register {
    /// Reads the register of `home`; one that is missing is empty.
    ///
    /// # Errors
    /// When the file is there and cannot be read. Damaged lines are no error; they are counted.
    pub(super) fn open(home: &Path) -> Result<Self, StoreError> {
        let path = home.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let mut book = Book {
            file: None,
            words: BTreeMap::new(),
            next_unshare: 0,
            lines: 0,
            unreadable: 0,
            is_torn: !bytes.is_empty() && !bytes.ends_with(b"\n"),
        };
        let whole = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let lines: Vec<&[u8]> = match whole {
            [] => Vec::new(),
            whole => whole.split(|byte| *byte == b'\n').collect(),
        };
        let last = lines.len().saturating_sub(1);
        for (index, line) in lines.into_iter().enumerate() {
            book.lines += 1;
            let is_torn = index == last && book.is_torn;
            match parse(line) {
                Some(line) => book.hear(line),
                None if is_torn => book.hear_torn(line),
                None => book.unreadable += 1,
            }
        }
        Ok(Self {
            path,
            book: Mutex::new(book),
        })
    }

    /// Compares what is written down with the listed shares of the database, and takes over what
    /// it lacks: shares of a home that had no register, and those of which a crash kept the line.
    ///
    /// `leaving` are shares that are being taken out.
    ///
    /// # Errors
    /// When the register cannot be written.
    pub(super) fn compare(
        &self,
        listed: &[&ShareRecord],
        leaving: &[&ShareRecord],
    ) -> Result<Compared, StoreError> {
        let mut book = self.lock();
        let mut found = Compared {
            unreadable: book.unreadable,
            ..Compared::default()
        };
        let mut lines = Vec::new();
        for share in listed {
            match book.words.get(&SharePlace::of(share)) {
                Some(Word::Shared(known)) if *known == Registered::of(share) => {}
                Some(Word::Unshared(_)) => found.unshared.push(share.id),
                None if waits_for_flush(share) => {}
                Some(Word::Shared(_)) | None => lines.push(Line::Shared(Registered::of(share))),
            }
        }
        for (place, word) in &book.words {
            let Word::Shared(known) = word else { continue };
            let is_here = |share: &&ShareRecord| SharePlace::of(share) == *place;
            if listed.iter().any(is_here) {
                continue;
            }
            if leaving.iter().any(|share| known.is(share)) {
                lines.push(Line::Unshared(place.clone()));
            } else {
                found.lost.push(known.clone());
            }
        }
        self.write(&mut book, lines)?;
        Ok(found)
    }

    /// Writes down, durably, that `share` is acknowledged from now on, in place of what was at
    /// `instead`. Blocks on the disk.
    ///
    /// # Errors
    /// When the register cannot be written: the share must not be acknowledged then.
    pub(super) fn shared(
        &self,
        share: &ShareRecord,
        instead: &[SharePlace],
    ) -> Result<(), StoreError> {
        let mut book = self.lock();
        let mut lines = book.unshares(instead);
        let place = SharePlace::of(share);
        let acknowledged = Registered::of(share);
        if !matches!(book.words.get(&place), Some(Word::Shared(known)) if *known == acknowledged) {
            lines.push(Line::Shared(acknowledged));
        }
        self.write(&mut book, lines)
    }

    /// Writes down that a fetch has put something at `place` whose rows and bytes are not flushed
    /// yet: whatever was there before is not expected any more. Blocks on the disk where something
    /// was.
    ///
    /// # Errors
    /// When the register cannot be written.
    pub(super) fn unflushed(&self, place: SharePlace) -> Result<(), StoreError> {
        let mut book = self.lock();
        match book.words.contains_key(&place) {
            true => self.write(&mut book, vec![Line::Unflushed(place)]),
            false => Ok(()),
        }
    }

    /// Writes down, durably, that nothing is shared at these places any more. Blocks on the disk.
    ///
    /// # Errors
    /// When the register cannot be written: the shares stay then.
    pub(super) fn unshared(&self, places: &[SharePlace]) -> Result<(), StoreError> {
        let mut book = self.lock();
        let lines = book.unshares(places);
        self.write(&mut book, lines)
    }

    fn write(&self, book: &mut Book, lines: Vec<Line>) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        let text: String = lines.iter().map(Line::text).collect::<Result<_, _>>()?;
        if book.is_torn || book.lines > book.words.len() + STALE_LINES_MAX {
            lines.into_iter().for_each(|line| book.hear(line));
            return self.rewrite(book);
        }
        self.append(book, &text).map_err(|error| {
            // What a failed write left may be half a line.
            book.is_torn = true;
            StoreError::io(&self.path, error)
        })?;
        for line in lines {
            book.lines += 1;
            book.hear(line);
        }
        Ok(())
    }

    fn append(&self, book: &mut Book, text: &str) -> io::Result<()> {
        let file = match &mut book.file {
            Some(file) => file,
            none => {
                let is_new = !self.path.exists();
                let file = private().append(true).open(&self.path)?;
                if is_new {
                    sync_folder(&self.path)?;
                }
                none.insert(file)
            }
        };
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }

    /// Replaces the file by one that has only what is needed.
    fn rewrite(&self, book: &mut Book) -> Result<(), StoreError> {
        book.forget_old_unshares();
        let texts: Result<Vec<String>, StoreError> = book
            .words
            .iter()
            .map(|(place, word)| word.line(place).text())
            .collect();
        let texts = texts?;
        let next = self.path.with_extension("register.new");
        let replace = || {
            let mut file = private().write(true).truncate(true).open(&next)?;
            file.write_all(texts.concat().as_bytes())?;
            file.sync_data()?;
            fs::rename(&next, &self.path)?;
            sync_folder(&self.path)
        };
        replace().map_err(|error| StoreError::io(&self.path, error))?;
        book.file = None;
        book.lines = texts.len();
        book.is_torn = false;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }
}

impl Book {
    /// What is to be written so that nothing is expected at these places any more.
    fn unshares(&self, places: &[SharePlace]) -> Vec<Line> {
        let known = |place: &&SharePlace| matches!(self.words.get(place), Some(Word::Shared(_)));
        let places = places.iter().filter(known);
        places.map(|place| Line::Unshared(place.clone())).collect()
    }

    fn hear(&mut self, line: Line) {
        match line {
            Line::Shared(share) => {
                self.words.insert(share.place.clone(), Word::Shared(share));
            }
            Line::Unshared(place) => {
                self.words.insert(place, Word::Unshared(self.next_unshare));
                self.next_unshare += 1;
            }
            Line::Unflushed(place) => {
                self.words.remove(&place);
            }
        }
    }

    /// Takes a last line without an end. A crash cuts lines short, and what was cut was never
    /// acknowledged; a line that is whole but for its end is damage.
    fn hear_torn(&mut self, line: &[u8]) {
        let whole = line.split_last().and_then(|(_, line)| parse(line));
        if let Some(line) = whole {
            self.hear(line);
            self.unreadable += 1;
        }
    }

    fn forget_old_unshares(&mut self) {
        let recent = self.next_unshare.saturating_sub(UNSHARED_MAX as u64);
        self.words
            .retain(|_, word| !matches!(word, Word::Unshared(number) if *number < recent));
    }
}

impl Word {
    fn line(&self, place: &SharePlace) -> Line {
        match self {
            Self::Shared(share) => Line::Shared(share.clone()),
            Self::Unshared(_) => Line::Unshared(place.clone()),
        }
    }
}

impl Line {
    fn text(&self) -> Result<String, StoreError> {
        let json = serde_json::to_string(self).map_err(|error| {
            StoreError::damaged(format!("a share cannot be written down: {error}"))
        })?;
        Ok(format!("{} {json}\n", checksum(json.as_bytes())))
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let (sum, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    (checksum(json).as_bytes() == sum)
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

fn checksum(json: &[u8]) -> String {
    let mut sum = blake3::hash(json).to_hex().to_string();
    sum.truncate(CHECKSUM_DIGITS);
    sum
}

/// The rows of what was fetched are durable with its bytes, not before: a power loss may take both.
pub(super) fn waits_for_flush(share: &ShareRecord) -> bool {
    share.origin == Origin::Fetched && share.unflushed_boot.is_some()
}

/// A file for its owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "register/tests.rs"]
mod tests;
