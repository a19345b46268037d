//! Manual pages: clap_mangen makes most of a page from the definition of a command; this module adds
//! the rest.
//!
//! The examples are those of the command's help. Files, variables and exit codes are the same for
//! all commands, and are written here.

use std::io;

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

/// The line of a help text above its examples.
const EXAMPLES_HEADING: &str = "Examples:";

/// A name in bold, and what it is.
type Entry = (&'static str, &'static str);

const FILES: [Entry; 8] = [
    (
        "~/.local/share/shoal/",
        "The home of a node, unless --home or SHOAL_HOME names another folder.",
    ),
    (
        "HOME/config.toml",
        "The configuration, if there is one; `shoal config set` changes it.",
    ),
    (
        "HOME/identity.key",
        "The private key of the node. Whoever has it can pass for this node.",
    ),
    (
        "HOME/db/",
        "The index: shares, transfers, and which file holds which chunk.",
    ),
    ("HOME/copies/", "What `shoal share --copy` has copied."),
    (
        "HOME/log/daemon.log",
        "The log of a daemon that was started with --detach.",
    ),
    (
        "/var/lib/shoal/",
        "The home of the system service, which belongs to the user shoal.",
    ),
    (
        ".NAME.ID.part",
        "A download that is not complete, beside its destination. `shoal cancel` deletes it.",
    ),
];

const ENVIRONMENT: [Entry; 5] = [
    (
        "SHOAL_HOME",
        "The home of the node, unless --home names another folder.",
    ),
    (
        "SHOAL_SECTION_KEY",
        "A key of the configuration, like SHOAL_LIMITS_UP=20mbit for up in [limits]. It goes before \
         config.toml. `shoal config` lists all keys.",
    ),
    (
        "SHOAL_LOG",
        "What is logged, like info or debug; it overrides --verbose and --quiet.",
    ),
    ("NO_COLOR", "No colour, unless --color asks for it."),
    (
        "XDG_DATA_HOME",
        "The folder that has the home `shoal` in it, instead of ~/.local/share.",
    ),
];

/// As `docs/guide.md` has them.
const EXIT_STATUS: [Entry; 8] = [
    ("0", "done"),
    ("1", "failed, for a reason that has no exit code of its own"),
    (
        "2",
        "the command line, a link, a CID or the configuration makes no sense",
    ),
    ("3", "content not found, or no provider in time"),
    ("4", "no daemon is running, and the command needs one"),
    ("5", "content or disk is not what its address says"),
    (
        "6",
        "no space, no permission, or a limit of the system that is too low",
    ),
    (
        "130",
        "interrupted: Ctrl-C, or another command paused or cancelled it",
    ),
];

/// The page of one command.
pub(crate) struct Manual {
    command: Command,
    man: Man,
}

impl Manual {
    /// The page of a command whose definition has been built.
    pub(crate) fn new(command: Command) -> Self {
        let version = command.get_version().unwrap_or_default();
        let man = Man::new(command.clone())
            .source(format!("shoal {version}"))
            .manual("Shoal Manual");
        Self { command, man }
    }

    /// The name of the file of this page.
    pub(crate) fn file_name(&self) -> String {
        self.man.get_filename()
    }

    /// The page as roff(7).
    pub(crate) fn render(&self) -> io::Result<Vec<u8>> {
        let mut page = Vec::new();
        self.man.render_title(&mut page)?;
        self.man.render_name_section(&mut page)?;
        self.man.render_synopsis_section(&mut page)?;
        self.man.render_description_section(&mut page)?;
        self.man.render_options_section(&mut page)?;
        if self.command.get_subcommands().any(|it| !it.is_hide_set()) {
            self.man.render_subcommands_section(&mut page)?;
        }
        self.own_sections().to_writer(&mut page)?;
        Ok(page)
    }

    fn own_sections(&self) -> Roff {
        let mut roff = Roff::new();
        if let Some(examples) = self.examples() {
            roff.control("SH", ["EXAMPLES"]);
            // As it is, line by line.
            roff.control("nf", []);
            for line in examples.lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        }
        entries(&mut roff, "FILES", &FILES);
        entries(&mut roff, "ENVIRONMENT", &ENVIRONMENT);
        entries(&mut roff, "EXIT STATUS", &EXIT_STATUS);
        let others = self.see_also();
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(others.join(", "))]);
        roff
    }

    /// The text below the command's help, without its heading and the space before all lines.
    fn examples(&self) -> Option<String> {
        let help = self.command.get_after_long_help();
        let help = help.or_else(|| self.command.get_after_help())?.to_string();
        let lines = help.lines().filter(|line| line.trim() != EXAMPLES_HEADING);
        let lines: Vec<_> = lines.map(str::trim_end).collect();
        let indented = |line: &&str| line.len() - line.trim_start().len();
        let filled = lines.iter().filter(|line| !line.is_empty());
        let margin = filled.map(indented).min().unwrap_or_default();
        let lines = lines
            .iter()
            .map(|line| line.get(margin..).unwrap_or_default());
        let text = lines.collect::<Vec<_>>().join("\n").trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The pages of the command above and of those below.
    fn see_also(&self) -> Vec<String> {
        let page = |it: &Command| format!("{}(1)", it.get_display_name().unwrap_or(it.get_name()));
        let own = page(&self.command);
        let above = own.rsplit_once('-').map(|(above, _)| format!("{above}(1)"));
        let below = self
            .command
            .get_subcommands()
            .filter(|it| !it.is_hide_set());
        let mut pages: Vec<_> = above.into_iter().chain(below.map(page)).collect();
        if pages.first().is_some_and(|it| it != "shoal(1)") && own != "shoal(1)" {
            pages.insert(0, "shoal(1)".to_owned());
        }
        pages
    }
}

fn entries(roff: &mut Roff, section: &str, entries: &[Entry]) {
    roff.control("SH", [section]);
    for (name, meaning) in entries {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*meaning)]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GUIDE: &str = include_str!("../../docs/guide.md");

    fn page(mut command: Command) -> String {
        command.build();
        String::from_utf8(Manual::new(command).render().unwrap()).unwrap()
    }

    #[test]
    fn the_guide_has_the_same_exit_codes() {
        let rows = GUIDE.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (code, meaning) = (cells.next()?, cells.next()?);
            code.parse::<u8>().ok()?;
            Some((code, meaning))
        });
        assert_eq!(rows.collect::<Vec<_>>(), EXIT_STATUS);
    }

    #[test]
    fn the_examples_of_a_page_are_those_of_the_help() {
        let help = "Examples:\n  Share a folder:\n    shoal share photos\n\n  .hidden\n";
        let with = page(Command::new("x").after_help(help));
        let examples =
            ".SH EXAMPLES\n.nf\nShare a folder:\n  shoal share photos\n\n\\&.hidden\n.fi\n";
        assert!(with.contains(examples), "{with}");
        assert!(!page(Command::new("x")).contains("EXAMPLES"));
    }
}
