//! Arguments of the class `Store`: what they may be and what they default to.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::convert::{Errors, Kind};
use super::errors::raise;
use super::gil::Release;
use super::lookup::Reader;
use super::store::PyStore;
use crate::Error;
use crate::engine::{HasherKind, Limits, MIN_BYTES, OnFull};
use crate::files::memory;

/// An optional argument of which None is a value like any other.
pub enum Maybe<'py> {
    /// The caller left it out.
    Missing,
    /// What the caller passed.
    Given(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Maybe<'py> {
    type Error = std::convert::Infallible;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> std::result::Result<Self, Self::Error> {
        Ok(Maybe::Given(object.to_owned()))
    }
}

/// How a new handle reads: as told, else as the handle it shares data with, else by the defaults.
pub fn reader(
    share: Option<&Bound<'_, PyStore>>,
    keys: Option<&Bound<'_, PyAny>>,
    values: Option<&Bound<'_, PyAny>>,
    errors: Option<&str>,
    release_gil: Option<&str>,
) -> PyResult<Reader> {
    let defaults = Reader {
        keys: Kind::Str,
        values: Kind::Str,
        errors: Errors::Strict,
        release: Release::Auto,
    };
    let base = share.map_or(defaults, |other| *other.get().reader());
    Ok(Reader {
        keys: keys.map_or(Ok(base.keys), |kind| Kind::from_argument("keys", kind))?,
        values: values.map_or(Ok(base.values), |kind| Kind::from_argument("values", kind))?,
        errors: errors.map_or(Ok(base.errors), Errors::from_argument)?,
        release: release_gil.map_or(Ok(base.release), Release::from_argument)?,
    })
}

/// Reads the `hasher=` argument.
pub fn hasher(name: &str) -> PyResult<HasherKind> {
    match name {
        "fast" => Ok(HasherKind::Fast),
        "siphash" => Ok(HasherKind::Siphash),
        _ => Err(PyValueError::new_err(format!(
            "hasher= must be 'fast' or 'siphash', not {name:?}"
        ))),
    }
}

/// Reads the arguments that bound a store.
pub fn limits(maxsize: Option<u64>, max_bytes: Option<u64>, on_full: &str) -> PyResult<Limits> {
    if maxsize == Some(0) {
        return Err(PyValueError::new_err("maxsize= must be at least 1"));
    }
    if max_bytes.is_some_and(|bytes| bytes < MIN_BYTES) {
        return Err(PyValueError::new_err(format!(
            "max_bytes= must be at least {MIN_BYTES} (1 MiB), not {}",
            max_bytes.unwrap_or(0)
        )));
    }
    let on_full = match on_full {
        "evict" => OnFull::Evict,
        "error" => OnFull::Error,
        _ => {
            return Err(PyValueError::new_err(format!(
                "on_full= must be 'evict' or 'error', not {on_full:?}"
            )));
        }
    };
    Ok(Limits {
        entries: maxsize.unwrap_or(0),
        bytes: max_bytes.unwrap_or(0),
        on_full,
    })
}

/// Index bytes that an entry takes where the index is sized for it, rounded up.
const RESERVED_BYTES: u64 = 10;

/// Below this many bytes the system is not asked: that takes 0.1 ms, an empty store 7 us.
const WORTH_ASKING: u64 = 64 << 20;

/// Refuses room that the machine does not have: it would be granted now and missed later.
pub fn check_room(entries: usize) -> PyResult<()> {
    let needed = (entries as u64).saturating_mul(RESERVED_BYTES);
    if needed < WORTH_ASKING {
        return Ok(());
    }
    match memory::available() {
        Some(available) if needed > available => {
            Err(raise(Error::NotEnoughMemory { needed, available }))
        }
        _ => Ok(()),
    }
}
