//! The connection itself: PING, AUTH, HELLO, SELECT's neighbours, RESET, QUIT.

use std::time::Instant;

use crate::server::resp::call::Call;
use crate::server::resp::clients::State;
use crate::server::resp::failure::{Failure, failure, fixed, wrong_arity};
use crate::server::resp::number::parse_i64;
use crate::server::resp::session::{ReplyMode, Session};
use crate::server::stats::Stats;

type Done = Result<(), Failure>;

const WRONG_PASS: Failure = fixed("WRONGPASS invalid username-password pair or user is disabled.");

pub(crate) fn ping(call: &mut Call<'_, '_>) -> Done {
    if call.args.len() > 2 {
        return Err(wrong_arity("ping"));
    }
    let message = call.args.at(1);
    if !call.session.resp3 && call.session.is_subscribed() {
        call.out.array(2);
        call.out.text("pong");
        call.out.bulk(message);
    } else if call.args.len() == 2 {
        call.out.bulk(message);
    } else {
        call.out.simple("PONG");
    }
    Ok(())
}

pub(crate) fn echo(call: &mut Call<'_, '_>) -> Done {
    call.out.bulk(call.args.at(1));
    Ok(())
}

pub(crate) fn quit(call: &mut Call<'_, '_>) -> Done {
    call.session.ends = true;
    call.out.ok();
    Ok(())
}

pub(crate) fn reset(call: &mut Call<'_, '_>) -> Done {
    let shared = call.shared;
    let session = &mut *call.session;
    session.leave(shared);
    session.select(0);
    session.speak(false);
    session.reply_mode = ReplyMode::On;
    session.client.names.lock().name.clear();
    for state in [State::NO_EVICT, State::NO_TOUCH, State::MONITOR] {
        session.client.set(state, false);
    }
    authenticate(session, !shared.secrets.are_set());
    call.out.resp3 = false;
    call.out.simple("RESET");
    Ok(())
}

fn authenticate(session: &mut Session, yes: bool) {
    session.authenticated = yes;
    session.client.set(State::AUTHENTICATED, yes);
}

/// Checks a name and a secret, at most so often a second for each address.
fn log_in(call: &mut Call<'_, '_>, name: &[u8], secret: &[u8]) -> Done {
    let shared = call.shared;
    let address = call.session.client.peer.ip();
    let now = Instant::now();
    if !shared.secrets.are_set() && name == b"default" {
        // Without secrets everybody is the default user already.
        return Ok(());
    }
    if !shared.strangers.may_try(address, now) {
        call.session.ends = true;
        return Err(fixed(
            "WRONGPASS too many failed attempts from this address; try again in a second",
        ));
    }
    if name == b"default" && shared.secrets.accept(secret) {
        authenticate(call.session, true);
        return Ok(());
    }
    shared.strangers.failed(address, now);
    Stats::add(&shared.stats.failed_auth, 1);
    Err(WRONG_PASS)
}

pub(crate) fn auth(call: &mut Call<'_, '_>) -> Done {
    let args = call.args;
    if args.len() > 3 {
        return Err(fixed("ERR syntax error"));
    }
    if args.len() == 2 && !call.shared.secrets.are_set() {
        return Err(fixed(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    }
    let (name, secret) = if args.len() == 2 {
        (&b"default"[..], args.at(1))
    } else {
        (args.at(1), args.at(2))
    };
    log_in(call, name, secret)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn hello(call: &mut Call<'_, '_>) -> Done {
    let args = call.args;
    let mut at = 1;
    let mut version = None;
    if args.len() > 1 {
        let number = parse_i64(args.at(1)).ok_or(fixed(
            "ERR Protocol version is not an integer or out of range",
        ))?;
        if !(2..=3).contains(&number) {
            return Err(fixed("NOPROTO unsupported protocol version"));
        }
        version = Some(number);
        at = 2;
    }
    let (mut secret, mut name) = (None, None);
    while at < args.len() {
        let left = args.len() - at - 1;
        match call.word(at).as_str() {
            "auth" if left >= 2 => {
                secret = Some((args.at(at + 1), args.at(at + 2)));
                at += 3;
            }
            "setname" if left >= 1 => {
                super::clients::check_name(args.at(at + 1))?;
                name = Some(args.at(at + 1).to_vec());
                at += 2;
            }
            _ => {
                let mut text = b"ERR Syntax error in HELLO option '".to_vec();
                text.extend_from_slice(args.at(at));
                text.push(b'\'');
                return Err(failure(text));
            }
        }
    }
    if let Some((user, secret)) = secret {
        log_in(call, user, secret)?;
    }
    if !call.session.authenticated {
        return Err(fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call.session.client.names.lock().name = name;
    }
    if let Some(version) = version {
        call.session.speak(version == 3);
        call.out.resp3 = version == 3;
    }
    let id = call.session.client.id as i64;
    let out = &mut *call.out;
    out.map(7);
    out.text("server");
    out.text("redis");
    out.text("version");
    out.text(super::info::REDIS_VERSION);
    out.text("proto");
    out.integer(if out.resp3 { 3 } else { 2 });
    out.text("id");
    out.integer(id);
    out.text("mode");
    out.text("standalone");
    out.text("role");
    out.text("master");
    out.text("modules");
    out.array(0);
    Ok(())
}

pub(crate) fn monitor(call: &mut Call<'_, '_>) -> Done {
    if call.in_exec {
        return Err(fixed("ERR Replica can't interact with the keyspace"));
    }
    if !call.session.is_monitor {
        call.session.is_monitor = true;
        call.session.client.set(State::MONITOR, true);
        call.shared.resp.monitors.add(&call.session.client);
    }
    call.out.ok();
    Ok(())
}
