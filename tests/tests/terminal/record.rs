//! Screens as a document: without what differs from run to run.
//!
//! With `SHOAL_RECORD` in the environment the document is written to `docs/terminal.md`.

use std::{fmt::Write as _, fs, path::Path};

/// Letters of the token of a link, at least.
const TOKEN_LETTERS: usize = 60;

/// Letters of an address that a narrow terminal has cut, at least.
const CUT_LETTERS_MIN: usize = 16;

/// What differs from run to run, and what stands for it.
pub(crate) struct Names {
    root: String,
}

impl Names {
    pub(crate) fn of(root: &Path) -> Self {
        let root = root.to_str().unwrap().to_owned();
        Self { root }
    }

    pub(crate) fn normalised(&self, screen: &str) -> String {
        let mut text = screen.replace(&self.root, "/home");
        text = shortened(&text, "SG", TOKEN_LETTERS, "SGKAY4T9…");
        for (start, instead) in [
            ("bafy", "bafyb4i…"),
            ("bafk", "bafkr4i…"),
            ("12D3KooW", "12D3KooW…"),
        ] {
            text = shortened(&text, start, CUT_LETTERS_MIN, instead);
        }
        for prefix in ["/tcp/", "/udp/"] {
            text = without_digits(&text, prefix);
        }
        let lines: Vec<_> = text.trim_end().lines().map(without_measures).collect();
        lines.join("\n")
    }
}

/// The text with every word of `len` letters or more that begins so replaced.
fn shortened(text: &str, start: &str, len: usize, instead: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(start) {
        out += &rest[..at];
        let word = &rest[at..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric());
        let end = end.unwrap_or(word.len());
        out += if end >= len { instead } else { &word[..end] };
        rest = &word[end..];
    }
    out + rest
}

fn without_digits(text: &str, prefix: &str) -> String {
    let mut parts = text.split(prefix);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{text}{prefix}4101{rest}")
    })
}

/// Numbers that a clock made.
fn without_measures(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let measured = |index: usize| {
        let word = |offset: usize| words.get(index + offset).copied().unwrap_or_default();
        let before = index.checked_sub(1).map_or("", |it| words[it]);
        let number = word(0).starts_with(|c: char| c.is_ascii_digit());
        let time = matches!(word(1), "s" | "s," | "s." | "ms")
            && (["in", "up", "for"].contains(&before)
                || word(1) == "ms"
                || word(2).starts_with("left"));
        number && (time || word(1).contains("B/s") || word(1).starts_with("GiB"))
    };
    let shown = (0..words.len()).map(|index| match measured(index) {
        true => "1.0",
        false => words[index],
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The session as a document.
pub(crate) struct Record {
    names: Names,
    text: String,
}

impl Record {
    pub(crate) fn of(root: &Path) -> Self {
        let text = "# In a terminal\n\nThe first hour of two people, Ann who shares and Bob who \
                    downloads, in terminals of 80 and of 40\ncolumns. Recorded from real runs by \
                    `tests/tests/terminal`; addresses and links are shortened, most\nmeasured \
                    numbers stand at 1.0, and lines that a terminal wraps are shown in one piece.\n";
        Self {
            names: Names::of(root),
            text: text.to_owned(),
        }
    }

    /// What follows happens in another folder.
    pub(crate) fn goes_on_in(&mut self, root: &Path) {
        self.names = Names::of(root);
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        write!(self.text, "\n## {title}\n").unwrap();
    }

    /// Adds what somebody typed and saw.
    pub(crate) fn add(&mut self, title: &str, who: &str, args: &[&str], screen: &str) {
        let args: Vec<String> = args.iter().map(|word| quoted(word)).collect();
        let command = self.names.normalised(&args.join(" "));
        let screen = self.names.normalised(screen);
        let section = format!("\n### {title}\n\n```\n{who}$ shoal {command}\n{screen}\n```\n");
        self.text.write_str(&section).unwrap();
    }

    /// Adds what somebody typed that is no command of ours and says nothing, and a word about it.
    pub(crate) fn add_other(&mut self, title: &str, who: &str, typed: &str, word: &str) {
        let typed = self.names.normalised(typed);
        let section = format!("\n### {title}\n\n{word}\n\n```\n{who}$ {typed}\n```\n");
        self.text.write_str(&section).unwrap();
    }

    pub(crate) fn keep(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/terminal.md");
        if std::env::var_os("SHOAL_RECORD").is_some() {
            fs::write(&file, &self.text).unwrap();
        }
        let kept = fs::read_to_string(file).unwrap();
        let titles = |text: &str| {
            let titles = text.lines().filter(|line| line.starts_with("##"));
            titles.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(titles(&kept), titles(&self.text), "record it again");
    }
}

fn quoted(word: &str) -> String {
    match word.contains(['&', '?', ' ']) {
        true => format!("'{word}'"),
        false => word.to_owned(),
    }
}
