//! Python's str and bytes to byte slices, and back. Knows no store and takes no lock.

use std::ffi::CStr;
use std::os::raw::c_char;
use std::ptr::NonNull;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyo3::{PyTypeInfo, ffi};

use super::gil;
use crate::limits;

/// The Python type that a store gives back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `str`, held as UTF-8.
    Str,
    /// `bytes`.
    Bytes,
}

impl Kind {
    /// Reads the `keys=` or `values=` argument, which is the type `str` or `bytes` itself.
    pub fn from_argument(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Kind> {
        let py = object.py();
        if object.is(PyString::type_object(py)) {
            Ok(Kind::Str)
        } else if object.is(PyBytes::type_object(py)) {
            Ok(Kind::Bytes)
        } else {
            Err(PyTypeError::new_err(format!(
                "{name}= must be str or bytes, not {}",
                object.repr()?
            )))
        }
    }

    /// The Python type.
    pub fn type_object(self, py: Python<'_>) -> Bound<'_, PyAny> {
        match self {
            Kind::Str => PyString::type_object(py).into_any(),
            Kind::Bytes => PyBytes::type_object(py).into_any(),
        }
    }
}

/// What happens to bytes that are not UTF-8, as `errors=` of `open()`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// Raise.
    Strict,
    /// Lone surrogates stand for the bytes, both ways.
    SurrogateEscape,
    /// U+FFFD when reading; writing is strict.
    Replace,
}

impl Errors {
    /// Reads the `errors=` argument.
    pub fn from_argument(name: &str) -> PyResult<Errors> {
        match name {
            "strict" => Ok(Errors::Strict),
            "surrogateescape" => Ok(Errors::SurrogateEscape),
            "replace" => Ok(Errors::Replace),
            _ => Err(PyValueError::new_err(format!(
                "errors= must be 'strict', 'surrogateescape' or 'replace', not {name:?}"
            ))),
        }
    }

    /// The name that Python's codecs know.
    pub fn name(self) -> &'static CStr {
        match self {
            Errors::Strict => c"strict",
            Errors::SurrogateEscape => c"surrogateescape",
            Errors::Replace => c"replace",
        }
    }
}

/// Bytes of an argument: borrowed from an immutable object that the caller holds, or a copy.
pub enum Input<'a> {
    /// The object's own memory.
    Borrowed(&'a [u8]),
    /// A copy, of a buffer that somebody could change or of an encoded str.
    Copied(Vec<u8>),
}

impl std::ops::Deref for Input<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self {
            Input::Borrowed(slice) => slice,
            Input::Copied(bytes) => bytes,
        }
    }
}

/// A key: str or bytes, whatever the store gives back.
#[inline(always)]
pub fn key<'a>(object: &'a Bound<'_, PyAny>, errors: Errors) -> PyResult<Input<'a>> {
    if is_str(object) {
        text(object, errors)
    } else if is_bytes(object) {
        Ok(Input::Borrowed(bytes_of(object)))
    } else {
        Err(wrong_type("key", "str or bytes", object))
    }
}

/// A value: str in a str store, any C-contiguous buffer in a bytes store.
#[inline(always)]
pub fn value<'a>(object: &'a Bound<'_, PyAny>, kind: Kind, errors: Errors) -> PyResult<Input<'a>> {
    match kind {
        Kind::Str if is_str(object) => text(object, errors),
        Kind::Str => Err(wrong_type("value", "str", object)),
        Kind::Bytes if is_bytes(object) => Ok(Input::Borrowed(bytes_of(object))),
        Kind::Bytes => buffer(object),
    }
}

/// Refuses what the store cannot hold; batches ask before their first write.
pub fn check_lengths(key: &[u8], value: &[u8]) -> crate::Result<()> {
    if key.len() > limits::MAX_KEY_LEN {
        return Err(crate::Error::KeyTooLong(key.len()));
    }
    if value.len() > limits::MAX_VALUE_LEN {
        return Err(crate::Error::ValueTooLong(value.len()));
    }
    Ok(())
}

#[inline(always)]
fn is_str(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive and the thread attached.
    unsafe {
        ffi::PyUnicode_CheckExact(object.as_ptr()) != 0
            || ffi::PyUnicode_Check(object.as_ptr()) != 0
    }
}

#[inline(always)]
fn is_bytes(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive and the thread attached.
    unsafe {
        ffi::PyBytes_CheckExact(object.as_ptr()) != 0 || ffi::PyBytes_Check(object.as_ptr()) != 0
    }
}

#[inline(always)]
fn bytes_of<'a>(object: &'a Bound<'_, PyAny>) -> &'a [u8] {
    // SAFETY: the caller has checked that this is a bytes object; its memory is immutable and
    // lives as long as the object, which `object` holds.
    unsafe {
        let data = ffi::PyBytes_AS_STRING(object.as_ptr()).cast::<u8>();
        std::slice::from_raw_parts(data, ffi::Py_SIZE(object.as_ptr()) as usize)
    }
}

#[inline(always)]
fn text<'a>(object: &'a Bound<'_, PyAny>, errors: Errors) -> PyResult<Input<'a>> {
    let mut len: ffi::Py_ssize_t = 0;
    // SAFETY: the caller has checked that this is a str. The UTF-8 form is the str's own memory or
    // cached in it, and lives as long as the object.
    unsafe {
        let data = ffi::PyUnicode_AsUTF8AndSize(object.as_ptr(), &mut len);
        if !data.is_null() {
            return Ok(Input::Borrowed(std::slice::from_raw_parts(
                data.cast::<u8>(),
                len as usize,
            )));
        }
    }
    surrogates(object, errors)
}

/// A str that is not valid UTF-8; the UnicodeEncodeError is set.
#[cold]
fn surrogates<'a>(object: &'a Bound<'_, PyAny>, errors: Errors) -> PyResult<Input<'a>> {
    let py = object.py();
    let error = PyErr::fetch(py);
    if errors != Errors::SurrogateEscape {
        return Err(error);
    }
    // SAFETY: a str and two C strings; a null result is turned into the exception that is set.
    let encoded = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyUnicode_AsEncodedString(
                object.as_ptr(),
                c"utf-8".as_ptr(),
                errors.name().as_ptr(),
            ),
        )?
    };
    copied(object.py(), bytes_of(&encoded))
}

fn copied(py: Python<'_>, slice: &[u8]) -> PyResult<Input<'static>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(slice.len())
        .map_err(|_| super::errors::raise(crate::Error::OutOfMemory))?;
    let mut fill = || copy.extend_from_slice(slice);
    if slice.len() > limits::SMALL_VALUE_LEN {
        gil::detach(py, fill);
    } else {
        fill();
    }
    Ok(Input::Copied(copy))
}

/// Copies a buffer that may be mutable: its owner could change it while the thread is detached.
#[cold]
fn buffer<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<Input<'a>> {
    const WANTED: &str = "bytes or another C-contiguous buffer";
    let py = object.py();
    // SAFETY: a zeroed Py_buffer is what PyObject_GetBuffer fills; it is released exactly once, and
    // only where it was filled. `buf` is readable for `len` bytes until then.
    unsafe {
        if ffi::PyObject_CheckBuffer(object.as_ptr()) == 0 {
            return Err(wrong_type("value", WANTED, object));
        }
        let mut view: ffi::Py_buffer = std::mem::zeroed();
        if ffi::PyObject_GetBuffer(object.as_ptr(), &mut view, ffi::PyBUF_SIMPLE) != 0 {
            let cause = PyErr::fetch(py);
            if cause.is_instance_of::<pyo3::exceptions::PyBufferError>(py) {
                let error = wrong_type("value", WANTED, object);
                error.set_cause(py, Some(cause));
                return Err(error);
            }
            return Err(cause);
        }
        let len = view.len as usize;
        let result = if len > limits::MAX_VALUE_LEN {
            Err(super::errors::raise(crate::Error::ValueTooLong(len)))
        } else if len == 0 {
            Ok(Input::Borrowed(&[]))
        } else {
            copied(py, std::slice::from_raw_parts(view.buf.cast::<u8>(), len))
        };
        ffi::PyBuffer_Release(&mut view);
        result
    }
}

#[cold]
fn wrong_type(what: &str, wanted: &str, object: &Bound<'_, PyAny>) -> PyErr {
    let name = match object.get_type().qualname() {
        Ok(name) => name.to_string(),
        Err(error) => return error,
    };
    let shape = if name == "memoryview" {
        " that is not C-contiguous"
    } else {
        ""
    };
    PyTypeError::new_err(format!("{what} must be {wanted}, not {name}{shape}"))
}

/// What came of building an object where nothing may raise.
pub enum Built {
    /// A new reference.
    Object(NonNull<ffi::PyObject>),
    /// Not UTF-8: [`decode`] has to decide, outside every lock.
    Undecodable,
    /// The allocation failed and MemoryError is set.
    NoMemory,
}

/// Builds the str or bytes object. Runs no Python code and allocates no object that the garbage
/// collector tracks, so it may be called under a shard's lock.
#[inline(always)]
pub fn build(_py: Python<'_>, kind: Kind, data: &[u8]) -> Built {
    let len = data.len() as ffi::Py_ssize_t;
    // SAFETY: the thread is attached; a fresh bytes or ASCII str object of `len` has room for
    // `len` bytes, and nobody else sees it yet. PyUnicode_New(0) is the shared empty str: no copy.
    let object = unsafe {
        match kind {
            Kind::Bytes => ffi::PyBytes_FromStringAndSize(data.as_ptr().cast::<c_char>(), len),
            Kind::Str if data.is_ascii() => {
                let object = ffi::PyUnicode_New(len, 127);
                if !object.is_null() && len > 0 {
                    let target = ffi::PyUnicode_1BYTE_DATA(object);
                    std::ptr::copy_nonoverlapping(data.as_ptr(), target, data.len());
                }
                object
            }
            // Checked first: a decoder that fails would run the codec machinery under the lock.
            Kind::Str if std::str::from_utf8(data).is_ok() => {
                ffi::PyUnicode_DecodeUTF8(data.as_ptr().cast::<c_char>(), len, std::ptr::null())
            }
            Kind::Str => return Built::Undecodable,
        }
    };
    NonNull::new(object).map_or(Built::NoMemory, Built::Object)
}

/// Builds the object, decoding by `errors`; a strict failure names the key.
pub fn object<'py>(
    py: Python<'py>,
    kind: Kind,
    errors: Errors,
    data: &[u8],
    key: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    match build(py, kind, data) {
        // SAFETY: build returns a new reference.
        Built::Object(object) => Ok(unsafe { Bound::from_owned_ptr(py, object.as_ptr()) }),
        Built::NoMemory => Err(PyErr::fetch(py)),
        Built::Undecodable => decode(py, errors, data, key),
    }
}

/// Decodes bytes that are not UTF-8.
#[cold]
pub fn decode<'py>(
    py: Python<'py>,
    errors: Errors,
    data: &[u8],
    key: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    let len = data.len() as ffi::Py_ssize_t;
    // SAFETY: `data` is readable for `len` bytes; a null result becomes the exception that is set.
    let decoded = unsafe {
        let object =
            ffi::PyUnicode_DecodeUTF8(data.as_ptr().cast::<c_char>(), len, errors.name().as_ptr());
        Bound::from_owned_ptr_or_err(py, object)
    };
    decoded.or_else(|error| {
        let value = error.value(py);
        if let Ok(reason) = value.getattr("reason") {
            let what = if std::ptr::eq(data, key) {
                "key"
            } else {
                "value of key"
            };
            let advice = "view(keys=bytes, values=bytes) reads it";
            value.setattr(
                "reason",
                format!("{reason} ({what} {}; {advice})", name_of(key)),
            )?;
        }
        Err(error)
    })
}

/// A key as a message shows it, shortened.
fn name_of(key: &[u8]) -> String {
    const SHOWN: usize = 80;
    match std::str::from_utf8(key) {
        Ok(text) if text.chars().count() <= SHOWN => format!("{text:?}"),
        _ if key.len() <= SHOWN => format!("b\"{}\"", key.escape_ascii()),
        _ => format!("b\"{}...\"", key[..SHOWN].escape_ascii()),
    }
}

/// A bytes object of `len` whose content the caller writes before anybody sees it.
pub fn uninitialized_bytes(py: Python<'_>, len: usize) -> PyResult<(Bound<'_, PyAny>, *mut u8)> {
    // SAFETY: a null source asks for an object without content; a null result is an exception.
    unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), len as ffi::Py_ssize_t);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let data = ffi::PyBytes_AS_STRING(object.as_ptr())
            .cast_mut()
            .cast::<u8>();
        Ok((object, data))
    }
}

/// An ASCII str of `len` whose content the caller writes before anybody sees it.
pub fn uninitialized_ascii(py: Python<'_>, len: usize) -> PyResult<(Bound<'_, PyAny>, *mut u8)> {
    // SAFETY: as above; an ASCII str has one byte a character.
    unsafe {
        let object = ffi::PyUnicode_New(len as ffi::Py_ssize_t, 127);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let data = ffi::PyUnicode_1BYTE_DATA(object.as_ptr());
        Ok((object, data))
    }
}

/// Length of a sized object, or None where it has none.
pub fn size(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    // SAFETY: the object is alive and the thread attached.
    let len: ffi::Py_ssize_t = unsafe { ffi::PyObject_Size(object.as_ptr()) };
    if len >= 0 {
        return Ok(Some(len as usize));
    }
    let error = PyErr::fetch(object.py());
    if error.is_instance_of::<PyTypeError>(object.py()) {
        Ok(None)
    } else {
        Err(error)
    }
}
