//! Which bucket of a table a key belongs to: CRC-32 of its bytes, the same for ever.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// zlib's polynomial, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !data.iter().fold(!0, step)
}

/// Return for each bucket the positions in `keys` of those that belong to it. O(bytes).
#[pyfunction]
pub fn bucket_positions<'py>(
    keys: &Bound<'py, PyList>,
    buckets: u32,
) -> PyResult<Bound<'py, PyList>> {
    if buckets == 0 {
        return Err(PyValueError::new_err("buckets must not be 0"));
    }
    let mut positions: Vec<Vec<usize>> = vec![Vec::new(); buckets as usize];
    for (position, key) in keys.iter().enumerate() {
        let bucket = crc32(key.cast::<PyBytes>()?.as_bytes()) % buckets;
        positions[bucket as usize].push(position);
    }
    PyList::new(keys.py(), positions)
}
