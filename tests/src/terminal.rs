//! A command in a terminal of its own, and what a person sees there.

use std::{
    io::{Read as _, Write as _},
    num::NonZeroU16,
    process::Child,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use pty_process::{
    Size,
    blocking::{Command, Pty, open},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{DEADLINE, refused::Ground};

/// Rows of every terminal here.
const ROWS: u16 = 30;

/// A command that runs in a terminal; it is killed when dropped.
pub struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    parser: vt100::Parser,
    output: mpsc::Receiver<Vec<u8>>,
    raw: Vec<u8>,
}

impl Terminal {
    /// Starts `shoal` with `args` in a terminal that is this many columns wide.
    pub fn start(ground: &Ground, columns: u16, args: &[&str], env: &[(&str, &str)]) -> Self {
        let (pty, pts) = open().expect("a pseudo-terminal");
        let size = Size::new(ROWS, columns);
        pty.resize(size).expect("a size");
        let command = Command::new(&ground.program)
            .args(args)
            .current_dir(&ground.dir)
            .env("SHOAL_HOME", &ground.home)
            .env("SHOAL_NETWORK_MDNS", "false")
            .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
            .env("TERM", "xterm-256color")
            .env_remove("SHOAL_LOG")
            .env_remove("NO_COLOR")
            .envs(env.iter().copied());
        let child = command.spawn(pts).expect("the binary runs");
        let pty = Arc::new(pty);
        #[allow(
            clippy::disallowed_methods,
            reason = "a test that does not look must not stop the program that prints"
        )]
        let (sender, output) = mpsc::channel();
        let reader = Arc::clone(&pty);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The system reports an error when the last program has closed the terminal.
            while let Ok(read @ 1..) = (&*reader).read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        let nonzero = |n| NonZeroU16::new(n).expect("a terminal has rows and columns");
        Self {
            child,
            pty,
            parser: vt100::Parser::new(nonzero(ROWS), nonzero(columns), 0),
            output,
            raw: Vec::new(),
        }
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.parser.screen().contents()
    }

    /// What is on the screen now, with all that the command has written.
    pub fn look(&mut self) -> String {
        while let Ok(bytes) = self.output.try_recv() {
            self.show(&bytes);
        }
        self.screen()
    }

    /// Everything that was written to the terminal so far.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Waits until the screen shows each of `words`, and returns it.
    ///
    /// # Panics
    /// When it does not within [`DEADLINE`].
    pub fn wait_for(&mut self, words: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if words.iter().all(|word| screen.contains(word)) {
                return screen;
            }
            let left = DEADLINE.saturating_sub(start.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.show(&bytes),
                Err(_) => panic!("{words:?} do not come; the screen is:\n{screen}"),
            }
        }
    }

    /// Types.
    pub fn type_keys(&self, keys: &[u8]) {
        (&*self.pty).write_all(keys).expect("a terminal takes keys");
    }

    /// Closes the terminal: its programs are sent SIGHUP. Waits until the command has ended.
    ///
    /// # Panics
    /// When it cannot be told, or does not end within [`DEADLINE`].
    pub fn hang_up(self) -> Ended {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::HUP).expect("the child is ours");
        self.end()
    }

    /// Waits until the command has ended, and returns its exit code and the last screen.
    ///
    /// # Panics
    /// When it does not within [`DEADLINE`].
    pub fn end(mut self) -> Ended {
        let start = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(start.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.show(&bytes),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("it does not end; the screen is:\n{}", self.screen())
                }
            }
        }
        let status = self.child.wait().expect("the child is ours");
        Ended {
            code: status.code(),
            screen: self.screen(),
            raw: self.raw(),
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.raw.extend_from_slice(bytes);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Either may fail only because it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command left in its terminal.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// The screen.
    pub screen: String,
    /// Everything that was written.
    pub raw: String,
}
