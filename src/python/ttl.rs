//! Times to live as Python says them: seconds, a timedelta, or None. Knows no store.

use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDelta, PyFloat, PyInt};

use super::options::Maybe;
use crate::engine::{self, Ttl};
use crate::limits;

/// Reads a `ttl=` argument: left out, or `...` from Python code that passes its own on, the store's default.
#[inline]
pub fn argument(ttl: &Maybe<'_>) -> PyResult<Ttl> {
    match ttl {
        Maybe::Missing => Ok(Ttl::Default),
        Maybe::Given(ttl) if ttl.is(ttl.py().Ellipsis()) => Ok(Ttl::Default),
        Maybe::Given(ttl) => given(ttl),
    }
}

/// Reads seconds, a timedelta or None. What is left of a millisecond counts as one.
pub fn given(ttl: &Bound<'_, PyAny>) -> PyResult<Ttl> {
    if ttl.is_none() {
        return Ok(Ttl::Never);
    }
    let seconds = seconds(ttl, "ttl= must be seconds, a timedelta or None")?;
    // By whole microseconds: 8.191 s are not quite 8,191 ms, as a float.
    let mut milliseconds = ((seconds * 1e6).round() / 1e3).ceil();
    if seconds > 0.0 {
        milliseconds = milliseconds.max(1.0);
    }
    // Of all numbers, NaN included, those that are in range.
    if milliseconds > 0.0 && milliseconds <= limits::MAX_TTL as f64 {
        return Ok(Ttl::Millis(milliseconds as u64));
    }
    Err(PyValueError::new_err(format!(
        "ttl= must be more than 0 and at most 10 years, not {}",
        ttl.repr()?
    )))
}

/// Reads a number of seconds or a timedelta; `wanted` begins the message for what is neither.
fn seconds(time: &Bound<'_, PyAny>, wanted: &str) -> PyResult<f64> {
    if let Ok(seconds) = time.cast_exact::<PyFloat>() {
        return Ok(seconds.value());
    }
    if time.cast::<PyInt>().is_ok() && time.cast::<PyBool>().is_err() {
        // Beyond a float is beyond ten years.
        return Ok(time.extract().unwrap_or(f64::INFINITY));
    }
    // After the numbers: whether something is a timedelta takes longer to find out.
    if time.cast::<PyDelta>().is_ok() {
        return time.call_method0("total_seconds")?.extract();
    }
    match time.extract() {
        Ok(seconds) if time.cast::<PyBool>().is_err() => Ok(seconds),
        Err(error) if !error.is_instance_of::<PyException>(time.py()) => Err(error),
        _ => {
            let name = time.get_type().name()?;
            Err(PyTypeError::new_err(format!("{wanted}, not {name}")))
        }
    }
}

/// Seconds of a number of milliseconds.
pub fn in_seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1e3
}

/// A clock that tests move, in place of the system's: `Store(clock=ManualClock())`. It begins at 0 and stands still.
///
/// >>> import atbr
/// >>> clock = atbr.ManualClock()
/// >>> store = atbr.Store({"session": "data"}, ttl=60, clock=clock)
/// >>> clock.advance(59.9)
/// >>> "session" in store
/// True
/// >>> clock.advance(0.1)
/// >>> "session" in store
/// False
#[pyclass(frozen, name = "ManualClock", module = "atbr")]
#[derive(Default)]
pub struct ManualClock(pub engine::ManualClock);

#[pymethods]
impl ManualClock {
    #[new]
    fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Move the clock forward by so many seconds, or a timedelta; ValueError for a step back.
    ///
    /// >>> import atbr
    /// >>> clock = atbr.ManualClock()
    /// >>> clock.advance(1.5)
    /// >>> clock.now()
    /// 1.5
    fn advance(&self, time: &Bound<'_, PyAny>) -> PyResult<()> {
        let wanted = "a clock moves by seconds or a timedelta";
        let milliseconds = seconds(time, wanted)? * 1e3;
        if !(0.0..=limits::MAX_TTL as f64).contains(&milliseconds) {
            return Err(PyValueError::new_err(format!(
                "a clock moves by 0 to 10 years, not {}",
                time.repr()?
            )));
        }
        self.0.advance(milliseconds.round() as u64);
        Ok(())
    }

    /// Return the seconds since the clock was made.
    ///
    /// >>> import atbr
    /// >>> atbr.ManualClock().now()
    /// 0.0
    fn now(&self) -> f64 {
        in_seconds(self.0.now())
    }
}

/// The clock of a new store.
pub fn clock(argument: Option<&Bound<'_, ManualClock>>) -> engine::Clock {
    match argument {
        None => engine::Clock::System,
        Some(clock) => engine::Clock::Manual(clock.get().0.clone()),
    }
}

/// Milliseconds left, or None for never, as `get_ttl` returns them.
pub fn left(time_left: Option<u64>) -> Option<f64> {
    time_left.map(in_seconds)
}

/// The default `ttl=` of a new store.
pub fn default(argument: Option<&Bound<'_, PyAny>>) -> PyResult<Ttl> {
    argument.map_or(Ok(Ttl::Never), given)
}
