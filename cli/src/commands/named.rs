//! Which shares a person means by what `shoal ls` shows: a name, a CID or the beginning of it, a path; or
//! by a link.
//!
//! A word that may mean several is refused, and they are named: nothing is done then.

use std::{
    fs,
    path::{Path, PathBuf},
};

use shoal_api::{
    ApiError, ErrorCode,
    types::{LinkedShare, UnshareRequest},
};
use shoal_ground::suggest::closest;

use crate::{app, human};

/// Letters that the beginning of a CID needs to have: `bafkr4i` and the like say only what kind of CID
/// it is, and four more letters are not met by chance.
const CID_BEGINNING_MIN: usize = 11;
/// Shares that are named where a word may mean several.
const CANDIDATES_SHOWN_MAX: usize = 10;

/// The shares that a word means, at least one, all of one root; oldest first.
///
/// # Errors
/// When it means none ([`ErrorCode::NotShared`]), or shares of several roots, or is a damaged link.
pub(super) fn meant<'a>(
    shares: &'a [LinkedShare],
    word: &str,
) -> Result<Vec<&'a LinkedShare>, ApiError> {
    let link = ApiError::parse_link(word);
    let root = link.as_ref().ok().map(|link| link.root.to_string());
    let paths = [
        app::absolute(Path::new(word))
            .map(|path| path.into_path_buf())
            .ok(),
        real_path(word),
    ];
    let is_path = |other: &Path| paths.iter().flatten().any(|path| path == other);
    let is_beginning = |cid: &str| word.len() >= CID_BEGINNING_MIN && cid.starts_with(word);
    let ways: [&dyn Fn(&LinkedShare) -> bool; 2] = [
        &|it| {
            let is_place = it.share.paths.is_empty() && is_path(&it.share.path);
            it.share.name == word || Some(&it.share.cid) == root.as_ref() || is_place
        },
        &|it| is_beginning(&it.share.cid),
    ];
    for is_meant in ways {
        let found: Vec<_> = shares.iter().filter(|it| is_meant(it)).collect();
        match found.as_slice() {
            [] => {}
            // The same content from two places has one link.
            [first, rest @ ..] if rest.iter().all(|it| it.share.cid == first.share.cid) => {
                return Ok(found);
            }
            several => return Err(ambiguous(several, word)),
        }
    }
    let whole = shares
        .iter()
        .find(|it| it.share.paths.iter().any(|path| is_path(path)));
    Err(match (link, whole) {
        (Err(error), _) if is_link(word) => error,
        (_, Some(whole)) => part_of(&whole.share.name, word),
        _ => not_shared(shares, word),
    })
}

/// The one root that a word means.
///
/// # Errors
/// As for [`meant`].
pub(super) fn root<'a>(shares: &'a [LinkedShare], word: &str) -> Result<&'a str, ApiError> {
    let found = meant(shares, word)?;
    let first = found.first().ok_or_else(|| not_shared(shares, word))?;
    Ok(&first.share.cid)
}

/// The requests that take back what was found, and nothing else of the same root.
pub(super) fn to_unshare(shares: &[LinkedShare], found: &[&LinkedShare]) -> Vec<UnshareRequest> {
    let by_path = found.iter().map(|it| place(it).map(UnshareRequest::Path));
    let by_path: Option<Vec<_>> = by_path.collect();
    let Some(first) = found.first() else {
        return Vec::new();
    };
    let of_root = shares.iter().filter(|it| it.share.cid == first.share.cid);
    match by_path {
        Some(by_path) if of_root.count() > found.len() => by_path,
        // All of the root, or a share that has no path of its own.
        _ => vec![UnshareRequest::Cid(first.share.cid.clone())],
    }
}

/// The path that a share alone is known by.
pub(super) fn place(share: &LinkedShare) -> Option<shoal_api::types::AbsolutePath> {
    let share = &share.share;
    let path = share.paths.is_empty().then(|| share.path.clone())?;
    path.try_into().ok()
}

/// Whether a text that does not parse was meant as a link.
pub(super) fn is_link(word: &str) -> bool {
    ["shoal:", "ipfs:", "/ipfs/"].iter().any(|scheme| {
        let head = word.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    })
}

/// Where a path leads; the daemon, which can wait for a disk, looks by itself.
fn real_path(word: &str) -> Option<PathBuf> {
    let path = PathBuf::from(word);
    app::looked(move || fs::canonicalize(path)).and_then(Result::ok)
}

fn not_shared(shares: &[LinkedShare], word: &str) -> ApiError {
    let message = format!("`{}` is not shared here", human::escape(word));
    let names = shares.iter().map(|it| it.share.name.as_str());
    let near = (!word.is_empty()).then(|| closest(word, names)).flatten();
    let hint = match near {
        Some(near) => format!(
            "did you mean `{}`? `shoal ls` lists what is shared",
            human::escape(near)
        ),
        None => "`shoal ls` lists what is shared".to_owned(),
    };
    ApiError::new(ErrorCode::NotShared, message).hint(hint)
}

fn part_of(name: &str, word: &str) -> ApiError {
    let (name, word) = (human::escape(name), human::escape(word));
    let message = format!("`{word}` is not a share of its own: it is a part of the share `{name}`");
    ApiError::new(ErrorCode::NotShared, message).hint(format!(
        "name the whole share, as in {}",
        human::shell_quote(&name)
    ))
}

fn ambiguous(several: &[&LinkedShare], word: &str) -> ApiError {
    let count = human::count(several.len() as u64, "share");
    let message = format!("`{}` may mean any of {count}", human::escape(word));
    let shown = several.iter().take(CANDIDATES_SHOWN_MAX);
    let each = shown.map(|it| {
        let (name, path) = (human::escape(&it.share.name), human::path(&it.share.path));
        format!("{} is {name} at {path}", it.share.cid)
    });
    let mut each: Vec<_> = each.collect();
    if several.len() > CANDIDATES_SHOWN_MAX {
        each.push("and others".to_owned());
    }
    ApiError::new(ErrorCode::Usage, message).hint(format!(
        "nothing was done; name one by its CID or its path: {}",
        each.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_api::types::{Audience, ShareInfo, ShareState};

    use super::*;

    const A: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
    const B: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";

    fn share(cid: &str, name: &str, path: &str) -> LinkedShare {
        LinkedShare {
            share: ShareInfo {
                cid: cid.to_owned(),
                name: name.to_owned(),
                path: path.into(),
                paths: Vec::new(),
                size: 1,
                files: 1,
                created: "1970-01-01T00:00:00Z".parse().unwrap(),
                announce: true,
                replicate: true,
                state: ShareState::Ok,
                audience: Audience::default(),
                until: None,
                expires: None,
                processes: Vec::new(),
            },
            link: format!("shoal:{cid}"),
            link_long: format!("shoal:{cid}?name={name}"),
        }
    }

    #[test]
    fn a_share_is_named_by_name_cid_its_beginning_link_or_path() {
        let shares = [
            share(A, "photos", "/home/ann/pictures"),
            share(A, "pictures", "/media/pictures"),
            share(B, "photos.zip", "/home/ann/photos"),
        ];
        let check = |word: &str, expected: &[&str]| {
            let found = meant(&shares, word).unwrap();
            let paths: Vec<_> = found.iter().map(|it| it.share.path.to_str()).collect();
            let expected: Vec<_> = expected.iter().map(|path| Some(*path)).collect();
            assert_eq!(paths, expected, "{word}");
        };
        let both = ["/home/ann/pictures", "/media/pictures"];
        check("photos", &both[..1]);
        check(A, &both);
        check(&A[..11], &both);
        check(&format!("shoal:{B}?name=x"), &["/home/ann/photos"]);
        check("/home/ann/photos", &["/home/ann/photos"]);
        check("/media/pictures", &both[1..]);

        let error = |word: &str| meant(&shares, word).unwrap_err();
        for word in ["nothing", "", "b", &A[..10], "bafyc"] {
            assert_eq!(error(word).code, ErrorCode::NotShared, "{word}");
        }
        assert_eq!(error("shoal:bafy").code, ErrorCode::Usage);
        let near = error("photo");
        assert!(near.message.contains("`photo`"), "{near:?}");
        assert!(near.hint.unwrap().contains("`photos`"));
        assert_eq!(
            error(&B.replacen("bafybei", "bafkrei", 1)).code,
            ErrorCode::NotShared
        );
    }

    #[test]
    fn a_word_for_several_names_them_all() {
        let shares = [
            share(A, "x", "/a/x"),
            share(B, "x", "/b/x"),
            share(B, "/a/x", "/b/y"),
        ];
        for word in ["x", "/a/x"] {
            let error = meant(&shares, word).unwrap_err();
            assert_eq!(error.code, ErrorCode::Usage, "{word}");
            let hint = error.hint.unwrap();
            assert!(hint.contains(A) && hint.contains(B), "{hint}");
        }
    }

    #[test]
    fn a_path_of_several_is_no_share_and_neither_is_the_folder_around_them() {
        let mut several = share(A, "docs", "/home/ann/docs");
        several.share.paths = vec!["/home/ann/docs/a".into(), "/home/ann/docs/b".into()];
        let shares = [several];
        let error = meant(&shares, "/home/ann/docs/a").unwrap_err();
        assert!(
            error.message.contains("part of the share `docs`"),
            "{error:?}"
        );
        let error = meant(&shares, "/home/ann/docs").unwrap_err();
        assert_eq!(error.code, ErrorCode::NotShared);
        assert!(meant(&shares, "docs").is_ok());
    }

    #[test]
    fn only_what_was_named_is_unshared() {
        let shares = [
            share(A, "one", "/one"),
            share(A, "two", "/two"),
            share(B, "three", "/three"),
        ];
        let check = |word: &str, expected: UnshareRequest| {
            let found = meant(&shares, word).unwrap();
            assert_eq!(to_unshare(&shares, &found), [expected], "{word}");
        };
        let path = |path: &str| {
            let path = PathBuf::from(path);
            UnshareRequest::Path(path.try_into().unwrap())
        };
        check("one", path("/one"));
        check("/two", path("/two"));
        check("three", UnshareRequest::Cid(B.to_owned()));
        check(A, UnshareRequest::Cid(A.to_owned()));
    }
}
