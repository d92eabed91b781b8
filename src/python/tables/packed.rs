//! `PackedKeys`: the bytes of many keys in one piece of memory, for engines that take them so.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::tables::prefetch;

/// Encoded keys, one after the other.
#[pyclass(frozen, module = "atbr._core")]
pub struct PackedKeys {
    data: Vec<u8>,
    ends: Vec<usize>,
}

#[pymethods]
impl PackedKeys {
    fn __len__(&self) -> usize {
        self.len()
    }

    /// Return the keys one by one.
    fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys: Vec<_> = self.iter().map(|key| PyBytes::new(py, key)).collect();
        PyList::new(py, keys)
    }

    /// Cut the keys into parts of at most `count`.
    fn cut<'py>(this: &Bound<'py, Self>, count: usize) -> PyResult<Vec<Bound<'py, Self>>> {
        let keys = this.get();
        if keys.ends.len() <= count || count == 0 {
            return Ok(vec![this.clone()]);
        }
        let parts = (0..keys.ends.len()).step_by(count).map(|from| {
            let slices = keys.slices(from, count);
            let mut at = 0;
            let ends = slices.iter().map(|key| {
                at += key.len();
                at
            });
            let ends = ends.collect();
            Bound::new(this.py(), PackedKeys::new(slices.concat(), ends))
        });
        parts.collect()
    }
}

impl PackedKeys {
    pub fn new(data: Vec<u8>, ends: Vec<usize>) -> Self {
        PackedKeys { data, ends }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The keys in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.from(0)
    }

    /// The keys from `from` on, `count` of them at most.
    pub fn slices(&self, from: usize, count: usize) -> Vec<&[u8]> {
        self.from(from).take(count).collect()
    }

    fn from(&self, from: usize) -> impl Iterator<Item = &[u8]> {
        let mut start = from.checked_sub(1).map_or(0, |last| self.ends[last]);
        let ends = self.ends.get(from..).unwrap_or_default();
        ends.iter().map(move |&end| {
            let slice = &self.data[start..end];
            start = end;
            slice
        })
    }
}

/// Asks for the parts of a tuple that will be read soon: objects of a program's own are scattered in memory, and are
/// waited for together this way.
#[inline]
pub fn fetch_parts(key: &Bound<'_, PyAny>) {
    if let Ok(tuple) = key.cast_exact::<PyTuple>() {
        tuple
            .as_slice()
            .iter()
            .for_each(|part| prefetch(part.as_ptr()));
    }
}
