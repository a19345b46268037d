//! What came of asking a peer for a root.

use std::fmt;

use shoal_protocol::exchange::{Missing, Reason};

use super::session::SessionEnd;

/// The last word of a peer, or what happened instead of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No connection came about, and why.
    Unreachable(String),
    /// It does not have the root.
    Absent,
    /// It shared the root and does not any more.
    Gone,
    /// It has a part, and of what is asked for it cannot be told whether that is in it.
    PartOnly,
    /// It fetches the root itself, and has nothing of it.
    NothingYet,
    /// It has no time now.
    Busy,
    /// It says that it has the root, and is connected.
    Silent,
    /// It says that it has the root, and a block of it cannot be had there.
    Lacks(Missing),
    /// It delivered nothing for too long.
    Stalled,
    /// The stream ended, and how.
    Ended(String),
    /// Its blocks were not what their addresses say.
    WrongBytes,
    /// The same, at another time.
    WrongBytesBefore,
    /// It broke the protocol.
    Violation(String),
}

impl Answer {
    /// Whether the content that the peer serves is bad.
    pub fn is_wrong_bytes(&self) -> bool {
        matches!(self, Self::WrongBytes | Self::WrongBytesBefore)
    }

    /// Whether the peer had the root at some time, by its own word, and has it no more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone | Self::Lacks(_))
    }

    /// Whether nobody answered.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// What the end of a session says.
    pub(super) fn of_end(end: &SessionEnd) -> Self {
        match end {
            SessionEnd::Closed(Reason::Gone) => Self::Gone,
            SessionEnd::Closed(Reason::Busy) => Self::Busy,
            SessionEnd::Violation(what) => Self::Violation(what.clone()),
            SessionEnd::Dropped | SessionEnd::Closed(_) | SessionEnd::Lost(_) => {
                Self::Ended(end.to_string())
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => {
                let why = why.strip_prefix("unreachable: ").unwrap_or(why);
                write!(f, "cannot be reached: {why}")
            }
            Self::Absent => f.write_str("does not have it"),
            Self::Gone => {
                f.write_str("does not share it any more: it was unshared, or a file has changed")
            }
            Self::PartOnly => f.write_str("has only a part of it"),
            Self::NothingYet => f.write_str("has nothing of it yet"),
            Self::Busy => f.write_str("is busy"),
            Self::Silent => f.write_str("says that it has it, and delivers nothing"),
            Self::Lacks(Missing::NotHere | Missing::Beyond) => {
                f.write_str("says that it has it, and delivers nothing of what is left")
            }
            Self::Lacks(Missing::Changed) => {
                f.write_str("does not share it any more: a file has changed")
            }
            Self::Lacks(Missing::Unreadable) => f.write_str("cannot read a file of it"),
            Self::Stalled => f.write_str("stalled"),
            Self::Ended(how) => f.write_str(how),
            Self::WrongBytes => f.write_str("served wrong bytes"),
            Self::WrongBytesBefore => f.write_str("served wrong bytes before"),
            Self::Violation(what) => write!(f, "broke the protocol: {what}"),
        }
    }
}
