//! Zeros: an image of a disk takes as much where it lands as its data, and fits where that fits.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use serde_json::Value;
use shoal_tests::{
    assert_same_file, content,
    small_disk::{DiskKind, SmallDisk},
    text, wait_for,
};

use super::{Running, World};

const IMAGE_BYTES: u64 = 300 << 20;

/// Data at two places of an image.
const DATA_BYTES: usize = 2_500_000;

/// What an image may take: its data in whole chunks, with what the file system needs to find them.
const TAKEN_MAX: u64 = 16 << 20;

/// Makes an image: zeros, and data at its beginning and far behind, across the edges of chunks.
fn image(path: &Path, bytes: u64) {
    let file = File::create(path).unwrap();
    file.set_len(bytes).unwrap();
    for (seed, at) in [("boot", 0), ("root", bytes / 3 * 2 + 5)] {
        file.write_all_at(&content(seed, DATA_BYTES), at).unwrap();
    }
}

/// Bytes of the disk that a file takes.
fn taken(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

fn downloaded(fetched: &Value) -> u64 {
    fetched["downloaded_bytes"].as_u64().unwrap()
}

#[test]
fn an_image_takes_as_much_as_its_data_and_fits_where_that_fits() {
    let world = World::new();
    let source = world.path("image");
    image(&source, IMAGE_BYTES);
    for chunker in ["fixed", "cdc"] {
        let args = ["share", text(&source), "--chunker", chunker];
        let shared = world.sharer.run(&args).ok();
        let link = shared["link"].as_str().unwrap();
        let mut places = vec![world.path(chunker)];
        let disk = SmallDisk::mount(DiskKind::Tmpfs, 24 << 20, &world.path("small"), "");
        places.extend(disk.as_ref().map(|disk| disk.at.join("image")));
        for place in places {
            let fetched = world.fetcher.fetch(link, &place);
            assert_eq!(fetched["size"], IMAGE_BYTES, "{fetched}");
            assert!(downloaded(&fetched) < TAKEN_MAX, "{fetched}");
            assert!(taken(&place) < TAKEN_MAX, "{} bytes", taken(&place));
            assert_same_file(&source, &place);
            world.fetcher.run(&["verify"]).ok();
            world.fetcher.run(&["unshare", text(&place)]).ok();
        }
        world
            .sharer
            .run(&["unshare", shared["cid"].as_str().unwrap()])
            .ok();
    }
}

#[test]
fn an_image_whose_data_does_not_fit_is_refused_before_it_begins() {
    let world = World::new();
    let folder = world.path("small");
    let Some(disk) = SmallDisk::mount(DiskKind::Tmpfs, 3 << 20, &folder, "") else {
        return;
    };
    image(&world.path("image"), IMAGE_BYTES);
    let link = world.share(&world.path("image"));
    let refused = world
        .fetcher
        .run(&["fetch", &link, "-o", text(&disk.at.join("image"))]);
    refused.fails(6, "no_space");
    assert_eq!(fs::read_dir(&disk.at).unwrap().count(), 0);
    let status = world.fetcher.run(&["status"]).ok();
    assert_eq!(status["downloaded_bytes"], 0, "{status}");
}

#[test]
fn a_fetch_of_an_image_goes_on_and_asks_for_no_zeros() {
    const BYTES: usize = 24 << 20;
    let mut world = World::new();
    let path = world.path("image");
    image(&path, IMAGE_BYTES);
    let data = content("data", BYTES);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&data, 10 << 20).unwrap();
    let link = world.share(&path);
    let got = world.path("got");
    world.fetcher.run(&["limits", "--down", "60mbit"]).ok();
    let args = ["fetch", &link, "-o", text(&got)];
    let running = Running::start(world.fetcher.home(), &args);
    wait_for("the zeros and half of the data have landed", || {
        let listed = world.fetcher.run(&["transfers"]).ok();
        let verified = listed["transfers"][0]["verified_bytes"].as_u64()?;
        (verified > IMAGE_BYTES - (14 << 20)).then_some(())
    });
    world.fetcher = world.fetcher.restart();
    running.end();
    let fetched = world.fetcher.fetch(&link, &got);
    assert_same_file(&path, &got);
    let status = world.fetcher.run(&["status"]).ok();
    let again = status["downloaded_bytes"].as_u64().unwrap();
    assert!(again < BYTES as u64, "{again} bytes: {fetched}");
    assert!(taken(&got) < BYTES as u64 + TAKEN_MAX, "{}", taken(&got));
    world.fetcher.run(&["verify"]).ok();
}
