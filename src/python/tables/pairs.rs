//! Lists of (key, value), both bytes, before they go to an engine: in order, each key once, and cut into requests.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

/// The bytes of a pair.
fn slices<'a>(pair: &'a Bound<'_, PyAny>) -> PyResult<(&'a [u8], &'a [u8])> {
    match pair.cast::<PyTuple>()?.as_slice() {
        [key, value] => Ok((
            key.cast::<PyBytes>()?.as_bytes(),
            value.cast::<PyBytes>()?.as_bytes(),
        )),
        _ => Err(PyTypeError::new_err("a pair must be (key, value)")),
    }
}

/// Return pairs in the order of their keys, of equal keys the last one. O(n log n); O(n) if they are so already.
#[pyfunction]
pub fn sorted_pairs<'py>(pairs: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    let tuple = pairs.to_tuple();
    let all = tuple.as_slice();
    let mut keys = Vec::with_capacity(all.len());
    for pair in all {
        let (key, _) = slices(pair)?;
        // Most comparisons end with the first bytes, which lie next to each other here.
        keys.push((head_of(key), key, keys.len()));
    }
    if keys.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)) {
        return Ok(pairs.clone());
    }
    keys.sort_unstable();
    let last_of_equal = keys
        .iter()
        .zip(keys.iter().skip(1).map(Some).chain([None]))
        .filter(|(this, next)| next.is_none_or(|next| next.1 != this.1));
    let chosen: Vec<_> = last_of_equal.map(|(this, _)| &all[this.2]).collect();
    PyList::new(pairs.py(), chosen)
}

fn head_of(key: &[u8]) -> u64 {
    if let Some(head) = key.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(head)
}

/// Cut pairs into lists of at most `rows` pairs and `size` bytes, or one pair if that is longer. O(n).
#[pyfunction]
pub fn cut_pairs<'py>(
    pairs: &Bound<'py, PyList>,
    rows: usize,
    size: usize,
) -> PyResult<Vec<Bound<'py, PyList>>> {
    let (mut cuts, mut held) = (vec![0], 0_usize);
    for (index, pair) in pairs.iter().enumerate() {
        let (key, value) = slices(&pair)?;
        let len = key.len() + value.len();
        let start = cuts.last().copied().unwrap_or_default();
        if index > start && (index - start == rows || held.saturating_add(len) > size) {
            cuts.push(index);
            held = 0;
        }
        held = held.saturating_add(len);
    }
    if let ([0], false) = (&cuts[..], pairs.is_empty()) {
        return Ok(vec![pairs.clone()]);
    }
    cuts.push(pairs.len());
    let parts = cuts.windows(2).filter(|ends| ends[0] < ends[1]);
    Ok(parts
        .map(|ends| pairs.get_slice(ends[0], ends[1]))
        .collect())
}
