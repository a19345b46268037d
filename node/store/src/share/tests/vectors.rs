//! The addresses that independent implementations found for the same files.

use std::fs::File;
use std::io::{BufWriter, Write};

use serde::Deserialize;
use shoal_protocol::address::HashFn;

use super::*;

const VECTORS: &str = include_str!("../../../../../protocol/tests/vectors/unixfs.json");

/// Content is made and written this much at a time.
const WRITE_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    seed: Option<String>,
    #[serde(default)]
    len: u64,
    #[serde(default)]
    entries: Vec<Entry>,
    cid_blake3: String,
    cid_sha2_256: String,
    files: Option<u64>,
    content_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Generator {
        generator: Generator,
    },
    Dir {
        path: String,
        dir: bool,
    },
    File {
        path: String,
        seed: String,
        len: u64,
    },
}

#[derive(Deserialize)]
struct Generator {
    dir: String,
    prefix: String,
    suffix: String,
    digits: usize,
    start: u64,
    count: u64,
    content: String,
}

/// Every vector, for both hashes, shared from real files of real length.
#[test]
fn every_vector_gives_its_address() {
    let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(vectors.cases.len(), 24);
    for case in vectors.cases {
        let world = World::new();
        let path = world.path(&case.name);
        match &case.seed {
            Some(seed) => write_content(&path, seed, case.len),
            None => write_tree(&path, &case.entries),
        }
        let mut request = world.request(&[&case.name]);
        for (hash, cid) in [
            (HashFn::Blake3, &case.cid_blake3),
            (HashFn::Sha2_256, &case.cid_sha2_256),
        ] {
            request.recipe.hash = hash;
            let record = world.share(&request).record;
            assert_eq!(record.root.to_string(), *cid, "{} {hash:?}", case.name);
            assert_eq!(
                record.size,
                case.content_bytes.unwrap_or(case.len),
                "{}",
                case.name
            );
            assert_eq!(record.files, case.files.unwrap_or(1), "{}", case.name);
        }
    }
}

fn write_tree(path: &Path, entries: &[Entry]) {
    fs::create_dir(path).unwrap();
    for entry in entries {
        match entry {
            Entry::File {
                path: below,
                seed,
                len,
            } => {
                let path = path.join(below);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                write_content(&path, seed, *len);
            }
            Entry::Dir { path: below, dir } => {
                assert!(dir);
                fs::create_dir_all(path.join(below)).unwrap();
            }
            Entry::Generator { generator: of } => {
                assert_eq!(of.content, "own-name");
                let dir = path.join(&of.dir);
                fs::create_dir_all(&dir).unwrap();
                for number in of.start..of.start + of.count {
                    let name = format!(
                        "{}{number:0digits$}{}",
                        of.prefix,
                        of.suffix,
                        digits = of.digits
                    );
                    fs::write(dir.join(&name), &name).unwrap();
                }
            }
        }
    }
}

fn write_content(path: &Path, seed: &str, len: u64) {
    let mut content = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut buffer = vec![0; WRITE_BYTES];
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left.min(WRITE_BYTES as u64)).unwrap();
        content.fill(&mut buffer[..part]);
        file.write_all(&buffer[..part]).unwrap();
        left -= part as u64;
    }
    file.flush().unwrap();
}
