//! Rows of TSV as the bytes of keys, and values. Takes the plain forms only: whatever else a row may have is read, or refused
//! with its line, by `atbr.tables.rows`, which is the slow counterpart.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::kinds::{self, Kinds};
use crate::tables::tuple::Writer;

/// Digits that fit into an i64 whatever they are.
const PLAIN_DIGITS: usize = 18;

/// The (bytes of the key, value) of each row, or None if some row has another than the plain form.
pub fn pairs<'py>(
    py: Python<'py>,
    block: &[u8],
    columns: &[Kinds],
    max_key: usize,
    max_value: usize,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let list = PyList::empty(py);
    let mut writer = Writer::new();
    let mut rest = block;
    while !rest.is_empty() {
        let (line, after) = match memchr::memchr(b'\n', rest) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = after;
        writer.clear();
        let Some(value) = key(&mut writer, line, columns) else {
            return Ok(None);
        };
        let data = writer.as_slice();
        if data.len() > max_key || value.len() > max_value {
            return Ok(None);
        }
        list.append(PyTuple::new(
            py,
            [PyBytes::new(py, data), PyBytes::new(py, value)],
        )?)?;
    }
    Ok(Some(list))
}

/// Writes the key of a line, and returns its value.
fn key<'a>(writer: &mut Writer, line: &'a [u8], columns: &[Kinds]) -> Option<&'a [u8]> {
    let mut rest = line;
    for &kinds in columns {
        let end = memchr::memchr(b'\t', rest)?;
        element(writer, &rest[..end], kinds)?;
        rest = &rest[end + 1..];
    }
    Some(rest)
}

fn element(writer: &mut Writer, field: &[u8], kinds: Kinds) -> Option<()> {
    if kinds & kinds::NULL != 0 && field.is_empty() {
        writer.null();
        return Some(());
    }
    match kinds & !kinds::NULL {
        kinds::TEXT => writer.text(std::str::from_utf8(field).ok()?),
        kinds::BYTES => writer.bytes(field),
        kinds::INT => writer.int(int(field)?),
        kinds::UUID => writer.uuid(&uuid(field)?),
        kinds::BOOL => writer.boolean(match field {
            b"true" => true,
            b"false" => false,
            _ => return None,
        }),
        kinds::FLOAT => writer.double(float(field)?),
        _ => return None,
    }
    Some(())
}

/// Digits with or without a minus.
fn int(field: &[u8]) -> Option<i64> {
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    if digits.is_empty() || digits.len() > PLAIN_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some(if digits.len() < field.len() {
        -magnitude
    } else {
        magnitude
    })
}

/// Digits, one point at most, and an exponent: Rust and Python round them alike.
fn float(field: &[u8]) -> Option<f64> {
    let plain = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    if !field.iter().all(plain) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
fn uuid(field: &[u8]) -> Option<[u8; 16]> {
    let field: &[u8; 36] = field.try_into().ok()?;
    let mut out = [0; 16];
    let mut at = 0;
    for (index, byte) in out.iter_mut().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            if field[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let digit = |byte: u8| (byte as char).to_digit(16);
        *byte = (digit(field[at])? * 16 + digit(field[at + 1])?) as u8;
        at += 2;
    }
    Some(out)
}
