//! A large-scale in-memory key-value store on Google's sparsehash.

pub mod engine;
mod error;
pub mod files;
pub mod limits;
#[cfg(feature = "python")]
mod python;

pub use error::{Error, Result};
