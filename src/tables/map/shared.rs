//! A value of its own, counted: one piece of memory with the count before the bytes. `Arc` cannot be made fallibly.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use crate::{Error, Result};

#[repr(C)]
struct Header {
    count: AtomicUsize,
    len: usize,
}

/// Bytes that several readers share. They never change.
#[derive(Debug)]
pub struct Shared {
    header: NonNull<Header>,
}

// SAFETY: the bytes are written before the first handle is there and never again; the count is atomic.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// A copy of some bytes.
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        let layout = layout(bytes.len()).ok_or(Error::OutOfMemory)?;
        // SAFETY: the layout is not empty, for it has a header.
        let header = NonNull::new(unsafe { alloc(layout) }.cast::<Header>());
        let header = header.ok_or(Error::OutOfMemory)?;
        // SAFETY: the memory is fresh, aligned for a header, and has room for it and the bytes behind it.
        unsafe {
            header.write(Header {
                count: AtomicUsize::new(1),
                len: bytes.len(),
            });
            let data = header.add(1).cast::<u8>();
            data.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        Ok(Shared { header })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the header lives as long as a handle, and `len` bytes behind it have been written.
        unsafe {
            let len = self.header.as_ref().len;
            std::slice::from_raw_parts(self.header.add(1).cast::<u8>().as_ptr(), len)
        }
    }

    /// Bytes of memory.
    pub fn allocated(&self) -> usize {
        size_of::<Header>() + self.as_slice().len()
    }

    fn count(&self) -> &AtomicUsize {
        // SAFETY: the header lives as long as a handle.
        unsafe { &self.header.as_ref().count }
    }
}

impl Clone for Shared {
    fn clone(&self) -> Self {
        // There are as many handles as fit into memory, so the count cannot overflow.
        self.count().fetch_add(1, Ordering::Relaxed);
        Shared {
            header: self.header,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.count().fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        if let Some(layout) = layout(self.as_slice().len()) {
            // SAFETY: this was the last handle, and the memory was allocated with this layout.
            unsafe { dealloc(self.header.as_ptr().cast(), layout) };
        }
    }
}

fn layout(len: usize) -> Option<Layout> {
    let size = size_of::<Header>().checked_add(len)?;
    Layout::from_size_align(size, align_of::<Header>()).ok()
}
