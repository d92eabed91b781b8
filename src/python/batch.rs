//! Operations on many keys: converted attached, carried out detached, chunk by chunk so that signals are seen and memory
//! stays bounded. Knows no lock.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyMapping, PyString, PyTuple};

use super::convert::{self, Input};
use super::errors::raise;
use super::expired;
use super::gil;
use super::store::PyStore;
use crate::engine::{Batch, Filter, Options, Page, Store, Ttl, Wait};

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
        let slices = keys_of(handle, chunk)?;
        gil::detach(py, || store.get_many(&slices.list, &mut batch)).map_err(raise)?;
        for (index, key) in chunk.iter().enumerate() {
            let value = match batch.get(index) {
                Some(data) => Some(reader.object(py, data, slices.list[index])?),
                None => None,
            };
            each(key, value)?;
        }
        Ok(())
    })?;
    handle.check_open()
}

fn keys_of<'a>(handle: &PyStore, chunk: &'a [Bound<'_, PyAny>]) -> PyResult<Slices<'a>> {
    let errors = handle.reader().errors;
    let mut slices = Slices::default();
    slices.list.reserve(chunk.len());
    for key in chunk {
        let slice = slices.hold(convert::key(key, errors)?);
        slices.list.push(slice);
    }
    Ok(slices)
}

/// The bytes of many arguments, ready for the engine without a second list.
#[derive(Default)]
struct Slices<'a> {
    list: Vec<&'a [u8]>,
    /// What `list` borrows from beside the arguments.
    copies: Vec<Vec<u8>>,
}

impl<'a> Slices<'a> {
    fn hold(&mut self, input: Input<'a>) -> &'a [u8] {
        match input {
            Input::Borrowed(slice) => slice,
            Input::Copied(copy) => {
                // SAFETY: the copy's memory stays where it is, unchanged, until `copies` is dropped, which is never
                // before `list`; both are private to this module, which lets no slice outlive its Slices.
                let slice = unsafe { std::slice::from_raw_parts(copy.as_ptr(), copy.len()) };
                self.copies.push(copy);
                slice
            }
        }
    }
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
        let slices = keys_of(handle, chunk)?;
        deleted += gil::detach(keys.py(), || store.delete_many(&slices.list)).map_err(raise)?;
        Ok(())
    })?;
    Ok(deleted)
}

/// See [`PyStore`]'s method of the same name.
pub fn set_many(handle: &PyStore, entries: &Bound<'_, PyAny>, ttl: Ttl) -> PyResult<usize> {
    handle.check_open()?;
    expired::resume_if_away(entries.py());
    let pairs = pairs_of(entries)?;
    if !is_plain_and_good(handle, entries) && can_be_read_twice(&pairs)? {
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
            let counted = || store.set_many_counted(slices, ttl, &mut written);
            new += gil::detach(pairs.py(), counted).map_err(raise)?;
            Ok(())
        })
    });
    match result {
        Ok(()) => Ok(new),
        Err(error) => Err(with_written(pairs.py(), error, written)),
    }
}

/// True for a dict of which every key and value has been checked, without making a tuple for each.
fn is_plain_and_good(handle: &PyStore, entries: &Bound<'_, PyAny>) -> bool {
    let reader = handle.reader();
    let is_plain = |object: &Bound<'_, PyAny>| {
        object.is_exact_instance_of::<PyString>() || object.is_exact_instance_of::<PyBytes>()
    };
    entries.cast_exact::<PyDict>().is_ok_and(|dict| {
        // Converting str and bytes runs no Python code, so that nothing changes the dict meanwhile.
        dict.iter().all(|(key, value)| {
            is_plain(&key)
                && is_plain(&value)
                && convert::key(&key, reader.errors).is_ok_and(|key| {
                    convert::value(&value, reader.values, reader.errors)
                        .is_ok_and(|value| convert::check_lengths(&key, &value).is_ok())
                })
        })
    })
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
    let mut tuples = Vec::with_capacity(chunk.len());
    for item in chunk {
        tuples.push(as_pair(item, *position)?);
        *position += 1;
    }
    let mut held = Slices::default();
    let mut slices = Vec::with_capacity(chunk.len());
    for tuple in &tuples {
        // as_pair has checked that there are two.
        let [key, value] = tuple.as_slice() else {
            continue;
        };
        let key = held.hold(convert::key(key, reader.errors)?);
        let value = held.hold(convert::value(value, reader.values, reader.errors)?);
        convert::check_lengths(key, value).map_err(raise)?;
        slices.push((key, value));
    }
    work(&slices)
}

/// One pair, with the messages of `dict.update`.
fn as_pair<'py>(item: &Bound<'py, PyAny>, position: usize) -> PyResult<Bound<'py, PyTuple>> {
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
    match pair.len() {
        2 => Ok(pair),
        other => Err(PyValueError::new_err(format!(
            "update sequence element #{position} has length {other}; 2 is required"
        ))),
    }
}

/// A store with the entries of another; what is written meanwhile may or may not be among them.
pub fn copy_of(py: Python<'_>, from: &Store, options: &Options) -> PyResult<Store> {
    let copy = gil::detach(py, || Store::new(options)).map_err(raise)?;
    gil::detach(py, || copy.reserve(from.len())).map_err(raise)?;
    let (mut page, mut cursor) = (Page::default(), 0);
    loop {
        cursor = gil::detach(py, || {
            let next = from.scan(cursor, &Filter::default(), CHUNK, true, &mut page)?;
            let (expiring, lasting): (Vec<_>, Vec<_>) =
                (0..page.len()).partition(|&i| page.time_left(i).is_some());
            let pairs: Vec<_> = lasting
                .iter()
                .map(|&i| (page.key(i), page.value(i)))
                .collect();
            copy.set_many(&pairs, Ttl::Never)?;
            for i in expiring {
                let ttl = page.time_left(i).map_or(Ttl::Never, Ttl::Millis);
                copy.set_with(page.key(i), page.value(i), ttl, Wait::Block)?;
            }
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
