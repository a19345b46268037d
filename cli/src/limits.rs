//! What the process asks of the system before it begins, and whether the system gives enough.
//!
//! Where a thread or memory is refused in the middle of the work, the runtime panics and RocksDB aborts
//! the process. So a command tries out beforehand what it cannot do without, gives it back, and says
//! which limit is in the way: [`check_command`], and [`check_node`] before a node starts. A limit that
//! is reached later is an error of whatever reached it.

use std::{num::NonZero, thread};

use bytesize::ByteSize;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shoal_api::{ApiError, ErrorCode};
use shoal_ground::memory;

use crate::groups;

/// Descriptors without which no node starts: some 50 for the database, the runtime, the API and what it
/// listens on, the rest for a few peers and files at a time.
const NODE_DESCRIPTORS_MIN: u64 = 128;

/// Descriptors without which no command begins: the three that it is given, the runtime's and its
/// signals', and a connection to a daemon.
const COMMAND_DESCRIPTORS_MIN: u64 = 16;

/// Memory without which no node starts, where that is limited: 60 MB of program, 150 MiB of work, and
/// 2 MiB of address space for the stack of each of some 80 threads. Four small fetches at a time were
/// seen to take 235 MB of address space with 19 threads.
const NODE_MEMORY_MIN: u64 = 400 << 20;

/// Threads that a command has at one time, beside one for each processor.
const COMMAND_THREADS: usize = 4;

/// Threads that a node has soon after its start, beside three for each processor (they hash, land and
/// look things up): those of the database, of the disks and of the journal.
const NODE_THREADS: usize = 16;

/// The exit code of [`ErrorCode::SystemLimit`], for a handler that may not compute it.
const LIMIT_EXIT: libc::c_int = 6;

/// Sets up the allocator, signals and the number of descriptors. To be called before there are threads.
pub(crate) fn set_up() {
    keep_memory_small();
    survive_large_files();
    raise_descriptors();
    if memory::limit().is_some() {
        explain_aborts();
    }
}

/// Whether a command can run at all.
///
/// # Errors
/// [`ErrorCode::SystemLimit`] names what is too little.
pub(crate) fn check_command() -> Result<(), ApiError> {
    check_descriptors("a command", COMMAND_DESCRIPTORS_MIN)?;
    check_threads(processors() + COMMAND_THREADS)
}

/// Whether a node can run in this process.
///
/// # Errors
/// As for [`check_command`].
pub(crate) fn check_node() -> Result<(), ApiError> {
    check_descriptors("a node", NODE_DESCRIPTORS_MIN)?;
    if let Some(limit) = memory::limit().filter(|limit| limit.bytes < NODE_MEMORY_MIN) {
        return Err(too_low(format!(
            "this process may use {} of memory (`{}`), and a node needs {}",
            ByteSize(limit.bytes).display().iec(),
            limit.shown_by,
            ByteSize(NODE_MEMORY_MIN).display().iec(),
        )));
    }
    check_threads(3 * processors() + NODE_THREADS)
}

fn too_low(message: String) -> ApiError {
    ApiError::new(ErrorCode::SystemLimit, message).hint(
        "raise that limit, for a service in its unit, for a container where it is started, or have a \
         daemon elsewhere do the work",
    )
}

fn check_descriptors(who: &str, needed: u64) -> Result<(), ApiError> {
    let descriptors = getrlimit(Resource::Nofile).current;
    match descriptors.filter(|limit| *limit < needed) {
        None => Ok(()),
        Some(limit) => Err(too_low(format!(
            "this process may open {limit} files at a time (`ulimit -n`), and {who} needs {needed}"
        ))),
    }
}

/// Starts so many threads at once, and ends them again.
fn check_threads(wanted: usize) -> Result<(), ApiError> {
    let gate = Mutex::new(());
    let closed = gate.lock();
    let refused = thread::scope(|scope| {
        let refused = (0..wanted).find(|_| {
            let waiting = thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()));
            waiting.is_err()
        });
        drop(closed);
        refused
    });
    match refused {
        None => Ok(()),
        Some(started) => Err(too_low(too_few_threads(started, wanted))),
    }
}

/// The system only says that it has no thread, and not why: what could be the reason is named.
fn too_few_threads(started: usize, wanted: usize) -> String {
    let group = groups::limit().filter(|limit| limit.has_less_than(wanted));
    let limits = match group {
        Some(limit) => limit.to_string(),
        None => other_limits(),
    };
    format!("shoal needs {wanted} threads, and the system gives it {started}: {limits}")
}

/// Limits on threads that nobody can say of whether they are reached.
fn other_limits() -> String {
    let of_user = getrlimit(Resource::Nproc).current;
    let of_user =
        of_user.map(|limit| format!("`ulimit -u` is {limit} for all that this user runs"));
    let memory = memory::reached().map(|limit| {
        let bytes = ByteSize(limit.bytes).display().iec();
        format!("`{}` is {bytes}", limit.shown_by)
    });
    let limits: Vec<_> = of_user.into_iter().chain(memory).collect();
    match limits.is_empty() {
        true => "all of the machine's are taken".to_owned(),
        false => limits.join(", "),
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Raises the soft limit on descriptors as far as the system allows: connections, shared files and
/// files being landed each take one, and the usual soft limit of 1024 is made for `select`.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refused, the limit stays as it is, and what exceeds it is an error where it happens.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Has a write beyond the largest file that this process may make fail as others do, with an error that
/// names the file. The system's default is to end the process.
fn survive_large_files() {
    // SAFETY: no handler runs; ignoring a signal has no other effect.
    #[expect(unsafe_code, reason = "there is no safe way to ignore a signal")]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Where memory is limited, its end is reached in the middle of some allocation, in our code or in
/// RocksDB's, and both abort the process. Then the process says so and ends with the code of a limit
/// that is too low. An abort while there is memory left has another reason, and stays one.
fn explain_aborts() {
    extern "C" fn explain(signal: libc::c_int) {
        const WORDS: &[u8] =
            b"error: the process ends, for the system gives it no more memory: raise `ulimit -v`\n";
        if memory::reached().is_none() {
            // SAFETY: both may be called in a handler; the signal comes once this one has ended.
            #[expect(unsafe_code, reason = "there is no safe way to raise a signal")]
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
            return;
        }
        // SAFETY: both may be called in a handler, and the bytes outlive the call.
        #[expect(unsafe_code, reason = "a handler may call nothing else")]
        unsafe {
            libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
            libc::_exit(LIMIT_EXIT);
        }
    }
    let handler: extern "C" fn(libc::c_int) = explain;
    // SAFETY: the handler does only what one may do.
    #[expect(unsafe_code, reason = "there is no safe way to handle a signal")]
    unsafe {
        libc::signal(libc::SIGABRT, handler as libc::sighandler_t);
    }
}

/// Keeps the allocator from holding on to many times what is used, and from giving back and asking
/// again what is used all the time.
///
/// glibc gives threads arenas of their own, up to eight a core, and a node's blocking threads come
/// and go: each arena keeps the fragments of whatever ran on it. Three fetches of a tree of 79,000
/// files took 193 MB at their peak that way, and take 92 MB with one arena, in the same time.
///
/// While chunks move, buffers of 2 MiB come and go. Left alone, glibc gives their pages back each
/// time, and the system clears new ones: 60,000 to 170,000 page faults for 2 GiB, on each side.
/// With these two thresholds it is 10,000 where they arrive and next to none where they leave.
fn keep_memory_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Above a chunk's buffer; only what is larger is mapped by itself.
        const MAPPED_BYTES_MIN: libc::c_int = 4 << 20;
        /// Free memory at the end of the heap that is kept: eight chunks.
        const KEPT_BYTES_MAX: libc::c_int = 16 << 20;
        // SAFETY: these set numbers inside the allocator, before any other thread runs.
        #[expect(unsafe_code, reason = "there is no safe way to set them")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_handler_ends_with_the_code_of_a_limit() {
        assert_eq!(LIMIT_EXIT, i32::from(ErrorCode::SystemLimit.exit()));
    }

    #[test]
    fn what_is_needed_is_to_be_had_where_tests_run() {
        check_command().unwrap();
        check_node().unwrap();
    }

    #[test]
    fn more_threads_than_the_machine_has_are_refused_with_what_limits_them() {
        let said = too_few_threads(3, 20);
        let expected = "shoal needs 20 threads, and the system gives it 3: ";
        assert!(said.starts_with(expected), "{said}");
    }
}
