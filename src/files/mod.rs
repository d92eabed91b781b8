//! Readers and writers of files; they know the engine, the engine does not know them.

pub mod mapped;
pub mod memory;
pub mod os_error;
pub(crate) mod replace;
mod sigbus;
pub mod tsv;
