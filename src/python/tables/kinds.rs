//! The kinds of elements a key may have, and the Python objects that tables need beyond the built-in ones.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyType, PyTzInfo};

/// A set of kinds, one bit each. `atbr.tables.schema` has the same figures.
pub type Kinds = u16;

pub const NULL: Kinds = 1;
pub const BYTES: Kinds = 2;
pub const TEXT: Kinds = 4;
pub const INT: Kinds = 8;
pub const FLOAT: Kinds = 16;
pub const BOOL: Kinds = 32;
pub const UUID: Kinds = 64;
pub const MOMENT: Kinds = 128;
pub const TUPLE: Kinds = 256;
pub const ANY: Kinds = 511;

/// The names of the kinds in a set, as a message lists them.
pub fn names(kinds: Kinds) -> String {
    const NAMES: [&str; 9] = [
        "None", "bytes", "str", "int", "float", "bool", "UUID", "datetime", "tuple",
    ];
    let chosen: Vec<&str> = NAMES
        .iter()
        .enumerate()
        .filter_map(|(bit, name)| (kinds & (1 << bit) != 0).then_some(*name))
        .collect();
    chosen.join(" or ")
}

/// What making a UUID takes.
pub struct UuidType {
    /// `uuid.UUID`.
    pub class: Py<PyType>,
    /// The descriptors of its two slots.
    pub slots: [Py<PyAny>; 2],
    /// What a UUID without a known generator has in its second slot.
    pub unknown: Py<PyAny>,
}

/// `uuid.UUID` and what belongs to it.
pub fn uuid_type(py: Python<'_>) -> PyResult<&UuidType> {
    static CELL: PyOnceLock<UuidType> = PyOnceLock::new();
    CELL.get_or_try_init(py, || {
        let module = py.import("uuid")?;
        let class = module.getattr("UUID")?.cast_into::<PyType>()?;
        let unknown = module.getattr("SafeUUID")?.getattr("unknown")?;
        let slots = [class.getattr("int")?, class.getattr("is_safe")?];
        Ok(UuidType {
            class: class.unbind(),
            slots: slots.map(Bound::unbind),
            unknown: unknown.unbind(),
        })
    })
}

/// `datetime.datetime`.
pub fn moment_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CELL.import(py, "datetime", "datetime")
}

/// `datetime.timezone.utc`.
pub fn utc(py: Python<'_>) -> PyResult<Bound<'_, PyTzInfo>> {
    PyTzInfo::utc(py).map(|utc| utc.to_owned())
}

/// `atbr.tables.BadKey` with a message.
#[cold]
pub fn bad_key(py: Python<'_>, message: String) -> PyErr {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CELL.import(py, "atbr.tables.errors", "BadKey") {
        Ok(class) => PyErr::from_type(class.clone(), message),
        Err(error) => error,
    }
}
