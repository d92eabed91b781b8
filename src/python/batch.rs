//! Operations on many keys: converted attached, carried out detached, chunk by chunk so that signals are seen and memory
//! stays bounded. Knows no lock.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyMapping, PyTuple};

use super::convert::{self, Input};
use super::errors::raise;
use super::gil;
use super::store::PyStore;
use crate::engine::{Batch, Filter, Options, Page, Store};

/// Keys or pairs handled at once: enough to overlap cache misses, and well under 100 ms.
const CHUNK: usize = 4_096;

/// Calls `work` with the items of `items`, a chunk at a time, and polls signals in between.
fn in_chunks<'py>(
    items: &Bound<'py, PyAny>,
    mut work: impl FnMut(&[Bound<'py, PyAny>]) -> PyResult<()>,
) -> PyResult<()> {
    let py = items.py();
    // A tuple cannot change while the thread is detached, and a list becomes one by copying pointers.
    let fixed = match items.cast_exact::<PyList>() {
        Ok(list) => Some(list.to_tuple()),
        Err(_) => items.cast_exact::<PyTuple>().ok().cloned(),
    };
    if let Some(tuple) = fixed {
        for chunk in tuple.as_slice().chunks(CHUNK) {
            work(chunk)?;
            py.check_signals()?;
        }
        return Ok(());
    }
    let mut iterator = items.try_iter()?;
    let mut chunk = Vec::new();
    loop {
        next_chunk(&mut iterator, &mut chunk)?;
        if chunk.is_empty() {
            return Ok(());
        }
        work(&chunk)?;
        py.check_signals()?;
    }
}

fn next_chunk<'py>(
    iterator: &mut Bound<'py, PyIterator>,
    chunk: &mut Vec<Bound<'py, PyAny>>,
) -> PyResult<()> {
    chunk.clear();
    while chunk.len() < CHUNK {
        match iterator.next() {
            Some(item) => chunk.push(item?),
            None => break,
        }
    }
    Ok(())
}

/// Calls `each` with every key and its value as an object, in order.
fn read<'py>(
    handle: &PyStore,
    keys: &Bound<'py, PyAny>,
    mut each: impl FnMut(&Bound<'py, PyAny>, Option<Bound<'py, PyAny>>) -> PyResult<()>,
) -> PyResult<()> {
    let py = keys.py();
    let (store, reader) = (handle.engine(), handle.reader());
    handle.check_open()?;
    let mut batch = Batch::default();
    in_chunks(keys, |chunk| {
        let inputs = keys_of(handle, chunk)?;
        let slices: Vec<&[u8]> = inputs.iter().map(|input| &**input).collect();
        gil::detach(py, || store.get_many(&slices, &mut batch)).map_err(raise)?;
        for (index, key) in chunk.iter().enumerate() {
            let value = match batch.get(index) {
                Some(data) => Some(reader.object(py, data, slices[index])?),
                None => None,
            };
            each(key, value)?;
        }
        Ok(())
    })?;
    handle.check_open()
}

fn keys_of<'a>(handle: &PyStore, chunk: &'a [Bound<'_, PyAny>]) -> PyResult<Vec<Input<'a>>> {
    let errors = handle.reader().errors;
    let mut inputs = Vec::with_capacity(chunk.len());
    for key in chunk {
        inputs.push(convert::key(key, errors)?);
    }
    Ok(inputs)
}

/// See [`PyStore`]'s method of the same name.
pub fn get_many<'py>(handle: &PyStore, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(keys.py());
    read(handle, keys, |key, value| match value {
        Some(value) => found.set_item(key, value),
        None => Ok(()),
    })?;
    Ok(found)
}

/// See [`PyStore`]'s method of the same name.
pub fn mget<'py>(
    handle: &PyStore,
    keys: &Bound<'py, PyAny>,
    default: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let py = keys.py();
    let default = default.unwrap_or_else(|| py.None().into_bound(py));
    let mut values = Vec::with_capacity(keys.len().unwrap_or(0));
    read(handle, keys, |_, value| {
        values.push(value.unwrap_or_else(|| default.clone()));
        Ok(())
    })?;
    PyList::new(py, values)
}

/// See [`PyStore`]'s method of the same name.
pub fn delete_many(handle: &PyStore, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
    let store = handle.engine();
    handle.check_open()?;
    if can_be_read_twice(keys)? {
        in_chunks(keys, |chunk| keys_of(handle, chunk).map(drop))?;
    }
    let mut deleted = 0;
    in_chunks(keys, |chunk| {
        let inputs = keys_of(handle, chunk)?;
        let slices: Vec<&[u8]> = inputs.iter().map(|input| &**input).collect();
        deleted += gil::detach(keys.py(), || store.delete_many(&slices)).map_err(raise)?;
        Ok(())
    })?;
    Ok(deleted)
}

/// See [`PyStore`]'s method of the same name.
pub fn set_many(handle: &PyStore, entries: &Bound<'_, PyAny>) -> PyResult<usize> {
    handle.check_open()?;
    let pairs = pairs_of(entries)?;
    if can_be_read_twice(&pairs)? {
        let mut position = 0;
        in_chunks(&pairs, |chunk| {
            convert_pairs(handle, chunk, &mut position, |_| Ok(()))
        })
        .map_err(|error| with_written(pairs.py(), error, 0))?;
    }
    let (mut written, mut new, mut position) = (0, 0, 0);
    let result = in_chunks(&pairs, |chunk| {
        convert_pairs(handle, chunk, &mut position, |slices| {
            let store = handle.engine();
            new += gil::detach(pairs.py(), || store.set_many(slices)).map_err(raise)?;
            written += slices.len();
            Ok(())
        })
    });
    match result {
        Ok(()) => Ok(new),
        Err(error) => Err(with_written(pairs.py(), error, written)),
    }
}

/// The pairs of a mapping, of an object with `keys()` as `dict.update` takes it, or of an iterable.
fn pairs_of<'py>(entries: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if entries.is_exact_instance_of::<PyDict>() || entries.cast::<PyMapping>().is_ok() {
        return entries.call_method0("items");
    }
    if entries.hasattr("keys")? {
        let pairs = PyList::empty(entries.py());
        for key in entries.call_method0("keys")?.try_iter()? {
            let key = key?;
            let value = entries.get_item(&key)?;
            pairs.append((key, value))?;
        }
        return Ok(pairs.into_any());
    }
    Ok(entries.clone())
}

/// True for what has a length and is not its own iterator: a first pass can check it.
fn can_be_read_twice(items: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(convert::size(items)?.is_some() && !items.try_iter()?.is(items))
}

/// Converts a chunk of pairs, checks it, and hands the slices to `work`.
fn convert_pairs(
    handle: &PyStore,
    chunk: &[Bound<'_, PyAny>],
    position: &mut usize,
    work: impl FnOnce(&[(&[u8], &[u8])]) -> PyResult<()>,
) -> PyResult<()> {
    let reader = handle.reader();
    let mut objects = Vec::with_capacity(chunk.len());
    for item in chunk {
        objects.push(split(item, *position)?);
        *position += 1;
    }
    let mut inputs = Vec::with_capacity(chunk.len());
    for (key, value) in &objects {
        let key = convert::key(key, reader.errors)?;
        let value = convert::value(value, reader.values, reader.errors)?;
        convert::check_lengths(&key, &value).map_err(raise)?;
        inputs.push((key, value));
    }
    let slices: Vec<(&[u8], &[u8])> = inputs
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    work(&slices)
}

/// One pair, with the messages of `dict.update`.
fn split<'py>(
    item: &Bound<'py, PyAny>,
    position: usize,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let pair = match item.cast_exact::<PyTuple>() {
        Ok(tuple) => tuple.clone(),
        Err(_) => match item.try_iter() {
            Ok(iterator) => PyTuple::new(item.py(), iterator.collect::<PyResult<Vec<_>>>()?)?,
            Err(_) => {
                return Err(PyTypeError::new_err(format!(
                    "cannot convert update sequence element #{position} to a pair"
                )));
            }
        },
    };
    match pair.as_slice() {
        [key, value] => Ok((key.clone(), value.clone())),
        other => Err(PyValueError::new_err(format!(
            "update sequence element #{position} has length {}; 2 is required",
            other.len()
        ))),
    }
}

/// A store with the entries of another; what is written meanwhile may or may not be among them.
pub fn copy_of(py: Python<'_>, from: &Store) -> PyResult<Store> {
    let copy = gil::detach(py, || Store::new(&Options::default())).map_err(raise)?;
    gil::detach(py, || copy.reserve(from.len())).map_err(raise)?;
    let (mut page, mut cursor) = (Page::default(), 0);
    loop {
        cursor = gil::detach(py, || {
            let next = from.scan(cursor, &Filter::default(), CHUNK, true, &mut page)?;
            let pairs: Vec<_> = (0..page.len())
                .map(|i| (page.key(i), page.value(i)))
                .collect();
            copy.set_many(&pairs)?;
            Ok(next)
        })
        .map_err(raise)?;
        if cursor == 0 {
            return Ok(copy);
        }
        py.check_signals()?;
    }
}

fn with_written(py: Python<'_>, error: PyErr, written: usize) -> PyErr {
    // An exception class of the caller's may refuse attributes: its own error matters more.
    let _ = error.value(py).setattr("written", written);
    error
}
