//! Whether copies are what was shared: each is read as a whole when the run is over.

use std::{path::PathBuf, thread};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Error,
    run::{
        files::{self, Digest, Original},
        record::{Outcome, Record},
    },
};

/// Compares every copy that has landed with its original.
///
/// # Errors
/// When a thread of this program fails; a copy that cannot be read is different.
pub(super) async fn verify(record: &mut Record, originals: &[Original]) -> Result<(), Error> {
    let landed = record.fetches.iter().enumerate();
    let landed = landed.filter_map(|(index, fetch)| match &fetch.outcome {
        Outcome::Landed(path) => Some((index, path.clone(), originals[fetch.item].digest)),
        _ => None,
    });
    let landed: Vec<_> = landed.collect();
    let at_once = thread::available_parallelism().map_or(1, Into::into);
    let compared = landed.into_iter().map(|(index, path, digest)| async move {
        let same = is_same(path, digest).await?;
        Ok::<_, Error>((index, same))
    });
    let compared = stream::iter(compared).buffer_unordered(at_once);
    let compared: Vec<_> = compared.try_collect().await?;
    for (index, same) in compared {
        record.fetches[index].outcome = match same {
            true => Outcome::Identical,
            false => Outcome::Different,
        };
    }
    Ok(())
}

async fn is_same(path: PathBuf, digest: Digest) -> Result<bool, Error> {
    let copy = path.clone();
    let compare = move || files::digest(&copy).is_ok_and(|it| it == digest);
    let compared = tokio::task::spawn_blocking(compare).await;
    compared.map_err(|error| Error::io("compare with its original", &path)(error.into()))
}
