//! The entries of one slot of the wheel: a chain of nodes of growing size, of which only the first one has room.
//! Knows no times.

use std::alloc::{Layout, alloc, dealloc};
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::slice;

use crate::{Error, Result};

/// Hashes that a node holds, by its class. Each size and malloc's own word fill a block of malloc to the last byte, and
/// the largest is the largest that malloc caches for each thread.
const CAPACITIES: [u8; 6] = [7, 15, 27, 59, 123, 251];

/// What a node begins with; its hashes follow.
#[repr(C)]
struct Header {
    next: Chain,
    /// Hashes in use.
    len: u8,
    capacity: u8,
    /// Nodes after this one, as far as it matters.
    depth: u8,
    hashes: [u32; 0],
}

/// A node, owned. One word, where a box of a slice would be two: with two the nodes cost 0.15 bytes an entry more.
pub(super) struct Node(NonNull<Header>);

// SAFETY: a node owns its memory and the nodes after it.
unsafe impl Send for Node {}
// SAFETY: it changes through `&mut` only.
unsafe impl Sync for Node {}

impl Node {
    /// An empty node of the size that is right before `depth` others.
    pub(super) fn try_new(depth: usize) -> Result<Node> {
        let capacity = CAPACITIES[class(depth)];
        // SAFETY: the layout has a size.
        let memory = unsafe { alloc(layout(capacity)) };
        let header = NonNull::new(memory.cast::<Header>()).ok_or(Error::OutOfMemory)?;
        let empty = Header {
            next: Chain(None),
            len: 0,
            capacity,
            depth: 0,
            hashes: [],
        };
        // SAFETY: the memory is ours, and larger than a header.
        unsafe { header.write(empty) };
        Ok(Node(header))
    }

    pub(super) fn capacity(&self) -> usize {
        usize::from(self.header().capacity)
    }

    /// Bytes that malloc holds for it.
    pub(super) fn bytes(&self) -> usize {
        malloc_bytes(layout(self.header().capacity).size())
    }

    #[inline]
    fn push(&mut self, hash: u32) -> bool {
        let Header { len, capacity, .. } = *self.header();
        if len == capacity {
            return false;
        }
        // SAFETY: there is memory for `capacity` hashes.
        unsafe { self.hashes().add(usize::from(len)).write(hash) };
        self.header_mut().len += 1;
        true
    }

    /// Moves the last hashes into `out`, as many as it holds, and returns their number.
    fn pop(&mut self, out: &mut [u32]) -> usize {
        let len = usize::from(self.header().len);
        // SAFETY: the first `len` hashes have been written, and nothing changes them while the slice lives.
        let hashes = unsafe { slice::from_raw_parts(self.hashes(), len) };
        let count = len.min(out.len());
        out[..count].copy_from_slice(&hashes[len - count..]);
        self.header_mut().len -= count as u8;
        count
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: written when the node was made.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as above, and the node is borrowed for as long.
        unsafe { self.0.as_mut() }
    }

    #[inline]
    fn hashes(&self) -> *mut u32 {
        // SAFETY: within the node's memory.
        unsafe { (&raw mut (*self.0.as_ptr()).hashes).cast() }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let layout = layout(self.header().capacity);
        // SAFETY: the node is ours, and was allocated by this layout.
        unsafe {
            ptr::drop_in_place(self.0.as_ptr());
            dealloc(self.0.as_ptr().cast(), layout);
        }
    }
}

fn layout(capacity: u8) -> Layout {
    // Not the header's size, which is rounded up.
    let size = offset_of!(Header, hashes) + usize::from(capacity) * size_of::<u32>();
    // SAFETY: the alignment is a type's own, and the size less than 2 KiB.
    unsafe { Layout::from_size_align_unchecked(size, align_of::<Header>()) }
}

/// One node of the first class, 3 of the next, 6, 12 and 24 of those after: the size grows by about ten hashes a node.
/// Then what all headers take and what is free in the first node are about equal, and their sum is least.
fn class(depth: usize) -> usize {
    let class = depth.div_ceil(3).checked_ilog2().map_or(0, |log| log + 1) as usize;
    class.min(CAPACITIES.len() - 1)
}

/// Hashes that the node before `depth` others holds.
pub(super) fn capacity_after(depth: usize) -> usize {
    usize::from(CAPACITIES[class(depth)])
}

/// Bytes that glibc's malloc takes for a block: a word of its own, rounded up to 16, 32 at least.
pub(super) fn malloc_bytes(size: usize) -> usize {
    match size {
        0 => 0,
        _ => (size + 8).next_multiple_of(16).max(32),
    }
}

/// Nodes, the newest first.
#[derive(Default)]
pub(super) struct Chain(Option<Node>);

impl Chain {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Hashes that can be added before another node is needed.
    pub(super) fn room(&self) -> usize {
        let Some(node) = &self.0 else { return 0 };
        node.capacity() - usize::from(node.header().len)
    }

    /// Number of nodes, as far as it matters for the size of the next one.
    pub(super) fn depth(&self) -> usize {
        let Some(node) = &self.0 else { return 0 };
        usize::from(node.header().depth) + 1
    }

    /// Adds a hash to the first node, and says whether it had room.
    #[inline]
    pub(super) fn push(&mut self, hash: u32) -> bool {
        self.0.as_mut().is_some_and(|node| node.push(hash))
    }

    /// Moves hashes into `out` while there are any, and frees the nodes that become empty. Returns the hashes moved and
    /// the bytes freed.
    pub(super) fn drain(&mut self, out: &mut [u32]) -> (usize, usize) {
        let (mut moved, mut freed) = (0, 0);
        while let Some(node) = &mut self.0 {
            moved += node.pop(&mut out[moved..]);
            if node.header().len > 0 {
                break;
            }
            freed += node.bytes();
            self.unlink();
        }
        (moved, freed)
    }

    pub(super) fn link(&mut self, mut node: Node) {
        let header = node.header_mut();
        header.depth = self.depth().try_into().unwrap_or(u8::MAX);
        header.next.0 = self.0.take();
        self.0 = Some(node);
    }

    pub(super) fn unlink(&mut self) -> Option<Node> {
        let mut node = self.0.take()?;
        self.0 = node.header_mut().next.0.take();
        Some(node)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.0.as_ref(), |node| node.header().next.0.as_ref())
    }
}

impl Drop for Chain {
    /// One by one: nodes that dropped each other would overflow the stack.
    fn drop(&mut self) {
        while self.unlink().is_some() {}
    }
}
