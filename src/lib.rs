//! A large-scale in-memory key-value store on Google's sparsehash.

pub mod engine;
mod error;
pub mod files;
pub mod limits;
#[cfg(feature = "server")]
pub mod server;
pub mod tables;
// Pure arithmetic of the Python layer, here so that its tests need no Python.
#[cfg(any(feature = "python", test))]
#[path = "python/gauge.rs"]
mod gauge;
#[cfg(feature = "python")]
mod python;

pub use error::{Error, Result};
