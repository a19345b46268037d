//! What bash asks and is told.
//!
//! bash cuts the line into words in its own way, and takes replies as they are. So the script passes
//! the line itself, and replies come back quoted: a name that somebody else has chosen cannot become
//! a command.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
};

use clap_complete::{engine, env::EnvCompleter};

use super::{found::is_plain_text, line::Line};
use crate::human;

/// `$2` is the part of the last word that bash replaces. A folder, or a flag that waits for its value,
/// goes on without a space.
const SCRIPT: &str = r#"_shoal() {
    mapfile -t COMPREPLY < <(
        VARIABLE=bash COMPLETER -- "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null
    )
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} =~ [/=]\'?$ ]]; then
        compopt -o nospace 2>/dev/null
    fi
    return 0
}
complete -o nosort -o bashdefault -F _shoal NAME
"#;

/// The adapter of bash.
pub(super) struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        variable: &str,
        _: &str,
        name: &str,
        completer: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let script = SCRIPT
            .replace("VARIABLE", variable)
            .replace("COMPLETER", completer)
            .replace("NAME", name);
        out.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        args: Vec<OsString>,
        here: Option<&Path>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut args = args.iter().map(|arg| arg.to_string_lossy());
        let (line, replaced) = (args.next().unwrap_or_default(), args.next());
        let line = Line::parse(&line);
        let words: Vec<OsString> = line.words.iter().map(OsString::from).collect();
        let last = words.len().saturating_sub(1);
        for candidate in engine::complete(command, words, last, here)? {
            let value = candidate
                .get_value()
                .to_str()
                .filter(|it| is_plain_text(it));
            let reply = value.and_then(|value| reply(value, &line, replaced.as_deref()?));
            if let Some(reply) = reply {
                writeln!(out, "{reply}")?;
            }
        }
        Ok(())
    }
}

/// What bash puts in place of `replaced`, the end of the last word, for that word to mean `value`.
fn reply(value: &str, line: &Line, replaced: &str) -> Option<String> {
    let Some(quote) = line.quote else {
        let kept = line.typed.strip_suffix(replaced)?;
        let rest = value.strip_prefix(&super::line::unquoted(kept))?;
        return Some(human::shell_quote(rest));
    };
    // bash closes the quote itself. It may only be open from the beginning of the word.
    line.typed.strip_prefix(quote)?.strip_suffix(replaced)?;
    match quote {
        '\'' => (!value.contains('\'')).then(|| value.to_owned()),
        _ => Some(value.chars().fold(String::new(), |mut text, c| {
            if "\\\"$`".contains(c) {
                text.push('\\');
            }
            text.push(c);
            text
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_means_the_value_and_nothing_else() {
        let check = |line: &str, replaced: &str, value: &str, expected: Option<&str>| {
            let reply = reply(value, &Line::parse(line), replaced);
            assert_eq!(reply.as_deref(), expected, "{line} {value}");
        };
        check("shoal link ph", "ph", "photos", Some("photos"));
        check("shoal link my", "my", "my photos", Some("'my photos'"));
        check(
            r"shoal link my\ ph",
            r"my\ ph",
            "my photos",
            Some("'my photos'"),
        );
        check("shoal link 'my ph", "my ph", "my photos", Some("my photos"));
        check("shoal link 'it", "it", "it's", None);
        check("shoal link \"a", "a", "a $(b)`c`", Some("a \\$(b)\\`c\\`"));
        check("shoal link ", "", "$(reboot)", Some("'$(reboot)'"));
        // bash replaces the part behind a colon or an equals sign.
        check("shoal link a:b", "b", "a:bc", Some("bc"));
        check(
            "shoal share --hash=sh",
            "sh",
            "--hash=sha2-256",
            Some("sha2-256"),
        );
        check("shoal share --hash=", "", "--hash=blake3", Some("blake3"));
        check("shoal link a:b", "b", "other", None);
    }
}
