//! Choices that a seed repeats.

/// A seed for a test that chooses: the environment's, or a new one. Whoever asks prints it.
#[must_use]
pub fn seed(variable: &str) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| {
            panic!("{variable}={text:?} is not a seed, which is a number: {error}")
        }),
        Err(_) => std::process::id().into(),
    }
}

/// An endless row of choices: the same for the same seed and name.
pub struct Dice(blake3::OutputReader);

impl Dice {
    /// The choices of `name`; those of other names have nothing to do with them.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_be_bytes()).update(name.as_bytes());
        Self(hasher.finalize_xof())
    }

    /// A number below `end`, which is not zero. The bias of the remainder is below 2^-32 for what
    /// tests choose among.
    pub fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_be_bytes(bytes) % end
    }

    /// Yes in one of `n` cases.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// An index into what has `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}
