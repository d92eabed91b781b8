//! The one policy of when the GIL is released. Knows no store.
//!
//! Batches, loads, scans, big values and waits for a lock always release it. A single small look-up
//! releases it by `release_gil=`: `auto` keeps it where this is the only Python thread, because nobody could use it, and
//! where taking it back has been measured to cost more than it gives. A look-up writes only to its own thread's state.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{Python, ffi};

use crate::gauge::Gauge;

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

/// Whether this is a build of CPython with a GIL: there an object's head is a reference count and a type, while
/// free-threaded builds keep more. (Cheaper than a build script that asks PyO3's.)
const HAS_GIL: bool = size_of::<ffi::PyObject>() == 2 * size_of::<usize>();
/// Look-ups of one thread between two looks at the clock.
const LOOKUPS_PER_LOOK: u32 = 1_024;
/// The same before a thread's first look: short-lived threads shall not pay for a probe.
const FIRST_LOOK: u32 = 64;
/// How long a trial lets go of the GIL. Timer slack adds some 50 us.
const LET_GO: Duration = Duration::from_micros(20);

thread_local! {
    static UNTIL_LOOK: Cell<u32> = const { Cell::new(FIRST_LOOK) };
}

static GAUGE: Gauge = Gauge::new();
static START: OnceLock<Instant> = OnceLock::new();

/// Whether the next single small look-up releases the GIL.
#[inline(always)]
pub fn releases(py: Python<'_>, release: Release) -> bool {
    // Without a GIL there is nothing to release, and a detached look-up would only cost more.
    if !HAS_GIL {
        return false;
    }
    match release {
        Release::Auto => !is_alone(py) && judged(py),
        Release::Always => true,
        Release::Never => false,
    }
}

#[inline(always)]
fn judged(py: Python<'_>) -> bool {
    let left = UNTIL_LOOK.get().wrapping_sub(1);
    UNTIL_LOOK.set(left);
    if left == 0 {
        look(py);
    }
    !GAUGE.is_attached()
}

/// Probes if it is time to.
#[cold]
fn look(py: Python<'_>) {
    UNTIL_LOOK.set(LOOKUPS_PER_LOOK);
    let now = || START.get_or_init(Instant::now).elapsed().as_millis() as u64;
    if GAUGE.is_due(now()) {
        GAUGE.probe(|| trial(py), now);
    }
}

/// Lets go of the GIL for a moment; returns the nanoseconds that taking it back took.
fn trial(py: Python<'_>) -> u64 {
    let mut released_until = None;
    detach(py, || {
        std::thread::sleep(LET_GO);
        released_until = Some(Instant::now());
    });
    released_until.map_or(0, |start| start.elapsed().as_nanos() as u64)
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

/// Runs `work` with the thread detached from the interpreter.
///
/// Plainer than `Python::detach`, which also keeps PyO3's own bookkeeping: `work` must not touch PyO3. The engine does
/// not know it.
#[inline(always)]
pub fn detach<R>(_py: Python<'_>, work: impl FnOnce() -> R) -> R {
    struct Reattach(*mut ffi::PyThreadState);
    impl Drop for Reattach {
        #[inline(always)]
        fn drop(&mut self) {
            // SAFETY: the state came from PyEval_SaveThread on this thread and is restored once.
            unsafe { ffi::PyEval_RestoreThread(self.0) };
        }
    }
    // SAFETY: the thread is attached, as the token proves.
    let _reattach = Reattach(unsafe { ffi::PyEval_SaveThread() });
    work()
}

/// Runs `work` detached; where it asks whether to go on, signals are polled about every 30 ms. What a signal's handler
/// raised comes before the result.
pub fn detach_interruptibly<R: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> R + Send,
) -> PyResult<R> {
    const BETWEEN_POLLS: Duration = Duration::from_millis(30);
    let mut raised = None;
    let result = py.detach(|| {
        let mut polled = Instant::now();
        work(&mut || {
            if polled.elapsed() < BETWEEN_POLLS {
                return true;
            }
            let outcome = Python::attach(|py| py.check_signals());
            polled = Instant::now();
            raised = outcome.err();
            raised.is_none()
        })
    });
    raised.map_or(Ok(result), Err)
}
