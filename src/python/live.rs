//! The stores that are alive, so that the interpreter's exit can close them. Holds them weakly.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use super::gil;
use crate::engine::Store;

/// Locked only by attached threads that neither block nor run Python meanwhile, and a fork happens
/// on an attached thread: no child finds it locked.
static LIVE: Mutex<Vec<Weak<Store>>> = Mutex::new(Vec::new());

/// Shares `store` and remembers it.
pub fn register(py: Python<'_>, store: Store) -> Arc<Store> {
    let store = Arc::new(store);
    let mut live = lock(py);
    if live.len() == live.capacity() {
        live.retain(|other| other.strong_count() > 0);
    }
    live.push(Arc::downgrade(&store));
    store
}

/// Remembers a store that something else has made.
#[cfg(feature = "server")]
pub fn remember(py: Python<'_>, store: &Arc<Store>) {
    let store = Arc::downgrade(store);
    let mut live = lock(py);
    if !live.iter().any(|other| Weak::ptr_eq(other, &store)) {
        live.push(store);
    }
}

fn lock(py: Python<'_>) -> MutexGuard<'static, Vec<Weak<Store>>> {
    LIVE.lock_py_attached(py)
        .unwrap_or_else(PoisonError::into_inner)
}

/// Close every store that is alive; runs at the interpreter's exit.
#[pyfunction]
pub fn close_all(py: Python<'_>) {
    let live = std::mem::take(&mut *lock(py));
    gil::detach(py, || {
        for store in live.iter().filter_map(Weak::upgrade) {
            store.close();
        }
    });
}
