//! What is kept on which file system, as the guide has it: each is mounted, a tree is fetched there, and
//! the page has to say what was seen.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use rustix::io::Errno;
use shoal_tests::{
    Ran,
    odd_disk::{OddDisk, Refusals},
    small_disk::{DiskKind, SmallDisk},
    text, uml, write_content,
};

use super::World;

/// Room enough for what is fetched, and too little for the zeros of an image.
const DISK_BYTES: u64 = 64 << 20;

/// An image that fits only where zeros take no room.
const IMAGE_BYTES: u64 = 256 << 20;

/// More than a file may have on FAT.
const LARGE_BYTES: u64 = (4 << 30) + 1;

/// What the guide's table says of one file system, cell by cell.
#[derive(Debug, PartialEq, Eq)]
struct Row(Vec<String>);

/// The links to what is fetched everywhere.
struct Offers {
    tree: String,
    long: String,
    image: String,
    large: String,
}

impl Offers {
    fn new(world: &World) -> Self {
        let tree = world.path("tree");
        write_content(&tree.join("file"), "file", 70_000);
        fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o606)).unwrap();
        symlink("file", tree.join("link")).unwrap();
        let link = |path: &Path| {
            let share = ["share", "--preserve", "mode,mtime", text(path)];
            world.sharer.run(&share).ok()["link"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let long = world.path("long");
        write_content(&long.join("l".repeat(200)), "long", 10);
        let sparse = |name: &str, bytes: u64| {
            let path = world.path(name);
            File::create(&path).unwrap().set_len(bytes).unwrap();
            link(&path)
        };
        Self {
            tree: link(&tree),
            long: link(&long),
            image: sparse("image", IMAGE_BYTES),
            large: sparse("large", LARGE_BYTES),
        }
    }

    /// What a file system makes of all of them.
    fn seen_at(&self, world: &World, at: &Path) -> Row {
        let to = |name: &str| at.join(name);
        let fetch = |link: &str, name: &str| {
            world
                .fetcher
                .run(&["fetch", link, "--no-serve", "-o", text(&to(name))])
        };
        let fetched = fetch(&self.tree, "tree").ok();
        let of = |what: &str| fetched["unkept"][what] == 0;
        let is_there = to("tree/link").symlink_metadata().is_ok();
        assert_eq!(of("symlinks"), is_there, "{fetched}");
        let mode = to("tree/file").metadata().unwrap().mode() & 0o777;
        assert_eq!(of("modes"), mode == 0o606, "{fetched}");
        let said = fetched["warnings"].as_array().unwrap().len();
        let unkept = ["symlinks", "modes", "times"].map(of);
        assert_eq!(said, unkept.iter().filter(|it| !**it).count(), "{fetched}");

        let is_kept = |ran: &Ran| ran.code == Some(0);
        let long = fetch(&self.long, "long");
        let image = fetch(&self.image, "image");
        let taken = to("image")
            .metadata()
            .map_or(u64::MAX, |it| it.blocks() * 512);
        // Where there is only too little room for it, its size is no matter.
        let large = fetch(&self.large, "large");
        let is_refused = large.json["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("too large"));
        let cells = [
            kept(of("symlinks"), "left out"),
            kept(of("modes"), "not kept"),
            kept(of("times"), "not exact"),
            kept(is_kept(&long), "refused"),
            if is_refused { "refused" } else { "taken" },
            if is_kept(&image) && taken < DISK_BYTES {
                "no"
            } else {
                "yes"
            },
        ];
        Row(cells.map(str::to_owned).to_vec())
    }
}

fn kept(is_kept: bool, otherwise: &'static str) -> &'static str {
    match is_kept {
        true => "kept",
        false => otherwise,
    }
}

/// The table of the guide: what each file system is called there, and its row.
fn told() -> Vec<(String, Row)> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (_, section) = guide.split_once("### Disks and file systems").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let mut cells = row
            .trim_matches('|')
            .split('|')
            .map(|it| it.trim().to_owned());
        (cells.next().unwrap(), Row(cells.collect()))
    })
    .collect()
}

/// Fetches to a file system what is fetched everywhere; the guide has to say what it made of that.
fn check(world: &World, offers: &Offers, name: &str, at: &Path) {
    let told = told();
    let row = told.iter().find(|(it, _)| it == name);
    let (_, row) = row.unwrap_or_else(|| panic!("the guide says nothing of {name}"));
    assert_eq!(offers.seen_at(world, at), *row, "{name}");
}

#[test]
fn the_guide_says_what_each_file_system_keeps() {
    let world = World::new();
    let offers = Offers::new(&world);
    for (kind, name) in [
        (DiskKind::Ext4, "ext4"),
        (DiskKind::Tmpfs, "tmpfs"),
        (DiskKind::ExFat, "exFAT"),
    ] {
        if let Some(disk) = SmallDisk::mount(kind, DISK_BYTES, &world.path("disks"), "") {
            check(&world, &offers, name, &disk.at);
        }
    }
    let odd = Refusals {
        symlinks: Some(Errno::PERM),
        modes: true,
        times: true,
        name_bytes: Some(143),
        file_bytes: Some(u64::from(u32::MAX)),
    };
    let folder = world.path("odd");
    if let Some(disk) = OddDisk::mount_refusing(&folder, odd) {
        check(&world, &offers, "one that refuses all", &disk.at);
    }
}

#[test]
fn the_guide_says_what_fat_keeps() {
    if uml::has_run("kept::the_guide_says_what_fat_keeps") {
        return;
    }
    let world = World::new();
    let offers = Offers::new(&world);
    let folder = world.path("disks");
    if let Some(disk) = SmallDisk::mount(DiskKind::Fat, DISK_BYTES, &folder, "") {
        check(&world, &offers, "FAT", &disk.at);
    }
}
