//! Memory that may not be there.

use std::collections::TryReserveError;

use crate::{Error, Result};

/// Makes room by an eighth more than there is, where a Vec of its own would double: leaves are many.
pub fn reserve<T>(list: &mut Vec<T>, additional: usize) -> Result<()> {
    if list.capacity() - list.len() >= additional {
        return Ok(());
    }
    list.try_reserve_exact(additional.max(list.len() / 8 + 4))
        .map_err(out_of_memory)
}

/// A copy of some bytes.
pub fn copied(value: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(value.len()).map_err(out_of_memory)?;
    copy.extend_from_slice(value);
    Ok(copy)
}

/// The error for a list that cannot grow.
pub fn out_of_memory(_: TryReserveError) -> Error {
    Error::OutOfMemory
}
