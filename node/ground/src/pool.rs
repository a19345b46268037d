//! Buffers of chunks, used again: to clear a new one costs as much as to fill it.
//!
//! Owns a few buffers that nobody uses at the moment; who takes one gives it back by dropping it.
//! What was in it before is still there, and whoever takes it overwrites as much as it hands on.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

/// Buffers that are kept: those of the chunks that one fast connection has on their way here, and no
/// more, for each holds a MiB or two for as long as the node runs.
const KEPT_MAX: usize = 8;

/// Smaller ones are not worth keeping.
const KEPT_BYTES_MIN: usize = 64 << 10;

/// Buffers that wait for their next use. Cheap to clone; all clones are one pool.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer of a pool, of any length and with any content at first.
#[derive(Debug)]
pub struct Pooled {
    bytes: Vec<u8>,
    pool: Pool,
}

impl Pool {
    /// A buffer that was used before, or else an empty one.
    pub fn take(&self) -> Pooled {
        let kept = self.0.lock().pop();
        Pooled {
            bytes: kept.unwrap_or_default(),
            pool: self.clone(),
        }
    }

    /// What was put into `buffer`, which is ready for the next after that: a little is copied, so
    /// that it does not hold a large buffer.
    pub fn hand_over(&self, buffer: &mut Pooled) -> Pooled {
        if buffer.len() >= KEPT_BYTES_MIN {
            return mem::replace(buffer, self.take());
        }
        Pooled {
            bytes: buffer.to_vec(),
            pool: self.clone(),
        }
    }

    /// A buffer of its own for so many bytes: a small one is not taken from the pool.
    pub fn with_len(&self, len: usize) -> Pooled {
        let mut buffer = match len < KEPT_BYTES_MIN {
            true => Pooled {
                bytes: Vec::new(),
                pool: self.clone(),
            },
            false => self.take(),
        };
        buffer.resize(len, 0);
        buffer
    }
}

impl Deref for Pooled {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if self.bytes.capacity() < KEPT_BYTES_MIN {
            return;
        }
        let mut kept = self.pool.0.lock();
        if kept.len() < KEPT_MAX {
            kept.push(mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn large_buffers_come_back_and_small_ones_do_not() {
        let pool = Pool::default();
        let kept = || pool.0.lock().len();
        drop((pool.with_len(100), pool.take()));
        assert_eq!(kept(), 0);
        let mut buffers: Vec<_> = (0..=KEPT_MAX)
            .map(|_| pool.with_len(KEPT_BYTES_MIN))
            .collect();
        buffers[0][7] = 9;
        let address = buffers[0].as_ptr();
        buffers.truncate(1);
        assert_eq!(kept(), KEPT_MAX);
        for _ in 0..KEPT_MAX {
            mem::forget(pool.take());
        }
        buffers.clear();
        let again = pool.with_len(KEPT_BYTES_MIN);
        assert_eq!((again.as_ptr(), again[7]), (address, 9));
    }
}
