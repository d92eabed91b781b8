//! Tab-separated values: a row is a key, a tab, a value and a newline. Knows the store's interface and nothing of Python.
//!
//! The first tab splits; later tabs belong to the value. Bytes are kept as they are: the `\r` of a CRLF file is part of
//! the value. With [`Escape::Backslash`] a row can hold any key and any value. A last line without a newline counts. A line without a tab, an empty one too, is an error.

mod bulk;
mod crew;
mod escape;
mod estimate;
mod input;
mod load;
mod repeats;
mod report;
mod save;
mod scan;

pub use escape::Escape;
pub use load::{LoadFailure, LoadOptions, load, load_file, load_from};
pub use report::{LoadReport, Progress, SaveReport};
#[cfg(feature = "server")]
pub(crate) use save::save_into;
pub use save::{SaveOptions, save};
