//! A read-only mapping of a file.
