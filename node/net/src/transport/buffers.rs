//! The three buffers of a TLS connection, each bounded by a named constant.
//!
//! Pure memory: no socket, no TLS. A connection that is idle holds about one record; a busy one
//! what makes large reads and writes of it.

use std::io;

use rustls::unbuffered::InsufficientSizeError;

/// The longest record: 16 KiB, what encryption may add to it, and its header (RFC 8446, 5.2).
const RECORD_BYTES_MAX: usize = (16 << 10) + 256 + 5;
/// Bytes taken from the socket at once on a busy connection: 512 connections that are all busy hold
/// 128 MiB.
const INCOMING_BYTES_MAX: usize = 256 << 10;
/// Encrypted bytes beyond which nothing more is encrypted before the socket has taken them, on a fast
/// line. With the piece that was encrypted last, a connection that is written to holds 128 KiB.
pub(super) const OUTGOING_BYTES_MAX: usize = 64 << 10;
/// Uses of a large buffer that leave most of it empty before it is made small again: a pause
/// between two bursts is no reason.
const SMALL_USES_MAX: u32 = 16;

/// Bytes from the socket, encrypted, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Its length is the room there is; all of it is initialised.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    small_reads: u32,
}

impl Incoming {
    /// What has come in and is not used up.
    pub(super) fn filled(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Forgets the first bytes.
    pub(super) fn discard(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Room for a read; empty only when the peer sends a record that TLS does not allow.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let held = self.end - self.start;
        if self.start > 0 {
            // A part of a record at most: whole ones are used up before more is read.
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
        }
        if self.bytes.len() < RECORD_BYTES_MAX {
            self.bytes.resize(RECORD_BYTES_MAX, 0);
        } else if self.small_reads >= SMALL_USES_MAX && held < RECORD_BYTES_MAX {
            self.bytes.truncate(RECORD_BYTES_MAX);
            self.bytes.shrink_to_fit();
            self.small_reads = 0;
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes note of what was read into the room.
    pub(super) fn add(&mut self, count: usize) {
        self.end = self.bytes.len().min(self.end + count);
        let room = self.bytes.len();
        if self.end == room && room < INCOMING_BYTES_MAX {
            // The socket has more than fits.
            self.bytes.resize(INCOMING_BYTES_MAX, 0);
        }
        if room > RECORD_BYTES_MAX && self.end < RECORD_BYTES_MAX {
            self.small_reads += 1;
        } else {
            self.small_reads = 0;
        }
    }
}

/// Decrypted bytes that nobody has read yet: at most what [`Incoming`] held.
#[derive(Debug, Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    start: usize,
}

impl Received {
    /// Adds what did not fit into a reader's buffer.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves what there is into `buffer`, as much as fits.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let held = self.bytes.get(self.start..).unwrap_or_default();
        let count = held.len().min(buffer.len());
        let (Some(from), Some(to)) = (held.get(..count), buffer.get_mut(..count)) else {
            return 0;
        };
        to.copy_from_slice(from);
        self.start += count;
        if self.start == self.bytes.len() && self.bytes.capacity() > RECORD_BYTES_MAX {
            // It was filled while nobody read; that is not how it usually goes.
            *self = Self::default();
        }
        count
    }
}

/// Encrypted bytes on their way to the socket.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Its length is the room there is; all of it is initialised.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    small_writes: u32,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many of them there are.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// What is to be written.
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Forgets what the socket has taken.
    pub(super) fn discard(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.start < self.end {
            return;
        }
        if self.bytes.len() > RECORD_BYTES_MAX && self.end < RECORD_BYTES_MAX {
            self.small_writes += 1;
        } else {
            self.small_writes = 0;
        }
        (self.start, self.end) = (0, 0);
        if self.small_writes >= SMALL_USES_MAX {
            *self = Self::default();
        }
    }

    /// Has `write` add bytes, with more room when it says how much it needs.
    pub(super) fn append<E>(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> io::Result<()>
    where
        E: Into<Refused>,
    {
        loop {
            let room = self.bytes.get_mut(self.end..).unwrap_or_default();
            match write(room).map_err(Into::into) {
                Ok(count) => {
                    self.end = self.bytes.len().min(self.end + count);
                    return Ok(());
                }
                Err(Refused::Room(InsufficientSizeError { required_size }))
                    if required_size > self.bytes.len() - self.end =>
                {
                    self.bytes.resize(self.end + required_size, 0);
                }
                Err(Refused::Room(_)) => return Err(io::Error::other("TLS refused its own size")),
                Err(Refused::Other(error)) => return Err(error),
            }
        }
    }
}

/// Why something could not be encrypted.
pub(super) enum Refused {
    /// It needs more room.
    Room(InsufficientSizeError),
    /// It cannot be.
    Other(io::Error),
}

impl From<rustls::unbuffered::EncodeError> for Refused {
    fn from(error: rustls::unbuffered::EncodeError) -> Self {
        match error {
            rustls::unbuffered::EncodeError::InsufficientSize(size) => Self::Room(size),
            error @ rustls::unbuffered::EncodeError::AlreadyEncoded => {
                Self::Other(io::Error::other(error))
            }
        }
    }
}

impl From<rustls::unbuffered::EncryptError> for Refused {
    fn from(error: rustls::unbuffered::EncryptError) -> Self {
        match error {
            rustls::unbuffered::EncryptError::InsufficientSize(size) => Self::Room(size),
            error @ rustls::unbuffered::EncryptError::EncryptExhausted => {
                Self::Other(io::Error::other(error))
            }
        }
    }
}
