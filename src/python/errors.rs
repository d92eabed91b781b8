//! Turns the crate's errors into the built-in Python exceptions that fit. Knows no store.

use pyo3::exceptions::{
    PyKeyboardInterrupt, PyMemoryError, PyOSError, PyOverflowError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;

use crate::Error;

pyo3::create_exception!(
    atbr,
    StoreFull,
    PyMemoryError,
    "A bounded store has no room for an entry and evicts none, or the entry alone is too large for it."
);

/// The exception that stands for `error`, its message being the error's own.
#[cold]
pub fn raise(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Closed
        | Error::KeyTooLong(_)
        | Error::ValueTooLong(_)
        | Error::TtlOutOfRange(_)
        | Error::BoundTooSmall(_)
        | Error::NotAnInteger
        | Error::MalformedRow { .. }
        | Error::BadRow { .. }
        | Error::BadEscape
        | Error::MalformedTuple { .. }
        | Error::NotRepresentable(_) => PyValueError::new_err(message),
        Error::IntegerOverflow => PyOverflowError::new_err(message),
        Error::OutOfMemory | Error::ArenaFull | Error::NotEnoughMemory { .. } => {
            PyMemoryError::new_err(message)
        }
        Error::StoreFull => StoreFull::new_err(message),
        Error::Cancelled => PyKeyboardInterrupt::new_err(message),
        Error::Io { path, source } => match source.raw_os_error() {
            // OSError picks its own subclass by errno, FileNotFoundError for instance.
            Some(errno) => PyOSError::new_err((errno, system_message(&source), path)),
            None => PyOSError::new_err(message),
        },
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// What `strerror` says, without the "(os error 2)" that Rust adds.
fn system_message(source: &std::io::Error) -> String {
    let text = source.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
