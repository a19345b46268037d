//! The manifest of a testnet: `testnet.json` in its folder.
//!
//! It says what was started, before it runs; whoever reads it knows every process and every home
//! there can be, also when the one who wrote it was killed. It is replaced as a whole, by a rename.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    numbering::node_name,
    process::{ProcessId, Running},
};

/// The manifest's file in the folder of a testnet.
pub const MANIFEST_FILE: &str = "testnet.json";

/// What belongs to a testnet and to none of its homes, in which nothing can be shared or fetched.
pub(crate) const FILES_DIR: &str = "files";

/// What it is called until it is complete.
pub(crate) const STAGED_FILE: &str = ".testnet.json.new";

/// What this module reads and writes.
const VERSION: u32 = 1;

/// A node takes some 500 bytes, and a testnet has at most [`crate::NODES_MAX`] of them.
const BYTES_MAX: u64 = 16 << 20;

/// A testnet as its folder describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format; others are refused.
    version: u32,
    /// Whether `up` made the folder, so that `down` removes it.
    pub(crate) made_dir: bool,
    /// Whether there may be a [`FILES_DIR`] in it, which `down` removes with all that it holds.
    #[serde(default)]
    pub(crate) made_files: bool,
    /// Every node there may be, in order.
    pub nodes: Vec<NodeEntry>,
}

/// A node of a testnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name, which is also that of its folder.
    pub name: String,
    /// Its home.
    pub home: PathBuf,
    /// The process that was last started on it, and was not ended on purpose.
    pub process: Option<ProcessId>,
    /// Its peer id, once it was ready.
    pub peer_id: Option<String>,
    /// Where it listens, each address with the peer id; once it was ready.
    pub listen: Vec<String>,
    /// Where it is to listen when it is new.
    pub(crate) listen_first: String,
}

impl NodeEntry {
    /// Whether its process runs now.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&self) -> Result<bool, Error> {
        Ok(self.find()?.is_some())
    }

    /// Where it listens when it is started next, without peer ids: where it did before, so that
    /// others find it again.
    pub(crate) fn listens(&self) -> impl Iterator<Item = &str> {
        let first = self.listen.is_empty().then_some(&self.listen_first);
        let addresses = self.listen.iter().chain(first);
        addresses.filter_map(|address| address.split("/p2p/").next())
    }

    /// Forgets a process that was ended, unless another was started on the home meanwhile: a start may
    /// begin while a kill still waits for the end.
    pub(crate) fn forget(&mut self, ended: Option<ProcessId>) {
        if self.process == ended {
            self.process = None;
        }
    }

    /// A hold on its process, if that runs.
    pub(crate) fn find(&self) -> Result<Option<Running>, Error> {
        let found = self.process.map(|process| process.find(&self.home));
        let found = found.transpose();
        Ok(found
            .map_err(Error::io("look for the node in", &self.home))?
            .flatten())
    }
}

impl Manifest {
    /// A testnet in `dir` with a node for each address that one is to listen on; none was started.
    pub(crate) fn new(dir: &Path, addresses: Vec<String>, made_dir: bool) -> Self {
        let entry = |(index, listen_first)| NodeEntry {
            name: node_name(index),
            home: dir.join(node_name(index)),
            process: None,
            peer_id: None,
            listen: Vec::new(),
            listen_first,
        };
        Self {
            version: VERSION,
            made_dir,
            made_files: false,
            nodes: addresses.into_iter().enumerate().map(entry).collect(),
        }
    }

    /// The manifest in `dir`; none when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or names what is not in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(MANIFEST_FILE);
        let mut text = String::new();
        let read =
            File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|error| Error::manifest(&path, error.to_string()))?;
        manifest
            .check(dir)
            .map_err(|why| Error::manifest(&path, why))?;
        Ok(Some(manifest))
    }

    /// Replaces the manifest in `dir`.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), Error> {
        let (staged, path) = (dir.join(STAGED_FILE), dir.join(MANIFEST_FILE));
        let write = || {
            let mut file = File::create(&staged)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            fs::rename(&staged, &path)
        };
        write().map_err(Error::io("write", &path))
    }

    /// What is listed gets ended and removed: it has to be what this module would list.
    fn check(&self, dir: &Path) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("version {} is not known here", self.version));
        }
        let (nodes, max) = (self.nodes.len(), crate::NODES_MAX);
        if nodes > max {
            return Err(format!(
                "{nodes} nodes are more than the {max} there can be"
            ));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if node.name != node_name(index) || node.home != dir.join(&node.name) {
                let home = node.home.display();
                return Err(format!("{home} is not node {index} of this folder"));
            }
        }
        Ok(())
    }
}

/// Whether this says that there is no such file.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), None);
        assert_eq!(Manifest::load(&dir.path().join("missing")).unwrap(), None);
        let mut manifest = Manifest::new(
            dir.path(),
            vec!["/ip4/127.0.0.1/tcp/0".to_owned(); 101],
            true,
        );
        manifest.nodes[3].process = Some(ProcessId {
            pid: 7,
            start_ticks: 9,
        });
        assert_eq!(manifest.nodes[3].name, "node-03");
        assert_eq!(manifest.nodes[100].name, "node-100");
        manifest.save(dir.path()).unwrap();
        manifest.save(dir.path()).unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), Some(manifest));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_process_that_was_started_while_another_ended_is_not_forgotten() {
        let of = |pid| {
            Some(ProcessId {
                pid,
                start_ticks: 9,
            })
        };
        let manifest = Manifest::new(Path::new("/net"), vec!["/ip4/127.0.0.1/tcp/0".into()], true);
        let mut node = manifest.nodes[0].clone();
        node.process = of(2);
        node.forget(of(1));
        assert_eq!(node.process, of(2));
        node.forget(of(2));
        assert_eq!(node.process, None);
    }

    #[test]
    fn a_manifest_that_names_other_places_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest =
                Manifest::new(dir.path(), vec!["/ip4/127.0.0.1/tcp/0".to_owned(); 2], true);
            change(&mut manifest);
            manifest.save(dir.path()).unwrap();
            let error = Manifest::load(dir.path()).unwrap_err();
            assert!(matches!(error, Error::Manifest { .. }), "{error}");
        };
        check(&|manifest| manifest.version = 2);
        check(&|manifest| manifest.nodes[1].home = "/".into());
        check(&|manifest| manifest.nodes[1].home = manifest.nodes[0].home.clone());
        check(&|manifest| manifest.nodes[1].name = "../x".into());
        check(&|manifest| manifest.nodes.swap(0, 1));
        fs::write(dir.path().join(MANIFEST_FILE), "{").unwrap();
        Manifest::load(dir.path()).unwrap_err();
    }
}
