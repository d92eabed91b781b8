//! One command while it runs.

use std::borrow::Cow;
use std::sync::Arc;

use super::command::Command;
use super::failure::{Failure, NOT_AN_INTEGER, WRONG_TYPE};
use super::keyspace::Keyspace;
use super::number::parse_i64;
use super::parser::Args;
use super::reply::Replies;
use super::session::{Place, Session};
use crate::engine::{Change, Entry, Kind};
use crate::server::Shared;

/// A command's arguments, where its reply goes, and what it may use.
pub(crate) struct Call<'c, 'd> {
    pub(crate) shared: &'c Arc<Shared>,
    pub(crate) session: &'c mut Session,
    pub(crate) command: &'static Command,
    pub(crate) args: Args<'c>,
    pub(crate) out: &'c mut Replies,
    pub(crate) keys: Keyspace<'c, 'd>,
    /// Whether EXEC runs it.
    pub(crate) in_exec: bool,
}

impl<'c> Call<'c, '_> {
    /// Argument `i` as an integer.
    pub(crate) fn integer(&self, i: usize) -> Result<i64, Failure> {
        parse_i64(self.args.at(i)).ok_or(NOT_AN_INTEGER)
    }

    /// Argument `i` in lower case, where it may be a word.
    pub(crate) fn word(&self, i: usize) -> Word {
        Word::of(self.args.at(i))
    }

    /// To be held while work is done that takes long; asked for before anything is changed.
    pub(crate) fn place(&mut self, is_heavy: bool) -> Result<Option<Place>, Failure> {
        // EXEC has one.
        self.session
            .take_place(self.shared, is_heavy && !self.in_exec)
    }

    /// Counts a look-up of one key.
    #[inline]
    pub(crate) fn count(&mut self, found: bool) {
        if found {
            self.session.hits += 1;
        } else {
            self.session.misses += 1;
        }
    }

    /// Reads a string under its key's lock; `f` gets None where there is none.
    #[inline]
    pub(crate) fn read_string<R>(
        &mut self,
        key: &[u8],
        f: impl FnOnce(Option<Entry<'_>>, &mut Replies) -> R,
    ) -> Result<R, Failure> {
        let out = &mut *self.out;
        let (found, result) = self.keys.read(self.keys.db, key, |entry| match entry {
            Some(entry) if !is_string(&entry) => (true, Err(WRONG_TYPE)),
            entry => (entry.is_some(), Ok(f(entry, out))),
        })?;
        self.count(found);
        result
    }

    /// The bytes of a string, for work that is done without the lock; empty where there is none.
    pub(crate) fn copy_string(&mut self, key: &[u8]) -> Result<Option<Bytes>, Failure> {
        self.read_string(key, |entry, _| entry.map(|entry| Bytes::of(&entry)))
    }

    /// Changes a string under its key's lock. `len` is how long it may become. Where `f` is asked again, what it has answered
    /// before is forgotten.
    pub(crate) fn change_string<R>(
        &mut self,
        key: &[u8],
        len: usize,
        event: Option<crate::engine::Event>,
        mut f: impl FnMut(Option<Entry<'_>>, &mut Replies) -> Result<(Change<'c>, R), Failure>,
    ) -> Result<R, Failure> {
        let out = &mut *self.out;
        let mark = out.mark();
        self.keys.modify(self.keys.db, key, len, event, |entry| {
            out.truncate(mark);
            match entry {
                Some(entry) if !is_string(&entry) => Err(WRONG_TYPE),
                entry => f(entry, out),
            }
        })
    }
}

/// Whether an entry holds a string.
#[inline]
pub(crate) fn is_string(entry: &Entry<'_>) -> bool {
    entry.kind == Kind::STRING
}

/// A value that outlives its lock: shared where it is large, else copied.
pub(crate) enum Bytes {
    Copied(Vec<u8>),
    Shared(crate::engine::Block),
}

impl Bytes {
    pub(crate) fn of(entry: &Entry<'_>) -> Bytes {
        match entry.value.share() {
            Some(block) => Bytes::Shared(block),
            None => Bytes::Copied(entry.value.as_slice().to_vec()),
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Copied(bytes) => bytes,
            Bytes::Shared(block) => block.value(),
        }
    }
}

/// An owned value for a change.
pub(crate) fn owned(value: Vec<u8>) -> Cow<'static, [u8]> {
    Cow::Owned(value)
}

/// An option's name in lower case, on the stack.
pub(crate) struct Word {
    bytes: [u8; 32],
    len: usize,
}

impl Word {
    /// Texts that are too long for an option's name become the empty word.
    pub(crate) fn of(text: &[u8]) -> Word {
        let mut bytes = [0; 32];
        let len = if text.len() <= 32 { text.len() } else { 0 };
        bytes[..len].copy_from_slice(&text[..len]);
        bytes[..len].make_ascii_lowercase();
        Word { bytes, len }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// Runs what may take over a millisecond, with a place for it: other connections of this thread go on elsewhere meanwhile.
pub(crate) fn heavy<R>(is_heavy: bool, work: impl FnOnce() -> R) -> R {
    if is_heavy {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
