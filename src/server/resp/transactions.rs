//! MULTI, EXEC and WATCH. EXEC holds the locks of all keys that its commands name, and of those that are watched.

use std::sync::atomic::Ordering;

use super::call::{Call, heavy};
use super::clients::State;
use super::command::{Command, Flags};
use super::dispatch;
use super::failure::{Failure, failure, fixed};
use super::keyspace::Keyspace;
use super::number::parse_i64;
use super::parser::Args;
use super::room;
use super::session::Queue;
use crate::engine::{Databases, LockedDatabases, Room};

type Done = Result<(), Failure>;

/// Adds the keys that a command names, each with its database; false where they are not where they have to be.
pub(crate) fn add_keys<'a>(
    command: &Command,
    args: Args<'a>,
    db: u8,
    keys: &mut Vec<(u8, &'a [u8])>,
) -> bool {
    let named = command.for_each_key(args, |at, access| {
        if access != super::command::Access::Channel {
            keys.push((db, args.at(at)));
        }
    });
    match command.name {
        "move" => keys.extend(database(args.at(2)).map(|other| (other, args.at(1)))),
        "copy" => {
            let other = (3..args.len()).find(|&at| args.at(at).eq_ignore_ascii_case(b"db"));
            keys.extend(
                other
                    .and_then(|at| database(args.at(at + 1)))
                    .map(|other| (other, args.at(2))),
            );
        }
        _ => {}
    }
    named.is_ok()
}

/// A database's number.
pub(crate) fn database(text: &[u8]) -> Option<u8> {
    parse_i64(text)
        .and_then(|number| u8::try_from(number).ok())
        .filter(|&db| db < Databases::COUNT)
}

pub(crate) fn multi(call: &mut Call<'_, '_>) -> Done {
    if call.session.queue.is_some() {
        return Err(fixed("ERR MULTI calls can not be nested"));
    }
    call.session.queue = Some(Box::default());
    call.session.client.set(State::MULTI, true);
    call.session.client.queued.store(0, Ordering::Relaxed);
    call.out.ok();
    Ok(())
}

pub(crate) fn discard(call: &mut Call<'_, '_>) -> Done {
    if call.session.queue.is_none() {
        return Err(fixed("ERR DISCARD without MULTI"));
    }
    call.session.discard();
    call.out.ok();
    Ok(())
}

pub(crate) fn watch(call: &mut Call<'_, '_>) -> Done {
    if call.session.queue.is_some() {
        return Err(fixed("ERR WATCH inside MULTI is not allowed"));
    }
    let db = call.session.db;
    for key in call.args.from(1).iter() {
        call.session.watches.add(&call.shared.databases, db, key)?;
    }
    let watched = call.session.watches.len() as u32;
    call.session
        .client
        .watched
        .store(watched, Ordering::Relaxed);
    call.out.ok();
    Ok(())
}

pub(crate) fn unwatch(call: &mut Call<'_, '_>) -> Done {
    // Queued, it has nothing left to end: EXEC ends all watches.
    if !call.in_exec {
        call.session.watches.clear();
        call.session.client.watched.store(0, Ordering::Relaxed);
    }
    call.out.ok();
    Ok(())
}

/// What a queue needs to have locked.
#[derive(Default)]
struct Needs<'q> {
    /// All databases as a whole.
    everything: bool,
    /// These as a whole.
    whole: Vec<u8>,
    keys: Vec<(u8, &'q [u8])>,
    room: Room,
    /// A command may take as long as there is data.
    is_long: bool,
}

impl Needs<'_> {
    fn are_heavy(&self) -> bool {
        self.everything
            || self.is_long
            || !self.whole.is_empty()
            || self.keys.len() > dispatch::MANY_KEYS
    }
}

fn needs<'q>(databases: &Databases, queue: &'q Queue, mut db: u8) -> Needs<'q> {
    let mut needs = Needs::default();
    let whole = &mut needs.whole;
    for queued in &queue.commands {
        let args = queue.args(queued);
        match queued.command.name {
            "select" => db = database(args.at(1)).unwrap_or(db),
            "flushall" | "info" | "memory|stats" | "config|set" => needs.everything = true,
            "swapdb" => whole.extend([args.at(1), args.at(2)].into_iter().filter_map(database)),
            _ if queued.command.is(Flags::WHOLE) => whole.push(db),
            _ => {}
        }
        add_keys(queued.command, args, db, &mut needs.keys);
        needs.is_long |= queued.command.is(Flags::HEAVY);
        needs.room = room::of(databases, queued.command, args, db, needs.room);
    }
    // Those that are written, and those that are about to be for the first time.
    if needs.everything {
        let named = whole.drain(..).map(|db| (db, &b""[..]));
        needs.keys.extend(named);
    }
    whole.sort_unstable();
    whole.dedup();
    needs
}

pub(crate) fn exec(call: &mut Call<'_, '_>) -> Done {
    let Some(queue) = call.session.queue.take() else {
        return Err(fixed("ERR EXEC without MULTI"));
    };
    if queue.is_broken {
        call.session.discard();
        return Err(failure(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    if call.session.watches.are_dirty() {
        call.session.discard();
        call.out.null_array();
        return Ok(());
    }
    let mut needs = needs(&call.shared.databases, &queue, call.session.db);
    let is_heavy = needs.are_heavy();
    let _place = match call.place(is_heavy) {
        Ok(place) => place,
        Err(failure) => {
            call.session.queue = Some(queue);
            return Err(failure);
        }
    };
    let watches = std::mem::take(&mut call.session.watches);
    call.session.discard();
    needs.keys.extend(watches.keys());
    let (shared, databases) = (call.shared, &call.shared.databases);
    let mark = call.out.mark();
    let (session, out) = (&mut *call.session, &mut *call.out);
    let run_all = |locked: &mut LockedDatabases<'_>| {
        match watches.are_dirty_in(locked) {
            Ok(false) => {}
            Ok(true) => {
                out.null_array();
                return Ok(());
            }
            Err(failure) => {
                out.error(&failure.0);
                return Ok(());
            }
        }
        out.array(queue.commands.len());
        for queued in &queue.commands {
            let args = queue.args(queued);
            if shared.resp.monitors.are_there() && !queued.command.is(Flags::SKIP_MONITOR) {
                dispatch::show(shared, session, queued.command, args);
            }
            let keys = Keyspace::locked(databases, locked, session.db);
            dispatch::run(shared, session, queued.command, args, out, keys, true);
        }
        Ok(())
    };
    let done = heavy(is_heavy, || match needs.everything {
        true => databases.with_everything_locked(needs.room, &needs.keys, run_all),
        false => databases.with_room_and_locked(needs.room, &needs.whole, &needs.keys, run_all),
    });
    if let Err(error) = done {
        out.truncate(mark);
        return Err(dispatch::aborted(&error.into()));
    }
    Ok(())
}
