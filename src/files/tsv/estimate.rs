//! How much memory a load will need, from the size of the input and a few samples of it. Knows rows, and the overhead of
//! an entry as a figure.

use memchr::{memchr, memchr_iter, memrchr};

/// Places that are sampled, evenly spread, and bytes that are read at each.
const SAMPLES: usize = 16;
const SAMPLE: usize = 64 << 10;

/// Bytes of an entry beyond its key and its value: 9.5 B after a load of 10 M rows, and the slack of a growing arena.
const ENTRY: u64 = 11;
/// An index that is about to double, tails of chunks, buffers: a load's peak over what it leaves, in percent.
const PEAK_PERCENT: u64 = 110;

/// Bytes that the rows of `input` will take if each has a key of its own. Repeated keys need less.
pub(super) fn memory_needed(input: &[u8]) -> u64 {
    let rows = rows(input);
    let delimiters = 2 * rows;
    let stored = (input.len() as u64).saturating_sub(delimiters) + rows * ENTRY;
    stored / 100 * PEAK_PERCENT
}

/// About how many rows `input` has: exact where the samples cover it.
pub(super) fn rows(input: &[u8]) -> u64 {
    if input.len() <= SAMPLES * SAMPLE {
        return memchr_iter(b'\n', input).count() as u64
            + u64::from(input.last().is_some_and(|&last| last != b'\n'));
    }
    let stride = (input.len() - SAMPLE) / (SAMPLES - 1);
    let (mut rows, mut bytes) = (0u64, 0u64);
    for index in 0..SAMPLES {
        let sample = &input[index * stride..][..SAMPLE];
        // From after the first newline to after the last one: whole rows.
        match (memchr(b'\n', sample), memrchr(b'\n', sample)) {
            (Some(first), Some(last)) if first < last => {
                rows += memchr_iter(b'\n', &sample[first + 1..=last]).count() as u64;
                bytes += (last - first) as u64;
            }
            _ => bytes += SAMPLE as u64,
        }
    }
    (input.len() as u128 * u128::from(rows) / u128::from(bytes)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_small_inputs_are_counted_exactly() {
        for (input, expected) in [
            (&b""[..], 0),
            (b"a\tb", 1),
            (b"a\tb\n", 1),
            (b"a\tb\nc\t", 2),
        ] {
            assert_eq!(rows(input), expected);
        }
    }

    #[test]
    fn rows_of_large_inputs_are_estimated_within_two_percent() {
        let mut input = Vec::new();
        let mut exact = 0u64;
        while input.len() < 8 << 20 {
            let value = "v".repeat((exact * 7919 % 90) as usize);
            input.extend_from_slice(format!("{exact:016}\t{value}\n").as_bytes());
            exact += 1;
        }
        let estimated = rows(&input) as f64;
        assert!(
            (estimated / exact as f64 - 1.0).abs() < 0.02,
            "{estimated} of {exact}"
        );
    }

    #[test]
    fn one_long_row_is_estimated_by_its_bytes() {
        let mut input = b"key\t".to_vec();
        input.resize(3 << 20, b'v');
        assert_eq!(rows(&input), 0);
        assert!(memory_needed(&input) >= input.len() as u64);
    }
}
