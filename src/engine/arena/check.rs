//! Reads an arena from end to end, for tests.

use super::*;

impl Arena {
    /// Reads every chunk from its start and fails where the counts are wrong; returns the offsets of live records.
    pub(crate) fn check(&self) -> Vec<u32> {
        let mut live = Vec::new();
        let (mut used_bytes, mut dead_bytes) = (0, 0);
        for (number, meta) in self.meta.iter().enumerate() {
            let (mut position, mut dead) = (0, 0);
            while position < usize::from(meta.used) {
                let offset = (number << CHUNK_BITS | position) as u32;
                position += match self.parse(offset) {
                    Parsed::Live(record) => {
                        live.push(offset);
                        record.len
                    }
                    Parsed::Dead { len } => {
                        dead += len;
                        len
                    }
                };
            }
            assert_eq!(position, usize::from(meta.used), "chunk {number}");
            assert_eq!(dead, usize::from(meta.dead), "chunk {number}");
            used_bytes += position as u32;
            dead_bytes += dead as u32;
        }
        assert_eq!((used_bytes, dead_bytes), (self.used_bytes, self.dead_bytes));
        let mut numbers = [&self.open[..], &self.free_numbers].concat();
        numbers.extend(&self.pinned);
        numbers.sort_unstable();
        assert!(
            numbers.windows(2).all(|pair| pair[0] != pair[1]),
            "{numbers:?}"
        );
        live
    }
}
