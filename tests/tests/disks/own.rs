//! What is Shoal's own in the folders of people.

use std::fs;

use serde_json::Value;
use shoal_tests::{text, wait_for, write_content};

use super::{Running, World};

fn skipped(shared: &Value) -> Vec<(String, String)> {
    let skipped = shared["skipped"].as_array().unwrap().iter();
    let field = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
    skipped
        .map(|it| (field(it, "path"), field(it, "reason")))
        .collect()
}

#[test]
fn the_part_of_a_fetch_is_left_out_of_the_folder_that_it_runs_in() {
    let world = World::new();
    let downloads = world.path("downloads");
    write_content(&world.path("movie"), "movie", 8_000_000);
    write_content(&downloads.join("old"), "old", 1000);
    let link = world.share(&world.path("movie"));
    world.sharer.run(&["limits", "--up", "1MB/s"]).ok();
    let home = world.fetcher.home().to_owned();
    let into = format!("{}/", text(&downloads));
    let fetching = Running::start(&home, &["fetch", &link, "-o", &into]);
    let part = wait_for("a part", || {
        let entries = fs::read_dir(&downloads).unwrap();
        let mut names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.find(|name| name.ends_with(".part"))
    });
    let shared = world.fetcher.share(&downloads);
    assert_eq!(shared["files"], 1, "{shared}");
    let found = skipped(&shared);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, part);
    assert!(found[0].1.contains("fetch"), "{found:?}");
    world.sharer.run(&["limits", "--up", "off"]).ok();
    fetching.end().ok();
}

#[test]
fn a_folder_around_the_home_is_shared_without_it_and_no_fetch_lands_in_one() {
    let world = World::new();
    write_content(&world.path("docs/file"), "docs", 1000);
    let around = world.dir.path();
    let shared = world.sharer.share(around);
    let mut found = skipped(&shared);
    found.sort();
    let names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["fetcher", "sharer"], "other homes, too");
    assert!(found[0].1.contains("Shoal's own"), "{found:?}");
    assert_eq!(shared["files"], 1, "{shared}");

    let link = world.share(&world.path("docs"));
    for home in [world.sharer.home(), world.fetcher.home()] {
        let inside = home.join("got");
        let refused = world.fetcher.run(&["fetch", &link, "-o", text(&inside)]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let error = refused.json["error"].to_string();
        assert!(error.contains("its own data"), "{error}");
        assert!(!inside.exists());
        world
            .sharer
            .run(&["share", text(home)])
            .fails(1, "bad_name");
    }
}
