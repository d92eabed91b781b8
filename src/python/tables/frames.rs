//! PostgreSQL's binary forms of many rows, made in one piece: its driver would make them in Python, value by value.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::packed::fetch_parts;

/// Object number of the type bytea.
const BYTEA: u32 = 17;

/// Return an array of bytea in PostgreSQL's binary form, of keys or of one part of pairs.
#[pyfunction]
#[pyo3(signature = (rows, part=None))]
pub fn postgresql_array<'py>(
    rows: &Bound<'py, PyList>,
    part: Option<usize>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = rows.py();
    let mut out = Vec::new();
    // Dimensions, whether there are nulls, the type, the length, and the number of the first element.
    for word in [1, 0, BYTEA, length(rows.len())?, 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for row in rows.iter() {
        match part {
            None => push(&mut out, row.cast::<PyBytes>()?.as_bytes())?,
            Some(part) => {
                let value = row.cast::<PyTuple>()?.get_item(part)?;
                push(&mut out, value.cast::<PyBytes>()?.as_bytes())?;
            }
        }
    }
    Ok(PyBytes::new(py, &out))
}

/// Return the pairs from `at` on as rows of COPY ... (FORMAT BINARY), at most `rows` of them and little more than `size`
/// bytes, and where the next ones begin. What comes before the first and after the last is left out.
#[pyfunction]
pub fn postgresql_copy<'py>(
    pairs: &Bound<'py, PyList>,
    at: usize,
    rows: usize,
    size: usize,
) -> PyResult<(Bound<'py, PyBytes>, usize)> {
    const AHEAD: usize = 8;
    let part = pairs.get_slice(at, at.saturating_add(rows)).to_tuple();
    let part = part.as_slice();
    let mut out = Vec::new();
    let mut taken = 0;
    for pair in part {
        if out.len() >= size {
            break;
        }
        part.get(taken + AHEAD).into_iter().for_each(fetch_parts);
        out.extend_from_slice(&2_u16.to_be_bytes());
        for value in pair.cast::<PyTuple>()?.iter_borrowed() {
            push(&mut out, value.cast::<PyBytes>()?.as_bytes())?;
        }
        taken += 1;
    }
    Ok((PyBytes::new(pairs.py(), &out), at + taken))
}

fn push(out: &mut Vec<u8>, value: &[u8]) -> PyResult<()> {
    out.extend_from_slice(&length(value.len())?.to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}

fn length(len: usize) -> PyResult<u32> {
    i32::try_from(len)
        .map(|len| len as u32)
        .map_err(|_| PyOverflowError::new_err("too long for PostgreSQL"))
}
