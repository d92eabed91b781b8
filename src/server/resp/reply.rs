//! Replies, encoded in the version that the connection speaks.

use std::collections::VecDeque;

use super::number::Digits;
use crate::engine::{Block, ValueRef};

/// Values from this size on are sent from where the store keeps them.
pub(crate) const SHARED_FROM: usize = 64 << 10;

/// Encoded replies: bytes, and large values that go between them.
#[derive(Default)]
pub(crate) struct Replies {
    pub(crate) bytes: Vec<u8>,
    /// Before which of the bytes a value goes; in order.
    pub(crate) blocks: VecDeque<(usize, Block)>,
    block_bytes: usize,
    /// Whether version 3 is spoken.
    pub(crate) resp3: bool,
}

/// A place in the replies, to go back to.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    bytes: usize,
    blocks: usize,
}

impl Replies {
    /// Replies of one version.
    pub(crate) fn of_version(resp3: bool) -> Replies {
        Replies {
            resp3,
            ..Replies::default()
        }
    }

    /// Bytes that wait, large values included.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.block_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.blocks.is_empty()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            blocks: self.blocks.len(),
        }
    }

    /// Forgets what came after a mark.
    pub(crate) fn truncate(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        while self.blocks.len() > mark.blocks {
            if let Some((_, block)) = self.blocks.pop_back() {
                self.block_bytes -= block.value().len();
            }
        }
    }

    /// Puts bytes before what came after a mark.
    pub(crate) fn insert(&mut self, mark: Mark, bytes: &[u8]) {
        self.bytes
            .splice(mark.bytes..mark.bytes, bytes.iter().copied());
        for (at, _) in self.blocks.iter_mut().skip(mark.blocks) {
            *at += bytes.len();
        }
    }

    /// The first large value has been sent.
    pub(crate) fn pop_block(&mut self) {
        if let Some((_, block)) = self.blocks.pop_front() {
            self.block_bytes -= block.value().len();
        }
    }

    /// All bytes have been sent, and all values.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.blocks.clear();
        self.block_bytes = 0;
    }

    /// Appends what another one holds.
    pub(crate) fn append(&mut self, other: &mut Replies) {
        let start = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.block_bytes += other.block_bytes;
        self.blocks.extend(
            other
                .blocks
                .drain(..)
                .map(|(at, block)| (at + start, block)),
        );
        other.block_bytes = 0;
    }

    pub(crate) fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.bytes.push(b'+');
        self.line(text.as_bytes());
    }

    /// An error; `text` begins with its code. Line ends in it become spaces.
    pub(crate) fn error(&mut self, text: &[u8]) {
        self.bytes.push(b'-');
        let clean = |&byte: &u8| {
            if byte == b'\r' || byte == b'\n' {
                b' '
            } else {
                byte
            }
        };
        self.bytes.extend(text.iter().map(clean));
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, kind: u8, number: i64) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(Digits::of(number).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub(crate) fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// 1 or 0.
    pub(crate) fn flag(&mut self, yes: bool) {
        self.integer(i64::from(yes));
    }

    #[inline]
    pub(crate) fn bulk(&mut self, text: &[u8]) {
        self.bytes.reserve(text.len() + 16);
        self.header(b'$', text.len() as i64);
        self.line(text);
    }

    /// A value: shared where it is large, else copied.
    #[inline]
    pub(crate) fn value(&mut self, value: &ValueRef<'_>) {
        match value {
            ValueRef::Inline(text) => self.bulk(text),
            ValueRef::Shared(block) if block.value().len() < SHARED_FROM => {
                self.bulk(block.value())
            }
            ValueRef::Shared(block) => self.block(block.share()),
        }
    }

    /// A large value.
    pub(crate) fn block(&mut self, block: Block) {
        let len = block.value().len();
        self.header(b'$', len as i64);
        self.block_bytes += len;
        self.blocks.push_back((self.bytes.len(), block));
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// Text for people, of which version 3 says that it is plain text.
    pub(crate) fn verbatim(&mut self, text: &[u8]) {
        if self.resp3 {
            self.header(b'=', text.len() as i64 + 4);
            self.bytes.extend_from_slice(b"txt:");
            self.line(text);
        } else {
            self.bulk(text);
        }
    }

    #[inline]
    pub(crate) fn null(&mut self) {
        let null: &[u8] = if self.resp3 { b"_\r\n" } else { b"$-1\r\n" };
        self.bytes.extend_from_slice(null);
    }

    pub(crate) fn null_array(&mut self) {
        let null: &[u8] = if self.resp3 { b"_\r\n" } else { b"*-1\r\n" };
        self.bytes.extend_from_slice(null);
    }

    pub(crate) fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// So many pairs follow.
    pub(crate) fn map(&mut self, pairs: usize) {
        if self.resp3 {
            self.header(b'%', pairs as i64);
        } else {
            self.array(2 * pairs);
        }
    }

    pub(crate) fn set(&mut self, len: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, len as i64);
    }

    pub(crate) fn push(&mut self, len: usize) {
        self.header(if self.resp3 { b'>' } else { b'*' }, len as i64);
    }

    pub(crate) fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.array(texts.len());
        texts.for_each(|text| self.text(text));
    }

    /// A set of simple strings.
    pub(crate) fn simple_set(&mut self, texts: &[&str]) {
        self.set(texts.len());
        texts.iter().for_each(|text| self.simple(text));
    }
}
