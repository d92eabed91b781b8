//! I/O errors that carry both an errno and a sentence of our own. Knows no file format.

use std::fmt;
use std::io;
use std::path::Path;

use crate::Error;

/// An errno with a sentence that says more than the system's own text for it.
#[derive(Debug)]
struct OsError {
    errno: i32,
    message: &'static str,
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for OsError {}

/// The errno of an I/O error, also of those that this crate made itself. `None` where there is no errno behind it.
///
/// ```
/// let missing = std::fs::File::open("/no/such/file").unwrap_err();
/// assert_eq!(atbr::files::os_error::errno(&missing), Some(2));
/// ```
pub fn errno(error: &io::Error) -> Option<i32> {
    if let Some(errno) = error.raw_os_error() {
        return Some(errno);
    }
    let inner = error.get_ref()?.downcast_ref::<OsError>()?;
    Some(inner.errno)
}

/// An I/O error that reads as `message` and answers `number` to [`errno`].
pub(crate) fn with_message(number: i32, message: &'static str) -> io::Error {
    let inner = OsError {
        errno: number,
        message,
    };
    io::Error::new(io::Error::from_raw_os_error(number).kind(), inner)
}

/// [`Error::Io`] of `path`; where memory ran out, [`Error::OutOfMemory`], as everywhere.
pub(crate) fn at(path: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::OutOfMemory {
        return Error::OutOfMemory;
    }
    let path = path.to_path_buf();
    Error::Io { path, source }
}
