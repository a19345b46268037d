//! The published vectors through the command line: `shoal share --json` gives their addresses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use serde_json::Value;
use shoal_tests::{Daemon, scratch, text};

/// Bytes written at a time while making an input.
const BUFFER_BYTES: usize = 1 << 20;

#[test]
fn every_vector_has_its_address_under_both_hashes() {
    let vectors = include_str!("../../protocol/tests/vectors/unixfs.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let dir = scratch();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 24);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let path = dir.path().join(name);
        make(case, &path);
        for (hash, field) in [("blake3", "cid_blake3"), ("sha2-256", "cid_sha2_256")] {
            let args = ["share", text(&path), "--hash", hash, "--no-announce"];
            let shared = daemon.run(&args).ok();
            assert_eq!(shared["cid"], case[field], "{name} with {hash}");
        }
        daemon.run(&["unshare", text(&path)]).ok();
        if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        }
        .unwrap();
    }
}

/// Makes the input of a case, as the file's `notes` say.
fn make(case: &Value, path: &Path) {
    if case["kind"] == "file" {
        seeded(
            path,
            case["seed"].as_str().unwrap(),
            case["len"].as_u64().unwrap(),
        );
        return;
    }
    fs::create_dir(path).unwrap();
    for entry in case["entries"].as_array().unwrap() {
        if entry.get("generator").is_some_and(|it| !it.is_null()) {
            generate(path, entry);
            continue;
        }
        let at = path.join(entry["path"].as_str().unwrap());
        if entry["dir"] == true {
            fs::create_dir_all(at).unwrap();
        } else {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            seeded(
                &at,
                entry["seed"].as_str().unwrap(),
                entry["len"].as_u64().unwrap(),
            );
        }
    }
}

fn generate(root: &Path, entry: &Value) {
    let generator = if entry["generator"].is_object() {
        &entry["generator"]
    } else {
        entry
    };
    let field = |name: &str| generator[name].as_str().unwrap_or_default();
    let number = |name: &str| generator[name].as_u64().unwrap_or_default();
    let dir = root.join(field("dir"));
    fs::create_dir_all(&dir).unwrap();
    let digits = usize::try_from(number("digits")).unwrap();
    for index in number("start")..number("start") + number("count") {
        let name = format!("{}{index:0digits$}{}", field("prefix"), field("suffix"));
        let at = dir.join(&name);
        match field("content") {
            "own-name" => fs::write(at, &name).unwrap(),
            _ => seeded(
                &at,
                &format!("{}{name}", field("seed_prefix")),
                number("len"),
            ),
        }
    }
}

/// The first `len` bytes of the BLAKE3 XOF of `seed`.
fn seeded(path: &Path, seed: &str, len: u64) {
    let mut reader = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = len;
    while left > 0 {
        let count = usize::try_from(left.min(BUFFER_BYTES as u64)).unwrap();
        reader.fill(&mut buffer[..count]);
        file.write_all(&buffer[..count]).unwrap();
        left -= count as u64;
    }
    file.flush().unwrap();
}
