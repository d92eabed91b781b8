//! Scripts: a fixed few, known by their SHA-1, that common clients send for their locks. There is no interpreter.

use std::borrow::Cow;
use std::collections::HashMap;

use parking_lot::Mutex;
use sha1::{Digest, Sha1};

use crate::engine::{Change, Ttl};
use crate::server::resp::call::Call;
use crate::server::resp::expiry::{self, Unit};
use crate::server::resp::failure::{Failure, WRONG_TYPE, fixed};
use crate::server::resp::number::parse_i64;

type Done = Result<(), Failure>;

const UNSUPPORTED: Failure = fixed("ERR scripting is not supported");
const NO_SCRIPT: Failure = fixed("NOSCRIPT No matching script. Please use EVAL.");

/// What a known script does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Takes the key out where its value is the first argument.
    Release,
    /// Gives it the second argument's milliseconds, beyond what it has unless the third one is 0.
    Extend,
    /// Gives it the second argument's milliseconds beyond what it has.
    Add,
    /// Gives it the second argument's milliseconds.
    Reacquire,
    /// Sets it to the first argument for the second one's milliseconds, where it is not there.
    Acquire,
}

/// SHA-1 of the scripts, without spaces, in small letters and with single quotes: so laid out, copies of one script are one.
const KNOWN: &[(&str, Action)] = &[
    // redis-py 3 and later: release.
    ("3ad9a162dace07271ecd3d4fb06ce2c770f0a4f0", Action::Release),
    // redis-py 3 and later: extend.
    ("568f251ae144c32659f1faa8c727866b755df9e0", Action::Extend),
    // redis-py 3 and later: reacquire.
    (
        "7bac02815679914e98a2d3abfc299e10f958a8cd",
        Action::Reacquire,
    ),
    // redis-py 2: extend.
    ("d09972200be4d07c5644dc11980fca7b39573448", Action::Add),
    // Redlock libraries: release.
    ("68861aa8724846c4d49fb1b44ff4aa7d57e0fe5c", Action::Release),
    // Redlock libraries: extend.
    (
        "9a986bcc6034fd4f6b064f07ab6b02d8bd2631e2",
        Action::Reacquire,
    ),
    // The same, without else: release.
    ("3282598eeef4f5ca8a72be45b5abf53cb8a8d738", Action::Release),
    // The same, without else: extend.
    (
        "32f422988fa05890e7a585ffaa4b1d2a68afd30e",
        Action::Reacquire,
    ),
    // Redlock libraries: acquire.
    ("522bda3966e1fe533fa818ba45bc0445ca6f2e73", Action::Acquire),
];

/// Scripts that clients have loaded, or run once, by the SHA-1 of the very text.
#[derive(Default)]
pub(crate) struct Loaded(Mutex<HashMap<[u8; 20], Action>>);

/// Texts that are remembered: of each script there are few, but a client could make more.
const MOST_LOADED: usize = 1_000;

impl Loaded {
    /// Takes note of a script, if it is known.
    fn load(&self, script: &[u8]) -> Result<([u8; 20], Action), Failure> {
        let action = action(script).ok_or(UNSUPPORTED)?;
        let sha1 = sha1_of(script);
        let mut loaded = self.0.lock();
        if loaded.len() < MOST_LOADED {
            loaded.insert(sha1, action);
        }
        Ok((sha1, action))
    }
}

fn sha1_of(script: &[u8]) -> [u8; 20] {
    Sha1::digest(script).into()
}

fn hex(sha1: &[u8; 20]) -> String {
    sha1.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &[u8]) -> Option<[u8; 20]> {
    let mut sha1 = [0; 20];
    if text.len() != 40 {
        return None;
    }
    for (place, pair) in sha1.iter_mut().zip(text.chunks(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *place = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(sha1)
}

fn action(script: &[u8]) -> Option<Action> {
    let plain: Vec<u8> = script
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| {
            if *byte == b'"' {
                b'\''
            } else {
                byte.to_ascii_lowercase()
            }
        })
        .collect();
    let text = hex(&sha1_of(&plain));
    KNOWN
        .iter()
        .find(|(known, _)| *known == text)
        .map(|(_, action)| *action)
}

pub(crate) fn eval(call: &mut Call<'_, '_>) -> Done {
    check_numkeys(call)?;
    let (_, action) = call.shared.resp.scripts.load(call.args.at(1))?;
    run(call, action)
}

pub(crate) fn evalsha(call: &mut Call<'_, '_>) -> Done {
    check_numkeys(call)?;
    let sha1 = unhex(call.args.at(1)).ok_or(NO_SCRIPT)?;
    let action = call.shared.resp.scripts.0.lock().get(&sha1).copied();
    run(call, action.ok_or(NO_SCRIPT)?)
}

fn check_numkeys(call: &Call<'_, '_>) -> Done {
    let keys = call.integer(2)?;
    if keys < 0 {
        return Err(fixed("ERR Number of keys can't be negative"));
    }
    if keys > call.args.len() as i64 - 3 {
        return Err(fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    Ok(())
}

fn run(call: &mut Call<'_, '_>, action: Action) -> Done {
    const ARGUMENTS: Failure =
        fixed("ERR the script was called with other keys and arguments than it needs");
    let keys = call.integer(2)? as usize;
    if keys == 0 {
        return Err(ARGUMENTS);
    }
    let (db, key) = (call.keys.db, call.args.at(3));
    let arguments = call.args.from(3 + keys);
    let token = (arguments.len() > 0).then(|| arguments.at(0));
    let millis = || parse_i64(arguments.at(1)).ok_or(ARGUMENTS);
    let extends = match action {
        Action::Add => true,
        Action::Extend => arguments.at(2) == b"0",
        _ => false,
    };
    let now = call.keys.now();
    if action == Action::Acquire {
        let (token, millis) = (token.ok_or(ARGUMENTS)?, millis()?);
        if millis <= 0 {
            return Err(expiry::invalid("set"));
        }
        let deadline = expiry::deadline(millis, Unit::Milliseconds, false, now, "set")?;
        let set = call.keys.modify(db, key, token.len(), None, |entry| {
            let change = match entry {
                Some(_) => return Ok((Change::Keep, false)),
                None => Change::Set(Cow::Borrowed(token), Ttl::At(deadline)),
            };
            Ok((change, true))
        })?;
        if set {
            call.out.ok()
        } else {
            call.out.null()
        }
        return Ok(());
    }
    let done = call.keys.modify(db, key, 0, None, |entry| {
        let Some(entry) = entry else {
            return Ok((Change::Keep, 0));
        };
        if !crate::server::resp::call::is_string(&entry) {
            return Err(WRONG_TYPE);
        }
        if token != Some(entry.value.as_slice()) {
            return Ok((Change::Keep, 0));
        }
        if action == Action::Release {
            return Ok((Change::Delete, 1));
        }
        let left = match (action, entry.time_left) {
            // A lock that never expires is not extended.
            (Action::Extend | Action::Add, None) => return Ok((Change::Keep, 0)),
            (_, Some(left)) if extends => left,
            _ => 0,
        };
        let sum = (left as i64)
            .checked_add(millis()?)
            .ok_or_else(|| expiry::invalid("pexpire"))?;
        let deadline = expiry::deadline(sum, Unit::Milliseconds, false, now, "pexpire")?;
        Ok((Change::Expire(Ttl::At(deadline)), 1))
    })?;
    call.out.integer(done);
    Ok(())
}

pub(crate) fn load(call: &mut Call<'_, '_>) -> Done {
    let (sha1, _) = call.shared.resp.scripts.load(call.args.at(2))?;
    call.out.text(&hex(&sha1));
    Ok(())
}

pub(crate) fn exists(call: &mut Call<'_, '_>) -> Done {
    let loaded = call.shared.resp.scripts.0.lock();
    let names = call.args.from(2);
    call.out.array(names.len());
    for name in names.iter() {
        call.out
            .flag(unhex(name).is_some_and(|sha1| loaded.contains_key(&sha1)));
    }
    Ok(())
}

pub(crate) fn flush(call: &mut Call<'_, '_>) -> Done {
    match (call.args.len(), call.word(2).as_str()) {
        (2, _) | (3, "sync" | "async") => {}
        _ => return Err(fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
    }
    call.shared.resp.scripts.0.lock().clear();
    call.out.ok();
    Ok(())
}

pub(crate) fn kill(_call: &mut Call<'_, '_>) -> Done {
    Err(fixed("NOTBUSY No scripts in execution right now."))
}

pub(crate) fn debug(call: &mut Call<'_, '_>) -> Done {
    if !call.out.is_empty() {
        return Err(fixed("ERR SCRIPT DEBUG must be called outside a pipeline"));
    }
    match call.word(2).as_str() {
        "no" => call.out.ok(),
        "yes" | "sync" => return Err(UNSUPPORTED),
        _ => return Err(fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    }
    Ok(())
}

pub(crate) fn unsupported(_call: &mut Call<'_, '_>) -> Done {
    Err(UNSUPPORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_they_stand_for() {
        assert_eq!(
            hex(&sha1_of(b"")),
            "da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
        assert_eq!(unhex(hex(&sha1_of(b"x")).as_bytes()), Some(sha1_of(b"x")));
        assert_eq!(unhex(b"da39"), None);
        for (sha1, _) in KNOWN {
            assert_eq!(hex(&unhex(sha1.as_bytes()).unwrap()), *sha1);
        }
    }
}
