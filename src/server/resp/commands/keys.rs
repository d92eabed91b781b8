//! Keys whatever they hold: DEL, RENAME, COPY, MOVE, OBJECT, DUMP and their kin.

use std::borrow::Cow;

use super::strings::LARGE;
use crate::engine::{Change, Databases, Event, Ttl};
use crate::server::resp::call::{Bytes, Call, heavy, is_string};
use crate::server::resp::expiry;
use crate::server::resp::failure::{
    Failure, NO_SUCH_KEY, NOT_AN_INTEGER, SAME_OBJECT, SYNTAX, fixed,
};
use crate::server::resp::number::parse_i64;
use crate::server::resp::rdb::{self, Refused};

type Done = Result<(), Failure>;

pub(crate) const DB_OUT_OF_RANGE: Failure = fixed("ERR DB index is out of range");

pub(crate) fn del(call: &mut Call<'_, '_>) -> Done {
    let (args, db) = (call.args, call.keys.db);
    let mut deleted = 0;
    for key in args.from(1).iter() {
        deleted += i64::from(call.keys.delete(db, key, Event::Del)?);
    }
    call.out.integer(deleted);
    Ok(())
}

pub(crate) fn exists(call: &mut Call<'_, '_>) -> Done {
    let (args, db) = (call.args, call.keys.db);
    let mut found = 0;
    for key in args.from(1).iter() {
        let there = call.keys.exists(db, key)?;
        call.count(there);
        found += i64::from(there);
    }
    call.out.integer(found);
    Ok(())
}

pub(crate) fn type_of(call: &mut Call<'_, '_>) -> Done {
    let (db, key) = (call.keys.db, call.args.at(1));
    let name = call.keys.read(db, key, |entry| match entry {
        None => "none",
        Some(entry) if is_string(&entry) => "string",
        Some(_) => "other",
    })?;
    call.out.simple(name);
    Ok(())
}

/// A value that outlives its lock, and its deadline.
struct Copied {
    value: Bytes,
    expires_at: Option<u64>,
}

impl Copied {
    fn ttl(&self) -> Ttl {
        self.expires_at.map_or(Ttl::Never, |at| Ttl::At(at as i64))
    }
}

fn copy_of(call: &mut Call<'_, '_>, db: u8, key: &[u8]) -> Result<Option<Copied>, Failure> {
    call.keys.read(db, key, |entry| {
        entry.map(|entry| Copied {
            value: Bytes::of(&entry),
            expires_at: entry.expires_at,
        })
    })
}

pub(crate) fn rename(call: &mut Call<'_, '_>) -> Done {
    rename_if(call, true)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn renamenx(call: &mut Call<'_, '_>) -> Done {
    let done = rename_if(call, false)?;
    call.out.flag(done);
    Ok(())
}

fn rename_if(call: &mut Call<'_, '_>, overwrites: bool) -> Result<bool, Failure> {
    let (db, from, to) = (call.keys.db, call.args.at(1), call.args.at(2));
    let copied = copy_of(call, db, from)?.ok_or(NO_SUCH_KEY)?;
    if from == to {
        return Ok(overwrites);
    }
    if call.keys.exists(db, to)? {
        if !overwrites {
            return Ok(false);
        }
        call.keys.delete(db, to, Event::Silent)?;
    }
    call.keys
        .set(db, to, &copied.value, copied.ttl(), Event::Silent)?;
    call.keys.delete(db, from, Event::RenameFrom)?;
    call.keys.tell(db, to, Event::RenameTo)?;
    Ok(true)
}

pub(crate) fn copy(call: &mut Call<'_, '_>) -> Done {
    let db = call.keys.db;
    let (from, to) = (call.args.at(1), call.args.at(2));
    let (mut target, mut replaces) = (db, false);
    let mut at = 3;
    while at < call.args.len() {
        match call.word(at).as_str() {
            "replace" => replaces = true,
            "db" if at + 1 < call.args.len() => {
                at += 1;
                target = database_of(call.args.at(at))?;
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    if target == db && from == to {
        return Err(SAME_OBJECT);
    }
    let Some(copied) = copy_of(call, db, from)? else {
        call.out.integer(0);
        return Ok(());
    };
    if call.keys.exists(target, to)? {
        if !replaces {
            call.out.integer(0);
            return Ok(());
        }
        call.keys.delete(target, to, Event::Silent)?;
    }
    call.keys
        .set(target, to, &copied.value, copied.ttl(), Event::CopyTo)?;
    call.out.integer(1);
    Ok(())
}

/// A database's number.
pub(crate) fn database_of(text: &[u8]) -> Result<u8, Failure> {
    let number = parse_i64(text).ok_or(NOT_AN_INTEGER)?;
    u8::try_from(number)
        .ok()
        .filter(|&db| db < Databases::COUNT)
        .ok_or(DB_OUT_OF_RANGE)
}

pub(crate) fn move_to(call: &mut Call<'_, '_>) -> Done {
    let (db, key) = (call.keys.db, call.args.at(1));
    let target = match parse_i64(call.args.at(2)) {
        Some(number) if number < 0 || number > i64::from(i32::MAX) => return Err(DB_OUT_OF_RANGE),
        Some(_) => database_of(call.args.at(2))?,
        None => return Err(NOT_AN_INTEGER),
    };
    if target == db {
        return Err(SAME_OBJECT);
    }
    let Some(copied) = copy_of(call, db, key)? else {
        call.out.integer(0);
        return Ok(());
    };
    if call.keys.exists(target, key)? {
        call.out.integer(0);
        return Ok(());
    }
    call.keys
        .set(target, key, &copied.value, copied.ttl(), Event::Silent)?;
    call.keys.delete(db, key, Event::MoveFrom)?;
    call.keys.tell(target, key, Event::MoveTo)?;
    call.out.integer(1);
    Ok(())
}

pub(crate) fn randomkey(call: &mut Call<'_, '_>) -> Done {
    match call.keys.random_key(call.keys.db)? {
        Some(key) => call.out.bulk(&key),
        None => call.out.null(),
    }
    Ok(())
}

pub(crate) fn object_encoding(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(2);
    call.read_string(key, |entry, out| match entry {
        Some(entry) => out.text(encoding(entry.value.as_slice())),
        None => out.null(),
    })
}

/// How Redis would hold a string.
fn encoding(value: &[u8]) -> &'static str {
    if value.len() <= 20 && parse_i64(value).is_some() {
        "int"
    } else if value.len() <= 44 {
        "embstr"
    } else {
        "raw"
    }
}

fn object_number(call: &mut Call<'_, '_>, number: i64) -> Done {
    let (db, key) = (call.keys.db, call.args.at(2));
    if call.keys.exists(db, key)? {
        call.out.integer(number);
    } else {
        call.out.null();
    }
    Ok(())
}

pub(crate) fn object_refcount(call: &mut Call<'_, '_>) -> Done {
    object_number(call, 1)
}

pub(crate) fn object_idletime(call: &mut Call<'_, '_>) -> Done {
    object_number(call, 0)
}

pub(crate) fn object_freq(call: &mut Call<'_, '_>) -> Done {
    let (db, key) = (call.keys.db, call.args.at(2));
    if !call.keys.exists(db, key)? {
        call.out.null();
        return Ok(());
    }
    Err(fixed(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

pub(crate) fn dump(call: &mut Call<'_, '_>) -> Done {
    match call.copy_string(call.args.at(1))? {
        Some(value) => {
            let is_heavy = value.len() > LARGE;
            let _place = call.place(is_heavy)?;
            heavy(is_heavy, || call.out.bulk(&rdb::dump(&value)));
        }
        None => call.out.null(),
    }
    Ok(())
}

pub(crate) fn restore(call: &mut Call<'_, '_>) -> Done {
    let (mut replaces, mut is_absolute) = (false, false);
    let (mut has_idle, mut has_freq) = (false, false);
    let mut at = 4;
    while at < call.args.len() {
        let more = at + 1 < call.args.len();
        match call.word(at).as_str() {
            "replace" => replaces = true,
            "absttl" => is_absolute = true,
            "idletime" if more && !has_freq => {
                has_idle = true;
                at += 1;
                if call.integer(at)? < 0 {
                    return Err(fixed("ERR Invalid IDLETIME value, must be >= 0"));
                }
            }
            "freq" if more && !has_idle => {
                has_freq = true;
                at += 1;
                if !(0..=255).contains(&call.integer(at)?) {
                    return Err(fixed("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    let (db, key) = (call.keys.db, call.args.at(1));
    const BUSY: Failure = fixed("BUSYKEY Target key name already exists.");
    if !replaces && call.keys.exists(db, key)? {
        return Err(BUSY);
    }
    let number = call.integer(2)?;
    if number < 0 {
        return Err(fixed("ERR Invalid TTL value, must be >= 0"));
    }
    let value = rdb::restore(call.args.at(3), call.shared.config.limits.max_value).map_err(
        |why| match why {
            Refused::Footer => fixed("ERR DUMP payload version or checksum are wrong"),
            Refused::Format => fixed("ERR Bad data format"),
        },
    )?;
    let ttl = match number {
        0 => Ttl::Never,
        _ => Ttl::At(expiry::deadline(
            number,
            expiry::Unit::Milliseconds,
            is_absolute,
            call.keys.now(),
            "restore",
        )?),
    };
    let now = call.keys.now();
    if matches!(ttl, Ttl::At(deadline) if deadline <= now) {
        if replaces {
            call.keys.delete(db, key, Event::Del)?;
        }
    } else {
        let event = Some(Event::Restore);
        call.keys
            .modify(db, key, value.len(), event, |entry| match entry {
                Some(_) if !replaces => Err(BUSY),
                _ => Ok((Change::Set(Cow::Borrowed(&value), ttl), ())),
            })?;
    }
    call.out.ok();
    Ok(())
}
