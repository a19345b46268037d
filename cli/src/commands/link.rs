//! `shoal link`: prints the link of a share again.

use std::{fs, path::Path};

use serde::Serialize;
use shoal_api::{ApiError, ErrorCode, types::LinkedShare};

use super::{interruptible, unshare::is_link};
use crate::{
    app::{self, App},
    args::LinkArgs,
    daemon, human, qr,
};

/// The result of `shoal link --json`.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    share: &'a LinkedShare,
    #[serde(skip_serializing_if = "Option::is_none")]
    qr: Option<qr::Code>,
}

pub(crate) async fn run(app: &App, args: LinkArgs) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let shares = interruptible(app, client.shares()).await?.shares;
    let share = meant(&shares, &args.target)?;
    let shown = Shown {
        share,
        qr: args
            .qr
            .then(|| qr::shown(&app.output, &share.link))
            .flatten(),
    };
    let link = if args.long {
        &share.link_long
    } else {
        app.output.for_program(&share.link, &share.link_long)
    };
    app.output.result(&shown, |text| text.line(text.bold(link)));
    if let Some(code) = &shown.qr {
        app.output.more(|text| text.line(&code.lines));
    }
    Ok(())
}

/// The share that a person means: by its name, else by its address, else by its path.
fn meant<'a>(shares: &'a [LinkedShare], target: &str) -> Result<&'a LinkedShare, ApiError> {
    let link = ApiError::parse_link(target);
    let root = link.as_ref().ok().map(|link| link.root.to_string());
    let paths = [
        app::absolute(Path::new(target))
            .map(|path| path.into_path_buf())
            .ok(),
        fs::canonicalize(target).ok(),
    ];
    let ways: [&dyn Fn(&LinkedShare) -> bool; 3] = [
        &|it| it.share.name == target,
        &|it| Some(&it.share.cid) == root.as_ref(),
        &|it| paths.iter().flatten().any(|path| *path == it.share.path),
    ];
    let found = ways.into_iter().find_map(|is_meant| {
        let found: Vec<_> = shares.iter().filter(|it| is_meant(it)).collect();
        (!found.is_empty()).then_some(found)
    });
    let Some(found) = found else {
        return Err(match link {
            Err(error) if is_link(target) => error,
            _ => not_shared(target),
        });
    };
    match found.as_slice() {
        // The same content from two places has one link.
        [first, rest @ ..] if rest.iter().all(|it| it.share.cid == first.share.cid) => Ok(first),
        several => Err(ambiguous(several, target)),
    }
}

fn not_shared(target: &str) -> ApiError {
    let message = format!("`{}` is not shared here", human::escape(target));
    ApiError::new(ErrorCode::NotShared, message).hint("`shoal ls` lists what is shared")
}

fn ambiguous(shares: &[&LinkedShare], target: &str) -> ApiError {
    let count = human::count(shares.len() as u64, "share");
    let message = format!("{count} are called {}", human::escape(target));
    let each = shares.iter().map(|it| {
        let path = human::path(&it.share.path);
        format!("{} is {path}", it.share.cid)
    });
    let each: Vec<_> = each.collect();
    ApiError::new(ErrorCode::Usage, message)
        .hint(format!("name one of them by its CID: {}", each.join(", ")))
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
    fn a_share_is_named_by_name_address_link_or_path() {
        let shares = [
            share(A, "photos", "/home/ann/pictures"),
            share(A, "photos", "/media/pictures"),
            share(B, "photos.zip", "/home/ann/photos"),
        ];
        let check = |target: &str, path: &str| {
            let found = meant(&shares, target).unwrap();
            assert_eq!(found.share.path, Path::new(path), "{target}");
        };
        check("photos", "/home/ann/pictures");
        check(A, "/home/ann/pictures");
        check(&format!("shoal:{B}?name=x"), "/home/ann/photos");
        check("/home/ann/photos", "/home/ann/photos");
        check("/media/pictures", "/media/pictures");

        let error = |target: &str| meant(&shares, target).unwrap_err();
        assert_eq!(error("nothing").code, ErrorCode::NotShared);
        assert_eq!(error("shoal:bafy").code, ErrorCode::Usage);
        assert_eq!(
            error(&B.replacen("bafybei", "bafkrei", 1)).code,
            ErrorCode::NotShared
        );
    }

    #[test]
    fn two_of_one_name_have_to_be_told_apart() {
        let shares = [share(A, "x", "/a/x"), share(B, "x", "/b/x")];
        let error = meant(&shares, "x").unwrap_err();
        assert_eq!(error.code, ErrorCode::Usage);
        let hint = error.hint.unwrap();
        assert!(hint.contains(A) && hint.contains("/b/x"), "{hint}");
    }
}
