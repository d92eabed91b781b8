//! The SIGBUS handler of the mappings.
