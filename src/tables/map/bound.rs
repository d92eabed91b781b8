//! Lower bounds of leaves, and how keys are searched among them.
//!
//! A bound has its first 16 bytes as a number beside it: a search compares numbers that lie next to each other, and follows
//! a pointer only where they are equal.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;

/// A place in the order of keys: a bound, or a key that is searched.
pub trait Place {
    /// The first 16 bytes, zeros after the end.
    fn head(&self) -> u128;
    /// All of it.
    fn bytes(&self) -> &[u8];
}

/// The lower bound of a leaf's keys.
#[derive(Clone, Default)]
pub struct LowerBound {
    head: u128,
    bytes: Box<[u8]>,
}

/// A key that is searched.
pub struct Probe<'a> {
    head: u128,
    bytes: &'a [u8],
}

impl LowerBound {
    pub fn new(bytes: &[u8]) -> Self {
        LowerBound {
            head: head_of(bytes),
            bytes: bytes.into(),
        }
    }
}

impl<'a> Probe<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Probe {
            head: head_of(bytes),
            bytes,
        }
    }
}

impl Place for LowerBound {
    fn head(&self) -> u128 {
        self.head
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Place for Probe<'_> {
    fn head(&self) -> u128 {
        self.head
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

/// The bounds that are not above a key.
pub fn up_to<'a>(key: &'a Probe<'_>) -> (Bound<&'a dyn Place>, Bound<&'a dyn Place>) {
    (Bound::Unbounded, Bound::Included(key))
}

fn head_of(bytes: &[u8]) -> u128 {
    let mut head = [0; 16];
    let len = bytes.len().min(head.len());
    head[..len].copy_from_slice(&bytes[..len]);
    u128::from_be_bytes(head)
}

/// Heads that differ are in the order of the bytes; equal ones say nothing.
fn compare(a: (u128, &[u8]), b: (u128, &[u8])) -> Ordering {
    a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1))
}

impl Ord for LowerBound {
    fn cmp(&self, other: &Self) -> Ordering {
        compare((self.head, &self.bytes), (other.head, &other.bytes))
    }
}

impl PartialOrd for LowerBound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for LowerBound {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for LowerBound {}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare((self.head(), self.bytes()), (other.head(), other.bytes()))
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

impl<'a> Borrow<dyn Place + 'a> for LowerBound {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}
