//! Operations that stand on the store's one read-modify-write.

use std::borrow::Cow;
use std::io::Write;

use super::events::Event;
use super::record::ValueRef;
use super::shard::{Change, Popped};
use super::store::{Store, Wait};
use super::table::{try_copy, try_reserve_exact};
use super::ttl::Ttl;
use crate::limits::SMALL_VALUE_LEN;
use crate::{Error, Result};

/// Of a 64-bit integer, its sign included.
const MAX_DIGITS: usize = 20;

impl Store {
    /// Adds `delta` to a decimal 64-bit integer and returns the sum; a missing key counts as `initial`, and is created with
    /// `ttl`.
    ///
    /// # Errors
    /// [`Error::NotAnInteger`], [`Error::IntegerOverflow`], and those of [`Store::set_with`]; [`Error::WouldBlock`] too for a long
    /// value where `wait` is [`Wait::Try`].
    pub fn incr(&self, key: &[u8], delta: i64, initial: i64, ttl: Ttl, wait: Wait) -> Result<i64> {
        self.modify_as(key, 0, wait, Some(Event::IncrBy), |entry| {
            let created = entry.is_none();
            let len = entry.as_ref().map_or(0, |e| e.value.len());
            if len > SMALL_VALUE_LEN && wait == Wait::Try {
                return Err(Error::WouldBlock);
            }
            let old = entry.map_or(Ok(initial), |e| parse_integer(e.value.as_slice()))?;
            let new = old.checked_add(delta).ok_or(Error::IntegerOverflow)?;
            let mut text = Vec::new();
            try_reserve_exact(&mut text, MAX_DIGITS)?;
            // Writing into a vector fails only where it cannot grow, and it need not.
            let _ = write!(text, "{new}");
            let text = Cow::Owned(text);
            let change = if created {
                Change::Set(text, ttl)
            } else {
                Change::Put(text)
            };
            Ok((change, new))
        })
    }

    /// Appends to a value and returns its new length in bytes; a missing key counts as empty. O(length of the tail), amortized.
    ///
    /// # Errors
    /// Those of [`Store::set`]; [`Error::WouldBlock`] too for a long value where `wait` is [`Wait::Try`].
    pub fn append(&self, key: &[u8], tail: &[u8], wait: Wait) -> Result<usize> {
        let mut room = tail.len();
        loop {
            let mut needed = 0;
            let appended = self.modify_up_to(key, room, wait, |entry| {
                let old = entry.as_ref().map_or(0, |e| e.value.len());
                if old > SMALL_VALUE_LEN && wait == Wait::Try {
                    return Err(Error::WouldBlock);
                }
                needed = entry.map_or(0, |e| e.value.room_to_write(old + tail.len()));
                // What it takes is known only now.
                let fits = needed <= room || !self.is_bounded_in_bytes();
                let change = if fits {
                    Change::Append(tail)
                } else {
                    Change::Keep
                };
                Ok((change, fits.then_some(old + tail.len())))
            })?;
            match appended {
                Some(len) => return Ok(len),
                None => room = needed,
            }
        }
    }

    /// Writes a value where the key is missing, and returns whether it was.
    ///
    /// # Errors
    /// Those of [`Store::set_with`].
    pub fn add(&self, key: &[u8], value: &[u8], ttl: Ttl, wait: Wait) -> Result<bool> {
        Ok(self.setdefault(key, value, ttl, wait, |_| ())?.is_none())
    }

    /// Calls `f` with the value that is there; where there is none, writes `value` and returns None.
    ///
    /// # Errors
    /// Those of [`Store::set_with`].
    pub fn setdefault<R>(
        &self,
        key: &[u8],
        value: &[u8],
        ttl: Ttl,
        wait: Wait,
        mut f: impl FnMut(ValueRef<'_>) -> R,
    ) -> Result<Option<R>> {
        self.modify_up_to(key, value.len(), wait, |old| {
            Ok(match old {
                Some(old) => (Change::Keep, Some(f(old.value))),
                None => (Change::Set(Cow::Borrowed(value), ttl), None),
            })
        })
    }

    /// Takes a key out and calls `f` with its value; None where it was not there.
    ///
    /// # Errors
    /// Those of [`Store::delete`].
    pub fn pop<R>(
        &self,
        key: &[u8],
        wait: Wait,
        f: impl FnOnce(ValueRef<'_>) -> R,
    ) -> Result<Option<R>> {
        self.reduce(key, wait, |old| {
            Ok((Change::Delete, old.map(|entry| f(entry.value))))
        })
    }

    /// Takes a key out with all that belongs to it; None where it was not there. O(length of the value).
    ///
    /// # Errors
    /// Those of [`Store::delete`]; [`Error::OutOfMemory`], and then it stays.
    pub fn take(&self, key: &[u8]) -> Result<Option<Popped>> {
        self.reduce(key, Wait::Block, |entry| {
            let Some(entry) = entry else {
                return Ok((Change::Keep, None));
            };
            let mut popped = Popped {
                key: Vec::new(),
                value: Vec::new(),
                time_left: entry.time_left,
                order: self.place(key).1,
            };
            try_copy(&mut popped.key, key)?;
            try_copy(&mut popped.value, entry.value.as_slice())?;
            Ok((Change::Delete, Some(popped)))
        })
    }

    /// Writes `new` where the value is `expected` (None: where the key is missing), and returns whether.
    ///
    /// # Errors
    /// Those of [`Store::set`].
    pub fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: &[u8],
        wait: Wait,
    ) -> Result<bool> {
        self.modify_up_to(key, new.len(), wait, |old| {
            if old.as_ref().map(|entry| entry.value.as_slice()) == expected {
                Ok((Change::Put(Cow::Borrowed(new)), true))
            } else {
                Ok((Change::Keep, false))
            }
        })
    }
}

impl Store {
    /// Gives a key another time to live; false where it is missing.
    ///
    /// # Errors
    /// Those of [`Store::set_with`].
    pub fn touch(&self, key: &[u8], ttl: Ttl, wait: Wait) -> Result<bool> {
        self.modify(key, wait, |entry| {
            Ok((Change::Expire(ttl), entry.is_some()))
        })
    }

    /// Keeps a key from expiring; returns whether it would have.
    ///
    /// # Errors
    /// Those of [`Store::set`].
    pub fn persist(&self, key: &[u8], wait: Wait) -> Result<bool> {
        self.reduce(key, wait, |entry| {
            let expires = entry.is_some_and(|entry| entry.time_left.is_some());
            let change = if expires {
                Change::Expire(Ttl::Never)
            } else {
                Change::Keep
            };
            Ok((change, expires))
        })
    }
}

/// A decimal integer, with an optional minus and nothing around it.
fn parse_integer(text: &[u8]) -> Result<i64> {
    if text.first() == Some(&b'+') {
        return Err(Error::NotAnInteger);
    }
    let text = std::str::from_utf8(text).map_err(|_| Error::NotAnInteger)?;
    text.parse().map_err(|_| Error::NotAnInteger)
}
