//! Whether the rows of an input will mostly be new keys, from samples of it: a load may then take larger rounds,
//! because little of what it writes will be replaced. Knows rows and the store's `contains`.

use rapidhash::v3::rapidhash_v3;

use super::scan;
use crate::engine::{Store, Wait};
use crate::{Error, Result};

/// Places that are sampled, one at random in each stretch of the input, and bytes that are read at each.
const SAMPLES: usize = 1024;
const SAMPLE: usize = 16 << 10;
/// Of the keys, chosen by their hash, those that are compared.
const ONE_IN: u64 = 4;
/// Of those, the ones that are looked up in the store.
const LOOKED_UP_ONE_IN: usize = 16;
/// A share of replaced rows that is worth smaller rounds.
const MANY: f64 = 0.2;

/// Whether fewer than a fifth of the rows seem to repeat a key of another row or of the store. Rows longer than a
/// sample count as repeats: they are few, so that small rounds cost little.
///
/// Of rows whose keys stand `m` times each in the input, evenly spread, a sample of a fraction `f` holds about
/// `(m - 1) f / 2` repeats a row, so the repeats found are scaled up by `2 / f`. O(1): 16 MiB are read at most.
pub(super) fn mostly_new(store: &Store, input: &[u8]) -> bool {
    let mut hashes = Vec::new();
    let (mut looked_up, mut known, mut sampled) = (0u32, 0u32, 0);
    let stretch = input.len() / SAMPLES;
    let places = if stretch <= SAMPLE { 1 } else { SAMPLES };
    for place in 0..places {
        let sample = if places == 1 {
            &input[..input.len().min(SAMPLES * SAMPLE)]
        } else {
            // Not at equal distances, at which an input may repeat itself.
            let jitter = rapidhash_v3(&place.to_ne_bytes()) as usize % (stretch - SAMPLE);
            &input[place * stretch + jitter..][..SAMPLE]
        };
        let Some(rows) = whole_rows(sample, places == 1) else {
            continue;
        };
        sampled += rows.len();
        // A bad row ends its sample, as does a want of memory; the load itself will say so.
        let _ = scan::rows(rows, |key, _| -> Result<()> {
            let hash = rapidhash_v3(key);
            if hash.is_multiple_of(ONE_IN) {
                if hashes.len().is_multiple_of(LOOKED_UP_ONE_IN) && !store.is_empty() {
                    looked_up += 1;
                    known += u32::from(store.contains(key, Wait::Block)?);
                }
                hashes.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
                hashes.push(hash);
            }
            Ok(())
        });
    }
    let rows = hashes.len();
    if rows == 0 {
        return false;
    }
    hashes.sort_unstable();
    hashes.dedup();
    let repeats = (rows - hashes.len()) as f64 / rows as f64;
    let fraction = sampled as f64 / input.len() as f64;
    let scale = if fraction > 0.5 { 1.0 } else { 2.0 / fraction };
    repeats * scale + f64::from(known) / f64::from(looked_up.max(1)) < MANY
}

/// From after the first newline, unless the sample starts a row, to after the last one.
fn whole_rows(sample: &[u8], starts_row: bool) -> Option<&[u8]> {
    let first = if starts_row {
        0
    } else {
        memchr::memchr(b'\n', sample)? + 1
    };
    let last = memchr::memrchr(b'\n', sample)? + 1;
    (first < last).then(|| &sample[first..last])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Options;

    fn rows(count: usize, keys: usize) -> Vec<u8> {
        let mut input = Vec::new();
        for i in 0..count {
            let key = i * 7919 % keys;
            input.extend_from_slice(
                format!("{key:016}\tvalue of thirty-two bytes or so\n").as_bytes(),
            );
        }
        input
    }

    #[test]
    fn keys_that_repeat_anywhere_are_noticed() {
        let store = Store::new(&Options::default()).unwrap();
        for count in [1_000, 100_000, 1_000_000] {
            assert!(
                mostly_new(&store, &rows(count, count)),
                "{count} keys of their own"
            );
            for times in [2, 10] {
                let input = rows(count, count / times);
                assert!(
                    !mostly_new(&store, &input),
                    "{count} rows, each key {times} times"
                );
            }
        }
    }

    #[test]
    fn keys_of_the_store_are_noticed() {
        let store = Store::new(&Options::default()).unwrap();
        for i in 0..2000 {
            store
                .set(format!("{i:016}").as_bytes(), b"", Wait::Block)
                .unwrap();
        }
        assert!(!mostly_new(&store, &rows(2000, 2000)));
        assert!(mostly_new(&store, &rows(20_000, 20_000)));
    }

    #[test]
    fn inputs_without_a_row_in_the_samples_count_as_repeats() {
        let store = Store::new(&Options::default()).unwrap();
        for input in [&b""[..], b"no tab\n"] {
            assert!(!mostly_new(&store, input));
        }
    }
}
