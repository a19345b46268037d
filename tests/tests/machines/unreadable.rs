//! Files of a shared folder that may not be read: a person is told of all of them at once.

use std::fs;

use serde_json::Value;
use shoal_tests::{text, write_content};

use super::{Account, User, set_mode};

/// Options to `--exclude`, as the hint gives them.
fn exclusions(hint: &str) -> Vec<String> {
    let (_, options) = hint.split_once("leave them out:").unwrap();
    let parts = options.split(" --exclude ").skip(1);
    parts.map(|it| it.trim_matches('\'').to_owned()).collect()
}

#[test]
fn all_that_may_not_be_read_is_told_at_once_with_what_leaves_it_out() {
    let account = Account::of(User::Nobody);
    let tree = account.path("tree");
    for number in 0..200 {
        write_content(&tree.join(number.to_string()), "open", 10);
    }
    let closed = ["a [draft].txt", "private", "sub/key.pem", "zz.pem"];
    for name in closed {
        let file = match name {
            "private" => "private/diary",
            name => name,
        };
        write_content(&tree.join(file), "closed", 10);
    }
    account.give(&tree);
    closed.iter().for_each(|name| set_mode(&tree.join(name), 0));
    let home = account.folder("home");
    let daemon = account.start(&home);

    let refused = daemon.run(&["share", text(&tree)]);
    refused.fails(6, "no_permission");
    let said = |key: &str| refused.json["error"][key].as_str().unwrap().to_owned();
    let message = said("message");
    assert!(message.contains("4 files and folders"), "{message}");
    for name in closed {
        assert!(message.contains(text(&tree.join(name))), "{message}");
    }
    let patterns = exclusions(&said("hint"));
    assert_eq!(patterns.len(), closed.len(), "{patterns:?}");

    let mut args = vec!["share", text(&tree)];
    for pattern in &patterns {
        args.extend(["--exclude", pattern]);
    }
    let shared = daemon.run(&args).ok();
    assert_eq!(shared["files"], 200, "{shared}");
    assert_eq!(shared["skipped"].as_array().map(Vec::len), Some(4));

    // One of a kind is named as ever, and so is a file that was given itself.
    set_mode(&tree.join("zz.pem"), 0o600);
    let one = daemon.run(&["share", text(&tree.join("sub"))]);
    one.fails(6, "no_permission");
    let message = one.json["error"]["message"].as_str().unwrap();
    let expected = format!("no permission to read {}", text(&tree.join("sub/key.pem")));
    assert_eq!(message, expected);
    set_mode(&tree.join("private"), 0o700);
}

#[test]
fn of_very_many_the_first_are_named_and_the_rest_is_counted() {
    let account = Account::of(User::Nobody);
    let tree = account.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..300 {
        let file = tree.join(format!("{number:03}"));
        fs::write(&file, "closed").unwrap();
    }
    account.give(&tree);
    for entry in fs::read_dir(&tree).unwrap() {
        set_mode(&entry.unwrap().path(), 0);
    }
    let home = account.folder("home");
    let refused = account.run(&home, &["share", text(&tree), "--copy"]);
    refused.fails(6, "no_permission");
    let Value::String(message) = &refused.json["error"]["message"] else {
        panic!("{refused:?}")
    };
    assert!(message.contains("300 files and folders"), "{message}");
    assert!(message.contains("and 280 more"), "{message}");
    assert!(message.len() < 4000, "{message}");
}
