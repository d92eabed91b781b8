//! Commands of Redis in one piece: its driver looks at every argument in Python.

use std::io::Write;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PyString, PyTuple};

use super::packed::PackedKeys;

/// What redis-py takes as `command_packer=`. An argument may be bytes, str, int, or keys that are packed already.
#[pyclass(frozen, module = "atbr._core")]
pub struct RedisPacker;

#[pymethods]
impl RedisPacker {
    #[new]
    fn new() -> Self {
        RedisPacker
    }

    /// Return a command as a list of one piece. The words of the first argument are arguments of their own.
    #[pyo3(signature = (*args))]
    fn pack<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyList>> {
        let py = args.py();
        let mut request = Request::default();
        for (index, arg) in args.iter_borrowed().enumerate() {
            if let Ok(bytes) = arg.cast::<PyBytes>() {
                request.push(bytes.as_bytes());
            } else if let Ok(text) = arg.cast::<PyString>() {
                let text = text.to_str()?;
                if index == 0 {
                    text.split_ascii_whitespace()
                        .for_each(|word| request.push(word.as_bytes()));
                } else {
                    request.push(text.as_bytes());
                }
            } else if let Ok(keys) = arg.cast::<PackedKeys>() {
                keys.get().iter().for_each(|key| request.push(key));
            } else if arg.is_instance_of::<PyInt>() && !arg.is_instance_of::<PyBool>() {
                match arg.extract::<i64>() {
                    Ok(0) => request.push(b"0"),
                    Ok(value) => request.push(value.to_string().as_bytes()),
                    Err(_) => request.push(arg.str()?.to_str()?.as_bytes()),
                }
            } else {
                let name = arg.get_type().qualname()?;
                let message = format!("an argument of Redis must be bytes, str or int, not {name}");
                return Err(PyTypeError::new_err(message));
            }
        }
        let head = format!("*{}\r\n", request.count);
        let piece = PyBytes::new_with(py, head.len() + request.body.len(), |out| {
            out[..head.len()].copy_from_slice(head.as_bytes());
            out[head.len()..].copy_from_slice(&request.body);
            Ok(())
        })?;
        PyList::new(py, [piece])
    }
}

#[derive(Default)]
struct Request {
    count: usize,
    body: Vec<u8>,
}

impl Request {
    fn push(&mut self, arg: &[u8]) {
        self.count += 1;
        // Writing into memory does not fail.
        let _ = write!(self.body, "${}\r\n", arg.len());
        self.body.extend_from_slice(arg);
        self.body.extend_from_slice(b"\r\n");
    }
}
