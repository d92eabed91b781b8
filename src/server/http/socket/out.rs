//! Frames on their way to a client: small ones together, large values as they lie in the store.

use std::collections::VecDeque;

use axum::body::Bytes;

use super::frame::{self, CloseCode, Kind};

/// Values from this length on are sent from where they lie.
const SHARED_FROM: usize = 64 << 10;
/// What is kept of the buffer for small frames once it is empty.
const KEPT: usize = 16 << 10;

/// What was not sent yet.
#[derive(Default)]
pub(in super::super) struct Out {
    parts: VecDeque<Bytes>,
    /// What comes after the parts.
    tail: Vec<u8>,
    /// Bytes of the tail that were sent; 0 while there are parts.
    sent: usize,
    unsent: usize,
}

impl Out {
    /// Bytes that were not sent yet.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// A message.
    pub(super) fn message(&mut self, kind: Kind, payload: &[u8]) {
        self.add(|tail| {
            frame::write_head(tail, kind, payload.len());
            tail.extend_from_slice(payload);
        });
    }

    /// A message of two parts, of which the second is not copied where it is large.
    pub(super) fn message_of(&mut self, kind: Kind, start: &[u8], rest: Bytes) {
        let is_small = rest.len() < SHARED_FROM;
        self.add(|tail| {
            frame::write_head(tail, kind, start.len() + rest.len());
            tail.extend_from_slice(start);
            if is_small {
                tail.extend_from_slice(&rest);
            }
        });
        if !is_small {
            self.end_tail();
            self.unsent += rest.len();
            self.parts.push_back(rest);
        }
    }

    /// What another has not sent, after what this one has not.
    pub(super) fn append(&mut self, other: Out) {
        debug_assert_eq!(other.sent, 0, "nothing of it was sent");
        self.unsent += other.unsent;
        if !other.parts.is_empty() {
            self.end_tail();
            self.parts.extend(other.parts);
        }
        self.tail.extend_from_slice(&other.tail);
    }

    /// Makes the tail a part, so that parts can follow it.
    fn end_tail(&mut self) {
        let mut before = Bytes::from(std::mem::take(&mut self.tail));
        before.advance_to(std::mem::take(&mut self.sent));
        if !before.is_empty() {
            self.parts.push_back(before);
        }
    }

    pub(super) fn ping(&mut self) {
        self.add(frame::write_ping);
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.add(|tail| frame::write_pong(tail, payload));
    }

    pub(super) fn close(&mut self, code: CloseCode) {
        self.add(|tail| frame::write_close(tail, code));
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.unsent += self.tail.len() - before;
    }

    /// What to send next; empty where all is sent.
    pub(super) fn next(&self) -> &[u8] {
        match self.parts.front() {
            Some(part) => part,
            None => &self.tail[self.sent..],
        }
    }

    /// So many bytes of [`Out::next`] were sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.unsent -= bytes;
        match self.parts.front_mut() {
            Some(part) => {
                part.advance_to(bytes);
                if part.is_empty() {
                    self.parts.pop_front();
                }
            }
            None => {
                self.sent += bytes;
                if self.sent == self.tail.len() {
                    self.sent = 0;
                    self.tail.clear();
                    if self.tail.capacity() > KEPT {
                        self.tail = Vec::new();
                    }
                }
            }
        }
    }
}

/// Leaves out the first bytes.
trait AdvanceTo {
    fn advance_to(&mut self, at: usize);
}

impl AdvanceTo for Bytes {
    fn advance_to(&mut self, at: usize) {
        *self = self.split_off(at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            messages in prop::collection::vec((0usize..200_000, any::<bool>()), 1..8),
            step in 1usize..100_000,
        ) {
            let (mut out, mut expected, mut sent) = (Out::default(), Vec::new(), Vec::new());
            for (i, (len, sends)) in messages.into_iter().enumerate() {
                let payload = vec![i as u8; len];
                frame::write_head(&mut expected, Kind::Binary, len + 2);
                expected.extend_from_slice(b"ab");
                expected.extend_from_slice(&payload);
                out.message_of(Kind::Binary, b"ab", Bytes::from(payload));
                if sends {
                    let next = out.next().len().min(step);
                    sent.extend_from_slice(&out.next()[..next]);
                    out.advance(next);
                }
                prop_assert_eq!(out.unsent(), expected.len() - sent.len());
            }
            while !out.next().is_empty() {
                let next = out.next().len().min(step);
                sent.extend_from_slice(&out.next()[..next]);
                out.advance(next);
            }
            prop_assert_eq!(out.unsent(), 0);
            prop_assert!(sent == expected);
        }
    }
}
