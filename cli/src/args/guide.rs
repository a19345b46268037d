//! The guide knows every command.

use clap::{Command, CommandFactory as _};

use super::Cli;

const GUIDE: &str = include_str!("../../../docs/guide.md");

#[test]
fn every_command_has_a_section_in_the_guide() {
    let command = Cli::command();
    for name in visible(&command) {
        let title = format!("\n### `shoal {name}`\n");
        assert!(GUIDE.contains(&title), "docs/guide.md lacks{title}");
    }
}

#[test]
fn the_guide_has_no_command_that_does_not_exist() {
    let command = Cli::command();
    let titles = GUIDE
        .lines()
        .filter_map(|it| it.strip_prefix("### `shoal "));
    for title in titles {
        let name = title.trim_end_matches('`');
        assert!(visible(&command).any(|it| it == name), "no `shoal {name}`");
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &str> {
    let commands = command.get_subcommands();
    commands
        .filter(|it| !it.is_hide_set())
        .map(Command::get_name)
}
