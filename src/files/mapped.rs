//! Read-only mappings of regular files that survive a truncation of the file. Knows no file format.
//!
//! Reading a mapped page that the file no longer has raises SIGBUS. Here such a page reads as zeros and the mapping is
//! marked torn (see `sigbus`): who reads a mapping tests [`Mapped::intact`] after each block and before it believes what
//! it has read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;

use super::os_error;
use super::sigbus::Registration;
use crate::Result;

/// A file's bytes in memory, as they were when it was opened.
#[derive(Debug)]
pub struct Mapped {
    /// `None` for an empty file, which cannot be mapped.
    region: Option<Region>,
}

impl Mapped {
    /// Maps the file at `path` from its first byte to its last.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), also where `path` is a directory, a pipe or a device.
    pub fn open(path: &Path) -> Result<Mapped> {
        let (file, len) = open_regular(path)?;
        Mapped::new(&file, len).map_err(|source| os_error::at(path, source))
    }

    /// Maps the first `len` bytes of `file`, which may be closed afterwards.
    pub(crate) fn new(file: &File, len: u64) -> io::Result<Mapped> {
        let len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= isize::MAX as usize)
            .ok_or_else(|| {
                os_error::with_message(libc::EFBIG, "file does not fit into the address space")
            })?;
        let region = match len {
            0 => None,
            _ => Some(Region::map(file, len)?),
        };
        Ok(Mapped { region })
    }

    /// The bytes. Those of a truncated part read as zeros.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.region {
            // SAFETY: the region is mapped readable for `len` bytes as long as `self` lives, and a page that the file
            // has lost is replaced by the SIGBUS handler. Another process may write into the file meanwhile: readers
            // take lengths and positions from one look at the bytes and check every index, and copy what has to be the
            // same at a second look.
            Some(region) => unsafe {
                std::slice::from_raw_parts(region.start.as_ptr(), region.len)
            },
            None => &[],
        }
    }

    /// An error with errno EIO if any page read so far was no longer in the file.
    pub fn intact(&self) -> io::Result<()> {
        match &self.region {
            Some(region) if region.registration.torn() => Err(os_error::with_message(
                libc::EIO,
                "file was truncated while it was read",
            )),
            _ => Ok(()),
        }
    }
}

/// Opens a regular file for reading, and its size. Never waits for the other end of a pipe.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let open = || {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(path)?;
        let metadata = file.metadata()?;
        must_be_regular(&metadata)?;
        Ok((file, metadata.len()))
    };
    open().map_err(|source| os_error::at(path, source))
}

/// An error that says what the file is if it is not a regular one.
pub(crate) fn must_be_regular(metadata: &std::fs::Metadata) -> io::Result<()> {
    must_be_regular_mode(metadata.mode() as libc::mode_t)
}

/// As [`must_be_regular`], by the mode.
pub(crate) fn must_be_regular_mode(mode: libc::mode_t) -> io::Result<()> {
    let message = match mode & libc::S_IFMT {
        libc::S_IFREG => return Ok(()),
        libc::S_IFDIR => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
        libc::S_IFLNK => return Err(io::Error::from_raw_os_error(libc::ELOOP)),
        libc::S_IFIFO => "is a pipe, not a regular file",
        libc::S_IFSOCK => "is a socket, not a regular file",
        _ => "is a device, not a regular file",
    };
    Err(os_error::with_message(libc::EINVAL, message))
}

/// A mapping and its entry in the handler's registry, which is gone before the mapping is.
#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
    len: usize,
    registration: Registration,
}

// SAFETY: the pages are only read, and the registration is made of atomics.
unsafe impl Send for Region {}
// SAFETY: as for Send.
unsafe impl Sync for Region {}

impl Region {
    fn map(file: &File, len: usize) -> io::Result<Region> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the pages were just mapped. The advice changes nothing but read-ahead, so its failure is no matter.
        unsafe { libc::madvise(address, len, libc::MADV_SEQUENTIAL) };
        let start =
            NonNull::new(address.cast::<u8>()).expect("mmap never returns address 0 unasked");
        match Registration::new(address as usize, len) {
            Ok(registration) => Ok(Region {
                start,
                len,
                registration,
            }),
            Err(error) => {
                // SAFETY: nobody has seen the mapping.
                unsafe { libc::munmap(address, len) };
                Err(error)
            }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.registration.end();
        // SAFETY: `start` and `len` are those of the mapping, and no slice outlives the `Mapped` that owns it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
