//! What is printed: results on stdout, everything else on stderr.
//!
//! With `--json` stdout gets JSON only: the result, or the error. A command whose result cannot be
//! written fails, unless its reader has gone. This module is the only one that
//! prints, and what it prints of other peers' making has been escaped by [`crate::human`].

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
    sync::OnceLock,
};

use clap::{
    builder::styling::{AnsiColor, Style},
    error::{ContextKind, ContextValue},
};
use serde::Serialize;
use shoal_api::{ApiError, ErrorBody, ErrorCode};
use shoal_ground::suggest::closest;

use crate::{
    args::{Color, Global},
    human,
};

/// Clears from the cursor to the end of the screen (ECMA-48, ED).
const CLEAR_BELOW: &str = "\x1b[J";
/// Clears from the cursor to the end of the line (ECMA-48, EL).
const CLEAR_LINE: &str = "\x1b[K";
/// Moves the cursor to the first column of the first line (ECMA-48, CUP).
const TO_TOP: &str = "\x1b[H";
/// Switches to the alternate screen and hides the cursor, and back (xterm, 1049 and 25).
const SCREEN_ENTER: &str = "\x1b[?1049h\x1b[?25l";
const SCREEN_LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Moves the cursor up one line (ECMA-48, CUU).
const LINE_UP: &str = "\x1b[A";

/// Where results, hints and errors go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Results are JSON documents.
    pub(crate) json: bool,
    quiet: bool,
    stdout_color: bool,
    stderr_color: bool,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            stdout_color: use_color(global, &io::stdout()),
            stderr_color: use_color(global, &io::stderr()),
        }
    }

    /// The result: `document` with `--json`, otherwise the lines that `text` makes.
    pub(crate) fn result<T: Serialize>(&self, document: &T, text: impl FnOnce(&mut Text)) {
        if self.json {
            print_json(document);
            return;
        }
        let mut lines = Text {
            buffer: String::new(),
            color: self.stdout_color,
        };
        text(&mut lines);
        print_text(&lines.buffer);
    }

    /// One of many results that take each other's place: with `--json` a line each; on a terminal as
    /// many lines as fit, drawn over those before; elsewhere all lines, and an empty one.
    pub(crate) fn frame<T: Serialize>(&self, document: &T, text: impl FnOnce(&mut Text)) {
        if self.json {
            print_json(document);
            return;
        }
        let mut lines = Text {
            buffer: String::new(),
            color: self.stdout_color && self.terminal().is_none(),
        };
        text(&mut lines);
        let Some((columns, rows)) = self.terminal() else {
            lines.line("");
            print_text(&lines.buffer);
            return;
        };
        let all = lines.buffer.lines().count();
        let shown = rows.saturating_sub(1).max(1);
        let mut drawn = String::from(TO_TOP);
        for line in lines.buffer.lines().take(shown) {
            drawn.extend(line.chars().take(columns));
            drawn += CLEAR_LINE;
            drawn += "\n";
        }
        drawn += CLEAR_BELOW;
        if all > shown {
            let more = format!("{} more lines", all - shown);
            drawn.extend(more.chars().take(columns));
        }
        print_text(&drawn);
    }

    /// A screen of its own for frames, if results go to a terminal; left when dropped.
    pub(crate) fn screen(&self) -> Screen {
        let is_there = self.terminal().is_some();
        if is_there {
            print_text(SCREEN_ENTER);
        }
        Screen { is_there }
    }

    /// More lines of a result for people; with `--json` the document has it all.
    pub(crate) fn more(&self, text: impl FnOnce(&mut Text)) {
        if !self.json {
            let mut lines = Text {
                buffer: String::new(),
                color: self.stdout_color,
            };
            text(&mut lines);
            print_text(&lines.buffer);
        }
    }

    /// Whether all that was printed on stdout has got there.
    ///
    /// # Errors
    /// When some of it could not be written, for another reason than that nobody reads it any more.
    pub(crate) fn written(&self) -> Result<(), ApiError> {
        FAILED.get().map_or(Ok(()), unwritten)
    }

    /// Whether nobody reads stdout any more, or nothing can be written to it.
    pub(crate) fn is_closed(&self) -> bool {
        FAILED.get().is_some()
    }

    /// How a command ends that has done its part: badly if its result could not be written.
    pub(crate) fn ended(&self, code: ExitCode) -> ExitCode {
        match self.written() {
            Err(error) if code == ExitCode::SUCCESS => self.error(&error),
            _ => code,
        }
    }

    /// Columns and rows of the terminal that results go to, if one is there and says so.
    pub(crate) fn terminal(&self) -> Option<(usize, usize)> {
        if self.json || !io::stdout().is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        let size = (usize::from(size.ws_col), usize::from(size.ws_row));
        (size.0 > 0 && size.1 > 0).then_some(size)
    }

    /// Which of two forms of a result is printed: with `--quiet` the one that a program takes apart.
    pub(crate) fn for_program<'a>(&self, person: &'a str, program: &'a str) -> &'a str {
        if self.quiet { program } else { person }
    }

    /// Something worth knowing that is not the result; not with `--quiet`.
    pub(crate) fn note(&self, note: impl Display) {
        if !self.quiet {
            eprint_line(&note);
        }
    }

    /// Something that is not as it should be; not with `--quiet`.
    pub(crate) fn warning(&self, warning: &str) {
        if self.quiet {
            return;
        }
        let style = AnsiColor::Yellow.on_default().bold();
        let label = paint(self.stderr_color, style, "warning:");
        eprint_line(&format_args!("{label} {}", human::escape_message(warning)));
    }

    /// The same, while progress may be shown: that is drawn anew below it.
    pub(crate) fn warning_beside_progress(&self, warning: &str) {
        if self.shows_progress() {
            self.clear_progress();
        }
        self.warning(warning);
    }

    /// Reports the failure that ends the command.
    pub(crate) fn error(&self, error: &ApiError) -> ExitCode {
        if self.json && FAILED.get().is_none() {
            print_json(&ErrorBody {
                error: error.clone(),
            });
        }
        // An error that stdout does not take is told nevertheless.
        if !self.json || FAILED.get().is_some() {
            let style = AnsiColor::Red.on_default().bold();
            let label = paint(self.stderr_color, style, "error:");
            eprint_line(&format_args!(
                "{label} {}",
                human::escape_message(&error.message)
            ));
            if let Some(hint) = &error.hint {
                let label = paint(self.stderr_color, Style::new().bold(), "hint:");
                eprint_line(&format_args!("{label} {}", human::escape_message(hint)));
            }
        }
        ExitCode::from(error.code.exit())
    }

    /// The result of a command that has one and fails nevertheless: one JSON document has both.
    pub(crate) fn failed_result<T: Serialize>(
        &self,
        document: &T,
        error: &ApiError,
        text: impl FnOnce(&mut Text),
    ) -> ExitCode {
        /// A result with the error beside its fields.
        #[derive(Serialize)]
        struct Failed<'a, T> {
            error: &'a ApiError,
            #[serde(flatten)]
            document: &'a T,
        }
        if self.json {
            print_json(&Failed { error, document });
            return ExitCode::from(error.code.exit());
        }
        self.result(document, text);
        self.error(error)
    }

    /// Whether progress has somebody to look at it, on a terminal that can draw over what it drew.
    pub(crate) fn shows_progress(&self) -> bool {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        !self.quiet && !dumb && io::stderr().is_terminal()
    }

    /// Draws lines in place of those before, and goes back to the first column of the first.
    pub(crate) fn draw_progress<L: AsRef<str>>(&self, lines: &[L]) {
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        let back = LINE_UP.repeat(lines.len().saturating_sub(1));
        let lines = lines.join("\n");
        eprint(&format_args!("\r{CLEAR_BELOW}{lines}{back}\r"));
    }

    /// Takes away what was drawn last.
    pub(crate) fn clear_progress(&self) {
        eprint(&format_args!("\r{CLEAR_BELOW}"));
    }
}

/// Writes a piece of a result that is bytes; waits for whoever reads them.
pub(crate) async fn bytes(bytes: Vec<u8>) -> io::Result<()> {
    let writing = tokio::task::spawn_blocking(move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()
    });
    writing
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// A screen of its own, see [`Output::screen`].
pub(crate) struct Screen {
    is_there: bool,
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_there {
            print_text(SCREEN_LEAVE);
        }
    }
}

/// Lines for people.
pub(crate) struct Text {
    buffer: String,
    color: bool,
}

impl Text {
    /// One more line.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.buffer.push_str(&line.to_string());
        self.buffer.push('\n');
    }

    /// Text that matters most.
    pub(crate) fn bold(&self, text: impl Display) -> String {
        paint(self.color, Style::new().bold(), text)
    }

    /// Text that a person may skip.
    pub(crate) fn dim(&self, text: impl Display) -> String {
        paint(self.color, Style::new().dimmed(), text)
    }

    /// Text about something that is not as it should be.
    pub(crate) fn alert(&self, text: impl Display) -> String {
        paint(self.color, AnsiColor::Yellow.on_default(), text)
    }
}

/// Whether this stream gets colour.
pub(crate) fn use_color(global: &Global, stream: &impl IsTerminal) -> bool {
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            // no-color.org: set and not empty.
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && stream.is_terminal()
        }
    }
}

/// Reports a command line that does not parse, or prints the help that was asked for.
pub(crate) fn usage_error(mut error: clap::Error) -> ExitCode {
    name_nearest(&mut error);
    let error = &error;
    let json = std::env::args_os().any(|argument| argument == "--json");
    if json && error.use_stderr() {
        let text = error.render().to_string();
        // Up to the first empty line is what is wrong; usage and tips follow.
        let lines = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.is_empty());
        let message = lines.collect::<Vec<_>>().join(" ");
        print_json(&ErrorBody {
            error: ApiError::new(ErrorCode::Usage, message.trim_start_matches("error: "))
                .hint(usage_hint(error)),
        });
    } else if let Err(failed) = error.print().and_then(|()| io::stdout().flush())
        && let Err(unwritten) = unwritten(&failed)
        && !error.use_stderr()
    {
        // Help or the version, to a stdout that does not take it.
        eprint_line(&format_args!("error: {unwritten}"));
        return ExitCode::from(unwritten.code.exit());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ErrorCode::Usage.exit()))
}

/// Of the commands that are like a mistyped one, leaves the nearest.
fn name_nearest(error: &mut clap::Error) {
    let typed = error.get(ContextKind::InvalidSubcommand);
    let like = error.get(ContextKind::SuggestedSubcommand);
    if let (Some(ContextValue::String(typed)), Some(ContextValue::Strings(like))) = (typed, like) {
        let nearest = closest(typed, like.iter().map(String::as_str));
        // The last one is the likeliest by another measure, which counts common letters.
        if let Some(nearest) = nearest.or(like.last().map(String::as_str)) {
            let nearest = ContextValue::String(nearest.to_owned());
            error.insert(ContextKind::SuggestedSubcommand, nearest);
        }
    }
}

/// What was probably meant by a command line that does not parse.
fn usage_hint(error: &clap::Error) -> String {
    let suggested = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        Some(ContextValue::Strings(words)) => words.last().cloned(),
        _ => None,
    };
    if let Some(command) = suggested(ContextKind::SuggestedSubcommand) {
        return format!("did you mean `shoal {command}`? `shoal help` lists all commands");
    }
    match suggested(ContextKind::SuggestedArg) {
        Some(option) => format!("did you mean `{option}`? `shoal help` lists all commands"),
        None => "see `shoal help`".to_owned(),
    }
}

fn paint(color: bool, style: Style, text: impl Display) -> String {
    if color {
        format!("{style}{text}{style:#}")
    } else {
        text.to_string()
    }
}

fn print_json<T: Serialize>(document: &T) {
    match serde_json::to_string(document) {
        Ok(mut json) => {
            json.push('\n');
            print_text(&json);
        }
        Err(error) => eprint_line(&format_args!("error: no JSON for the result: {error}")),
    }
}

/// The first failure to write to stdout; nothing is written there after it.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes all of a text, or keeps the failure for [`Output::written`].
fn print_text(text: &str) {
    if FAILED.get().is_some() {
        return;
    }
    let mut stdout = io::stdout().lock();
    let written = match text {
        // An empty result is a result: what takes nothing at all says so.
        "" => rustix::io::write(&stdout, &[])
            .map(drop)
            .map_err(io::Error::from),
        text => stdout.write_all(text.as_bytes()),
    };
    if let Err(error) = written.and_then(|()| stdout.flush()) {
        // Another thread's failure is as good as this one.
        let _ = FAILED.set(error);
    }
}

/// What a shell asked for; a shell that does not listen any more needs nothing.
pub(crate) fn to_shell(text: &str) {
    print_text(text);
}

/// The failure of a command whose result cannot be written. A reader that has seen enough (`| head`)
/// is none.
fn unwritten(error: &io::Error) -> Result<(), ApiError> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    let what = "cannot write the result to standard output";
    Err(ApiError::of_io(error, what).hint(
        "the command itself was carried out; free some space where its output goes, or send it \
         elsewhere",
    ))
}

fn eprint_line(line: &dyn Display) {
    eprint(&format_args!("{line}\n"));
}

/// In one piece, so that a terminal shows no half of it.
fn eprint(text: &dyn Display) {
    let _ = io::stderr().lock().write_all(text.to_string().as_bytes());
}
