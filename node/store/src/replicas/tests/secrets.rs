//! With the disk and without the root nobody finds what is kept.

use shoal_protocol::address::{Cid, Codec};

use super::*;
use crate::tests::site::Site;

/// Bytes of a content that are looked for: enough that they lie nowhere by chance.
const WINDOW_BYTES: usize = 16;

fn all_bytes(folder: &Path, into: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all_bytes(&path, into),
            false => {
                let content = fs::read(&path).unwrap();
                // Slabs are sparse; what lies in them begins them.
                let end = content
                    .iter()
                    .rposition(|it| *it != 0)
                    .map_or(0, |it| it + 1);
                into.push((path, content[..end].to_vec()));
            }
        }
    }
}

fn contains(all: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let mut rest = all;
    while let Some(at) = rest.iter().position(|it| *it == first) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[test]
fn the_disk_without_the_root_tells_neither_content_nor_addresses() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 1 << 30);
        let root = Root::of("a secret film", 9, 8 * KIB);
        let (denied, gone) = (Root::new("denied", 4), Root::new("gone", 4));
        for root in [&root, &denied, &gone] {
            kit.pull(root);
        }
        kit.replicas.deny(&denied.digest(), NOW).unwrap();
        kit.replicas.drop_root(gone.key(), NOW).unwrap();
        kit.readers(&root, 0, 3);
        kit.replicas.flush().unwrap();
        let told = format!("{:?}", kit.told());
        drop(kit);
        let inner = &store.inner;
        let family = inner.family(crate::layout::Family::Replicas);
        inner.db.flush_cf(&family).unwrap();
        drop(family);
        drop(store);

        let mut files = Vec::new();
        all_bytes(site.dir.path(), &mut files);
        files.push(("events".into(), told.into_bytes()));
        let find = |wanted: &[u8]| files.iter().find(|(_, all)| contains(all, wanted));
        let is_there = |what: &str, wanted: &[u8]| {
            let found = find(wanted).map(|(path, _)| path);
            assert!(found.is_none(), "{what} is in {}", found.unwrap().display());
        };
        // The search finds what is there.
        assert!(find(&root.key().0).is_some());
        assert!(find(&denied.key().0).is_some());

        for root in [&root, &denied, &gone] {
            for (digest, content) in root.nodes.iter().chain(&root.leaves) {
                for at in [0, 100, content.len() - WINDOW_BYTES] {
                    is_there("content", &content[at..at + WINDOW_BYTES]);
                }
                let hash = &digest.key()[2..];
                is_there("a digest", hash);
                let hex: String = hash.iter().map(|it| format!("{it:02x}")).collect();
                is_there("a digest", hex.as_bytes());
                for codec in [Codec::Raw, Codec::DagPb] {
                    let cid = Cid::new(codec, *digest).to_string();
                    is_there("an address", cid.as_bytes());
                }
            }
        }
    });
}
