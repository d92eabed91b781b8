//! Readers and writers of files; they know the engine, the engine does not know them.

pub mod tsv;
