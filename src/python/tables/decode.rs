//! From the bytes of a key to Python objects.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDateTime, PyFloat, PyString, PyTuple};
use pyo3::{IntoPyObjectExt, ffi, intern};

use super::kinds;
use crate::Error;
use crate::python::errors::raise;
use crate::tables::tuple::{Item, Reader};

/// What decoding needs beside its result; one serves many keys.
pub type Parts<'py> = Vec<Bound<'py, PyAny>>;

/// The tuple of an encoded key.
pub fn key<'py>(
    py: Python<'py>,
    data: &[u8],
    parts: &mut Parts<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut reader = Reader::new(data);
    parts.clear();
    let mut open: Vec<Vec<Bound<'py, PyAny>>> = Vec::new();
    while let Some(item) = reader.item().map_err(raise)? {
        let part = match item {
            Item::Text(text) => PyString::new(py, &text).into_any(),
            Item::Int(value) => value.into_bound_py_any(py)?,
            Item::Bytes(data) => PyBytes::new(py, &data).into_any(),
            Item::Uuid(value) => uuid(py, value)?,
            Item::Null => py.None().into_bound(py),
            Item::Double(value) => PyFloat::new(py, value).into_any(),
            Item::Boolean(value) => PyBool::new(py, value).to_owned().into_any(),
            Item::Moment(micros) => moment(py, micros)?,
            Item::LongInt {
                negative,
                magnitude,
            } => long_int(py, negative, &magnitude)?,
            Item::Open => {
                open.push(std::mem::take(parts));
                continue;
            }
            Item::Close => {
                let inner = PyTuple::new(py, parts.drain(..))?;
                *parts = open.pop().unwrap_or_default();
                inner.into_any()
            }
        };
        parts.push(part);
    }
    PyTuple::new(py, parts.drain(..))
}

fn long_int<'py>(py: Python<'py>, negative: bool, magnitude: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let int = py.get_type::<pyo3::types::PyInt>();
    let value = int.call_method1(
        intern!(py, "from_bytes"),
        (PyBytes::new(py, magnitude), "big"),
    )?;
    if negative { value.neg() } else { Ok(value) }
}

/// A UUID as `uuid.UUID` makes it of bytes, without running its constructor.
fn uuid(py: Python<'_>, value: [u8; 16]) -> PyResult<Bound<'_, PyAny>> {
    let uuid = kinds::uuid_type(py)?;
    let value = u128::from_be_bytes(value).into_bound_py_any(py)?;
    let parts = [value.as_ptr(), uuid.unknown.as_ptr()];
    // SAFETY: a class, its slots' descriptors and objects that are alive; null and non-zero results become the exception
    // that is set. UUID refuses setattr(), so its slots are set as object.__setattr__ does it once it has found them.
    unsafe {
        let class = uuid.class.as_ptr().cast::<ffi::PyTypeObject>();
        let new = ffi::PyType_GenericNew(class, std::ptr::null_mut(), std::ptr::null_mut());
        let new = Bound::from_owned_ptr_or_err(py, new)?;
        for (slot, part) in uuid.slots.iter().zip(parts) {
            let Some(set) = (*ffi::Py_TYPE(slot.as_ptr())).tp_descr_set else {
                return Err(raise(Error::MalformedTuple {
                    at: 0,
                    what: "uuid.UUID has no slots to set",
                }));
            };
            if set(slot.as_ptr(), new.as_ptr(), part) != 0 {
                return Err(PyErr::fetch(py));
            }
        }
        Ok(new)
    }
}

fn moment(py: Python<'_>, micros: i64) -> PyResult<Bound<'_, PyAny>> {
    const DAY: i64 = 86_400_000_000;
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    if !(1..=9_999).contains(&year) {
        return Err(raise(Error::MalformedTuple {
            at: 0,
            what: "a moment is outside the years 1 to 9999",
        }));
    }
    let seconds = rest / 1_000_000;
    PyDateTime::new(
        py,
        year as i32,
        month,
        day,
        (seconds / 3_600) as u8,
        (seconds / 60 % 60) as u8,
        (seconds % 60) as u8,
        (rest % 1_000_000) as u32,
        Some(&kinds::utc(py)?),
    )
    .map(Bound::into_any)
}

/// The date of a day since 1970; the inverse of encode.rs's.
fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u8, day as u8)
}
