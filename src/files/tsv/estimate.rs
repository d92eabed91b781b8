//! What a load will be like, from a few samples of its input: how many rows, whether keys repeat, how much memory. Knows
//! rows, and the overhead of an entry as a figure.

use std::hash::{DefaultHasher, Hasher};

use memchr::{memchr, memchr_iter, memrchr};

use super::scan;

/// Places that are sampled, evenly spread, and bytes that are read at each.
const SAMPLES: usize = 32;
const SAMPLE: usize = 32 << 10;

/// Bytes of an entry beyond its key and its value: 9.5 B after a load of 10 M rows, and the slack of a growing arena.
const ENTRY: u64 = 11;
/// An index that is about to double, tails of chunks, buffers: a load's peak over what it leaves, in percent.
const PEAK_PERCENT: u64 = 110;

/// What the samples say.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    /// About how many rows there are: exact where the samples cover the input.
    pub(super) rows: u64,
    /// About the share of the rows whose key another row has, or that `known` knows.
    pub(super) repeats: f64,
    bytes: u64,
}

impl Sample {
    /// Samples `input`; `known` says whether a key was there before.
    pub(super) fn of(input: &[u8], mut known: impl FnMut(&[u8]) -> bool) -> Sample {
        let windows = windows(input);
        let (mut rows, mut bytes, mut old) = (0u64, 0u64, 0u64);
        let mut keys: Vec<(u64, usize)> = Vec::new();
        for (number, window) in windows.iter().enumerate() {
            rows += memchr_iter(b'\n', window).count() as u64;
            rows += u64::from(window.last().is_some_and(|&last| last != b'\n'));
            bytes += window.len().max(1) as u64;
            // A bad row ends the sample of its window; the load will find it.
            let _ = scan::rows(window, |key, _| {
                let mut hasher = DefaultHasher::new();
                hasher.write(key);
                keys.push((hasher.finish(), number));
                if keys.len() % 16 == 1 {
                    old += u64::from(known(key));
                }
                Ok::<(), ()>(())
            });
        }
        if windows.len() > 1 {
            rows = (input.len() as u128 * u128::from(rows) / u128::from(bytes)) as u64;
        }
        let looked_up = keys.len().div_ceil(16).max(1);
        let repeats = repeats(&mut keys, rows).max(old as f64 / looked_up as f64);
        let bytes = input.len() as u64;
        Sample {
            rows,
            repeats,
            bytes,
        }
    }

    /// Bytes that the rows will take if each has a key of its own. Repeated keys need less.
    pub(super) fn memory_needed(&self) -> u64 {
        let stored = self.bytes.saturating_sub(2 * self.rows) + self.rows * ENTRY;
        stored / 100 * PEAK_PERCENT
    }
}

/// The whole rows of each place that is sampled; all of a small input. A place without a whole row counts as one long one.
fn windows(input: &[u8]) -> Vec<&[u8]> {
    if input.len() <= SAMPLES * SAMPLE {
        return vec![input];
    }
    let stride = (input.len() - SAMPLE) / (SAMPLES - 1);
    let window = |number: usize| {
        let place = &input[number * stride..][..SAMPLE];
        match (memchr(b'\n', place), memrchr(b'\n', place)) {
            (Some(first), Some(last)) if first < last => &place[first + 1..=last],
            _ => place,
        }
    };
    (0..SAMPLES).map(window).collect()
}

/// The share of `rows` rows whose key is also that of another, from the hashes of some keys and where they were found. Rows
/// far apart stand for all pairs of rows; rows of one place for their neighbours only.
fn repeats(keys: &mut [(u64, usize)], rows: u64) -> f64 {
    keys.sort_unstable();
    let pairs = |count: usize| count as f64 * (count as f64 - 1.0) / 2.0;
    let (mut same, mut near) = (0.0, 0usize);
    let mut in_window = [0usize; SAMPLES];
    for group in keys.chunk_by(|a, b| a.0 == b.0) {
        same += pairs(group.len());
        for window in group.chunk_by(|a, b| a.1 == b.1) {
            same -= pairs(window.len());
            near += window.len() - 1;
        }
    }
    keys.iter().for_each(|&(_, window)| in_window[window] += 1);
    let possible = pairs(keys.len()) - in_window.iter().map(|&count| pairs(count)).sum::<f64>();
    // How many other rows share a row's key, on average.
    let others = if possible > 0.0 {
        same / possible * rows as f64
    } else {
        0.0
    };
    let near = near as f64 / keys.len().max(1) as f64;
    near.max(others / (1.0 + others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(input: &[u8]) -> Sample {
        Sample::of(input, |_| false)
    }

    fn numbered(rows: u64, key: impl Fn(u64) -> u64) -> Vec<u8> {
        (0..rows)
            .flat_map(|row| format!("{:016}\tvalue {row:020}\n", key(row)).into_bytes())
            .collect()
    }

    #[test]
    fn rows_of_small_inputs_are_counted_exactly() {
        for (input, expected) in [
            (&b""[..], 0),
            (b"a\tb", 1),
            (b"a\tb\n", 1),
            (b"a\tb\nc\t", 2),
        ] {
            assert_eq!(sample(input).rows, expected);
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
        let estimated = sample(&input).rows as f64;
        assert!(
            (estimated / exact as f64 - 1.0).abs() < 0.02,
            "{estimated} of {exact}"
        );
    }

    #[test]
    fn one_long_row_is_estimated_by_its_bytes() {
        let mut input = b"key\t".to_vec();
        input.resize(3 << 20, b'v');
        let sample = sample(&input);
        assert!(sample.rows < 200, "{sample:?}");
        assert!(sample.memory_needed() >= input.len() as u64);
    }

    #[test]
    fn repeated_keys_are_noticed_wherever_they_are() {
        let rows = 200_000;
        assert_eq!(sample(&numbered(rows, |row| row)).repeats, 0.0);
        let scattered = sample(&numbered(rows, |row| row.wrapping_mul(7_919) % (rows / 10)));
        assert!(scattered.repeats > 0.6, "{scattered:?}");
        let neighbours = sample(&numbered(rows, |row| row / 2));
        assert!(neighbours.repeats > 0.4, "{neighbours:?}");
        let halves = sample(&numbered(rows, |row| (row % (rows / 2)).wrapping_mul(31)));
        assert!(halves.repeats > 0.2, "{halves:?}");
        let known = Sample::of(&numbered(rows, |row| row), |_| true);
        assert_eq!(known.repeats, 1.0);
    }
}
