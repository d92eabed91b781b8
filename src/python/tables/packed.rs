//! `PackedKeys`: the bytes of many keys in one piece of memory, for an engine that lives in this process.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Encoded keys, one after the other.
#[pyclass(frozen, module = "atbr._core")]
pub struct PackedKeys {
    data: Vec<u8>,
    ends: Vec<usize>,
}

#[pymethods]
impl PackedKeys {
    fn __len__(&self) -> usize {
        self.ends.len()
    }
}

impl PackedKeys {
    pub fn new(data: Vec<u8>, ends: Vec<usize>) -> Self {
        PackedKeys { data, ends }
    }

    /// The keys from `from` on, `count` of them at most.
    pub fn slices(&self, from: usize, count: usize) -> Vec<&[u8]> {
        let to = self.ends.len().min(from + count);
        let mut start = from.checked_sub(1).map_or(0, |last| self.ends[last]);
        let ends = self.ends.get(from..to).unwrap_or_default();
        let cut = |&end: &usize| {
            let slice = &self.data[start..end];
            start = end;
            slice
        };
        ends.iter().map(cut).collect()
    }
}

/// Asks for the parts of a key that will be encoded soon: keys of a program's own are scattered in memory, and their
/// parts are waited for together this way. Does nothing on processors without such a hint.
#[inline]
pub fn fetch(key: &Bound<'_, PyAny>) {
    #[cfg(target_arch = "x86_64")]
    if let Ok(tuple) = key.cast_exact::<PyTuple>() {
        for part in tuple.as_slice() {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint, whatever the address; that of an object is valid anyway.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = key;
}
