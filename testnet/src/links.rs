//! The file of a testnet's emulated links: `links.json` in its folder, which its nodes follow.
//!
//! The file is a whole [`Plan`], replaced by a rename.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use shoal_net::emulation::Plan;

use crate::{Error, manifest::is_absent};

/// The plan's file in the folder of a testnet.
pub(crate) const LINKS_FILE: &str = "links.json";

/// What it is called until it is complete.
pub(crate) const LINKS_STAGED_FILE: &str = ".links.json.new";

/// A node takes about 200 bytes, and a testnet has at most [`crate::NODES_MAX`] of them.
const BYTES_MAX: u64 = 16 << 20;

/// The plan of the testnet in `dir`, for those who only look; none when its links are not emulated.
///
/// # Errors
/// When it cannot be read.
pub fn plan_in(dir: &Path) -> Result<Option<Plan>, Error> {
    let path = dir.join(LINKS_FILE);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    }
    let plan = serde_json::from_str(&text);
    plan.map(Some)
        .map_err(|error| Error::manifest(&path, error.to_string()))
}

/// Replaces the plan of the testnet in `dir`.
pub(crate) fn save(plan: &Plan, dir: &Path) -> Result<(), Error> {
    let (staged, path): (PathBuf, PathBuf) = (dir.join(LINKS_STAGED_FILE), dir.join(LINKS_FILE));
    let write = || {
        let mut file = File::create(&staged)?;
        serde_json::to_writer_pretty(&mut file, plan)?;
        file.write_all(b"\n")?;
        fs::rename(&staged, &path)
    };
    write().map_err(Error::io("write", &path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(plan_in(dir.path()).unwrap(), None);
        let plan = Plan {
            seed: 7,
            nodes: vec![Default::default(); 3],
            ..Plan::default()
        };
        save(&plan, dir.path()).unwrap();
        assert_eq!(plan_in(dir.path()).unwrap(), Some(plan));
        fs::write(dir.path().join(LINKS_FILE), "{").unwrap();
        let error = plan_in(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Manifest { .. }), "{error}");
    }
}
