//! What was evicted lately: fingerprints of keys, in the manner of S3-FIFO's ghost queue. Six of ten bits share a word, each word a
//! queue of its own, so that an entry costs 1.2 bytes. A key is taken for another in one of some 170 questions.

use crate::Result;
use crate::engine::table::try_reserve_exact;

const FINGERPRINT_BITS: u32 = 10;
const IN_A_WORD: u64 = 6;
const FINGERPRINT: u64 = (1 << FINGERPRINT_BITS) - 1;
const WORD: u64 = (1 << (FINGERPRINT_BITS * IN_A_WORD as u32)) - 1;

/// Keys that were evicted lately, by their order hashes.
#[derive(Default)]
pub(super) struct Ghost(Vec<u64>);

impl Ghost {
    /// Makes room for nine tenths of so many entries; fewer than entries in the main queue, so that a loop over more keys than
    /// fit does not go round faster than the hand. What it knows stays.
    pub(super) fn grow(&mut self, entries: u64) -> Result<()> {
        let wanted = (entries * 9 / 10).div_ceil(IN_A_WORD).max(1) as usize;
        if self.0.is_empty() {
            try_reserve_exact(&mut self.0, wanted)?;
            self.0.resize(wanted, 0);
        }
        while self.0.len() * 2 <= wanted {
            let mut doubled = Vec::new();
            try_reserve_exact(&mut doubled, self.0.len() * 2)?;
            // By the share of the hash, a word's keys are now in either of its two heirs.
            doubled.extend(self.0.iter().flat_map(|&word| [word, word]));
            self.0 = doubled;
        }
        Ok(())
    }

    fn place(&self, order: u32) -> (usize, u64) {
        let word = (u64::from(order) * self.0.len() as u64) >> 32;
        // 0 stands for nothing.
        (word as usize, (u64::from(order) & FINGERPRINT).max(1))
    }

    /// Remembers a key in the place of the oldest one of its word.
    pub(super) fn put(&mut self, order: u32) {
        let (at, fingerprint) = self.place(order);
        if let Some(word) = self.0.get_mut(at) {
            *word = (*word << FINGERPRINT_BITS | fingerprint) & WORD;
        }
    }

    /// Whether a key was evicted lately.
    pub(super) fn has(&self, order: u32) -> bool {
        let (at, fingerprint) = self.place(order);
        self.0.get(at).is_some_and(|&word| {
            (0..IN_A_WORD as u32)
                .any(|lane| word >> (lane * FINGERPRINT_BITS) & FINGERPRINT == fingerprint)
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(i: u32) -> u32 {
        i.wrapping_mul(0x9E37_79B1)
    }

    #[test]
    fn the_latest_keys_are_known_and_most_others_are_not() {
        let mut ghost = Ghost::default();
        assert!(!ghost.has(hash(1)));
        ghost.grow(10_000).unwrap();
        (0..9_000).for_each(|i| ghost.put(hash(i)));
        assert!(ghost.has(hash(8_999)));
        let known = (0..9_000).filter(|&i| ghost.has(hash(i))).count();
        assert!(known > 7_500, "{known} of 9000 are known");
        let mistaken = (100_000..200_000).filter(|&i| ghost.has(hash(i))).count();
        assert!(
            mistaken < 1_000,
            "{mistaken} of 100000 are taken for others"
        );
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut ghost = Ghost::default();
        ghost.grow(100).unwrap();
        let all: Vec<u32> = (0..90).map(hash).collect();
        all.iter().for_each(|&order| ghost.put(order));
        let known: Vec<u32> = all.iter().copied().filter(|&o| ghost.has(o)).collect();
        ghost.grow(1_000).unwrap();
        assert!(known.iter().all(|&order| ghost.has(order)));
    }
}
