//! Files that come to have another stat: served if the bytes are the same, and never if not.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

#[cfg(target_os = "linux")]
use shoal_tests::odd_disk::OddDisk;
use shoal_tests::{assert_same_file, wait_for, write_content};

use super::World;

const BYTES: usize = 3_000_000;

fn system(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).status().unwrap();
    assert!(done.success(), "{program} {args:?}");
}

fn flip_a_byte(path: &Path) {
    let modified = path.metadata().unwrap().modified().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 2_000_000).unwrap();
    file.write_all_at(&[!byte[0]], 2_000_000).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn what_people_do_to_files_without_changing_them_is_served_at_once() {
    let world = World::new();
    let file = world.path("shared/file");
    write_content(&file, "same", BYTES);
    let link = world.share(&world.path("shared"));
    let (from, new) = (file.to_str().unwrap().to_owned(), world.path("new"));
    let new = new.to_str().unwrap().to_owned();
    let deeds: [(&str, &dyn Fn()); 4] = [
        ("cp -p; mv", &|| {
            system("cp", &["-p", &from, &new]);
            system("mv", &[&new, &from]);
        }),
        ("touch", &|| system("touch", &[&from])),
        ("touch -d", &|| {
            system("touch", &["-d", "2001-02-03", &from]);
        }),
        ("changed and changed back", &|| {
            flip_a_byte(Path::new(&from));
            flip_a_byte(Path::new(&from));
        }),
    ];
    for (number, (what, deed)) in deeds.iter().enumerate() {
        deed();
        let got = format!("got-{number}");
        let fetched = world.fetch(&link, &got);
        assert_eq!(fetched.code, Some(0), "{what}: {fetched:?}");
        assert_same_file(&file, &world.path(&got).join("file"));
        let status = world.sharer.run(&["status"]).ok();
        assert_eq!(status["shares"][0]["state"], "ok", "{what}");
    }
}

#[test]
fn a_changed_byte_under_the_same_size_and_time_is_never_served() {
    let world = World::new();
    let file = world.path("shared/file");
    write_content(&file, "changed", BYTES);
    let link = world.share(&world.path("shared"));
    assert_eq!(world.fetch(&link, "before").code, Some(0));
    flip_a_byte(&file);
    let refused = world.fetch(&link, "got");
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(!world.path("got").exists());
    let status = world.sharer.run(&["status"]).ok();
    assert_eq!(status["shares"][0]["state"], "changed");
    let warning = status["warnings"].to_string();
    assert!(warning.contains("shoal share"), "{warning}");

    // Put back, it is served when somebody asks, without a command.
    flip_a_byte(&file);
    wait_for("the share to be whole for who asks", || {
        (world.fetch(&link, "again").code == Some(0)).then_some(())
    });
    assert_same_file(&file, &world.path("again/file"));
}

#[test]
#[cfg(target_os = "linux")]
fn files_whose_size_says_nothing_are_shared_whole_or_refused_by_name() {
    let world = World::new();
    let version = Path::new("/proc/version");
    let link = world.share(version);
    assert_eq!(world.fetch(&link, "version").code, Some(0));
    assert_same_file(version, &world.path("version"));

    let short = Path::new("/sys/kernel/uevent_seqnum");
    if short.exists() {
        let refused = world.sharer.run(&["share", "/sys/kernel/uevent_seqnum"]);
        refused.fails(1, "bad_name");
        let message = refused.json["error"]["message"].as_str().unwrap();
        assert!(message.contains("/sys/kernel/uevent_seqnum"), "{message}");
    }
}

/// A file that is replaced while it is served, again and again, by the same bytes.
#[test]
fn a_share_is_served_while_its_file_is_put_back_again_and_again() {
    let world = World::new();
    let file = world.path("file");
    write_content(&file, "often", BYTES);
    let link = world.share(&file);
    let new = world.path("new");
    for number in 0..5 {
        fs::copy(&file, &new).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(1000 * number);
        File::options()
            .write(true)
            .open(&new)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        fs::rename(&new, &file).unwrap();
        let got = format!("got-{number}");
        assert_eq!(world.fetch(&link, &got).code, Some(0));
        assert_same_file(&file, &world.path(&got));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_is_unplugged_and_mounted_again_is_served_again_without_a_command() {
    let world = World::new();
    let folder = world.path("disk");
    let Some(disk) = OddDisk::mount(&folder) else {
        return;
    };
    let behind = disk.behind.join("shared/file");
    write_content(&behind, "stick", BYTES);
    let link = world.share(&disk.at.join("shared"));
    assert_eq!(world.fetch(&link, "before").code, Some(0));
    drop(disk);
    wait_for("status to miss what was on it", || {
        let status = world.sharer.run(&["status"]).ok();
        (status["shares"][0]["state"] == "changed").then_some(())
    });
    assert_ne!(world.fetch(&link, "unplugged").code, Some(0));
    let _disk = OddDisk::mount(&folder).unwrap();
    wait_for("it to be whole for who asks", || {
        (world.fetch(&link, "after").code == Some(0)).then_some(())
    });
    assert_same_file(&behind, &world.path("after/file"));
}
