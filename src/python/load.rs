//! Files, as Python sees them: progress callbacks, signals and exceptions around `crate::files`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::raise;
use super::options::Maybe;
use super::store::PyStore;
use super::ttl;
use crate::Error;
use crate::engine::Keep;
use crate::files::tsv::{self, Escape, LoadOptions, Progress, SaveOptions};

/// What a load did. `str()` gives the four lines that atbr printed in 2012, in its units.
#[pyclass(frozen, name = "LoadReport", module = "atbr._core")]
pub struct LoadReport(tsv::LoadReport);

#[pymethods]
impl LoadReport {
    /// Rows that are in the store now.
    #[getter]
    fn rows(&self) -> u64 {
        self.0.rows
    }

    /// Of these, rows whose key was new to the store.
    #[getter(new)]
    fn new_rows(&self) -> u64 {
        self.0.new
    }

    /// Of these, rows that replaced a value.
    #[getter]
    fn replaced(&self) -> u64 {
        self.0.replaced
    }

    /// Entries that a bounded store evicted meanwhile.
    #[getter]
    fn evicted(&self) -> u64 {
        self.0.evicted
    }

    /// Bytes of input, tabs and newlines included.
    #[getter]
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Seconds that the load took.
    #[getter]
    fn seconds(&self) -> f64 {
        self.0.seconds
    }

    /// Rows a second.
    #[getter]
    fn pairs_per_second(&self) -> f64 {
        self.0.pairs_per_second()
    }

    /// MiB (2**20 bytes) a second, newlines not counted, as in 2012.
    #[getter]
    fn mb_per_second(&self) -> f64 {
        self.0.mb_per_second()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        let r = &self.0;
        format!(
            "LoadReport(rows={}, new={}, replaced={}, bytes={}, seconds={:.6})",
            r.rows, r.new, r.replaced, r.bytes, r.seconds
        )
    }
}

/// What a save did.
#[pyclass(frozen, name = "SaveReport", module = "atbr._core")]
pub struct SaveReport(tsv::SaveReport);

#[pymethods]
impl SaveReport {
    /// Rows written.
    #[getter]
    fn rows(&self) -> u64 {
        self.0.rows
    }

    /// Entries left out because they expire.
    #[getter]
    fn skipped(&self) -> u64 {
        self.0.skipped
    }

    /// Bytes written, tabs and newlines included.
    #[getter]
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Seconds that the save took.
    #[getter]
    fn seconds(&self) -> f64 {
        self.0.seconds
    }

    fn __repr__(&self) -> String {
        let r = &self.0;
        format!(
            "SaveReport(rows={}, bytes={}, seconds={:.6})",
            r.rows, r.bytes, r.seconds
        )
    }
}

/// Runs `work` detached; it calls back about every 30 ms, and then signals are polled and `tick`
/// is called with (rows, bytes, total_bytes, total_rows, seconds). What they raise is kept.
fn with_progress<R: Send>(
    py: Python<'_>,
    tick: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&mut dyn FnMut(&Progress) -> ControlFlow<()>) -> R + Send,
) -> (R, Option<PyErr>) {
    let tick = tick.map(|tick| tick.clone().unbind());
    let mut raised = None;
    let result = py.detach(|| {
        work(&mut |progress| {
            let outcome = Python::attach(|py| {
                py.check_signals()?;
                if let Some(tick) = &tick {
                    let p = progress;
                    tick.call1(
                        py,
                        (p.rows, p.bytes, p.total_bytes, p.total_rows, p.seconds),
                    )?;
                }
                Ok(())
            });
            match outcome {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    raised = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
    });
    (result, raised)
}

/// Load a TSV file; `atbr.Store.load` is the public way.
#[pyfunction]
#[pyo3(signature = (store, path, threads, keep, check_memory, tick, ttl=Maybe::Missing, escape=None))]
#[allow(clippy::too_many_arguments)] // one for each of the method's
pub fn load(
    store: &Bound<'_, PyStore>,
    path: PathBuf,
    threads: Option<usize>,
    keep: &str,
    check_memory: bool,
    tick: Option<&Bound<'_, PyAny>>,
    ttl: Maybe<'_>,
    escape: Option<&str>,
) -> PyResult<LoadReport> {
    let (py, handle, path) = (store.py(), store.get(), path.as_path());
    let keep = match keep {
        "last" => Keep::Last,
        "first" => Keep::First,
        _ => {
            return Err(PyValueError::new_err(format!(
                "keep= must be 'last' or 'first', not {keep:?}"
            )));
        }
    };
    if threads == Some(0) {
        return Err(PyValueError::new_err("threads= must be at least 1"));
    }
    handle.check_open()?;
    let options = LoadOptions {
        threads,
        keep,
        ttl: ttl::argument(&ttl)?,
        escape: escape_of(escape)?,
        check_memory,
        ..LoadOptions::default()
    };
    let store = handle.engine();
    let (result, raised) = with_progress(py, tick, |progress| {
        tsv::load(store, path, &options, progress)
    });
    let failure = match (result, raised) {
        (Ok(report), None) => return Ok(LoadReport(report)),
        // Everything is in, but the last call of the callback raised.
        (Ok(report), Some(error)) => return Err(with_report(py, error, LoadReport(report))),
        (Err(failure), Some(error)) => {
            return Err(with_report(py, error, LoadReport(failure.report)));
        }
        (Err(failure), None) => failure,
    };
    let report = LoadReport(failure.report);
    Err(match failure.error {
        Error::MalformedRow {
            line, byte_offset, ..
        }
        | Error::BadRow {
            line, byte_offset, ..
        } => {
            let message = failure.error.to_string();
            load_error(py, message, path, line, byte_offset, report).unwrap_or_else(|error| error)
        }
        error => with_report(py, raise(error), report),
    })
}

/// Save as a TSV file; `atbr.Store.save` is the public way.
#[pyfunction]
#[pyo3(signature = (store, path, tick, escape=None, skip_expiring=false))]
pub fn save(
    store: &Bound<'_, PyStore>,
    path: PathBuf,
    tick: Option<&Bound<'_, PyAny>>,
    escape: Option<&str>,
    skip_expiring: bool,
) -> PyResult<SaveReport> {
    let (py, handle, path) = (store.py(), store.get(), path.as_path());
    handle.check_open()?;
    let store = handle.engine();
    let options = SaveOptions {
        escape: escape_of(escape)?,
        skip_expiring,
    };
    let saved = with_progress(py, tick, |progress| {
        tsv::save(store, path, &options, progress)
    });
    match saved {
        (_, Some(error)) => Err(error),
        (Ok(report), None) => Ok(SaveReport(report)),
        (Err(error), None) => Err(raise(error)),
    }
}

fn escape_of(escape: Option<&str>) -> PyResult<Escape> {
    match escape {
        None => Ok(Escape::None),
        Some("backslash") => Ok(Escape::Backslash),
        Some(other) => Err(PyValueError::new_err(format!(
            "escape= must be None or 'backslash', not {other:?}"
        ))),
    }
}

/// Builds `atbr.LoadError`, which is a Python class so that it can be documented and caught as one.
fn load_error(
    py: Python<'_>,
    message: String,
    path: &Path,
    line: u64,
    byte_offset: u64,
    report: LoadReport,
) -> PyResult<PyErr> {
    let class = py.import("atbr.files")?.getattr("LoadError")?;
    let file = path.as_os_str();
    Ok(PyErr::from_value(class.call1((
        message,
        file,
        line,
        byte_offset,
        report,
    ))?))
}

fn with_report(py: Python<'_>, error: PyErr, report: LoadReport) -> PyErr {
    // An exception class of the callback's may refuse attributes: its own error matters more.
    let _ = error
        .value(py)
        .setattr("report", report.into_pyobject(py).ok());
    error
}
