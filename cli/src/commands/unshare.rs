//! `shoal unshare`: stops serving a share; its files stay.

use std::path::Path;

use shoal_api::{ApiError, ErrorCode, types::UnshareRequest};

use super::interruptible;
use crate::{
    app::{self, App},
    args::UnshareArgs,
    human,
    reach::Reach,
};

pub(crate) async fn run(app: &App, args: UnshareArgs) -> Result<(), ApiError> {
    let request = request(&args.target)?;
    let reach = Reach::open(app).await?;
    let unshared = interruptible(app, reach.unshare(&request)).await;
    reach.close().await;
    let unshared = unshared?;
    app.output.result(&unshared, |text| {
        for share in &unshared.removed {
            text.line(format_args!(
                "no longer shared: {}",
                human::escape(&share.name)
            ));
        }
    });
    app.output.note("The files are where they were.");
    Ok(())
}

/// A link or CID if it is one, otherwise a path, which need not exist any more.
fn request(target: &str) -> Result<UnshareRequest, ApiError> {
    match ApiError::parse_link(target) {
        Ok(link) => Ok(UnshareRequest::Cid(link.root.to_string())),
        Err(error) if error.code == ErrorCode::UnsupportedHash || is_link(target) => Err(error),
        Err(_) => app::absolute(Path::new(target)).map(UnshareRequest::Path),
    }
}

/// Whether a text that does not parse was meant as a link.
pub(super) fn is_link(target: &str) -> bool {
    ["shoal:", "ipfs:", "/ipfs/"].iter().any(|scheme| {
        let head = target.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn links_and_paths_are_told_apart() {
        let cid = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
        for link in [
            cid.to_owned(),
            format!("shoal:{cid}?name=x"),
            format!("/ipfs/{cid}/a"),
        ] {
            assert_eq!(
                request(&link).unwrap(),
                UnshareRequest::Cid(cid.to_owned()),
                "{link}"
            );
        }
        for path in ["photos", "./photos", "/gone/photos", "bafy.txt"] {
            assert!(
                matches!(request(path).unwrap(), UnshareRequest::Path(_)),
                "{path}"
            );
        }
        for damaged in ["shoal:bafy", "/ipfs/hello"] {
            assert_eq!(
                request(damaged).unwrap_err().code,
                ErrorCode::Usage,
                "{damaged}"
            );
        }
    }
}
