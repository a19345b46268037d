//! Homes that cannot be used, daemons that are not there or not there any more, configurations that
//! make no sense.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use rocksdb::{DB, IteratorMode, Options};
use serde_json::Value;
use shoal_tests::{Daemon, refused::snapshot, text, wait_for, write_content};

use super::{NOBODY, World, is_root, refusal, set_mode};

const CID: &str = "bafkr4if3lbq7rs2vbalcff5b2spnw2abmgupbhna2qtlzzyc54ah34hk4q";

#[test]
fn commands_that_need_a_daemon_say_how_to_start_one() {
    let world = World::new();
    let says = ["no daemon is running on", text(&world.ground.home)];
    let advises = ["shoal daemon --detach", "--home"];
    for line in [
        "status",
        "stop",
        "peers",
        "id",
        "connect /ip4/127.0.0.1/tcp/1",
        &format!("find {CID}"),
        &format!("ls {CID}"),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        world.check(&args, 4, "no_daemon", &says, &advises);
    }
    assert!(!world.ground.home.exists(), "no home was made for it");
}

#[test]
fn a_daemon_that_is_killed_while_it_shares_has_shared_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    // Long enough to be caught in the middle: 8 GiB that no disk holds.
    let file = world.beside("sparse");
    let sparse = fs::File::create(&file).unwrap();
    sparse.set_len(8 << 30).unwrap();
    let share = world
        .ground
        .command(&["--json".into(), "share".into(), file.into()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the file is open", || {
        let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        open.flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .find(|path| path.ends_with("sparse"))
    });
    let mut daemon = daemon;
    daemon.kill();
    let output = share.wait_with_output().unwrap();
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error["error"]["code"], "daemon_lost");
    let listed = daemon.restart().run(&["ls"]).ok();
    assert_eq!(listed["entries"], serde_json::json!([]));
}

#[test]
fn a_second_daemon_on_one_home_is_refused() {
    let world = World::new();
    let daemon = world.daemon();
    let process = format!("process {}", daemon.pid());
    let says = ["another node", &process, text(&world.ground.home)];
    let advises = ["shoal stop", "--home"];
    world.check(&["daemon"], 1, "already_running", &says, &advises);
    daemon.run(&["status"]).ok();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let says = [address.as_str(), "in use"];
    let advises = ["--listen", "port 0"];
    let args = ["daemon", "--listen", &address];
    world.check(&args, 1, "port_in_use", &says, &advises);
    let foreign = "/ip4/192.0.2.1/tcp/4101";
    let args = ["daemon", "--listen", foreign];
    let says = [foreign, "assign requested address"];
    let advises = ["an address of this machine"];
    world.check(&args, 2, "config", &says, &advises);
    drop(taken);
    let listen = vec!["--no-mdns".into(), "--listen".into(), address];
    Daemon::start_with(&world.ground.home, listen);
}

#[test]
fn configurations_that_make_no_sense_are_refused_by_key_and_left_alone() {
    let world = World::new();
    let home = world.at("home");
    fs::create_dir(&home).unwrap();
    let ground = world.ground.on(home.clone());
    let file = home.join("config.toml");
    let check = |text: &str, says: &[&str], advises: &[&str]| {
        fs::write(&file, text).unwrap();
        for args in [&["daemon"][..], &["daemon", "--detach"], &["share", "."]] {
            // A detached daemon has a log from the first moment on.
            if args.contains(&"--detach") {
                fs::create_dir_all(home.join("log")).unwrap();
                fs::write(home.join("log/daemon.log"), "").unwrap();
            }
            ground.check(&refusal(args, 2, "config", says, advises));
        }
    };
    let path = text(&file);
    check(
        "[network]\nlisen = []\n",
        &[path, "unknown key `network.lisen`"],
        &["did you mean `network.listen`?"],
    );
    check(
        "[netwrk]\n",
        &[path, "unknown key `netwrk`"],
        &["did you mean `network`?"],
    );
    check(
        "[network]\nmdns = \"yes\"\n",
        &[path, "line 2", "expected a boolean"],
        &["correct the value"],
    );
    check(
        "[network]\nlisten = [\"4101\"]\n",
        &[path, "line 2", "multiaddr"],
        &["correct the value"],
    );
    check(
        "[network]\nname = \"Not This\"\n",
        &[path, "1 to 32 lower-case"],
        &["correct the value"],
    );
    check("network", &[path, "line 1"], &["correct the value"]);
}

#[test]
fn an_environment_that_makes_no_sense_is_refused_by_the_variables_name() {
    let world = World::new();
    let check = |variable: &str, value: &str, says: &[&str], advises: &[&str]| {
        for args in [&["daemon"][..], &["share", "."]] {
            let refusal = refusal(args, 2, "config", says, advises);
            world.ground.check_with(&refusal, |command| {
                command.env(variable, value);
            });
        }
    };
    check(
        "SHOAL_NETWORK_LISEN",
        "x",
        &["unknown key `SHOAL_NETWORK_LISEN`"],
        &["did you mean `SHOAL_NETWORK_LISTEN`?"],
    );
    check(
        "SHOAL_NETWORK_MDNS",
        "maybe",
        &["SHOAL_NETWORK_MDNS: `maybe`"],
        &["correct the value"],
    );
    check(
        "SHOAL_NETWORK_LISTEN",
        "here",
        &["SHOAL_NETWORK_LISTEN", "multiaddr"],
        &["correct the value"],
    );
}

#[test]
fn homes_that_are_no_folder_or_not_ours_are_refused() {
    let world = World::new();
    write_content(&world.at("file"), "file", 10);
    let here = refusal(
        &["daemon", "--home", "file"],
        1,
        "internal",
        &["file"],
        &["--home"],
    );
    world.ground.check(&here);

    let program = world.beside("shoal");
    shoal_tests::copy_of_shoal(&program);
    set_mode(world.root.path(), 0o755);
    let ground = world.ground.with_program(program);
    let ground = ground.on(world.beside("not-mine"));
    let says = [text(&ground.home), "permission denied"];
    for args in [&["daemon"][..], &["share", "file"], &["fetch", CID]] {
        let refusal = refusal(args, 6, "no_permission", &says, &["--home"]);
        ground.check_with(&refusal, |command| {
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
        });
    }
}

/// A home that has held a node, and its database's folder.
fn used_home(world: &World) -> PathBuf {
    let home = world.ground.home.clone();
    let daemon = world.daemon();
    let source = world.beside("source");
    write_content(&source, "source", 3 << 20);
    daemon.share(&source);
    daemon.run(&["stop"]).ok();
    home.join("db")
}

#[test]
fn a_damaged_database_is_refused_and_left_alone() {
    let check = |damage: fn(&Path)| {
        let world = World::new();
        let db = used_home(&world);
        damage(&db);
        let before = files_of(&db);
        for args in [&["daemon"][..], &["daemon", "--detach"], &["share", "."]] {
            let says = ["the database is damaged, nothing was deleted"];
            let advises = ["shoal db check --repair", "puts the damaged database aside"];
            world.check(args, 5, "integrity", &says, &advises);
            assert_eq!(before, files_of(&db), "{args:?}");
        }
    };
    check(|db| fs::write(db.join("CURRENT"), "noise").unwrap());
    check(|db| fs::write(manifest(db), [7; 4096]).unwrap());
    check(|db| fs::remove_file(manifest(db)).unwrap());
}

fn manifest(db: &Path) -> PathBuf {
    let name = fs::read_to_string(db.join("CURRENT")).unwrap();
    db.join(name.trim())
}

/// The files of a database but for RocksDB's own log and its lock.
fn files_of(db: &Path) -> Vec<(PathBuf, String)> {
    let own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("LOG") || name == "LOCK" || path == db
    };
    let all = snapshot(db).into_iter();
    all.filter(|(path, _)| !own(path)).collect()
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_keeps_every_row() {
    let world = World::new();
    let db = used_home(&world);
    from_the_future(&db);
    let before = rows_of(&db);
    for args in [&["daemon"][..], &["daemon", "--detach"], &["share", "."]] {
        let says = ["schema 999", "nothing in it was changed"];
        let advises = ["the newer version", "--home"];
        world.check(args, 1, "newer_schema", &says, &advises);
        assert!(before == rows_of(&db), "{args:?}");
    }
}

/// Family, key, value.
type Row = (String, Box<[u8]>, Box<[u8]>);

fn rows_of(db: &Path) -> Vec<Row> {
    let families = DB::list_cf(&Options::default(), db).unwrap();
    let open = DB::open_cf_for_read_only(&Options::default(), db, &families, false).unwrap();
    let mut rows = Vec::new();
    for family in families {
        let handle = open.cf_handle(&family).unwrap();
        for row in open.iterator_cf(&handle, IteratorMode::Start) {
            let (key, value) = row.unwrap();
            rows.push((family.clone(), key, value));
        }
    }
    assert!(rows.len() > 3, "a home that was used");
    rows
}

/// Writes the schema number of a version that does not exist yet.
fn from_the_future(db: &Path) {
    let families = DB::list_cf(&Options::default(), db).unwrap();
    let db = DB::open_cf(&Options::default(), db, families).unwrap();
    let meta = db.cf_handle("meta").unwrap();
    let number = 999_u32.to_be_bytes();
    db.put_cf(&meta, "schema", number).unwrap();
    db.flush_cf(&meta).unwrap();
}

#[test]
fn a_damaged_key_is_refused_and_kept() {
    let world = World::new();
    used_home(&world);
    let key = world.ground.home.join("identity.key");
    fs::write(&key, "noise").unwrap();
    let says = ["identity.key does not hold"];
    let advises = ["from a backup", "a new identity"];
    world.check(&["daemon"], 1, "internal", &says, &advises);
    assert_eq!(fs::read(&key).unwrap(), b"noise");
}
