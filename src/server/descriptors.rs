//! The descriptors of a server's sockets, so that the child of a fork can close them without a lock or an allocation.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Descriptors from here on are not noted: none is this high unless the limit was raised far beyond what connections need.
const MOST: usize = 1 << 18;

/// A set of descriptors, one bit each.
pub(crate) struct Descriptors(Box<[AtomicU64]>);

impl Default for Descriptors {
    fn default() -> Self {
        Descriptors((0..MOST / 64).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Descriptors {
    /// Notes a descriptor until the guard goes; drop it before the descriptor is closed.
    pub(crate) fn note(&self, fd: RawFd) -> Noted<'_> {
        self.note_for_good(fd);
        Noted { all: self, fd }
    }

    /// Notes a descriptor that stays open as long as the server, or until a guard for it goes.
    pub(crate) fn note_for_good(&self, fd: RawFd) {
        if let Some(word) = self.0.get(fd as usize / 64) {
            word.fetch_or(1 << (fd % 64), Ordering::SeqCst);
        }
    }

    /// Closes all, in a process that does not serve: the child of a fork.
    pub(crate) fn close_all(&self) {
        for (i, word) in self.0.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::SeqCst);
            while bits != 0 {
                let fd = (i * 64) as RawFd + bits.trailing_zeros() as RawFd;
                // SAFETY: the descriptor was this server's, whose threads do not exist in this process.
                unsafe { libc::close(fd) };
                bits &= bits - 1;
            }
        }
    }
}

/// A descriptor that is noted.
pub(crate) struct Noted<'a> {
    all: &'a Descriptors,
    fd: RawFd,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some(word) = self.all.0.get(self.fd as usize / 64) {
            word.fetch_and(!(1 << (self.fd % 64)), Ordering::SeqCst);
        }
    }
}
