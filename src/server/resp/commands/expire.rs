//! Times to live: EXPIRE and its kin, TTL and its kin, PERSIST.

use crate::engine::{Change, Entry, Ttl};
use crate::server::resp::call::Call;
use crate::server::resp::expiry::{self, Unit};
use crate::server::resp::failure::{Failure, failure, fixed};

type Done = Result<(), Failure>;

/// When EXPIRE changes anything.
#[derive(Default)]
struct Conditions {
    none: bool,
    some: bool,
    later: bool,
    earlier: bool,
}

fn conditions(call: &Call<'_, '_>) -> Result<Conditions, Failure> {
    let mut found = Conditions::default();
    for at in 3..call.args.len() {
        match call.word(at).as_str() {
            "nx" => found.none = true,
            "xx" => found.some = true,
            "gt" => found.later = true,
            "lt" => found.earlier = true,
            _ => {
                let mut text = b"ERR Unsupported option ".to_vec();
                text.extend_from_slice(call.args.at(at));
                return Err(failure(text));
            }
        }
    }
    if found.none && (found.some || found.later || found.earlier) {
        return Err(fixed(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if found.later && found.earlier {
        return Err(fixed(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(found)
}

impl Conditions {
    fn allow(&self, entry: &Entry<'_>, deadline: i64) -> bool {
        let current = entry.expires_at.map(|at| at as i64);
        !(self.none && current.is_some()
            || self.some && current.is_none()
            // What never expires, expires after everything else.
            || self.later && current.is_none_or(|current| deadline <= current)
            || self.earlier && current.is_some_and(|current| deadline >= current))
    }
}

fn expire_by(call: &mut Call<'_, '_>, unit: Unit, is_absolute: bool) -> Done {
    let conditions = conditions(call)?;
    let number = call.integer(2)?;
    let deadline = expiry::deadline(
        number,
        unit,
        is_absolute,
        call.keys.now(),
        call.command.name,
    )?;
    let (db, key) = (call.keys.db, call.args.at(1));
    let done = call.keys.modify(db, key, 0, None, |entry| {
        let allowed = entry.is_some_and(|entry| conditions.allow(&entry, deadline));
        let change = if allowed {
            Change::Expire(Ttl::At(deadline))
        } else {
            Change::Keep
        };
        Ok((change, allowed))
    })?;
    call.out.flag(done);
    Ok(())
}

pub(crate) fn expire(call: &mut Call<'_, '_>) -> Done {
    expire_by(call, Unit::Seconds, false)
}

pub(crate) fn pexpire(call: &mut Call<'_, '_>) -> Done {
    expire_by(call, Unit::Milliseconds, false)
}

pub(crate) fn expireat(call: &mut Call<'_, '_>) -> Done {
    expire_by(call, Unit::Seconds, true)
}

pub(crate) fn pexpireat(call: &mut Call<'_, '_>) -> Done {
    expire_by(call, Unit::Milliseconds, true)
}

/// -2: no such key; -1: it never expires.
fn look(call: &mut Call<'_, '_>, number: impl FnOnce(&Entry<'_>) -> Option<i64>) -> Done {
    let (db, key) = (call.keys.db, call.args.at(1));
    let answer = call.keys.read(db, key, |entry| {
        entry.map_or(-2, |entry| number(&entry).unwrap_or(-1))
    })?;
    call.out.integer(answer);
    Ok(())
}

pub(crate) fn ttl(call: &mut Call<'_, '_>) -> Done {
    look(call, |entry| {
        entry.time_left.map(|left| ((left + 500) / 1_000) as i64)
    })
}

pub(crate) fn pttl(call: &mut Call<'_, '_>) -> Done {
    look(call, |entry| entry.time_left.map(|left| left as i64))
}

pub(crate) fn expiretime(call: &mut Call<'_, '_>) -> Done {
    look(call, |entry| {
        entry.expires_at.map(|at| ((at + 500) / 1_000) as i64)
    })
}

pub(crate) fn pexpiretime(call: &mut Call<'_, '_>) -> Done {
    look(call, |entry| entry.expires_at.map(|at| at as i64))
}

pub(crate) fn persist(call: &mut Call<'_, '_>) -> Done {
    let (db, key) = (call.keys.db, call.args.at(1));
    let done = call.keys.modify(db, key, 0, None, |entry| {
        let expires = entry.is_some_and(|entry| entry.time_left.is_some());
        let change = if expires {
            Change::Expire(Ttl::Never)
        } else {
            Change::Keep
        };
        Ok((change, expires))
    })?;
    call.out.flag(done);
    Ok(())
}
