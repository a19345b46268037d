//! A command line on which a person still types, read as a POSIX shell reads it.

/// The line up to the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its words without their quotes; the last one is being typed, and may be empty.
    pub(super) words: Vec<String>,
    /// The last word as it was typed.
    pub(super) typed: String,
    /// The quote that is open at the cursor.
    pub(super) quote: Option<char>,
}

impl Line {
    pub(super) fn parse(text: &str) -> Self {
        let mut line = Self {
            words: Vec::new(),
            typed: String::new(),
            quote: None,
        };
        let mut word = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if line.quote.is_none() && matches!(c, ' ' | '\t' | '\n') {
                if !line.typed.is_empty() {
                    line.end_word(&mut word);
                }
                continue;
            }
            line.typed.push(c);
            match (line.quote, c) {
                (Some(open), close) if open == close => line.quote = None,
                (None, '\'' | '"') => line.quote = Some(c),
                (None | Some('"'), '\\') => {
                    if let Some(literal) = chars.next() {
                        line.typed.push(literal);
                        word.push(literal);
                    }
                }
                _ => word.push(c),
            }
        }
        let typed = line.typed.clone();
        line.end_word(&mut word);
        line.typed = typed;
        // Variables before the command are not its words.
        let command = line.words.iter().position(|word| !word.contains('='));
        line.words.drain(..command.unwrap_or_default());
        line
    }

    fn end_word(&mut self, word: &mut String) {
        let word = std::mem::take(word);
        let typed = std::mem::take(&mut self.typed);
        // A tilde that is not quoted is the user's home directory.
        let expanded = typed.starts_with("~/").then(std::env::home_dir).flatten();
        self.words.push(match (expanded, word.strip_prefix('~')) {
            (Some(home), Some(rest)) => home.to_string_lossy().into_owned() + rest,
            _ => word,
        });
    }
}

/// A word without its quotes, one of which may be open.
pub(super) fn unquoted(typed: &str) -> String {
    Line::parse(typed).words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_a_shell_reads_it() {
        let check = |text: &str, words: &[&str], typed: &str, quote: Option<char>| {
            let expected = Line {
                words: words.iter().map(|&it| it.to_owned()).collect(),
                typed: typed.to_owned(),
                quote,
            };
            assert_eq!(Line::parse(text), expected, "{text}");
        };
        check("shoal", &["shoal"], "shoal", None);
        check("shoal  un", &["shoal", "un"], "un", None);
        check("shoal unshare ", &["shoal", "unshare", ""], "", None);
        check(
            "shoal link 'my ph",
            &["shoal", "link", "my ph"],
            "'my ph",
            Some('\''),
        );
        check(
            r"shoal link my\ ph",
            &["shoal", "link", "my ph"],
            r"my\ ph",
            None,
        );
        check(
            r#"shoal link "a\"b"#,
            &["shoal", "link", "a\"b"],
            r#""a\"b"#,
            Some('"'),
        );
        check(
            "shoal link 'a'b\\",
            &["shoal", "link", "ab"],
            "'a'b\\",
            None,
        );
        check("shoal link ''", &["shoal", "link", ""], "''", None);
        check("A=1 shoal link a=b", &["shoal", "link", "a=b"], "a=b", None);
        assert_eq!(unquoted(r"my\ ph"), "my ph");
        assert_eq!(unquoted("'my ph"), "my ph");
        assert_eq!(unquoted(""), "");
    }
}
