//! The stores that are alive, so that the interpreter's exit can close them. Holds them weakly.

use std::sync::{Arc, Mutex, PoisonError, Weak};

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
    let mut live = LIVE
        .lock_py_attached(py)
        .unwrap_or_else(PoisonError::into_inner);
    if live.len() == live.capacity() {
        live.retain(|other| other.strong_count() > 0);
    }
    live.push(Arc::downgrade(&store));
    store
}

/// Close every store that is alive; runs at the interpreter's exit.
#[pyfunction]
pub fn close_all(py: Python<'_>) {
    let live = {
        let mut live = LIVE
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *live)
    };
    gil::detach(py, || {
        for store in live.iter().filter_map(Weak::upgrade) {
            store.close();
        }
    });
}
