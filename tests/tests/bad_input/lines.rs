//! Command lines and links that make no sense; none of them gets as far as a node.

use super::World;

const CID: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";

#[test]
fn malformed_links_are_refused_by_every_command_that_takes_one() {
    let world = World::new();
    let check = |link: &str, says: &[&str]| {
        for command in ["fetch", "ls", "find"] {
            world.check(&[command, link], 2, "usage", says, &["link"]);
        }
    };
    let address = "not a content address";
    check("", &["`` is not a link"]);
    check("hello", &["`hello` is not a link", address]);
    check("https://example.org/x", &["neither shoal:"]);
    check("./photos", &["neither shoal:"]);
    check(&CID[..40], &["is not a link", "cut short"]);
    check("shoal:", &["is not a link", "it is cut"]);
    check("ipfs://", &["is not a link"]);
    check("/ipfs/hello/x", &["`/ipfs/hello/x` is not a link"]);
    check(&format!("shoal:{CID}/../x"), &["in the link's path"]);
    check(&format!("shoal:{CID}?name=a%2fb"), &["in the link's name"]);
    check(&format!("shoal:{CID}?name=a&name=b"), &["two names"]);
    check(&format!("shoal:{CID}?name=%ff"), &["percent-encoding"]);
    check(
        &format!("shoal:{CID}?peer=here"),
        &["its peer `here` is illegible"],
    );
    let peers = "&peer=/ip4/192.0.2.1/tcp/1".repeat(17);
    check(&format!("shoal:{CID}?{peers}"), &["more than 16 peers"]);
    check(&format!("shoal:{CID}?x={}", "y".repeat(9000)), &["longer"]);
    check("\x1b[31mred\x07", &["`\\u{1b}[31mred\\u{7}` is not a link"]);
    assert!(!world.ground.home.exists(), "no home was made for it");
}

#[test]
fn a_key_in_a_link_is_not_repeated() {
    let world = World::new();
    let args = ["fetch", "hello#secret"];
    world.check(&args, 2, "usage", &["`hello` is not a link"], &[]);
}

#[test]
fn addresses_that_cannot_be_verified_are_refused_by_the_name_of_their_hash() {
    let world = World::new();
    let sha3 = CID.replacen("bafkr4i", "bafkrmi", 1);
    for command in ["fetch", "ls", "find", "unshare"] {
        let says = ["unsupported hash function sha3-256"];
        let advises = ["blake3 and sha2-256"];
        world.check(&[command, &sha3], 1, "unsupported_hash", &says, &advises);
    }
    assert!(!world.ground.home.exists(), "no home was made for it");
}

#[test]
fn options_that_make_no_sense_are_refused_with_the_way_to_the_help() {
    let world = World::new();
    let check = |line: &str, says: &[&str]| {
        let args: Vec<&str> = line.split(' ').collect();
        world.check(&args, 2, "usage", says, &["--help"]);
    };
    check("frobnicate", &["frobnicate"]);
    check("share", &["<PATH>"]);
    check("share x --hash md5", &["md5", "sha2-256"]);
    check("share x --chunker rabin", &["rabin", "cdc"]);
    check("share x --preserve owner", &["owner", "mtime"]);
    check("share x --wait --no-announce", &["--no-announce"]);
    check("fetch", &["<LINK>"]);
    check(&format!("fetch {CID} --timeout soon"), &["soon"]);
    check(&format!("fetch {CID} --timeout 0s"), &["more than nothing"]);
    check(&format!("fetch {CID} --peer localhost"), &["localhost"]);
    check("connect 192.0.2.1:4101", &["192.0.2.1:4101"]);
    check("daemon --listen 4101", &["4101"]);
    check("status --color sometimes", &["sometimes", "always"]);
    check("status -q -v", &["--quiet"]);
    assert!(!world.ground.home.exists(), "no home was made for it");
}
