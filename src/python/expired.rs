//! What the thread of `on_expire` asks of a store. Not public.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyBaseException, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::gil;
use super::store::PyStore;
use crate::engine::{self, Expired, Watch};

/// What starts the threads again.
static RESUME: OnceLock<Py<PyAny>> = OnceLock::new();
/// Whether a thread may be away.
static AWAY: AtomicBool = AtomicBool::new(false);

/// Keep entries that expire for `take_expired`; `present` says whether a thread is about to take them, or away for a while.
#[pyfunction]
pub fn watch_expired(py: Python<'_>, store: &Bound<'_, PyStore>, present: bool) {
    let watch = if present { Watch::On } else { Watch::Away };
    if !present {
        AWAY.store(true, Ordering::Relaxed);
    }
    gil::detach(py, || store.get().engine().watch_expired(watch));
}

/// Keep no more entries that expire.
#[pyfunction]
pub fn ignore_expired(py: Python<'_>, store: &Bound<'_, PyStore>) {
    gil::detach(py, || store.get().engine().watch_expired(Watch::Off));
}

/// Return at most `most` entries that have expired as (key, value) bytes, waiting up to `timeout` seconds for the first; none
/// at once unless `watch_expired` was called.
#[pyfunction]
pub fn take_expired<'py>(
    py: Python<'py>,
    store: &Bound<'py, PyStore>,
    most: usize,
    timeout: f64,
) -> PyResult<Bound<'py, PyList>> {
    let timeout = Duration::try_from_secs_f64(timeout)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let engine = Arc::clone(store.get().engine());
    let taken = gil::detach(py, || engine.take_expired(most, timeout));
    let entry = |entry: Expired| {
        let (key, value) = (&entry.key, &entry.value);
        (PyBytes::new(py, key), PyBytes::new(py, value))
    };
    PyList::new(py, taken.into_iter().map(entry))
}

/// Hand an exception that nobody can catch to `sys.unraisablehook`; `object` is where it comes from.
#[pyfunction]
pub fn report_unraisable(error: &Bound<'_, PyBaseException>, object: &Bound<'_, PyAny>) {
    PyErr::from_value(error.as_any().clone()).write_unraisable(object.py(), Some(object));
}

/// Have `resume` called while a thread is away: by the next write, or, once something has expired, in the main thread.
#[pyfunction]
pub fn on_unwatched(resume: Py<PyAny>) {
    let _ = RESUME.set(resume);
    engine::on_unwatched(ask_to_resume);
}

/// Have `resume` called soon, in the main thread.
#[pyfunction]
pub fn ask_to_resume() {
    // SAFETY: may be called by any thread, attached or not; where the list of calls is full the next write resumes.
    unsafe { ffi::Py_AddPendingCall(Some(call_resume), std::ptr::null_mut()) };
}

extern "C" fn call_resume(_: *mut c_void) -> c_int {
    Python::attach(resume);
    0
}

/// What a write calls before it locks anything: the main thread may be busy or asleep.
#[inline(always)]
pub fn resume_if_away(py: Python<'_>) {
    if AWAY.load(Ordering::Relaxed) {
        resume(py);
    }
}

#[cold]
fn resume(py: Python<'_>) {
    AWAY.store(false, Ordering::Relaxed);
    if let Some(resume) = RESUME.get()
        && let Err(error) = resume.call0(py)
    {
        error.write_unraisable(py, None);
    }
}
