//! From a parsed command to its reply: what is allowed, when, and under which locks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::call::{Call, heavy};
use super::clients::State;
use super::command::{Command, Flags};
use super::failure::{Failure, failure, fixed, wrong_arity};
use super::keyspace::Keyspace;
use super::lookup::{self, Row};
use super::parser::Args;
use super::reply::Replies;
use super::room;
use super::session::{ReplyMode, Session};
use super::transactions;
use crate::engine::{Databases, Room};
use crate::server::Shared;

/// Keys, and bytes of arguments, from which on a command leaves the network's threads.
pub(super) const MANY_KEYS: usize = 512;
const LARGE: usize = 1 << 20;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was replied to.
    Done,
    /// It has to wait until clients are no longer paused.
    Paused,
    /// It has to wait for one of the places for commands that take long.
    Waits,
}

/// The row that the arguments name, if it may be used.
fn row_of(shared: &Shared, args: Args<'_>) -> Result<&'static Row, Failure> {
    let row = lookup::find(args.at(0)).filter(|row| !shared.resp.is_disabled(row.index));
    let row = row.ok_or_else(|| unknown(args))?;
    if row.command.subcommands.is_empty() || args.len() < 2 {
        return Ok(row);
    }
    lookup::find_subcommand(row, args.at(1))
        .filter(|row| !shared.resp.is_disabled(row.index))
        .ok_or_else(|| {
            let mut text = b"ERR unknown subcommand '".to_vec();
            text.extend_from_slice(&args.at(1)[..args.at(1).len().min(128)]);
            text.extend_from_slice(
                format!("'. Try {} HELP.", row.command.name.to_uppercase()).as_bytes(),
            );
            failure(text)
        })
}

fn unknown(args: Args<'_>) -> Failure {
    const MOST: usize = 128;
    let name = args.at(0);
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(before_nul(&name[..name.len().min(MOST)]));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.from(1).iter() {
        let used = text.len() - start;
        if used >= MOST {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(before_nul(&arg[..arg.len().min(MOST - used)]));
        text.extend_from_slice(b"' ");
    }
    failure(text)
}

/// Texts in errors end at a zero byte.
fn before_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Why a command may not run now.
fn refusal(
    shared: &Shared,
    session: &Session,
    command: &Command,
    args: Args<'_>,
) -> Option<Failure> {
    if !command.takes(args.len()) {
        return Some(wrong_arity(command.name));
    }
    if !session.authenticated && !command.is(Flags::NO_AUTH) {
        return Some(fixed("NOAUTH Authentication required."));
    }
    if session.queue.is_some() && command.is(Flags::NO_MULTI) {
        return Some(fixed("ERR Command not allowed inside a transaction"));
    }
    if shared.config.readonly && command.is(Flags::WRITE) {
        return Some(fixed(
            "READONLY You can't write against a server that serves for reading only.",
        ));
    }
    if !session.resp3 && session.is_subscribed() && !command.is(Flags::WHILE_SUBSCRIBED) {
        return Some(failure(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            command.name
        )));
    }
    None
}

/// Runs a command, or queues it, or refuses it.
pub(crate) fn dispatch(
    shared: &Arc<Shared>,
    session: &mut Session,
    args: Args<'_>,
    out: &mut Replies,
) -> Outcome {
    let mark = out.mark();
    let row = match row_of(shared, args) {
        Ok(row) => row,
        Err(failure) => {
            refuse(shared, session, out, &failure);
            finish(session, out, mark);
            return Outcome::Done;
        }
    };
    let command = row.command;
    session
        .client
        .last_command
        .store(row.index, Ordering::Relaxed);
    if let Some(failure) = refusal(shared, session, command, args) {
        shared.resp.counts.rejected(row.index);
        if command.name == "exec" {
            session.discard();
            refuse(shared, session, out, &aborted(&failure));
        } else {
            refuse(shared, session, out, &failure);
        }
        finish(session, out, mark);
        return Outcome::Done;
    }
    if shared.resp.pause.is_on() && shared.resp.pause.stops(command, session) {
        session.place = None;
        return Outcome::Paused;
    }
    match &mut session.queue {
        Some(queue) if !command.is(Flags::UNQUEUED) => {
            queue.add(command, args);
            session
                .client
                .queued
                .store(queue.commands.len() as u32, Ordering::Relaxed);
            out.simple("QUEUED");
        }
        _ => {
            // Where it has waited for its place, it was shown before.
            let is_again = session.place.is_some();
            if shared.resp.monitors.are_there() && !command.is(Flags::SKIP_MONITOR) && !is_again {
                show(shared, session, command, args);
            }
            let counted = (session.hits, session.misses);
            run_free(shared, session, row, args, out);
            if session.waits {
                session.waits = false;
                (session.hits, session.misses) = counted;
                out.truncate(mark);
                return Outcome::Waits;
            }
            session.place = None;
            after(shared, session, command, out, mark);
        }
    }
    finish(session, out, mark);
    Outcome::Done
}

/// What EXEC answers where it is refused itself.
pub(super) fn aborted(why: &Failure) -> Failure {
    let why = why.0.strip_prefix(b"ERR ").unwrap_or(&why.0);
    failure([&b"EXECABORT Transaction discarded because of: "[..], why].concat())
}

fn refuse(shared: &Shared, session: &mut Session, out: &mut Replies, failure: &Failure) {
    if let Some(queue) = &mut session.queue {
        queue.is_broken = true;
    }
    session.errors += 1;
    shared.resp.counts.failed(failure.code());
    out.error(&failure.0);
}

/// Publishes what the command did, and puts messages for this connection before its reply, as they came before it.
#[inline]
fn after(
    shared: &Arc<Shared>,
    session: &mut Session,
    command: &Command,
    out: &mut Replies,
    mark: super::reply::Mark,
) {
    const TELLS: Flags = Flags::WRITE.and(Flags::MAY_REPLICATE).and(Flags::UNQUEUED);
    if command.is(TELLS) && shared.resp.notifications.are_on() {
        shared.resp.notifications.publish(shared);
    }
    let sends = session.reply_mode == ReplyMode::On
        && (!command.is(Flags::PUBSUB) || command.name.contains("publish"));
    // Where no replies are sent messages are, and these are taken when the client is next looked after.
    if sends && session.client.has_mail() {
        let mut mail = Vec::new();
        session
            .client
            .take_all_mail(&mut mail, &shared.resp.buffers);
        out.insert(mark, &mail);
    }
}

/// Drops replies that were not asked for.
#[inline]
fn finish(session: &mut Session, out: &mut Replies, mark: super::reply::Mark) {
    match session.reply_mode {
        ReplyMode::On => {}
        ReplyMode::Off => out.truncate(mark),
        ReplyMode::SkipNext => {
            out.truncate(mark);
            session.reply_mode = ReplyMode::Skip;
        }
        ReplyMode::Skip => {
            out.truncate(mark);
            session.reply_mode = ReplyMode::On;
        }
    }
}

/// Shows a command to who monitors.
pub(crate) fn show(shared: &Shared, session: &Session, command: &Command, args: Args<'_>) {
    let from = secret_from(command, args);
    shared.resp.monitors.show(
        &session.client,
        session.db,
        args,
        from,
        &shared.resp.buffers,
    );
}

/// The first argument that is nobody's business.
pub(crate) fn secret_from(command: &Command, args: Args<'_>) -> usize {
    match command.name {
        "auth" => 1,
        "hello" => {
            let is_auth = |arg: &[u8]| arg.eq_ignore_ascii_case(b"auth");
            args.iter()
                .position(is_auth)
                .map_or(usize::MAX, |at| at + 1)
        }
        _ => usize::MAX,
    }
}

/// Runs a command under the locks that it needs, none of which is held yet.
#[inline]
fn run_free(
    shared: &Arc<Shared>,
    session: &mut Session,
    row: &'static Row,
    args: Args<'_>,
    out: &mut Replies,
) {
    let command = row.command;
    let databases: &Arc<Databases> = &shared.databases;
    let takes_one_lock =
        command.keys.is_empty() || command.has_one_key() && !command.is(Flags::OTHER_DB);
    let run_here = |session: &mut Session, out: &mut Replies| {
        let keys = Keyspace::free(databases, session.db);
        run(shared, session, command, args, out, keys, false);
    };
    let is_large = args.span() > LARGE;
    let is_quick = command.is(Flags::FAST.and(Flags::QUICK)) && takes_one_lock && !is_large;
    if is_quick && !shared.resp.settings.times_all() {
        return run_here(session, out);
    }
    let start = Instant::now();
    if takes_one_lock && !is_large {
        run_here(session, out);
    } else {
        run_slow(shared, session, command, args, out, is_large);
    }
    if session.waits {
        return;
    }
    let took = start.elapsed();
    shared
        .resp
        .slowlog
        .note(session, command, args, took, &shared.resp.settings);
    let spike = shared
        .resp
        .settings
        .latency_threshold
        .load(Ordering::Relaxed);
    if spike > 0 && took.as_millis() >= spike as u128 {
        shared.resp.latency.note("command", took.as_millis() as u64);
    }
}

fn run_slow(
    shared: &Arc<Shared>,
    session: &mut Session,
    command: &'static Command,
    args: Args<'_>,
    out: &mut Replies,
    is_large: bool,
) {
    let databases: &Arc<Databases> = &shared.databases;
    let mut keys = Vec::new();
    let is_locked = transactions::add_keys(command, args, session.db, &mut keys)
        && keys.len() > 1
        && !command.is(Flags::UNQUEUED.and(Flags::OWN_LOCKS));
    let is_heavy = is_large || keys.len() > MANY_KEYS;
    let Ok(place) = session.take_place(shared, is_heavy) else {
        return;
    };
    session.holds_place = place.is_some();
    let db = session.db;
    let mark = out.mark();
    let locked = heavy(is_heavy, || {
        if !is_locked {
            let keys = Keyspace::free(databases, db);
            run(shared, session, command, args, out, keys, false);
            return Ok(());
        }
        let room = room::of(databases, command, args, db, Room::NONE);
        databases.with_room_and_locked(room, &[], &keys, |locked| {
            let keys = Keyspace::locked(databases, locked, db);
            run(shared, session, command, args, out, keys, false);
            Ok(())
        })
    });
    session.holds_place = false;
    if let Err(error) = locked {
        out.truncate(mark);
        report(shared, session, out, &Failure::from(error));
    }
}

fn report(shared: &Shared, session: &mut Session, out: &mut Replies, failure: &Failure) {
    session.errors += 1;
    shared.resp.counts.failed(failure.code());
    out.error(&failure.0);
}

/// Calls the handler; its failure becomes the reply.
#[inline]
pub(crate) fn run(
    shared: &Arc<Shared>,
    session: &mut Session,
    command: &'static Command,
    args: Args<'_>,
    out: &mut Replies,
    keys: Keyspace<'_, '_>,
    in_exec: bool,
) {
    let mark = out.mark();
    let mut call = Call {
        shared,
        session,
        command,
        args,
        out,
        keys,
        in_exec,
    };
    if let Err(failure) = (command.handler)(&mut call) {
        let (session, out) = (&mut *call.session, &mut *call.out);
        out.truncate(mark);
        if session.waits {
            return;
        }
        report(shared, session, out, &failure);
    }
}

impl super::Pause {
    /// Whether a command of this connection has to wait.
    fn stops(&self, command: &Command, session: &Session) -> bool {
        let writes = command.is(Flags::WRITE.and(Flags::MAY_REPLICATE))
            || (command.name == "exec"
                && session.queue.as_ref().is_some_and(|queue| queue.writes()));
        self.is_still_on() && !command.name.starts_with("client|") && (writes || self.stops_all())
    }
}

impl super::session::Queue {
    fn writes(&self) -> bool {
        self.commands
            .iter()
            .any(|queued| queued.command.is(Flags::WRITE.and(Flags::MAY_REPLICATE)))
    }
}

/// Marks a client as one that receives messages, or no more.
pub(crate) fn note_subscriptions(session: &Session) {
    let client = &session.client;
    client
        .channels
        .store(session.channels.len() as u32, Ordering::Relaxed);
    client
        .patterns
        .store(session.patterns.len() as u32, Ordering::Relaxed);
    client
        .shard_channels
        .store(session.shard_channels.len() as u32, Ordering::Relaxed);
    client.set(State::PUBSUB, session.is_subscribed());
}
