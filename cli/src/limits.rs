//! What the process asks of the system before it begins.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sets up the allocator and the number of descriptors. To be called before there are threads.
pub(crate) fn set_up() {
    keep_memory_small();
    raise_descriptors();
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
