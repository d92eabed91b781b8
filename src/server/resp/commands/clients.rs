//! CLIENT.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::server::resp::call::Call;
use crate::server::resp::clients::{Client, State};
use crate::server::resp::failure::{
    Failure, NOT_AN_INTEGER, SYNTAX, bad_subcommand, failure, fixed,
};
use crate::server::resp::lookup;
use crate::server::resp::number::parse_i64;
use crate::server::resp::session::ReplyMode;

type Done = Result<(), Failure>;

/// A name is printable and has no spaces.
pub(crate) fn check_name(name: &[u8]) -> Done {
    if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(fixed(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    Ok(())
}

pub(crate) fn id(call: &mut Call<'_, '_>) -> Done {
    call.out.integer(call.session.client.id as i64);
    Ok(())
}

pub(crate) fn getname(call: &mut Call<'_, '_>) -> Done {
    let name = call.session.client.names.lock().name.clone();
    if name.is_empty() {
        call.out.null();
    } else {
        call.out.bulk(&name);
    }
    Ok(())
}

pub(crate) fn setname(call: &mut Call<'_, '_>) -> Done {
    check_name(call.args.at(2))?;
    call.session.client.names.lock().name = call.args.at(2).to_vec();
    call.out.ok();
    Ok(())
}

/// Takes what newer clients say of themselves.
pub(crate) fn setinfo(call: &mut Call<'_, '_>) -> Done {
    let names = ["lib-name", "lib-ver"];
    if !names.contains(&call.word(2).as_str()) {
        let mut text = b"ERR Unrecognized option '".to_vec();
        text.extend_from_slice(call.args.at(2));
        text.push(b'\'');
        return Err(failure(text));
    }
    if check_name(call.args.at(3)).is_err() {
        let what = call.word(2);
        return Err(failure(format!(
            "ERR {} cannot contain spaces, newlines or special characters.",
            what.as_str()
        )));
    }
    call.out.ok();
    Ok(())
}

/// A client in one line, as CLIENT LIST has it.
fn describe(client: &Client, now: u64) -> Vec<u8> {
    let mut flags = String::new();
    for (state, letter) in [
        (State::MONITOR, 'O'),
        (State::MULTI, 'x'),
        (State::PUBSUB, 'P'),
        (State::NO_EVICT, 'e'),
    ] {
        if client.is(state) {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let number = |counter: &std::sync::atomic::AtomicU32| counter.load(Ordering::Relaxed);
    let queued = match number(&client.queued) {
        u32::MAX => -1,
        queued => i64::from(queued),
    };
    let last = usize::from(client.last_command.load(Ordering::Relaxed));
    let command = lookup::rows()
        .get(last)
        .map_or("NULL", |row| row.command.name);
    let idle = now.saturating_sub(client.last_active.load(Ordering::Relaxed)) / 1_000;
    let memory = client.memory();
    let mut line = format!(
        "id={} addr={} laddr={} fd={} name=",
        client.id, client.peer, client.local, client.fd
    )
    .into_bytes();
    line.extend_from_slice(&client.names.lock().name);
    line.extend_from_slice(
        format!(
            " age={} idle={idle} flags={flags} db={} sub={} psub={} ssub={} multi={queued} qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem={} tot-mem={} events=r cmd={command} user=default redir=-1 resp={}",
            client.created.elapsed().as_secs(),
            client.db.load(Ordering::Relaxed),
            number(&client.channels),
            number(&client.patterns),
            number(&client.shard_channels),
            client.unparsed.load(Ordering::Relaxed),
            client.unsent.load(Ordering::Relaxed),
            client.unsent.load(Ordering::Relaxed),
            memory + size_of::<Client>(),
            if client.is(State::RESP3) { 3 } else { 2 },
        )
        .as_bytes(),
    );
    line
}

fn now(call: &Call<'_, '_>) -> u64 {
    call.shared.started.elapsed().as_millis() as u64
}

pub(crate) fn info(call: &mut Call<'_, '_>) -> Done {
    let mut line = describe(&call.session.client, now(call));
    line.push(b'\n');
    call.out.verbatim(&line);
    Ok(())
}

/// Whether a client is of a type that commands name.
fn kind(name: &str) -> Option<fn(&Client) -> bool> {
    Some(match name {
        "normal" => |client| !client.is(State::PUBSUB),
        "pubsub" => |client| client.is(State::PUBSUB),
        "master" | "replica" | "slave" => |_| false,
        _ => return None,
    })
}

fn unknown_type(name: &[u8]) -> Failure {
    let mut text = b"ERR Unknown client type '".to_vec();
    text.extend_from_slice(name);
    text.push(b'\'');
    failure(text)
}

pub(crate) fn list(call: &mut Call<'_, '_>) -> Done {
    let args = call.args;
    let mut clients = call.shared.resp.clients.list();
    match (args.len(), call.word(2).as_str()) {
        (2, _) => {}
        (4, "type") => {
            let is_wanted = kind(call.word(3).as_str()).ok_or_else(|| unknown_type(args.at(3)))?;
            clients.retain(|client| is_wanted(client));
        }
        (4.., "id") => {
            let mut ids = Vec::new();
            for text in args.from(3).iter() {
                let id = parse_i64(text)
                    .filter(|&id| id > 0)
                    .ok_or(fixed("ERR Invalid client ID"))?;
                ids.push(id as u64);
            }
            clients.retain(|client| ids.contains(&client.id));
        }
        _ => return Err(SYNTAX),
    }
    let now = now(call);
    let mut text = Vec::new();
    for client in clients {
        text.extend(describe(&client, now));
        text.push(b'\n');
    }
    call.out.verbatim(&text);
    Ok(())
}

/// Which clients to end.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    kind: Option<fn(&Client) -> bool>,
    address: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    not_me: bool,
    user_is_default: Option<bool>,
}

pub(crate) fn kill(call: &mut Call<'_, '_>) -> Done {
    let args = call.args;
    let mut filter = Filter {
        not_me: true,
        ..Filter::default()
    };
    if args.len() == 3 {
        filter.address = Some(args.at(2).to_vec());
        filter.not_me = false;
    } else {
        let mut at = 2;
        while at < args.len() {
            if at + 1 >= args.len() {
                return Err(SYNTAX);
            }
            let value = args.at(at + 1);
            match call.word(at).as_str() {
                "id" => {
                    let id = parse_i64(value).filter(|&id| id > 0);
                    filter.id =
                        Some(id.ok_or(fixed("ERR client-id should be greater than 0"))? as u64);
                }
                "type" => {
                    let kind = kind(call.word(at + 1).as_str());
                    filter.kind = Some(kind.ok_or_else(|| unknown_type(value))?);
                }
                "addr" => filter.address = Some(value.to_vec()),
                "laddr" => filter.local = Some(value.to_vec()),
                "user" if value == b"default" => filter.user_is_default = Some(true),
                "user" => {
                    let mut text = b"ERR No such user '".to_vec();
                    text.extend_from_slice(value);
                    text.push(b'\'');
                    return Err(failure(text));
                }
                "skipme" => match call.word(at + 1).as_str() {
                    "yes" => filter.not_me = true,
                    "no" => filter.not_me = false,
                    _ => return Err(SYNTAX),
                },
                _ => return Err(SYNTAX),
            }
            at += 2;
        }
    }
    let me = call.session.client.id;
    let mut killed = 0;
    for client in call.shared.resp.clients.list() {
        let is_wanted = !(filter.not_me && client.id == me)
            && filter.id.is_none_or(|id| id == client.id)
            && filter.kind.is_none_or(|kind| kind(&client))
            && filter
                .address
                .as_ref()
                .is_none_or(|address| *address == client.peer.to_string().into_bytes())
            && filter
                .local
                .as_ref()
                .is_none_or(|local| *local == client.local.to_string().into_bytes());
        if !is_wanted || client.is_killed() {
            continue;
        }
        killed += 1;
        if client.id == me {
            // After the reply.
            call.session.ends = true;
        } else {
            client.kill();
        }
    }
    if args.len() > 3 {
        call.out.integer(killed);
    } else if killed > 0 {
        call.out.ok();
    } else {
        return Err(fixed("ERR No such client"));
    }
    Ok(())
}

pub(crate) fn pause(call: &mut Call<'_, '_>) -> Done {
    let args = call.args;
    let all = match (args.len(), call.word(3).as_str()) {
        (3, _) | (4, "all") => true,
        (4, "write") => false,
        (4, _) => return Err(fixed("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(bad_subcommand("CLIENT", args.at(1))),
    };
    let timeout =
        parse_i64(args.at(2)).ok_or(fixed("ERR timeout is not an integer or out of range"))?;
    if timeout < 0 {
        return Err(fixed("ERR timeout is negative"));
    }
    // Beyond a year is for ever.
    let timeout = Duration::from_millis((timeout as u64).min(365 * 86_400_000));
    call.shared.resp.pause.begin(Instant::now() + timeout, all);
    call.out.ok();
    Ok(())
}

pub(crate) fn unpause(call: &mut Call<'_, '_>) -> Done {
    call.shared.resp.pause.end();
    call.shared.resp.clients.wake_all();
    call.out.ok();
    Ok(())
}

pub(crate) fn reply(call: &mut Call<'_, '_>) -> Done {
    match call.word(2).as_str() {
        "on" => {
            call.session.reply_mode = ReplyMode::On;
            call.out.ok();
        }
        "off" => call.session.reply_mode = ReplyMode::Off,
        "skip" if call.session.reply_mode != ReplyMode::Off => {
            call.session.reply_mode = ReplyMode::SkipNext
        }
        "skip" => {}
        _ => return Err(SYNTAX),
    }
    Ok(())
}

fn switch(call: &mut Call<'_, '_>, state: State) -> Done {
    match call.word(2).as_str() {
        "on" => call.session.client.set(state, true),
        "off" => call.session.client.set(state, false),
        _ => return Err(SYNTAX),
    }
    call.out.ok();
    Ok(())
}

pub(crate) fn no_evict(call: &mut Call<'_, '_>) -> Done {
    switch(call, State::NO_EVICT)
}

pub(crate) fn no_touch(call: &mut Call<'_, '_>) -> Done {
    switch(call, State::NO_TOUCH)
}

/// No command blocks here, so nobody is ever woken.
pub(crate) fn unblock(call: &mut Call<'_, '_>) -> Done {
    match (call.args.len(), call.word(3).as_str()) {
        (3, _) | (4, "timeout" | "error") => {}
        (5.., _) => return Err(bad_subcommand("CLIENT", call.args.at(1))),
        _ => {
            return Err(fixed(
                "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
            ));
        }
    }
    parse_i64(call.args.at(2)).ok_or(NOT_AN_INTEGER)?;
    call.out.integer(0);
    Ok(())
}

pub(crate) fn tracking(call: &mut Call<'_, '_>) -> Done {
    if call.args.len() > 3 {
        return Err(SYNTAX);
    }
    match call.word(2).as_str() {
        "off" => call.out.ok(),
        "on" => return Err(fixed("ERR client side caching is not supported")),
        _ => return Err(SYNTAX),
    }
    Ok(())
}

pub(crate) fn trackinginfo(call: &mut Call<'_, '_>) -> Done {
    let out = &mut *call.out;
    out.map(3);
    out.text("flags");
    out.set(1);
    out.text("off");
    out.text("redirect");
    out.integer(-1);
    out.text("prefixes");
    out.array(0);
    Ok(())
}

pub(crate) fn getredir(call: &mut Call<'_, '_>) -> Done {
    call.out.integer(-1);
    Ok(())
}

pub(crate) fn caching(call: &mut Call<'_, '_>) -> Done {
    match call.word(2).as_str() {
        "yes" | "no" => Err(fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        )),
        _ => Err(SYNTAX),
    }
}
