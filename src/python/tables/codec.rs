//! `KeyCodec`: between the keys of one table, as tuples, and their bytes.

use std::cell::Cell;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyTuple};

use super::kinds::{self, Kinds, bad_key};
use super::packed::{PackedKeys, fetch_parts};
use super::{decode, encode, rows};
use crate::tables::tuple::Writer;

/// The codec of one table's keys: what kinds each part may have, and how long keys and values may be.
#[pyclass(frozen, module = "atbr._core")]
pub struct KeyCodec {
    columns: Vec<Kinds>,
    max_key: usize,
    max_value: usize,
}

#[pymethods]
impl KeyCodec {
    #[new]
    fn new(columns: Vec<Kinds>, max_key: usize, max_value: usize) -> PyResult<Self> {
        if columns
            .iter()
            .any(|&kinds| kinds == 0 || kinds > kinds::ANY)
        {
            return Err(PyValueError::new_err("a column has no kind"));
        }
        Ok(KeyCodec {
            columns,
            max_key,
            max_value,
        })
    }

    /// Return the bytes of a key.
    fn encode<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        with_writer(|writer| self.whole(writer, key))
    }

    /// Return the bytes of the first parts of a key.
    fn encode_prefix<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let parts = self.parts(key)?;
        if parts.len() > self.columns.len() {
            return Err(self.wrong_arity(parts, "at most "));
        }
        let mut writer = Writer::new();
        encode::key(&mut writer, parts, &self.columns)?;
        self.check_len(key.py(), writer.as_slice().len())?;
        Ok(PyBytes::new(key.py(), writer.as_slice()))
    }

    /// Return the bytes of each key.
    fn encode_many<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = keys.py();
        let mut writer = Writer::new();
        let Ok(list) = keys.cast_exact::<PyList>() else {
            let encoded = keys.try_iter()?.map(|key| self.whole(&mut writer, &key?));
            return PyList::new(py, encoded.collect::<PyResult<Vec<_>>>()?);
        };
        let mut encoded = Vec::with_capacity(list.len());
        each(list, None, |key| {
            encoded.push(self.whole(&mut writer, key)?);
            Ok(())
        })?;
        PyList::new(py, encoded)
    }

    /// Return the bytes of all keys in one piece.
    fn pack_many(&self, keys: &Bound<'_, PyList>) -> PyResult<PackedKeys> {
        let mut writer = Writer::new();
        let mut ends = Vec::with_capacity(keys.len());
        each(keys, None, |key| {
            let start = writer.as_slice().len();
            self.write(&mut writer, key)?;
            let end = writer.as_slice().len();
            self.check_len(key.py(), end - start)?;
            ends.push(end);
            Ok(())
        })?;
        Ok(PackedKeys::new(writer.into_bytes(), ends))
    }

    /// Return (bytes of the key, value) of each row of TSV, or None if a row has another than the plain form.
    fn plain_rows<'py>(&self, block: &Bound<'py, PyBytes>) -> PyResult<Option<Bound<'py, PyList>>> {
        let data = block.as_bytes();
        rows::pairs(
            block.py(),
            data,
            &self.columns,
            self.max_key,
            self.max_value,
        )
    }

    /// Return (bytes of the key, value) for each pair, both checked.
    fn encode_pairs<'py>(&self, pairs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = pairs.py();
        let mut writer = Writer::new();
        let Ok(list) = pairs.cast_exact::<PyList>() else {
            let encoded = pairs.try_iter()?.map(|pair| self.pair(&mut writer, &pair?));
            return PyList::new(py, encoded.collect::<PyResult<Vec<_>>>()?);
        };
        let mut encoded = Vec::with_capacity(list.len());
        each(list, Some(fetch_key), |pair| {
            encoded.push(self.pair(&mut writer, pair)?);
            Ok(())
        })?;
        PyList::new(py, encoded)
    }

    /// Return a value as bytes, checked.
    fn value<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = match value.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_)
                if value.is_instance_of::<PyBytes>()
                    || value.is_instance_of::<PyByteArray>()
                    || value.is_instance_of::<PyMemoryView>() =>
            {
                let class = value.py().get_type::<PyBytes>();
                class.call1((value,))?.cast_into::<PyBytes>()?
            }
            Err(_) => {
                let name = value.get_type().qualname()?;
                return Err(PyTypeError::new_err(format!(
                    "a value must be bytes, not {name}"
                )));
            }
        };
        let len = bytes.as_bytes().len();
        if len > self.max_value {
            return Err(PyValueError::new_err(format!(
                "a value of {len} bytes is too long; this engine's limit is {} bytes",
                self.max_value
            )));
        }
        Ok(bytes)
    }

    /// Return the tuple of a key's bytes.
    fn decode<'py>(&self, data: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyTuple>> {
        decode::key(data.py(), data.as_bytes(), &mut Vec::with_capacity(8))
    }

    /// Return the tuple of each key's bytes.
    fn decode_many<'py>(&self, keys: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let py = keys.py();
        let mut parts = Vec::new();
        let decoded = keys.iter().map(|key| {
            let data = key.cast::<PyBytes>()?;
            decode::key(py, data.as_bytes(), &mut parts)
        });
        let decoded: Vec<_> = decoded.collect::<PyResult<_>>()?;
        PyList::new(py, decoded)
    }

    /// Return (tuple, value) of each (bytes of the key, value).
    fn decode_pairs<'py>(&self, rows: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let py = rows.py();
        let mut parts = Vec::new();
        let decoded = rows.iter().map(|row| {
            let [key, value] = row.cast::<PyTuple>()?.as_slice() else {
                return Err(PyTypeError::new_err("a row must be (key, value)"));
            };
            let key = decode::key(py, key.cast::<PyBytes>()?.as_bytes(), &mut parts)?;
            PyTuple::new(py, [key.as_any(), value])
        });
        let decoded: Vec<_> = decoded.collect::<PyResult<_>>()?;
        PyList::new(py, decoded)
    }
}

impl KeyCodec {
    fn whole<'py>(
        &self,
        writer: &mut Writer,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        writer.clear();
        self.write(writer, key)?;
        self.check_len(key.py(), writer.as_slice().len())?;
        Ok(PyBytes::new(key.py(), writer.as_slice()))
    }

    fn pair<'py>(
        &self,
        writer: &mut Writer,
        pair: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let own;
        let (key, value) = match pair.cast::<PyTuple>().map(|two| two.as_slice()) {
            Ok([key, value]) => (key, value),
            _ => {
                own = two_of(pair)?;
                (&own.0, &own.1)
            }
        };
        let key = self.whole(writer, key)?;
        let value = self.value(value)?;
        PyTuple::new(pair.py(), [key, value])
    }

    /// Writes a whole key after what is there.
    fn write(&self, writer: &mut Writer, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let parts = self.parts(key)?;
        if parts.len() != self.columns.len() {
            return Err(self.wrong_arity(parts, ""));
        }
        encode::key(writer, parts, &self.columns)
    }

    fn check_len(&self, py: Python<'_>, len: usize) -> PyResult<()> {
        if len <= self.max_key {
            return Ok(());
        }
        let limit = self.max_key;
        let message =
            format!("a key of {len} bytes is too long; this engine's limit is {limit} bytes");
        Err(bad_key(py, message))
    }

    fn parts<'a, 'py>(&self, key: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyTuple>> {
        match key.cast::<PyTuple>() {
            Ok(tuple) => Ok(tuple),
            Err(_) => Err(bad_key(
                key.py(),
                format!("a key must be a tuple, not {}", key.get_type().qualname()?),
            )),
        }
    }

    /// Return the columns, of which a key's tuple has one part each.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    #[cold]
    fn wrong_arity(&self, parts: &Bound<'_, PyTuple>, bound: &str) -> PyErr {
        bad_key(
            parts.py(),
            format!(
                "a key of this table has {bound}{} parts, not {}",
                self.columns.len(),
                parts.len()
            ),
        )
    }
}

/// Calls `act` with this thread's writer, so that a single key takes no memory of its own. What `act` calls may come here
/// again, and has another one then.
fn with_writer<R>(act: impl FnOnce(&mut Writer) -> R) -> R {
    const KEPT: usize = 4_096;
    thread_local! {
        static WRITER: Cell<Option<Writer>> = const { Cell::new(None) };
    }
    let mut writer = WRITER.take().unwrap_or_default();
    writer.clear();
    let result = act(&mut writer);
    if writer.as_slice().len() <= KEPT {
        WRITER.set(Some(writer));
    }
    result
}

/// Calls `act` with each tuple of a list, asking for the parts of those ahead from memory, and before that by `sooner` for
/// what is behind them.
fn each<'py>(
    tuples: &Bound<'py, PyList>,
    sooner: Option<fn(&Bound<'py, PyAny>)>,
    mut act: impl FnMut(&Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    const AHEAD: usize = 8;
    // Nobody changes the tuple meanwhile.
    let tuples = tuples.to_tuple();
    let tuples = tuples.as_slice();
    for (index, tuple) in tuples.iter().enumerate() {
        match sooner {
            None => tuples.get(index + AHEAD).into_iter().for_each(fetch_parts),
            Some(sooner) => {
                tuples
                    .get(index + 2 * AHEAD)
                    .into_iter()
                    .for_each(fetch_parts);
                tuples.get(index + AHEAD).into_iter().for_each(sooner);
            }
        }
        act(tuple)?;
    }
    Ok(())
}

/// Asks for the parts of the key of a pair.
fn fetch_key(pair: &Bound<'_, PyAny>) {
    if let Ok([key, _]) = pair.cast_exact::<PyTuple>().map(|pair| pair.as_slice()) {
        fetch_parts(key);
    }
}

#[cold]
fn two_of<'py>(pair: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let parts = match pair.try_iter() {
        Ok(iterator) if !pair.is_instance_of::<pyo3::types::PyString>() => {
            iterator.take(3).collect::<PyResult<Vec<_>>>()?
        }
        _ => Vec::new(),
    };
    <[_; 2]>::try_from(parts).map(Into::into).map_err(|_| {
        let name = pair
            .get_type()
            .qualname()
            .map_or_else(|_| String::new(), |name| name.to_string());
        PyTypeError::new_err(format!("a pair must be (key, value), not {name}"))
    })
}

/// Return the bytes of a tuple, byte for byte those of FoundationDB's tuple layer. O(their number).
///
/// str, bytes, int up to 255 bytes, float but NaN, bool, None, UUID and tuples of them; datetime with a time zone beyond
/// FoundationDB's. Raises BadKey, which is a TypeError and a ValueError.
///
/// >>> from atbr.tables import pack, unpack
/// >>> pack(("a", -1))
/// b'\x02a\x00\x13\xfe'
/// >>> unpack(pack(("a", (None, 2.5))))
/// ('a', (None, 2.5))
#[pyfunction]
#[pyo3(text_signature = "(parts, /)")]
pub fn pack<'py>(parts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let Ok(tuple) = parts.cast::<PyTuple>() else {
        let name = parts.get_type().qualname()?;
        return Err(bad_key(
            parts.py(),
            format!("only a tuple can be packed, not {name}"),
        ));
    };
    with_writer(|writer| {
        encode::tuple(writer, tuple)?;
        Ok(PyBytes::new(parts.py(), writer.as_slice()))
    })
}

/// Return the tuple of which `pack` made `data`. O(len(data)). ValueError if it made it of none.
///
/// >>> from atbr.tables import unpack
/// >>> unpack(b"\x15\x07\x00")
/// (7, None)
/// >>> unpack(b"\x15")
/// Traceback (most recent call last):
///     ...
/// ValueError: no encoded tuple: an element is cut off (byte 0)
#[pyfunction]
#[pyo3(text_signature = "(data, /)")]
pub fn unpack<'py>(data: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyTuple>> {
    decode::key(data.py(), data.as_bytes(), &mut Vec::with_capacity(8))
}
