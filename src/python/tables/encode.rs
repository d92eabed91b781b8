//! From Python objects to the bytes of a key.

use pyo3::exceptions::{PyOverflowError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDateAccess, PyDateTime, PyFloat, PyInt, PyString, PyTimeAccess, PyTuple,
    PyTzInfoAccess,
};
use pyo3::{ffi, intern};

use super::kinds::{self, Kinds, bad_key};
use crate::tables::tuple::{MAX_DEPTH, MAX_INT_LEN, Writer};

/// Writes a key's elements, each of which has to be of its column's kinds.
pub fn key(writer: &mut Writer, parts: &Bound<'_, PyTuple>, columns: &[Kinds]) -> PyResult<()> {
    for (index, (part, &kinds)) in parts.iter_borrowed().zip(columns).enumerate() {
        element(writer, &part, kinds, index)?;
    }
    Ok(())
}

/// Writes the elements of any tuple.
pub fn tuple(writer: &mut Writer, parts: &Bound<'_, PyTuple>) -> PyResult<()> {
    for (index, part) in parts.iter_borrowed().enumerate() {
        element(writer, &part, kinds::ANY, index)?;
    }
    Ok(())
}

#[inline]
fn element(
    writer: &mut Writer,
    part: &Bound<'_, PyAny>,
    allowed: Kinds,
    index: usize,
) -> PyResult<()> {
    if part.is_exact_instance_of::<PyString>() && allowed & kinds::TEXT != 0 {
        return text(writer, part, index);
    }
    if part.is_exact_instance_of::<PyInt>() && allowed & kinds::INT != 0 {
        return int(writer, part, index);
    }
    let kind = kind_of(part)?;
    if kind & allowed == 0 {
        return Err(wrong_kind(part, allowed, index));
    }
    match kind {
        kinds::NULL => writer.null(),
        kinds::TEXT => text(writer, part, index)?,
        kinds::INT => int(writer, part, index)?,
        kinds::BYTES => writer.bytes(part.cast::<PyBytes>()?.as_bytes()),
        kinds::BOOL => writer.boolean(part.is_truthy()?),
        kinds::FLOAT => {
            let value = part.cast::<PyFloat>()?.value();
            if value.is_nan() {
                return Err(fault(part, index, "is NaN, which has no place in an order"));
            }
            writer.double(value);
        }
        kinds::UUID => {
            let value: u128 = part.getattr(intern!(part.py(), "int"))?.extract()?;
            writer.uuid(&value.to_be_bytes());
        }
        kinds::MOMENT => writer.moment(moment(part, index)?),
        _ => nested(writer, part.cast::<PyTuple>()?, index)?,
    }
    Ok(())
}

/// The kind of an object, a subclass counting as its base; 0 for none.
fn kind_of(part: &Bound<'_, PyAny>) -> PyResult<Kinds> {
    let py = part.py();
    let uuid = kinds::uuid_type(py)?.class.bind(py);
    // A bool is an int to Python, so it is asked for first.
    Ok(if part.get_type_ptr() == uuid.as_ptr().cast() {
        kinds::UUID
    } else if part.is_none() {
        kinds::NULL
    } else if part.is_instance_of::<PyBool>() {
        kinds::BOOL
    } else if part.is_instance_of::<PyString>() {
        kinds::TEXT
    } else if part.is_instance_of::<PyInt>() {
        kinds::INT
    } else if part.is_instance_of::<PyBytes>() {
        kinds::BYTES
    } else if part.is_instance_of::<PyFloat>() {
        kinds::FLOAT
    } else if part.is_instance_of::<PyTuple>() {
        kinds::TUPLE
    } else if part.is_instance(uuid)? {
        kinds::UUID
    } else if part.is_instance(kinds::moment_type(py)?)? {
        kinds::MOMENT
    } else {
        0
    })
}

fn text(writer: &mut Writer, part: &Bound<'_, PyAny>, index: usize) -> PyResult<()> {
    match part.cast::<PyString>()?.to_str() {
        Ok(text) => {
            writer.text(text);
            Ok(())
        }
        Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(part.py()) => Err(fault(
            part,
            index,
            "has a lone surrogate, which has no UTF-8",
        )),
        Err(error) => Err(error),
    }
}

fn int(writer: &mut Writer, part: &Bound<'_, PyAny>, index: usize) -> PyResult<()> {
    let mut overflow = 0;
    // SAFETY: the object is an int and alive, and the thread attached.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(part.as_ptr(), &mut overflow) };
    if overflow == 0 {
        if value == -1
            && let Some(error) = PyErr::take(part.py())
        {
            return Err(error);
        }
        writer.int(value);
        return Ok(());
    }
    let py = part.py();
    let bits: usize = part.call_method0(intern!(py, "bit_length"))?.extract()?;
    let len = bits.div_ceil(8);
    if len <= MAX_INT_LEN {
        let magnitude = part.call_method0(intern!(py, "__abs__"))?;
        let bytes = magnitude.call_method1(intern!(py, "to_bytes"), (len, "big"))?;
        if writer.long_int(overflow < 0, bytes.cast::<PyBytes>()?.as_bytes()) {
            return Ok(());
        }
    }
    Err(bad_key(
        py,
        format!("part {index} of the key is an int of {len} bytes; the limit is {MAX_INT_LEN}"),
    ))
}

fn nested(writer: &mut Writer, parts: &Bound<'_, PyTuple>, index: usize) -> PyResult<()> {
    if writer.depth() == MAX_DEPTH {
        return Err(bad_key(
            parts.py(),
            format!("part {index} of the key is nested deeper than {MAX_DEPTH} tuples"),
        ));
    }
    writer.open();
    tuple(writer, parts)?;
    writer.close();
    Ok(())
}

/// Microseconds since 1970 of an aware datetime.
fn moment(part: &Bound<'_, PyAny>, index: usize) -> PyResult<i64> {
    let py = part.py();
    let mut moment = part.cast::<PyDateTime>()?.clone();
    let utc = kinds::utc(py)?;
    match moment.get_tzinfo() {
        Some(zone) if zone.is(&utc) => {}
        zone => {
            let aware = zone.is_some() && !moment.call_method0(intern!(py, "utcoffset"))?.is_none();
            if !aware {
                return Err(fault(
                    part,
                    index,
                    "has no time zone; use datetime.timezone.utc",
                ));
            }
            moment = match moment.call_method1(intern!(py, "astimezone"), (&utc,)) {
                Ok(converted) => converted.cast_into::<PyDateTime>()?,
                Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
                    return Err(fault(part, index, "is out of range in UTC"));
                }
                Err(error) => return Err(error),
            };
        }
    }
    let days = days_from_civil(moment.get_year(), moment.get_month(), moment.get_day());
    let seconds = i64::from(moment.get_hour()) * 3_600
        + i64::from(moment.get_minute()) * 60
        + i64::from(moment.get_second());
    Ok((days * 86_400 + seconds) * 1_000_000 + i64::from(moment.get_microsecond()))
}

/// Days since 1970 of a date of the Gregorian calendar, years beginning in March so that leap days come last.
fn days_from_civil(year: i32, month: u8, day: u8) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cold]
fn wrong_kind(part: &Bound<'_, PyAny>, allowed: Kinds, index: usize) -> PyErr {
    let name = match part.get_type().qualname() {
        Ok(name) => name.to_string(),
        Err(error) => return error,
    };
    let wanted = kinds::names(allowed);
    fault(part, index, &format!("is {name}; it must be {wanted}"))
}

#[cold]
fn fault(part: &Bound<'_, PyAny>, index: usize, what: &str) -> PyErr {
    const SHOWN: usize = 80;
    let shown = match part.repr() {
        Ok(text) => text.to_string_lossy().chars().take(SHOWN).collect(),
        Err(_) => String::from("a value without repr()"),
    };
    bad_key(
        part.py(),
        format!("part {index} of the key {what}: {shown}"),
    )
}
