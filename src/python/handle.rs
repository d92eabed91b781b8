//! What the Python layer asks of a handle beyond the class's own methods. Not public.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::store::PyStore;
use super::{batch, convert, gil, live, ttl};
use crate::engine;
#[cfg(debug_assertions)]
use crate::engine::{Change, Wait};

/// Return (keys=, values=, errors=) of a handle.
#[pyfunction]
pub fn types_of<'py>(
    store: &Bound<'py, PyStore>,
) -> (Bound<'py, PyAny>, Bound<'py, PyAny>, &'static str) {
    let (py, reader) = (store.py(), store.get().reader());
    let errors = reader.errors.name().to_str().unwrap_or_default();
    (
        reader.keys.type_object(py),
        reader.values.type_object(py),
        errors,
    )
}

/// Return a store with a copy of the entries.
#[pyfunction]
pub fn clone(py: Python<'_>, store: &Bound<'_, PyStore>) -> PyResult<PyStore> {
    let handle = store.get();
    handle.check_open()?;
    let copy = batch::copy_of(py, handle.engine(), handle.options())?;
    Ok(PyStore::new_handle(
        live::register(py, copy),
        *handle.reader(),
        handle.options().clone(),
    ))
}

/// Remove `key`, or without one some entry, and return (key, value, seconds left or None); None if there is none.
#[pyfunction]
#[pyo3(signature = (store, key=None))]
pub fn take<'py>(
    py: Python<'py>,
    store: &Bound<'py, PyStore>,
    key: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let handle = store.get();
    let popped = match key {
        None => handle.with_engine(py, engine::Store::pop_any)?,
        Some(key) => {
            let bytes = convert::key(key, handle.reader().errors)?;
            handle.with_engine(py, |store| store.take(&bytes))?
        }
    };
    let Some(popped) = popped else {
        return handle.check_open().map(|()| None);
    };
    let (key, value) = handle.objects_of(py, &popped)?;
    (key, value, ttl::left(popped.time_left))
        .into_pyobject(py)
        .map(Some)
}

/// Return whether both are handles on the same data.
#[pyfunction]
pub fn share_data(one: &Bound<'_, PyStore>, other: &Bound<'_, PyStore>) -> bool {
    Arc::ptr_eq(one.get().engine(), other.get().engine())
}

/// Return the figures of `Store.stats()`, by name.
#[pyfunction]
pub fn stats<'py>(py: Python<'py>, store: &Bound<'py, PyStore>) -> PyResult<Bound<'py, PyDict>> {
    let handle = store.get();
    handle.check_open()?;
    let stats = gil::detach(py, || handle.engine().stats());
    let figures = PyDict::new(py);
    for (name, figure) in [
        ("entries", stats.entries),
        ("key_bytes", stats.key_bytes),
        ("value_bytes", stats.value_bytes),
        ("bytes_allocated", stats.bytes_allocated),
        ("index_bytes", stats.index_bytes),
        ("dead_bytes", stats.dead_bytes),
        ("expiry_bytes", stats.expiry_bytes),
        ("expiring", stats.expiring),
        ("expirations", stats.expirations),
        ("expirations_lost", stats.expirations_lost),
        ("evictions", stats.evictions),
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("shards", stats.shards),
        ("slots_moved", stats.slots_moved),
        ("bytes_copied", stats.bytes_copied),
        ("attached", stats.attached),
        ("detached", stats.detached),
    ] {
        figures.set_item(name, figure)?;
    }
    figures.set_item("load_factor", stats.load_factor)?;
    Ok(figures)
}

/// For tests, and not in a release: hold the lock of a key's shard from the moment a byte has been written to `locked` until one can be read
/// from `unlock` (file descriptors).
#[cfg(debug_assertions)]
#[pyfunction]
pub fn hold_lock(
    store: &Bound<'_, PyStore>,
    key: &Bound<'_, PyAny>,
    locked: i32,
    unlock: i32,
) -> PyResult<()> {
    let handle = store.get();
    let bytes = convert::key(key, handle.reader().errors)?;
    handle.with_engine(key.py(), |store| {
        store.modify(&bytes, Wait::Block, |_| {
            let mut byte = 0_u8;
            // SAFETY: one byte of this frame, and descriptors that the caller owns.
            unsafe {
                libc::write(locked, (&raw const byte).cast(), 1);
                libc::read(unlock, (&raw mut byte).cast(), 1);
            }
            Ok((Change::Keep, ()))
        })
    })
}
