//! `shoal unshare`: stops serving shares; their files stay.

use std::path::Path;

use shoal_api::{
    ApiError, ErrorCode,
    types::{LinkedShare, UnshareRequest, Unshared},
};

use super::{interruptible, named};
use crate::{
    app::{self, App},
    args::UnshareArgs,
    human,
    reach::Reach,
};

pub(crate) async fn run(app: &App, args: UnshareArgs) -> Result<(), ApiError> {
    let reach = Reach::open(app).await?;
    let unshared = interruptible(app, unshare(&reach, &args.shares)).await;
    reach.close().await;
    let unshared = unshared?;
    app.output.result(&unshared, |text| {
        for share in &unshared.removed {
            text.line(format_args!(
                "no longer shared: {}",
                human::escape(&share.name)
            ));
        }
        for share in &unshared.forgotten {
            let name = human::escape(&share.name);
            text.line(format_args!("forgotten: {name}, which damage had taken"));
        }
    });
    app.output.note("The files are where they were.");
    Ok(())
}

/// Takes back what the words mean. If one of them means nothing, or several, nothing is taken back.
async fn unshare(reach: &Reach, words: &[String]) -> Result<Unshared, ApiError> {
    let shares = reach.shares().await?;
    let mut wanted = Vec::new();
    for word in words {
        let meant = match named::meant(&shares, word) {
            // The node knows which share was made under these words, wherever they lead by now.
            Ok(found) if is_by_path(word, &found) => vec![unlisted(word)?],
            Ok(found) => named::to_unshare(&shares, &found),
            Err(error) if error.code == ErrorCode::NotShared && !word.is_empty() => {
                vec![unlisted(word)?]
            }
            Err(error) => return Err(error),
        };
        wanted.extend(meant.into_iter().map(|request| (request, word)));
    }
    // What is not listed may not be there either: it is asked for before anything is taken back.
    wanted.sort_by_key(|(request, _)| is_listed(&shares, request));
    let mut unshared = Unshared {
        removed: Vec::new(),
        forgotten: Vec::new(),
    };
    let mut done = Vec::new();
    for (request, word) in wanted {
        if done.contains(&request) {
            continue;
        }
        let one = reach.unshare(&request).await;
        let one = one.map_err(|error| match error.code {
            ErrorCode::NotShared => named::meant(&shares, word).err().unwrap_or(error),
            _ => error,
        })?;
        unshared.removed.extend(one.removed);
        unshared.forgotten.extend(one.forgotten);
        done.push(request);
    }
    Ok(unshared)
}

/// Whether it is the path alone by which a word means what was found.
fn is_by_path(word: &str, found: &[&LinkedShare]) -> bool {
    let is_named = |it: &&LinkedShare| it.share.name == word || it.share.cid.starts_with(word);
    ApiError::parse_link(word).is_err() && !found.iter().any(is_named)
}

/// What a word means that names no listed share: perhaps one that damage took, or one by a symlink that
/// leads elsewhere by now.
fn unlisted(word: &str) -> Result<UnshareRequest, ApiError> {
    match ApiError::parse_link(word) {
        Ok(link) => Ok(UnshareRequest::Cid(link.root.to_string())),
        Err(error) if error.code == ErrorCode::UnsupportedHash => Err(error),
        Err(_) => app::absolute(Path::new(word)).map(UnshareRequest::Path),
    }
}

fn is_listed(shares: &[LinkedShare], request: &UnshareRequest) -> bool {
    shares.iter().any(|it| match request {
        UnshareRequest::Cid(cid) => it.share.cid == *cid,
        UnshareRequest::Path(path) => it.share.path == path.as_path(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_not_listed_is_asked_for_by_link_or_path() {
        let cid = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
        for link in [
            cid.to_owned(),
            format!("shoal:{cid}?name=x"),
            format!("/ipfs/{cid}/a"),
        ] {
            let request = unlisted(&link).unwrap();
            assert_eq!(request, UnshareRequest::Cid(cid.to_owned()), "{link}");
        }
        for path in ["photos", "./photos", "/gone/photos", "bafy.txt"] {
            let request = unlisted(path).unwrap();
            assert!(matches!(request, UnshareRequest::Path(_)), "{path}");
        }
    }
}
