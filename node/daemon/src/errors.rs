//! Failures of the parts, as people and programs are told of them: a code, what failed, what to do.

use std::{io::ErrorKind, time::SystemTime};

use shoal_api::{ApiError, ErrorCode};
use shoal_ground::{said, wall_clock};
use shoal_net::{ConnectError, NetError};
use shoal_protocol::{address::AddressError, name::NameError, unixfs::DagError, walk::PathError};
use shoal_store::{
    StoreError, UnshareError,
    disks::NoAnswer,
    share::{ShareError, Unreadable},
};
use shoal_transfer::fetch::{ControlError, FetchError};

use super::NodeError;

/// What can be done about names that no system should be given.
const RENAME_HINT: &str = "nothing was written; `shoal fetch --rename-unsafe` gives other names, or \
                           ask the sharer to share it again with safe names";

/// A failure of a part, in the words of the API.
pub(super) trait IntoApi {
    /// The same failure as people and programs are told of it.
    fn into_api(self) -> ApiError;
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Home(error) => error.into(),
            NodeError::Store(error) => error.into_api(),
            NodeError::Net(error) => error.into_api(),
            NodeError::Identity(why) => Self::new(ErrorCode::Internal, why)
                .hint("restore identity.key from a backup, or move it away to get a new identity"),
        }
    }
}

impl IntoApi for StoreError {
    fn into_api(self) -> ApiError {
        (&self).into_api()
    }
}

impl IntoApi for &StoreError {
    fn into_api(self) -> ApiError {
        let message = self.to_string();
        match self {
            StoreError::InUse { .. } => ApiError::new(ErrorCode::AlreadyRunning, message)
                .hint("stop the other one with `shoal stop`, or choose another --home"),
            StoreError::NewerSchema { .. } => ApiError::new(ErrorCode::NewerSchema, message)
                .hint("use the newer version of shoal, or another --home"),
            StoreError::Damaged { .. } => ApiError::new(ErrorCode::Integrity, message)
                .hint("run `shoal db check --repair`: it keeps what can be read, puts the damaged database \
                       aside and says what has to be shared again"),
            StoreError::NoSpace { .. } => ApiError::new(ErrorCode::NoSpace, message)
                .hint("free some space on the disk of the home, or remove files"),
            StoreError::NoPermission { .. } => ApiError::new(ErrorCode::NoPermission, message)
                .hint("make the home writable for this user"),
            StoreError::Limit { .. } => ApiError::new(ErrorCode::SystemLimit, message)
                .hint("raise that limit; `ulimit -a` shows those of this shell"),
            StoreError::Io { source, .. } if said::is_limit(source) => {
                ApiError::from_io(source, message)
            }
            StoreError::Io { .. } | StoreError::Database { .. } => {
                ApiError::new(ErrorCode::Internal, message)
                    .hint("check the home and its disk, or choose another with --home")
            }
        }
    }
}

impl IntoApi for NoAnswer {
    fn into_api(self) -> ApiError {
        ApiError::new(ErrorCode::Busy, self.to_string())
            .hint("check its device, server or mount, and try again when it answers")
    }
}

impl IntoApi for NetError {
    fn into_api(self) -> ApiError {
        let message = self.to_string();
        match self {
            NetError::PortInUse { .. } => ApiError::new(ErrorCode::PortInUse, message)
                .hint("choose another port with --listen, or port 0 for any free one"),
            NetError::Listen { .. } => ApiError::new(ErrorCode::Config, message)
                .hint("choose an address of this machine with --listen"),
            NetError::External { .. } => ApiError::new(ErrorCode::Config, message).hint(
                "give --external an address like /ip4/203.0.113.7/tcp/4101 or /dns/example.org/tcp/4101",
            ),
            NetError::NetworkName { .. } => ApiError::new(ErrorCode::Config, message),
            NetError::Load { .. } => ApiError::new(ErrorCode::Internal, message)
                .hint("check the home and its disk, and look into it with `shoal db check`"),
            _ => ApiError::new(ErrorCode::Internal, message),
        }
    }
}

impl IntoApi for ShareError {
    fn into_api(self) -> ApiError {
        let message = self.to_string();
        match self {
            ShareError::NoPath => ApiError::new(ErrorCode::Usage, message).hint("name a path"),
            ShareError::Pattern(_) => ApiError::new(ErrorCode::Usage, message)
                .hint("patterns look like *.o, target/ or **/cache"),
            ShareError::NotFound(_) => {
                ApiError::new(ErrorCode::PathNotFound, message).hint("check the path")
            }
            ShareError::PermissionDenied(_) => ApiError::new(ErrorCode::NoPermission, message)
                .hint("make it readable for the user that runs the daemon, or --exclude it"),
            ShareError::Unreadable(ref found) => {
                ApiError::new(ErrorCode::NoPermission, message).hint(leaving_out(found))
            }
            ShareError::NoThread(_) => ApiError::new(ErrorCode::SystemLimit, message)
                .hint("raise the limit on threads: `ulimit -u`, or TasksMax= of a service"),
            ShareError::WrongSize(_) | ShareError::Endless(_) => {
                ApiError::new(ErrorCode::BadName, message)
                    .hint("copy what it says into a file and share that, or --exclude it")
            }
            ShareError::NotShareable(_) => {
                ApiError::new(ErrorCode::BadName, message).hint("share a file or a folder")
            }
            ShareError::OwnHome { .. } => ApiError::new(ErrorCode::BadName, message)
                .hint("share a folder beside it, or move the home with --home"),
            ShareError::ShareName { .. } => {
                ApiError::new(ErrorCode::BadName, message).hint("choose another name with --name")
            }
            ShareError::DuplicateName(_) => ApiError::new(ErrorCode::BadName, message)
                .hint("share them one by one, or rename one of them"),
            ShareError::Names { ref names, .. } => {
                let hint = format!("rename or --exclude them: {}", names.join(", "));
                ApiError::new(ErrorCode::BadName, message).hint(hint)
            }
            ShareError::ChangedWhileSharing(_) => {
                ApiError::new(ErrorCode::ChangedWhileSharing, message)
                    .hint("share again when it is at rest, or use --copy")
            }
            ShareError::NoSpace { .. } => ApiError::new(ErrorCode::NoSpace, message)
                .hint("free some space, or remove files, or share without --copy"),
            ShareError::Copy { ref cause, .. } => ApiError::from_io(cause, message)
                .hint("check the home and its disk, or share without --copy"),
            ShareError::Cancelled => ApiError::new(ErrorCode::Interrupted, message),
            ShareError::Store(error) => error.into_api(),
            ShareError::Io { ref cause, .. } => ApiError::from_io(cause, message)
                .hint("check the disk and the file, or leave it out with --exclude"),
            ShareError::TooLarge { .. } | ShareError::Unbuildable { .. } => {
                ApiError::new(ErrorCode::BadName, message).hint("share its parts one by one")
            }
            ShareError::Panicked => ApiError::new(ErrorCode::Internal, message),
        }
    }
}

impl IntoApi for UnshareError {
    fn into_api(self) -> ApiError {
        let message = self.to_string();
        match self {
            UnshareError::NotShared { .. } => {
                ApiError::new(ErrorCode::NotShared, message).hint("`shoal ls` lists what is shared")
            }
            UnshareError::PartOf { .. } => ApiError::new(ErrorCode::NotShared, message),
            UnshareError::Store(error) => error.into_api(),
        }
    }
}

impl IntoApi for ConnectError {
    fn into_api(self) -> ApiError {
        let hint = "check the address, and that the other node runs and listens there";
        ApiError::new(ErrorCode::Unreachable, self.to_string())
            .hint(clock_first(hint, SystemTime::now()))
    }
}

impl IntoApi for &FetchError {
    fn into_api(self) -> ApiError {
        let message = self.to_string();
        match self {
            FetchError::NotFound { asked, .. }
            | FetchError::Denied { asked, .. }
            | FetchError::NoProgress { asked, .. }
                if asked.iter().any(|(_, it)| it.is_wrong_bytes()) =>
            {
                ApiError::new(ErrorCode::Integrity, message)
                    .hint("the only providers serve damaged content; ask for another source")
            }
            FetchError::NotFound { .. }
            | FetchError::Denied { .. }
            | FetchError::NoProgress { .. } => {
                let hint = clock_first(nobody(self), SystemTime::now());
                ApiError::new(ErrorCode::NotFound, message).hint(hint)
            }
            FetchError::DestinationExists(_) => {
                ApiError::new(ErrorCode::DestinationExists, message)
                    .hint("choose another place with -o, or replace it with --overwrite")
            }
            FetchError::NoDestination { cause, .. }
                if cause.kind() == ErrorKind::InvalidFilename =>
            {
                ApiError::new(ErrorCode::BadName, message).hint("choose a shorter name with -o")
            }
            FetchError::NoDestination { cause, .. } if cause.kind() == ErrorKind::StorageFull => {
                ApiError::from_io(cause, message)
            }
            FetchError::NoDestination { cause, .. } => ApiError::from_io(cause, message)
                .hint("choose a folder that exists and is yours with -o"),
            FetchError::OtherKind(_) => ApiError::new(ErrorCode::DestinationExists, message)
                .hint("choose another place with -o, or move what is there away"),
            FetchError::Destination(error) => ApiError::from_io(error, message)
                .hint("what was fetched is kept: mend it, and run the same fetch again to go on"),
            FetchError::NoSpace { .. } => ApiError::new(ErrorCode::NoSpace, message)
                .hint("free some space, or choose another disk with -o"),
            FetchError::Refused(error) | FetchError::Path(PathError::Dag(error)) => {
                refused(error, message)
            }
            FetchError::Misfits(_) => ApiError::new(ErrorCode::BadName, message)
                .hint("choose another disk with -o, or other names with --rename-unsafe"),
            FetchError::LongNames { .. } => ApiError::new(ErrorCode::BadName, message)
                .hint("choose another disk with -o, or what fits there with --only"),
            FetchError::LargeFiles(_) => ApiError::new(ErrorCode::NoSpace, message)
                .hint("choose another disk with -o, or what fits there with --only"),
            FetchError::Path(_) => ApiError::new(ErrorCode::NotFound, message)
                .hint("`shoal ls LINK` shows what there is"),
            FetchError::Name(_) => {
                ApiError::new(ErrorCode::BadName, message).hint("choose a name of your own with -o")
            }
            FetchError::Busy(_) => ApiError::new(ErrorCode::Busy, message)
                .hint("`shoal transfers` lists them; `shoal cancel ID` ends one for good"),
            FetchError::Spent(_) => ApiError::new(ErrorCode::BudgetSpent, message).hint(
                "what was fetched is kept; raise the budget with `shoal limits --monthly SIZE|off`",
            ),
            FetchError::Streams(_) => {
                ApiError::new(ErrorCode::Busy, message).hint("try again when one of them is done")
            }
            FetchError::NotAFile => ApiError::new(ErrorCode::NotAFile, message).hint(
                "name a file in it, like LINK/PATH or with --only GLOB; `shoal ls LINK` shows what \
                 there is",
            ),
            FetchError::SeveralFiles { .. } => ApiError::new(ErrorCode::NotAFile, message)
                .hint("choose one of them with --only PATH"),
            FetchError::Pattern(_) => ApiError::new(ErrorCode::Usage, message)
                .hint("patterns look like summer/*.raw, summer/ or **/*.md"),
            FetchError::Patterns(_) => ApiError::new(ErrorCode::Usage, message)
                .hint("alternatives fit into one pattern, like *.{jpg,raw}"),
            FetchError::OneFile => {
                ApiError::new(ErrorCode::Usage, message).hint("fetch it without --only")
            }
            FetchError::NothingMatches { there, .. } => {
                ApiError::new(ErrorCode::NothingMatches, message).hint(nothing_matches(there))
            }
            FetchError::BareSymlink => {
                ApiError::new(ErrorCode::BadName, message).hint("fetch the folder that it is in")
            }
            FetchError::Store(error) => error.into_api(),
            FetchError::Internal(_) => {
                ApiError::new(ErrorCode::Internal, message).hint("the daemon's log says more")
            }
            FetchError::Paused => ApiError::new(ErrorCode::Interrupted, message)
                .hint("`shoal resume` or the same fetch goes on"),
            FetchError::Removed => ApiError::new(ErrorCode::Interrupted, message)
                .hint("nothing of it is left; the same fetch begins anew"),
            FetchError::Cancelled => ApiError::new(ErrorCode::Interrupted, message)
                .hint("run the same command again to go on where it stopped"),
        }
    }
}

impl IntoApi for ControlError {
    fn into_api(self) -> ApiError {
        let message = self.to_string();
        let hint = match self {
            ControlError::Silent { .. } => {
                return ApiError::new(ErrorCode::Busy, message)
                    .hint("it is told, and does so when the disk answers again");
            }
            ControlError::Unknown(_) => "`shoal transfers` lists them with their numbers",
            ControlError::Ambiguous { .. } => "name one of them by its number",
            ControlError::Done(_) => {
                "what has landed is shared from there, unless it was fetched with --no-serve; \
                 `shoal unshare` ends that"
            }
            ControlError::Failed(_) => "`shoal resume` tries again, `shoal cancel` deletes it",
            ControlError::Removal(error) => return error.as_ref().into_api(),
            ControlError::Store(error) => return error.into_api(),
        };
        ApiError::new(ErrorCode::NoTransfer, message).hint(hint)
    }
}

/// What to do about all that may not be read: the options that leave out what is listed of it.
fn leaving_out(found: &Unreadable) -> String {
    let options = found.patterns.iter().map(|pattern| {
        let quoted = pattern.replace('\'', r"'\''");
        format!(" --exclude '{quoted}'")
    });
    let options: String = options.collect();
    if options.is_empty() {
        return "make them readable for the user that runs the daemon".to_owned();
    }
    format!("make them readable for the user that runs the daemon, or leave them out:{options}")
}

fn nothing_matches(there: &[String]) -> String {
    if there.is_empty() {
        return "the folder is empty".to_owned();
    }
    format!(
        "there are {}; a pattern is compared with whole paths, and **/ stands for any folders; \
         `shoal ls LINK` shows all",
        there.join(", ")
    )
}

fn refused(error: &DagError, message: String) -> ApiError {
    match error {
        DagError::Address(AddressError::UnsupportedHash { .. }) => {
            ApiError::new(ErrorCode::UnsupportedHash, message)
                .hint("shoal reads blake3 and sha2-256 addresses")
        }
        DagError::Malformed(_) | DagError::Length { .. } => {
            ApiError::new(ErrorCode::Integrity, message)
                .hint("no provider can mend it; ask the sharer to share it again")
        }
        DagError::Duplicate(_) => ApiError::new(ErrorCode::BadName, message).hint(RENAME_HINT),
        DagError::Name { reason, .. } if !matches!(reason, NameError::TooLong(_)) => {
            ApiError::new(ErrorCode::BadName, message).hint(RENAME_HINT)
        }
        _ => ApiError::new(ErrorCode::BadName, message)
            .hint("nothing was written; ask the sharer to share it again with safe names"),
    }
}

/// What to do where peers do not meet: a clock that cannot be right comes before everything else.
fn clock_first(hint: &str, now: SystemTime) -> String {
    match wall_clock::wrong(now) {
        Some(clock) => format!("{clock}; if that does not help, {hint}"),
        None => hint.to_owned(),
    }
}

/// What to do when no provider is found, or none is left.
fn nobody(error: &FetchError) -> &'static str {
    match error {
        FetchError::NotFound {
            was_alone: true,
            asked,
            ..
        } if asked.is_empty() => {
            "check the link, name a node to ask with --peer, or connect to one with `shoal connect \
             MULTIADDR`"
        }
        FetchError::NotFound { asked, .. } if asked.is_empty() => {
            "did you quote the link? An `&` without quotes cuts it. Otherwise ask its sharer whether it \
             is still shared, or name a peer with --peer"
        }
        FetchError::NotFound { asked, .. }
            if !asked.is_empty() && asked.iter().all(|(_, it)| it.is_unreachable()) =>
        {
            "check the link, that its sharer's node runs and is online, and `shoal peers`; then run \
             the same command again"
        }
        FetchError::Denied {
            has_begun: true, ..
        } => {
            "what was fetched is kept: ask the sharer to share it again, then run the same fetch \
             again to go on"
        }
        FetchError::Denied { asked, .. } if asked.iter().any(|(_, it)| it.is_gone()) => {
            "ask its sharer to share it again; a file that has changed gets a new link"
        }
        FetchError::NoProgress { .. } => {
            "what was fetched is kept: run the same fetch again to go on, or wait longer with \
             --patience"
        }
        _ => "check the link, and ask its sharer whether it is still shared",
    }
}
