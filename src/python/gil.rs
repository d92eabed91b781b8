//! The one policy of when the GIL is released. Knows no store.
//!
//! Batches, loads, scans, big values and waits for a lock always release it. A single small look-up
//! releases it by `release_gil=`: `auto` keeps it where this is the only Python thread, because
//! nobody could use it, and where taking it back has been measured to cost more than it gives. The
//! state is thread-local: a look-up writes no line that another thread reads.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{Python, ffi};

use super::gauge::{Gauge, Step};

/// The `release_gil=` argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// As measured.
    Auto,
    /// At every look-up.
    Always,
    /// At no single small look-up.
    Never,
}

impl Release {
    /// Reads the `release_gil=` argument.
    pub fn from_argument(name: &str) -> PyResult<Release> {
        match name {
            "auto" => Ok(Release::Auto),
            "always" => Ok(Release::Always),
            "never" => Ok(Release::Never),
            _ => Err(PyValueError::new_err(format!(
                "release_gil= must be 'auto', 'always' or 'never', not {name:?}"
            ))),
        }
    }
}

thread_local! {
    static GAUGE: Cell<Option<Gauge>> = const { Cell::new(None) };
}

/// Whether the last thread to decide keeps the GIL. Written at changes only; seeds new threads.
static WARNED: AtomicBool = AtomicBool::new(false);

/// What the next single small look-up does.
#[inline(always)]
pub fn step(py: Python<'_>, release: Release) -> Step {
    // Without a GIL there is nothing to release, and a detached look-up would only cost more.
    if cfg!(Py_GIL_DISABLED) {
        return Step::Attached;
    }
    match release {
        Release::Auto if is_alone(py) => Step::Attached,
        Release::Auto => measured_step(),
        Release::Always => Step::Detached,
        Release::Never => Step::Attached,
    }
}

/// True if this is the interpreter's only Python thread. Dereferences no other thread's state:
/// those may be freed at any moment.
#[inline(always)]
fn is_alone(_py: Python<'_>) -> bool {
    // SAFETY: the thread is attached, so its own state and interpreter are alive; the head of the
    // list is only compared, and `next` is read from our own state.
    unsafe {
        let own = ffi::PyThreadState_Get();
        let head = ffi::PyInterpreterState_ThreadHead(ffi::PyThreadState_GetInterpreter(own));
        head == own && ffi::PyThreadState_Next(own).is_null()
    }
}

fn measured_step() -> Step {
    GAUGE.with(|cell| {
        let mut gauge = cell.get().unwrap_or_else(|| {
            if WARNED.load(Ordering::Relaxed) {
                Gauge::warned()
            } else {
                Gauge::new()
            }
        });
        let step = gauge.step();
        cell.set(Some(gauge));
        step
    })
}

fn record(nanos: u64) {
    GAUGE.with(|cell| {
        let Some(mut gauge) = cell.get() else { return };
        let before = gauge.is_attached();
        gauge.record(nanos);
        let after = gauge.is_attached();
        if before != after {
            WARNED.store(after, Ordering::Relaxed);
        }
        cell.set(Some(gauge));
    });
}

/// Runs `work` with the thread detached from the interpreter; `measured` times the way back.
///
/// Plainer than `Python::detach`, which also keeps PyO3's own bookkeeping: `work` must not touch
/// PyO3. The engine and the files do not know it.
#[inline(always)]
pub fn detach<R>(_py: Python<'_>, measured: bool, work: impl FnOnce() -> R) -> R {
    struct Reattach {
        state: *mut ffi::PyThreadState,
        measured: bool,
    }
    impl Drop for Reattach {
        #[inline(always)]
        fn drop(&mut self) {
            let start = self.measured.then(Instant::now);
            // SAFETY: the state came from PyEval_SaveThread on this thread and is restored once.
            unsafe { ffi::PyEval_RestoreThread(self.state) };
            if let Some(start) = start {
                record(start.elapsed().as_nanos() as u64);
            }
        }
    }
    // SAFETY: the thread is attached, as the token proves.
    let state = unsafe { ffi::PyEval_SaveThread() };
    let _reattach = Reattach { state, measured };
    work()
}
