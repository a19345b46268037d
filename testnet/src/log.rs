//! Reading a node's log, also while the node writes it.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::launch::log_path;

/// The lines of a log, from the first one that is still there.
#[derive(Debug)]
pub struct LogLines {
    path: PathBuf,
    reader: BufReader<File>,
    /// A line that its writer has not finished.
    unfinished: Vec<u8>,
}

impl LogLines {
    /// Opens the log of the node in `home`, at the one that was set aside, if there is one.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(home: &Path) -> io::Result<Self> {
        let path = log_path(home);
        let oldest = path.with_extension("log.1");
        let file = match File::open(&oldest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(&path)?,
            opened => opened?,
        };
        Ok(Self::of(path, file))
    }

    /// Opens a log that is any file.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Ok(Self::of(path.to_owned(), File::open(path)?))
    }

    fn of(path: PathBuf, file: File) -> Self {
        let reader = BufReader::new(file);
        Self {
            path,
            reader,
            unfinished: Vec::new(),
        }
    }

    /// The next whole line, without its end; none when there is none yet.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        loop {
            self.reader.read_until(b'\n', &mut self.unfinished)?;
            if self.unfinished.pop_if(|byte| *byte == b'\n').is_some() {
                let line = String::from_utf8_lossy(&self.unfinished).into_owned();
                self.unfinished.clear();
                return Ok(Some(line));
            }
            // A full log is set aside, and the next one begun.
            let Some(next) = self.successor()? else {
                return Ok(None);
            };
            self.reader = BufReader::new(next);
        }
    }

    /// The log that has taken the place of the open one.
    fn successor(&self) -> io::Result<Option<File>> {
        let open = self.reader.get_ref().metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) != (open.dev(), open.ino()) => {
                File::open(&self.path).map(Some)
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use super::*;
    use crate::launch::open_log;

    #[test]
    fn lines_come_whole_and_go_on_in_the_next_log() {
        let home = tempfile::tempdir().unwrap();
        LogLines::open(home.path()).unwrap_err();
        let mut log = open_log(home.path()).unwrap();
        let mut lines = LogLines::open(home.path()).unwrap();
        let mut next = || lines.next_line().unwrap();
        log.write_all(b"one\n\ntwo").unwrap();
        assert_eq!(next().unwrap(), "one");
        assert_eq!(next().unwrap(), "");
        assert_eq!(next(), None);
        log.write_all(b" and a half\nlast\n").unwrap();
        let path = log_path(home.path());
        fs::rename(&path, path.with_extension("log.1")).unwrap();
        assert_eq!(next().unwrap(), "two and a half");
        assert_eq!(next().unwrap(), "last");
        assert_eq!(next(), None, "the next log is not there yet");
        open_log(home.path()).unwrap().write_all(b"new\n").unwrap();
        assert_eq!(next().unwrap(), "new");
        let mut all = LogLines::open(home.path()).unwrap();
        let first = all.next_line().unwrap();
        assert_eq!(first.unwrap(), "one", "what was set aside comes first");
        let mut one = LogLines::of_file(&path).unwrap();
        assert_eq!(one.next_line().unwrap().unwrap(), "new");
    }
}
