//! Splits bytes into rows: key, first tab, value, newline. Knows neither files nor stores.
//!
//! Three ways that agree on every input: AVX2, which looks for both delimiters in 64 bytes at once, the portable way by
//! the memchr crate, and in the tests a naive one.

use memchr::{memchr, memchr2};

/// Why a scan stopped early. `offset` is where the row at fault begins.
#[derive(Debug, PartialEq)]
pub(super) enum Stop<E> {
    /// The row has no tab.
    NoTab { offset: usize },
    /// The sink refused the row.
    Refused { offset: usize, error: E },
}

impl<E> Stop<E> {
    /// Where the row at fault begins.
    pub(super) fn offset(&self) -> usize {
        match self {
            Stop::NoTab { offset } | Stop::Refused { offset, .. } => *offset,
        }
    }

    /// The same, of a scan whose block begins `start` bytes further on.
    pub(super) fn after(mut self, start: usize) -> Self {
        match &mut self {
            Stop::NoTab { offset } | Stop::Refused { offset, .. } => *offset += start,
        }
        self
    }
}

/// Calls `sink` with the key and the value of each row of `block`, in order. A last row without a newline counts.
#[inline]
pub(super) fn rows<E>(
    block: &[u8],
    sink: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
        // SAFETY: the processor has both features.
        return unsafe { avx2::rows(block, sink) };
    }
    portable(block, sink)
}

/// The way of every processor.
fn portable<E>(
    block: &[u8],
    mut sink: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let mut offset = 0;
    while offset < block.len() {
        let rest = &block[offset..];
        let tab = match memchr2(b'\t', b'\n', rest) {
            Some(at) if rest[at] == b'\t' => at,
            _ => return Err(Stop::NoTab { offset }),
        };
        let value = &rest[tab + 1..];
        let length = memchr(b'\n', value).unwrap_or(value.len());
        sink(&rest[..tab], &value[..length]).map_err(|error| Stop::Refused { offset, error })?;
        offset += tab + 1 + length + 1;
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8,
    };

    use super::Stop;

    /// One bit a byte, set where the byte is the one sought.
    struct Masks {
        tabs: u64,
        newlines: u64,
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn masks(chunk: &[u8; 64]) -> Masks {
        let (low, high) = chunk.split_at(32);
        // SAFETY: each half is 32 bytes long, and the load asks for no alignment.
        let (low, high) = unsafe {
            (
                _mm256_loadu_si256(low.as_ptr().cast::<__m256i>()),
                _mm256_loadu_si256(high.as_ptr().cast::<__m256i>()),
            )
        };
        let equal = |byte: u8| {
            let wanted = _mm256_set1_epi8(byte as i8);
            let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted)) as u32;
            let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted)) as u32;
            u64::from(low) | u64::from(high) << 32
        };
        Masks {
            tabs: equal(b'\t'),
            newlines: equal(b'\n'),
        }
    }

    /// Where the scan stands between two chunks: the row that is open, and its tab if that has been met.
    struct Open {
        row: usize,
        tab: Option<usize>,
    }

    #[target_feature(enable = "avx2,bmi1")]
    pub(super) fn rows<E>(
        block: &[u8],
        mut sink: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let mut open = Open { row: 0, tab: None };
        let (chunks, tail) = block.as_chunks::<64>();
        for (index, chunk) in chunks.iter().enumerate() {
            close_rows(block, index * 64, masks(chunk), &mut open, &mut sink)?;
        }
        if !tail.is_empty() {
            let mut padded = [0; 64];
            padded[..tail.len()].copy_from_slice(tail);
            let base = block.len() - tail.len();
            close_rows(block, base, masks(&padded), &mut open, &mut sink)?;
        }
        if open.row < block.len() {
            finish_row(block, &open, block.len(), &mut sink)?;
        }
        Ok(())
    }

    /// Hands out the rows that end in the 64 bytes at `base`.
    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn close_rows<E>(
        block: &[u8],
        base: usize,
        masks: Masks,
        open: &mut Open,
        sink: &mut impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let Masks {
            mut tabs,
            mut newlines,
        } = masks;
        while newlines != 0 {
            let up_to_newline = newlines ^ (newlines - 1);
            if open.tab.is_none() && tabs & up_to_newline != 0 {
                open.tab = Some(base + tabs.trailing_zeros() as usize);
            }
            let end = base + newlines.trailing_zeros() as usize;
            finish_row(block, open, end, sink)?;
            *open = Open {
                row: end + 1,
                tab: None,
            };
            tabs &= !up_to_newline;
            newlines &= newlines - 1;
        }
        if open.tab.is_none() && tabs != 0 {
            open.tab = Some(base + tabs.trailing_zeros() as usize);
        }
        Ok(())
    }

    #[inline]
    fn finish_row<E>(
        block: &[u8],
        open: &Open,
        end: usize,
        sink: &mut impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let offset = open.row;
        let Some(tab) = open.tab else {
            return Err(Stop::NoTab { offset });
        };
        sink(&block[offset..tab], &block[tab + 1..end])
            .map_err(|error| Stop::Refused { offset, error })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    /// The rows before the first one without a tab, and where that begins.
    fn naive(block: &[u8]) -> (Rows, Option<usize>) {
        let mut rows = Vec::new();
        let mut offset = 0;
        let mut lines: Vec<&[u8]> = block.split(|&byte| byte == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        for line in lines {
            let Some(tab) = line.iter().position(|&byte| byte == b'\t') else {
                return (rows, Some(offset));
            };
            rows.push((line[..tab].to_vec(), line[tab + 1..].to_vec()));
            offset += line.len() + 1;
        }
        (rows, None)
    }

    fn collect(
        scan: impl FnOnce(&[u8], &mut dyn FnMut(&[u8], &[u8]) -> Result<(), ()>) -> Result<(), Stop<()>>,
        block: &[u8],
    ) -> (Rows, Option<usize>) {
        let mut rows = Vec::new();
        let mut sink = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        let bad = match scan(block, &mut sink) {
            Ok(()) => None,
            Err(Stop::NoTab { offset }) => Some(offset),
            Err(Stop::Refused { .. }) => unreachable!("the sink takes every row"),
        };
        (rows, bad)
    }

    fn all_ways_agree(block: &[u8]) {
        let expected = naive(block);
        assert_eq!(collect(|b, s| portable(b, s), block), expected);
        assert_eq!(collect(|b, s| rows(b, s), block), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_way_finds_the_rows_of_the_naive_one(block in vec(prop_oneof![
            3 => Just(b'\t'), 2 => Just(b'\n'), 4 => any::<u8>(), 1 => Just(b'\r')
        ], 0..400)) {
            all_ways_agree(&block);
        }

        #[test]
        fn every_way_finds_well_formed_rows(
            lines in vec(("[^\t\n]{0,90}", "[^\n]{0,200}"), 0..20), ends in any::<bool>()
        ) {
            let mut block = lines.iter().map(|(k, v)| format!("{k}\t{v}\n")).collect::<String>();
            if !ends {
                block.pop();
            }
            all_ways_agree(block.as_bytes());
        }
    }

    #[test]
    fn delimiters_at_every_offset_of_a_chunk_are_found() {
        for key in 0..130 {
            for value in [0, 1, 31, 32, 63, 64, 65, 127, 128, 129] {
                let row = [vec![b'k'; key], vec![b'\t'], vec![b'v'; value], vec![b'\n']].concat();
                all_ways_agree(&row.repeat(3));
                all_ways_agree(&[row.clone(), vec![b'x'; value + 1], vec![b'\n'], row].concat());
            }
        }
    }

    #[test]
    fn refused_row_ends_the_scan_at_its_first_byte() {
        let block = b"a\t1\nbb\t22\nccc\t333\n";
        for scan in [0, 1] {
            let mut seen = 0;
            let sink = |key: &[u8], _: &[u8]| {
                seen += 1;
                if key == b"bb" { Err("no") } else { Ok(()) }
            };
            let stop = if scan == 0 {
                rows(block, sink)
            } else {
                portable(block, sink)
            };
            assert_eq!(
                stop,
                Err(Stop::Refused {
                    offset: 4,
                    error: "no"
                })
            );
            assert_eq!(seen, 2);
        }
    }
}
