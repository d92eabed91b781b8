//! GET, SET and their kin.

use std::borrow::Cow;

use crate::engine::{Change, Event, Ttl};
use crate::server::resp::call::{Call, heavy, is_string, owned};
use crate::server::resp::expiry::{self, Unit};
use crate::server::resp::failure::{Failure, SYNTAX, TOO_LONG, WRONG_TYPE, wrong_arity};
use crate::server::resp::failure::{NOT_A_FLOAT, NOT_AN_INTEGER, OVERFLOW, fixed};
use crate::server::resp::number::{Digits, NoSum, add_decimals, parse_i64};

type Done = Result<(), Failure>;

/// Bytes from which on a value is written, or its bits are counted, apart from the network's threads.
pub(super) const LARGE: usize = 1 << 20;

pub(crate) fn get(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(1);
    call.read_string(key, |entry, out| match entry {
        Some(entry) => out.value(&entry.value),
        None => out.null(),
    })
}

/// What a write depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum If {
    Always,
    Missing,
    There,
}

/// Options of SET and GETEX.
struct Options {
    condition: If,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    /// The argument of the deadline, its unit, and whether it is absolute.
    deadline: Option<(usize, Unit, bool)>,
}

fn options(call: &Call<'_, '_>, from: usize, is_set: bool) -> Result<Options, Failure> {
    let mut options = Options {
        condition: If::Always,
        get: false,
        keep_ttl: false,
        persist: false,
        deadline: None,
    };
    let mut at = from;
    while at < call.args.len() {
        let has_expiry = options.keep_ttl || options.persist || options.deadline.is_some();
        let more = at + 1 < call.args.len();
        match call.word(at).as_str() {
            "nx" if is_set && options.condition != If::There => options.condition = If::Missing,
            "xx" if is_set && options.condition != If::Missing => options.condition = If::There,
            "get" if is_set => options.get = true,
            "keepttl" if is_set && !options.persist && options.deadline.is_none() => {
                options.keep_ttl = true
            }
            "persist" if !is_set && !options.keep_ttl && options.deadline.is_none() => {
                options.persist = true
            }
            word @ ("ex" | "px" | "exat" | "pxat") if !has_expiry && more => {
                let unit = if word.starts_with('e') {
                    Unit::Seconds
                } else {
                    Unit::Milliseconds
                };
                at += 1;
                options.deadline = Some((at, unit, word.len() == 4));
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    Ok(options)
}

impl Options {
    /// The deadline, in milliseconds since 1970.
    fn deadline(&self, call: &Call<'_, '_>) -> Result<Option<i64>, Failure> {
        let Some((at, unit, is_absolute)) = self.deadline else {
            return Ok(None);
        };
        let number = call.integer(at)?;
        if number <= 0 {
            return Err(expiry::invalid(call.command.name));
        }
        expiry::deadline(
            number,
            unit,
            is_absolute,
            call.keys.now(),
            call.command.name,
        )
        .map(Some)
    }
}

pub(crate) fn set(call: &mut Call<'_, '_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(2));
    if call.args.len() == 3 {
        call.keys
            .set(call.keys.db, key, value, Ttl::Default, Event::Set)?;
        call.out.ok();
        return Ok(());
    }
    let options = options(call, 3, true)?;
    let ttl = options.deadline(call)?.map_or(Ttl::Default, Ttl::At);
    let get = options.get;
    let out = &mut *call.out;
    let db = call.keys.db;
    let written = call.keys.modify(db, key, value.len(), None, |entry| {
        if get {
            match &entry {
                Some(entry) if !is_string(entry) => return Err(WRONG_TYPE),
                Some(entry) => out.value(&entry.value),
                None => out.null(),
            }
        }
        let writes = match options.condition {
            If::Always => true,
            If::Missing => entry.is_none(),
            If::There => entry.is_some(),
        };
        let change = match (writes, options.keep_ttl && entry.is_some()) {
            (false, _) => Change::Keep,
            (true, true) => Change::Put(Cow::Borrowed(value)),
            (true, false) => Change::Set(Cow::Borrowed(value), ttl),
        };
        Ok((change, writes))
    })?;
    match (get, written) {
        (true, _) => {}
        (false, true) => call.out.ok(),
        (false, false) => call.out.null(),
    }
    Ok(())
}

pub(crate) fn setnx(call: &mut Call<'_, '_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(2));
    let db = call.keys.db;
    let written = call.keys.modify(db, key, value.len(), None, |entry| {
        Ok(match entry {
            Some(_) => (Change::Keep, false),
            None => (Change::Set(Cow::Borrowed(value), Ttl::Default), true),
        })
    })?;
    call.out.flag(written);
    Ok(())
}

fn set_for(call: &mut Call<'_, '_>, unit: Unit) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(3));
    let number = call.integer(2)?;
    if number <= 0 {
        return Err(expiry::invalid(call.command.name));
    }
    let deadline = expiry::deadline(number, unit, false, call.keys.now(), call.command.name)?;
    call.keys
        .set(call.keys.db, key, value, Ttl::At(deadline), Event::Set)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn setex(call: &mut Call<'_, '_>) -> Done {
    set_for(call, Unit::Seconds)
}

pub(crate) fn psetex(call: &mut Call<'_, '_>) -> Done {
    set_for(call, Unit::Milliseconds)
}

pub(crate) fn getset(call: &mut Call<'_, '_>) -> Done {
    let (key, value) = (call.args.at(1), call.args.at(2));
    let found = call.change_string(key, value.len(), None, |entry, out| {
        let found = entry.is_some();
        match entry {
            Some(entry) => out.value(&entry.value),
            None => out.null(),
        }
        Ok((Change::Set(Cow::Borrowed(value), Ttl::Default), found))
    })?;
    call.count(found);
    Ok(())
}

pub(crate) fn getdel(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(1);
    let found = call.change_string(key, 0, None, |entry, out| {
        Ok(match entry {
            Some(entry) => {
                out.value(&entry.value);
                (Change::Delete, true)
            }
            None => {
                out.null();
                (Change::Keep, false)
            }
        })
    })?;
    call.count(found);
    Ok(())
}

pub(crate) fn getex(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(1);
    let options = options(call, 2, false)?;
    if !call.keys.exists(call.keys.db, key)? {
        // A deadline that is none is an error only where there is a key.
        call.count(false);
        call.out.null();
        return Ok(());
    }
    let deadline = options.deadline(call)?;
    let found = call.change_string(key, 0, None, |entry, out| {
        let Some(entry) = entry else {
            out.null();
            return Ok((Change::Keep, false));
        };
        let change = match deadline {
            Some(deadline) => Change::Expire(Ttl::At(deadline)),
            None if options.persist && entry.time_left.is_some() => Change::Expire(Ttl::Never),
            None => Change::Keep,
        };
        out.value(&entry.value);
        Ok((change, true))
    })?;
    call.count(found);
    Ok(())
}

pub(crate) fn mget(call: &mut Call<'_, '_>) -> Done {
    let keys = call.args.from(1);
    call.out.array(keys.len());
    let db = call.keys.db;
    for key in keys.iter() {
        let out = &mut *call.out;
        let found = call.keys.read(db, key, |entry| match entry {
            Some(entry) if is_string(&entry) => {
                out.value(&entry.value);
                true
            }
            _ => {
                out.null();
                false
            }
        })?;
        call.count(found);
    }
    Ok(())
}

pub(crate) fn mset(call: &mut Call<'_, '_>) -> Done {
    check_pairs(call)?;
    set_pairs(call)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn msetnx(call: &mut Call<'_, '_>) -> Done {
    check_pairs(call)?;
    let db = call.keys.db;
    for at in (1..call.args.len()).step_by(2) {
        if call.keys.exists(db, call.args.at(at))? {
            call.out.integer(0);
            return Ok(());
        }
    }
    set_pairs(call)?;
    call.out.integer(1);
    Ok(())
}

fn check_pairs(call: &Call<'_, '_>) -> Done {
    if call.args.len().is_multiple_of(2) {
        return Err(wrong_arity(call.command.name));
    }
    Ok(())
}

fn set_pairs(call: &mut Call<'_, '_>) -> Done {
    let (args, db) = (call.args, call.keys.db);
    for at in (1..args.len()).step_by(2) {
        call.keys
            .set(db, args.at(at), args.at(at + 1), Ttl::Default, Event::Set)?;
    }
    Ok(())
}

fn add(call: &mut Call<'_, '_>, delta: i64) -> Done {
    let key = call.args.at(1);
    let sum = call.change_string(key, 20, Some(Event::IncrBy), |entry, _| {
        let old = match &entry {
            Some(entry) => parse_i64(entry.value.as_slice()).ok_or(NOT_AN_INTEGER)?,
            None => 0,
        };
        let sum = old.checked_add(delta).ok_or(OVERFLOW)?;
        let text = owned(Digits::of(sum).as_bytes().to_vec());
        Ok((Change::Put(text), sum))
    })?;
    call.out.integer(sum);
    Ok(())
}

pub(crate) fn incr(call: &mut Call<'_, '_>) -> Done {
    add(call, 1)
}

pub(crate) fn decr(call: &mut Call<'_, '_>) -> Done {
    add(call, -1)
}

pub(crate) fn incrby(call: &mut Call<'_, '_>) -> Done {
    let delta = call.integer(2)?;
    add(call, delta)
}

pub(crate) fn decrby(call: &mut Call<'_, '_>) -> Done {
    let delta = call
        .integer(2)?
        .checked_neg()
        .ok_or(fixed("ERR decrement would overflow"))?;
    add(call, delta)
}

pub(crate) fn incrbyfloat(call: &mut Call<'_, '_>) -> Done {
    let (key, delta) = (call.args.at(1), call.args.at(2));
    let sum = call.change_string(key, 64, Some(Event::IncrByFloat), |entry, _| {
        let old = entry
            .as_ref()
            .map_or(&b"0"[..], |entry| entry.value.as_slice());
        let sum = add_decimals(old, delta).map_err(|why| match why {
            NoSum::First | NoSum::Second => NOT_A_FLOAT,
            NoSum::Overflow => fixed("ERR increment would produce NaN or Infinity"),
        })?;
        Ok((Change::Put(owned(sum.clone())), sum))
    })?;
    call.out.bulk(&sum);
    Ok(())
}

pub(crate) fn append(call: &mut Call<'_, '_>) -> Done {
    let (key, tail) = (call.args.at(1), call.args.at(2));
    let most = call.shared.config.limits.max_value;
    let room = call.room_to_write(key, None, tail.len())?;
    let len = call.change_string(key, room, Some(Event::Append), |entry, _| {
        let len = entry.as_ref().map_or(0, |entry| entry.value.len()) + tail.len();
        if len > most {
            return Err(TOO_LONG);
        }
        let change = match entry {
            Some(_) => Change::Append(tail),
            None => Change::Set(Cow::Borrowed(tail), Ttl::Default),
        };
        Ok((change, len))
    })?;
    call.out.integer(len as i64);
    Ok(())
}

pub(crate) fn strlen(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(1);
    call.read_string(key, |entry, out| {
        out.integer(entry.map_or(0, |entry| entry.value.len()) as i64)
    })
}

/// The part of `len` bytes from `start` to `end`, which count from the end where negative.
pub(crate) fn part(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if len == 0 || start > end {
        return 0..0;
    }
    start as usize..end as usize + 1
}

pub(crate) fn getrange(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(1);
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let mut large = None;
    call.read_string(key, |entry, out| {
        let Some(entry) = entry else {
            return out.bulk(b"");
        };
        let range = part(start, end, entry.value.len());
        match &entry.value {
            // Copied without the lock.
            value if range.len() > LARGE => large = value.share().map(|block| (block, range)),
            value => out.bulk(&value.as_slice()[range]),
        }
    })?;
    if let Some((block, range)) = large {
        let _place = call.place(true)?;
        heavy(true, || call.out.bulk(&block.value()[range]));
    }
    Ok(())
}

pub(crate) fn setrange(call: &mut Call<'_, '_>) -> Done {
    let (key, patch) = (call.args.at(1), call.args.at(3));
    let offset = call.integer(2)?;
    let offset = usize::try_from(offset).map_err(|_| fixed("ERR offset is out of range"))?;
    let most = call.shared.config.limits.max_value;
    let end = offset
        .checked_add(patch.len())
        .filter(|&end| patch.is_empty() || end <= most);
    let room = match end {
        Some(end) => call.room_to_write(key, Some(offset), end - offset)?,
        None => 0,
    };
    let _place = call.place(room > LARGE)?;
    let len = heavy(room > LARGE, || {
        call.change_string(key, room, Some(Event::SetRange), |entry, _| {
            let len = entry.as_ref().map_or(0, |entry| entry.value.len());
            if patch.is_empty() {
                return Ok((Change::Keep, len));
            }
            let end = end.ok_or(TOO_LONG)?;
            Ok((Change::Write(offset, Cow::Borrowed(patch)), len.max(end)))
        })
    })?;
    call.out.integer(len as i64);
    Ok(())
}

impl Call<'_, '_> {
    /// Bytes for which there has to be memory so that so many can be written at a place of a value, or behind its end; 0 where
    /// that is done in place.
    pub(crate) fn room_to_write(
        &mut self,
        key: &[u8],
        at: Option<usize>,
        bytes: usize,
    ) -> Result<usize, Failure> {
        let db = self.keys.db;
        self.keys.read(db, key, |entry| match entry {
            Some(entry) => {
                let at = at.unwrap_or(entry.value.len());
                entry.value.room_to_write(at + bytes)
            }
            None => at.unwrap_or(0) + bytes,
        })
    }
}
