//! Algorithm 1 of the S3-FIFO paper, transcribed line by line, for the tests: objects of one size,
//! two queues and a ghost, nothing of ours. Where the paper leaves a choice, it is the one of our
//! design: a ghost queue of four times the objects that are cached.

use std::collections::VecDeque;

pub(super) struct Paper {
    size: usize,
    s: VecDeque<(u64, u8)>,
    m: VecDeque<(u64, u8)>,
    g: VecDeque<u64>,
}

impl Paper {
    pub(super) fn new(size: usize) -> Self {
        let (s, m, g) = Default::default();
        Self { size, s, m, g }
    }

    /// `READ(x)`; `true` for a hit.
    pub(super) fn read(&mut self, x: u64) -> bool {
        let mut cached = self.s.iter_mut().chain(&mut self.m);
        if let Some((_, freq)) = cached.find(|(it, _)| *it == x) {
            *freq = (*freq + 1).min(3);
            return true;
        }
        self.insert(x);
        false
    }

    /// Heads of the queues first.
    pub(super) fn queues(&self) -> (Vec<u64>, Vec<u64>) {
        let names = |queue: &VecDeque<(u64, u8)>| queue.iter().map(|it| it.0).collect();
        (names(&self.s), names(&self.m))
    }

    fn insert(&mut self, x: u64) {
        while self.s.len() + self.m.len() >= self.size {
            self.evict();
        }
        if let Some(at) = self.g.iter().position(|it| *it == x) {
            self.g.remove(at);
            self.m.push_front((x, 0));
        } else {
            self.s.push_front((x, 0));
        }
    }

    fn evict(&mut self) {
        if self.s.len() * 10 >= self.size {
            self.evict_s();
        } else {
            self.evict_m();
        }
    }

    fn evict_s(&mut self) {
        let mut evicted = false;
        while !evicted && !self.s.is_empty() {
            let Some((t, freq)) = self.s.pop_back() else {
                return;
            };
            if freq > 1 {
                self.m.push_front((t, freq));
                if self.m.len() * 10 > self.size * 9 {
                    self.evict_m();
                }
            } else {
                self.g.push_front(t);
                let most = 4 * (self.s.len() + self.m.len());
                self.g.truncate(most.max(1));
                evicted = true;
            }
        }
    }

    fn evict_m(&mut self) {
        let mut evicted = false;
        while !evicted && !self.m.is_empty() {
            let Some((t, freq)) = self.m.pop_back() else {
                return;
            };
            if freq > 0 {
                self.m.push_front((t, freq - 1));
            } else {
                evicted = true;
            }
        }
    }
}
