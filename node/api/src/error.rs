//! The one vocabulary of failures between the node, its API and the command line.
//!
//! A failure has a [`ErrorCode`] for programs, a message that says what failed and a hint that says
//! what to do next. [`ErrorCode::facts`] is the only place that knows which HTTP status and which
//! exit code belong to a code.

use std::{fmt, io};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shoal_ground::said::{is_limit, is_of_inodes, said};
use shoal_protocol::{
    address::AddressError,
    link::{Link, LinkError},
    name::escaped,
};
use utoipa::ToSchema;

/// A CID has 59 characters, a scheme a few more.
const LINK_CHARS_SHOWN: usize = 72;

/// What kind of failure it was; closed, so that scripts can match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request or the command line makes no sense; also a malformed link, CID or address.
    Usage,
    /// The content was not found, or nobody provides it in time.
    NotFound,
    /// No daemon answers for this home.
    NoDaemon,
    /// Content or disk holds other bytes than their address says.
    Integrity,
    /// The disk or a quota is full.
    NoSpace,
    /// The operating system refused access.
    NoPermission,
    /// A limit of this process or of the machine is too low: on open files, threads, memory, or the
    /// size of files.
    SystemLimit,
    /// The person, or a client that went away, ended the operation.
    Interrupted,
    /// A local path does not exist.
    PathNotFound,
    /// The destination exists and `overwrite` was not asked for.
    DestinationExists,
    /// An address uses a hash function that Shoal does not read.
    UnsupportedHash,
    /// A name cannot be shared or cannot be landed: not UTF-8, unsafe, or two of them collide.
    BadName,
    /// The bytes of a file were asked for, and the link leads to something else.
    NotAFile,
    /// Nothing in the tree matches what was asked for of it.
    NothingMatches,
    /// A file changed while it was being shared.
    ChangedWhileSharing,
    /// The CID or path to unshare is not shared here.
    NotShared,
    /// No transfer has this number, or it is past what was asked of it.
    NoTransfer,
    /// No connection to the peer could be made.
    Unreachable,
    /// A listen address is taken by another program.
    PortInUse,
    /// Another node runs on this home.
    AlreadyRunning,
    /// The configuration has an unknown key or an unusable value.
    Config,
    /// The database was written by a newer version.
    NewerSchema,
    /// The request body is larger than the API takes.
    TooLarge,
    /// A limit on simultaneous work is reached; the same request may succeed later.
    Busy,
    /// The month's traffic budget is used up.
    BudgetSpent,
    /// The node is shutting down.
    ShuttingDown,
    /// The daemon went away in the middle of a command.
    DaemonLost,
    /// No route of the API has this path or method.
    NoRoute,
    /// The request says that it is for another host, or comes from a web page.
    ForeignOrigin,
    /// Something that a scenario asserts does not hold.
    NotHeld,
    /// Everything else, also a code of a newer daemon that this client does not know.
    #[serde(other)]
    Internal,
}

/// What follows from an [`ErrorCode`].
struct Facts {
    status: StatusCode,
    exit: u8,
}

impl ErrorCode {
    /// The exit code of a command that ends with this failure (1 to 6, or 130).
    pub fn exit(self) -> u8 {
        self.facts().exit
    }

    /// The HTTP status of an answer that reports this failure.
    pub fn status(self) -> StatusCode {
        self.facts().status
    }

    fn facts(self) -> Facts {
        let (status, exit) = match self {
            Self::Usage => (StatusCode::BAD_REQUEST, 2),
            Self::NotFound => (StatusCode::NOT_FOUND, 3),
            Self::NoDaemon => (StatusCode::SERVICE_UNAVAILABLE, 4),
            Self::Integrity => (StatusCode::BAD_GATEWAY, 5),
            Self::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, 6),
            Self::NoPermission => (StatusCode::FORBIDDEN, 6),
            Self::SystemLimit => (StatusCode::INSUFFICIENT_STORAGE, 6),
            Self::Interrupted => (StatusCode::SERVICE_UNAVAILABLE, 130),
            Self::PathNotFound | Self::NothingMatches | Self::NotShared | Self::NoTransfer => {
                (StatusCode::NOT_FOUND, 1)
            }
            Self::DestinationExists
            | Self::ChangedWhileSharing
            | Self::AlreadyRunning
            | Self::NotHeld => (StatusCode::CONFLICT, 1),
            Self::UnsupportedHash | Self::BadName | Self::NotAFile => {
                (StatusCode::UNPROCESSABLE_ENTITY, 1)
            }
            Self::Config => (StatusCode::UNPROCESSABLE_ENTITY, 2),
            Self::Unreachable => (StatusCode::BAD_GATEWAY, 1),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 1),
            Self::NoRoute => (StatusCode::NOT_FOUND, 1),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, 1),
            Self::BudgetSpent => (StatusCode::TOO_MANY_REQUESTS, 1),
            Self::Busy | Self::ShuttingDown | Self::DaemonLost => {
                (StatusCode::SERVICE_UNAVAILABLE, 1)
            }
            Self::PortInUse | Self::NewerSchema | Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, 1)
            }
        };
        Facts { status, exit }
    }
}

impl fmt::Display for ErrorCode {
    /// As in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A failure as the API sends it and the command line prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// The kind of failure.
    pub code: ErrorCode,
    /// What failed, one sentence without a full stop.
    pub message: String,
    /// What the person can do next.
    #[schema(required)]
    pub hint: Option<String>,
}

impl ApiError {
    /// A failure without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// The link in a text of a person, or why it is none.
    ///
    /// # Errors
    /// [`ErrorCode::UnsupportedHash`] for a sound address that Shoal cannot verify,
    /// [`ErrorCode::Usage`] otherwise.
    pub fn parse_link(text: &str) -> Result<Link, Self> {
        text.parse().map_err(|error: LinkError| {
            let mut error = Self::from(error);
            error.message = format!("{} is not a link: {}", shown_link(text), error.message);
            error
        })
    }

    /// What the operating system refused, as the kind that a person can act on, with what can be done
    /// about that kind. `message` says it all.
    pub fn from_io(error: &io::Error, message: impl Into<String>) -> Self {
        let (code, hint) = match error.kind() {
            _ if is_limit(error) => (
                ErrorCode::SystemLimit,
                "raise that limit, for a service in its unit; `ulimit -a` shows those of this shell",
            ),
            io::ErrorKind::PermissionDenied => (
                ErrorCode::NoPermission,
                "have it made readable and writable for this user, or run this as its owner",
            ),
            io::ErrorKind::ReadOnlyFilesystem => (
                ErrorCode::NoPermission,
                "mount the disk so that it can be written, or choose another",
            ),
            _ if is_of_inodes(error) => (
                ErrorCode::NoSpace,
                "remove files from its disk that are not needed, or choose another",
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                ErrorCode::NoSpace,
                "free some space on its disk, or choose another",
            ),
            io::ErrorKind::NotFound => (ErrorCode::PathNotFound, "check the path"),
            io::ErrorKind::AlreadyExists => (
                ErrorCode::DestinationExists,
                "choose another name, or move what is there away",
            ),
            _ => (
                ErrorCode::Internal,
                "try again; if it stays so, check the disk: the system's log says more",
            ),
        };
        Self::new(code, message).hint(hint)
    }

    /// The same of something that could not be done: `what` names it and its file, and what the system
    /// said follows in plain words.
    pub fn of_io(error: &io::Error, what: impl fmt::Display) -> Self {
        Self::from_io(error, format!("{what}: {}", said(error)))
    }

    /// The same failure with advice on what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<LinkError> for ApiError {
    fn from(error: LinkError) -> Self {
        let message = error.to_string();
        match error {
            LinkError::Address(AddressError::UnsupportedHash { .. }) => {
                Self::new(ErrorCode::UnsupportedHash, message)
                    .hint("shoal reads blake3 and sha2-256 addresses")
            }
            error => Self::new(ErrorCode::Usage, message).hint(link_hint(&error)),
        }
    }
}

/// What to do with a text that is no link.
fn link_hint(error: &LinkError) -> &'static str {
    match error {
        LinkError::Cut { .. } | LinkError::Address(AddressError::Cut) => {
            "copy the whole link again; a line break or a `…` in what was copied loses the rest"
        }
        LinkError::Letter { .. } | LinkError::Mistyped { .. } | LinkError::Attached(_) => {
            "compare it with the original, or copy it again"
        }
        LinkError::NameChanged => {
            "copy the whole link again, or leave the name out: what stands before it works alone"
        }
        LinkError::Peer(_) => {
            "copy the whole link again, in quotes, or leave this peer out: the network may find \
             others"
        }
        LinkError::Newer => {
            "use a newer version of shoal, or ask for the long form: `shoal link --long`"
        }
        LinkError::Several => "give one link at a time",
        LinkError::Address(AddressError::Malformed(_)) => {
            "copy the whole link; it looks like shoal:S00AY4T9… or shoal:<cid>?name=…, and a bare CID \
             works too"
        }
        _ => "a link looks like shoal:S00AY4T9… or shoal:<cid>?name=…; a bare CID works too",
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// Of a text that should have been a link, what helps to recognise it: at most
/// [`LINK_CHARS_SHOWN`] of it, and nothing after a `#`, for that may be a key.
fn shown_link(text: &str) -> String {
    let public = text
        .split_once('#')
        .map_or(text, |(public, _secret)| public);
    let mut shown: String = public.chars().take(LINK_CHARS_SHOWN).collect();
    if shown.len() < public.len() {
        shown.push('…');
    }
    format!("`{}`", escaped(&shown))
}

/// The body of every answer that is not a success: `{"error":{"code","message","hint"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The failure.
    pub error: ApiError,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(code: ErrorCode, name: &str, exit: u8) {
        assert_eq!(
            serde_json::to_string(&code).unwrap(),
            format!("\"{name}\""),
            "{code:?}"
        );
        assert_eq!(code.exit(), exit, "{name}");
        assert!(!code.status().is_success(), "{name}");
    }

    #[test]
    fn codes_keep_their_names_and_exits() {
        check(ErrorCode::Usage, "usage", 2);
        check(ErrorCode::NotFound, "not_found", 3);
        check(ErrorCode::NoDaemon, "no_daemon", 4);
        check(ErrorCode::Integrity, "integrity", 5);
        check(ErrorCode::NoSpace, "no_space", 6);
        check(ErrorCode::NoPermission, "no_permission", 6);
        check(ErrorCode::SystemLimit, "system_limit", 6);
        check(ErrorCode::Interrupted, "interrupted", 130);
        check(ErrorCode::PathNotFound, "path_not_found", 1);
        check(ErrorCode::DestinationExists, "destination_exists", 1);
        check(ErrorCode::UnsupportedHash, "unsupported_hash", 1);
        check(ErrorCode::AlreadyRunning, "already_running", 1);
        check(ErrorCode::NoTransfer, "no_transfer", 1);
        check(ErrorCode::DaemonLost, "daemon_lost", 1);
        check(ErrorCode::Config, "config", 2);
        check(ErrorCode::BudgetSpent, "budget_spent", 1);
    }

    #[test]
    fn what_the_system_refuses_is_said_in_plain_words_with_what_to_do() {
        let kinds = [
            (io::ErrorKind::PermissionDenied, ErrorCode::NoPermission),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorCode::NoPermission),
            (io::ErrorKind::StorageFull, ErrorCode::NoSpace),
            (io::ErrorKind::NotFound, ErrorCode::PathNotFound),
            (io::ErrorKind::AlreadyExists, ErrorCode::DestinationExists),
            (io::ErrorKind::NotConnected, ErrorCode::Internal),
        ];
        for (kind, code) in kinds {
            let error = ApiError::of_io(&kind.into(), "cannot read /a/b");
            assert_eq!(error.code, code);
            assert!(error.message.starts_with("cannot read /a/b: "), "{error}");
            assert!(error.hint.is_some(), "{error}");
        }
        let gone = io::Error::from_raw_os_error(2);
        let error = ApiError::of_io(&gone, "cannot read /a/b");
        let expected = "cannot read /a/b: there is no such file or folder";
        assert_eq!(error.message, expected);
    }

    fn check_link(text: &str, code: ErrorCode, message: &str) {
        let error = ApiError::parse_link(text).unwrap_err();
        assert_eq!(error.code, code, "{text}");
        assert!(error.message.contains(message), "{}", error.message);
    }

    #[test]
    fn links_are_read_or_refused_with_the_right_code() {
        let empty = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
        check_link("", ErrorCode::Usage, "");
        let none = "it is neither shoal:…, ipfs://<cid>, /ipfs/<cid> nor a bare CID";
        check_link("https://example.org", ErrorCode::Usage, none);
        check_link("hello", ErrorCode::Usage, "not a content address");
        check_link(&empty[..40], ErrorCode::Usage, "");
        // The same digest said to be SHA3-256.
        let sha3 = "bafkrmifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
        check_link(sha3, ErrorCode::UnsupportedHash, "sha3-256");
    }

    #[test]
    fn a_code_of_a_newer_daemon_is_an_internal_failure() {
        let code: ErrorCode = serde_json::from_str("\"from_the_future\"").unwrap();
        assert_eq!(code, ErrorCode::Internal);
    }
}
