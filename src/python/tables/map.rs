//! `LocalMap`: the ordered map of one local table, as bytes. Batches and scans run with the GIL released.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::codec::KeyCodec;
use super::decode;
use super::packed::PackedKeys;
use crate::python::errors::raise;
use crate::python::gil;
use crate::tables::map::{Bounds, Interval, OrderedMap, Page, Write};
use crate::{Error, Result};

/// Keys or pairs handled under one lock: well under a millisecond.
const CHUNK: usize = 1_024;

/// An ordered map of bytes.
#[pyclass(frozen, module = "atbr._core")]
pub struct LocalMap {
    map: OrderedMap,
}

#[pymethods]
impl LocalMap {
    #[new]
    fn new() -> Self {
        LocalMap {
            map: OrderedMap::new(),
        }
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        gil::detach(py, || self.map.len())
    }

    fn __sizeof__(&self, py: Python<'_>) -> usize {
        size_of::<Self>() + gil::detach(py, || self.map.figures().allocated)
    }

    /// Return the value of each key, or None.
    fn get_many<'py>(&self, keys: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let py = keys.py();
        let keys = keys.to_tuple();
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.as_slice().chunks(CHUNK) {
            let slices = slices_of(chunk)?;
            self.look_up(py, &slices, &mut values)?;
        }
        PyList::new(py, values)
    }

    /// Return the value of each packed key, or None.
    fn get_packed<'py>(&self, packed: &Bound<'py, PackedKeys>) -> PyResult<Bound<'py, PyList>> {
        let py = packed.py();
        let packed = packed.get();
        let mut values = Vec::with_capacity(packed.len());
        for from in (0..packed.len()).step_by(CHUNK) {
            self.look_up(py, &packed.slices(from, CHUNK), &mut values)?;
        }
        PyList::new(py, values)
    }

    /// Make all writes, (key, value or None) each, as one step.
    fn write(&self, writes: &Bound<'_, PyList>) -> PyResult<()> {
        let writes = writes.to_tuple();
        let slices = writes_of(writes.as_slice())?;
        gil::detach(writes.py(), || self.map.write(&slices)).map_err(raise)
    }

    /// Store pairs, some at a time.
    fn put_many(&self, pairs: &Bound<'_, PyList>) -> PyResult<()> {
        let pairs = pairs.to_tuple();
        for chunk in pairs.as_slice().chunks(CHUNK) {
            let slices = writes_of(chunk)?;
            gil::detach(pairs.py(), || self.map.write(&slices)).map_err(raise)?;
            pairs.py().check_signals()?;
        }
        Ok(())
    }

    /// Remove keys; return how many were there.
    fn delete_many(&self, keys: &Bound<'_, PyList>) -> PyResult<usize> {
        let keys = keys.to_tuple();
        let mut removed = 0;
        for chunk in keys.as_slice().chunks(CHUNK) {
            let slices = slices_of(chunk)?;
            removed += gil::detach(keys.py(), || self.map.remove_many(&slices));
        }
        Ok(removed)
    }

    /// Return up to `limit` entries from `low` on and below `high`, as (key, value) pairs; values are empty with `keys_only`.
    #[pyo3(signature = (low, high, limit, reverse, keys_only))]
    fn page<'py>(
        &self,
        low: &Bound<'py, PyBytes>,
        high: Option<&Bound<'py, PyBytes>>,
        limit: usize,
        reverse: bool,
        keys_only: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = low.py();
        let bounds = Bounds {
            entries: limit,
            reverse,
            keys_only,
        };
        let page = self.filled(py, interval(low, high), bounds)?;
        let list = PyList::empty(py);
        for (key, value) in page.iter() {
            list.append((PyBytes::new(py, key), PyBytes::new(py, value)))?;
        }
        Ok(list)
    }

    /// Return the entries of a page with their keys decoded, the last key as bytes, and the bytes of all.
    #[pyo3(signature = (codec, low, high, limit, reverse, keys_only))]
    #[allow(clippy::too_many_arguments)]
    fn rows<'py>(
        &self,
        codec: &Bound<'py, KeyCodec>,
        low: &Bound<'py, PyBytes>,
        high: Option<&Bound<'py, PyBytes>>,
        limit: usize,
        reverse: bool,
        keys_only: bool,
    ) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyBytes>, usize)> {
        let py = low.py();
        let bounds = Bounds {
            entries: limit,
            reverse,
            keys_only,
        };
        let page = self.filled(py, interval(low, high), bounds)?;
        let mut parts = Vec::with_capacity(codec.get().width());
        let mut rows: Vec<Bound<'py, PyAny>> = Vec::with_capacity(page.len());
        let (mut last, mut bytes): (&[u8], usize) = (&[], 0);
        for (key, value) in page.iter() {
            let decoded = decode::key(py, key, &mut parts)?.into_any();
            rows.push(if keys_only {
                decoded
            } else {
                PyTuple::new(py, [decoded, PyBytes::new(py, value).into_any()])?.into_any()
            });
            bytes += key.len() + value.len();
            last = key;
        }
        Ok((PyList::new(py, rows)?, PyBytes::new(py, last), bytes))
    }

    /// Return how many entries there are from `low` on and below `high`.
    fn count(&self, low: &Bound<'_, PyBytes>, high: Option<&Bound<'_, PyBytes>>) -> usize {
        let interval = interval(low, high);
        gil::detach(low.py(), || self.map.count(interval))
    }

    /// Remove the entries from `low` on and below `high`; return how many there were.
    fn delete_range(&self, low: &Bound<'_, PyBytes>, high: Option<&Bound<'_, PyBytes>>) -> usize {
        let interval = interval(low, high);
        gil::detach(low.py(), || self.map.remove_range(interval))
    }

    /// Remove every entry.
    fn clear(&self, py: Python<'_>) {
        gil::detach(py, || self.map.clear());
    }

    /// Remove a key; return its value, or None.
    fn pop<'py>(&self, key: &Bound<'py, PyBytes>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let py = key.py();
        let slice = key.as_bytes();
        let value = gil::detach(py, || {
            self.map.modify(slice, |value| match value {
                None => Ok((None, None)),
                Some(value) => Ok((Some(None), Some(value.to_vec()))),
            })
        });
        let value = value.map_err(raise)?;
        Ok(value.map(|value| PyBytes::new(py, &value)))
    }

    /// Store `new`, or remove the key if it is None, only if the value is `expected`; return whether it was.
    fn compare_and_set(
        &self,
        key: &Bound<'_, PyBytes>,
        expected: Option<&Bound<'_, PyBytes>>,
        new: Option<&Bound<'_, PyBytes>>,
    ) -> PyResult<bool> {
        let slice = key.as_bytes();
        let expected = expected.map(|value| value.as_bytes());
        let new = new.map(|value| value.as_bytes());
        gil::detach(key.py(), || {
            self.map.modify(slice, |value| {
                let same = value == expected;
                Ok((same.then(|| new.map(<[u8]>::to_vec)), same))
            })
        })
        .map_err(raise)
    }

    /// Add to the decimal integer of a key, which counts as 0 if it is missing; return the sum.
    fn increment(&self, key: &Bound<'_, PyBytes>, delta: i64) -> PyResult<i64> {
        let slice = key.as_bytes();
        gil::detach(key.py(), || {
            self.map.modify(slice, |value| {
                let before = value.map_or(Ok(0), decimal)?;
                let sum = before.checked_add(delta).ok_or(Error::IntegerOverflow)?;
                Ok((Some(Some(sum.to_string().into_bytes())), sum))
            })
        })
        .map_err(raise)
    }
}

impl LocalMap {
    fn filled(&self, py: Python<'_>, interval: Interval<'_>, bounds: Bounds) -> PyResult<Page> {
        let mut page = Page::default();
        gil::detach(py, || self.map.fill(interval, bounds, &mut page)).map_err(raise)?;
        Ok(page)
    }

    /// Adds the value of every key, or None, to `values`.
    fn look_up<'py>(
        &self,
        py: Python<'py>,
        keys: &[&[u8]],
        values: &mut Vec<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let mut page = Page::default();
        let found = gil::detach(py, || self.map.get_many(keys, &mut page)).map_err(raise)?;
        let mut entries = page.iter();
        values.extend(found.into_iter().map(|found| {
            let entry = if found { entries.next() } else { None };
            entry.map_or_else(
                || py.None().into_bound(py),
                |(_, value)| PyBytes::new(py, value).into_any(),
            )
        }));
        py.check_signals()
    }
}

fn decimal(value: &[u8]) -> Result<i64> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Error::NotAnInteger)
}

fn interval<'a>(low: &'a Bound<'_, PyBytes>, high: Option<&'a Bound<'_, PyBytes>>) -> Interval<'a> {
    Interval {
        low: low.as_bytes(),
        high: high.map(|high| high.as_bytes()),
    }
}

fn slices_of<'a>(keys: &'a [Bound<'_, PyAny>]) -> PyResult<Vec<&'a [u8]>> {
    keys.iter()
        .map(|key| Ok(key.cast::<PyBytes>()?.as_bytes()))
        .collect()
}

fn writes_of<'a>(pairs: &'a [Bound<'_, PyAny>]) -> PyResult<Vec<Write<'a>>> {
    let mut writes = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let [key, value] = pair.cast::<PyTuple>()?.as_slice() else {
            return Err(PyTypeError::new_err("a write must be (key, value)"));
        };
        let value = match value.is_none() {
            true => None,
            false => Some(value.cast::<PyBytes>()?.as_bytes()),
        };
        writes.push((key.cast::<PyBytes>()?.as_bytes(), value));
    }
    Ok(writes)
}
