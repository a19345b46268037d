//! Why a fetch did not happen.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use shoal_ground::said::{about, said};
use shoal_protocol::{address::Cid, name::NameError, unixfs::DagError, walk::PathError};
use shoal_store::{StoreError, patterns::PatternError};

use super::answer::Answer;
use crate::limits::Spent;

/// Peers that a message names; a peer that does harm can name hundreds that do not exist.
const ASKED_NAMED_MAX: usize = 8;

/// Who was asked for a root and what came of it: a peer id, or an address that names none.
pub(crate) type Asked = Vec<(String, Answer)>;

/// Why a fetch failed. What was verified is kept unless nothing was.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody who has the root was found in time.
    #[error("{root} was not found within {}: {}", time(*timeout), nobody(asked, *was_alone))]
    NotFound {
        /// The root.
        root: Cid,
        /// How long it was looked for.
        timeout: Duration,
        /// The peers that were asked.
        asked: Asked,
        /// This node knew no other node that it could have asked.
        was_alone: bool,
    },
    /// Every peer that could be asked says that it does not have the root.
    #[error(
        "nobody {} {root}: {}, and a look-up named nobody else",
        if *has_begun { "has the rest of" } else { "has" },
        AskedText(asked)
    )]
    Denied {
        /// The root.
        root: Cid,
        /// The peers that were asked.
        asked: Asked,
        /// Something of it was fetched.
        has_begun: bool,
    },
    /// Something was fetched, and then nobody gave more.
    #[error("no provider delivered anything for {}: {}", time(*patience), nobody(asked, false))]
    NoProgress {
        /// How long no byte came.
        patience: Duration,
        /// The peers that were asked.
        asked: Asked,
    },
    /// Something is at the destination.
    #[error("{} exists already", .0.display())]
    DestinationExists(PathBuf),
    /// The destination does not exist, or is not one.
    #[error("cannot fetch to {}: {}", .path.display(), said(cause))]
    NoDestination {
        /// Where the fetch was to go.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// What is at the destination, or below it, is a folder and would be replaced by something
    /// else, or the other way around.
    #[error("in {}, a folder and something else have the same name", .0.display())]
    OtherKind(PathBuf),
    /// The destination cannot be written; the error names the file.
    #[error("cannot write {}", said(.0))]
    Destination(io::Error),
    /// The destination's file system is too full.
    #[error("{} are needed and {} are free", size(*needed), size(*free))]
    NoSpace {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The tree behind the root is not acceptable.
    #[error("the content is refused: {0}")]
    Refused(#[from] DagError),
    /// The destination's system does not take these names, or not beside others.
    #[error("the file system there does not keep the names of {}", .0.join(", "))]
    Misfits(Vec<String>),
    /// The destination's file system does not take names of this length.
    #[error(
        "the file system there takes names of at most {limit} bytes; these are longer: {}",
        names.join(", ")
    )]
    LongNames {
        /// The bytes that it takes.
        limit: usize,
        /// The first of those that are longer, escaped for printing.
        names: Vec<String>,
    },
    /// The destination's file system does not take files of this size.
    #[error("too large for a file on the file system there: {}", .0.join(", "))]
    LargeFiles(Vec<String>),
    /// The link's path leads nowhere.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The link's name cannot be a file name here.
    #[error("the name in the link is refused: {0}")]
    Name(NameError),
    /// The limit on transfers that are not over is reached.
    #[error("{0} transfers are unfinished already")]
    Busy(usize),
    /// The root is neither a file nor a folder.
    #[error("the link leads to a symbolic link, which cannot be fetched by itself")]
    BareSymlink,
    /// This month's traffic budget is used up.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// A pattern of what to fetch is malformed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// More patterns than are accepted.
    #[error("there are more than {0} patterns of what to fetch")]
    Patterns(usize),
    /// There is nothing to choose from.
    #[error("the link leads to a single file, and --only chooses among those of a folder")]
    OneFile,
    /// Nothing is as it was asked for; what there is instead, its beginning.
    #[error("nothing in it matches {}", quoted(patterns))]
    NothingMatches {
        /// The patterns of what was asked for.
        patterns: Vec<String>,
        /// The first names that are there.
        there: Vec<String>,
    },
    /// The bytes of one file were asked for; the first of those that are as asked for.
    #[error("{total} files match, and one can be written: {}", first.join(", "))]
    SeveralFiles {
        /// How many match.
        total: usize,
        /// The first of them.
        first: Vec<String>,
    },
    /// Bytes were asked for, and the link leads to a folder.
    #[error("the link leads to a folder, which has no bytes of its own")]
    NotAFile,
    /// The limit on streams is reached.
    #[error("{0} files are streamed already")]
    Streams(usize),
    /// The index failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The transfer was ended from outside.
    #[error("interrupted")]
    Cancelled,
    /// Somebody had the transfer pause.
    #[error("the transfer was paused")]
    Paused,
    /// Somebody ended the transfer for good, and nothing of it is left.
    #[error("the transfer was cancelled")]
    Removed,
    /// A task of this node panicked.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<tokio::task::JoinError> for FetchError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl FetchError {
    /// The file or folder `path` of the destination cannot be used.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |error| Self::Destination(about(path, &error))
    }

    /// Whether the same fetch would go on if somebody served what it needs.
    pub(super) fn is_want_of_providers(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::Denied { .. } | Self::NoProgress { .. }
        )
    }

    /// Whether the same fetch fails again as long as nobody changes what was asked for or what is
    /// at the destination.
    pub(super) fn is_verdict(&self) -> bool {
        match self {
            Self::DestinationExists(_)
            | Self::OtherKind(_)
            | Self::Refused(_)
            | Self::Misfits(_)
            | Self::LongNames { .. }
            | Self::LargeFiles(_)
            | Self::Path(_)
            | Self::Name(_)
            | Self::BareSymlink
            | Self::NotAFile
            | Self::Pattern(_)
            | Self::Patterns(_)
            | Self::OneFile
            | Self::NothingMatches { .. }
            | Self::SeveralFiles { .. }
            | Self::Internal(_) => true,
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::NoProgress { .. }
            | Self::NoDestination { .. }
            | Self::Destination(_)
            | Self::NoSpace { .. }
            | Self::Busy(_)
            | Self::Spent(_)
            | Self::Streams(_)
            | Self::Store(_)
            | Self::Cancelled
            | Self::Paused
            | Self::Removed => false,
        }
    }
}

fn quoted(patterns: &[String]) -> String {
    let quoted: Vec<_> = patterns.iter().map(|it| format!("{it:?}")).collect();
    quoted.join(" or ")
}

fn size(bytes: u64) -> impl fmt::Display {
    ByteSize(bytes).display().iec()
}

/// As people say it, without fractions of a second that nobody asked for.
fn time(time: Duration) -> impl fmt::Display {
    humantime::format_duration(time)
}

/// Who was asked, or why nobody was.
fn nobody(asked: &Asked, was_alone: bool) -> String {
    match (asked.is_empty(), was_alone) {
        (true, true) => "this node knows no other node that it could ask".to_owned(),
        (true, false) => "the link names no peer, and no connected node knows one".to_owned(),
        (false, _) => AskedText(asked).to_string(),
    }
}

struct AskedText<'a>(&'a Asked);

impl fmt::Display for AskedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("asked ")?;
        for (index, (peer, answer)) in self.0.iter().take(ASKED_NAMED_MAX).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{peer} ({answer})")?;
        }
        match self.0.len().saturating_sub(ASKED_NAMED_MAX) {
            0 => Ok(()),
            others => write!(f, " and {others} others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::address::{Digest, HashFn};

    use super::*;

    #[test]
    fn a_message_says_who_was_asked_and_what_came_of_it() {
        let root = Cid::raw(Digest::of(HashFn::Blake3, b"x"));
        let check = |error: FetchError, expected: &[&str]| {
            let said = error.to_string();
            for part in expected {
                assert!(said.contains(part), "{said}: {part}");
            }
            let cid = root.to_string();
            assert!(expected.len() == 1 || said.contains(&cid), "{said}");
        };
        let not_found = |asked: Asked, was_alone| FetchError::NotFound {
            root: root.clone(),
            timeout: Duration::from_millis(1500),
            asked,
            was_alone,
        };
        let asked = |answer: Answer| vec![("somebody".to_owned(), answer)];
        let within = "was not found within 1s 500ms";
        check(not_found(Vec::new(), true), &[within, "no other node"]);
        check(
            not_found(Vec::new(), false),
            &[within, "the link names no peer"],
        );
        let refused = Answer::Unreachable("unreachable: /ip4/1.2.3.4/tcp/5 (refused)".into());
        check(
            not_found(asked(refused), false),
            &[
                within,
                "somebody (cannot be reached: /ip4/1.2.3.4/tcp/5 (refused))",
            ],
        );
        let denied = |answer, has_begun| FetchError::Denied {
            root: root.clone(),
            asked: asked(answer),
            has_begun,
        };
        let absent = [
            "nobody has baf",
            "somebody (does not have it)",
            "nobody else",
        ];
        check(denied(Answer::Absent, false), &absent);
        let gone = ["has the rest of baf", "does not share it any more"];
        check(denied(Answer::Gone, true), &gone);
        let patience = Duration::from_secs(900);
        let asked = asked(Answer::Silent);
        let silent = FetchError::NoProgress { patience, asked };
        check(
            silent,
            &["for 15m: asked somebody (says that it has it, and"],
        );
    }

    #[test]
    fn a_message_names_few_peers_whoever_makes_up_many() {
        let asked = (0..100).map(|n| (format!("peer{n}"), Answer::Absent));
        let said = AskedText(&asked.collect()).to_string();
        assert!(
            said.contains("peer7 (") && !said.contains("peer8 ("),
            "{said}"
        );
        assert!(said.ends_with("and 92 others"), "{said}");
    }
}
