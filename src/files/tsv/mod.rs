//! Tab-separated values.
