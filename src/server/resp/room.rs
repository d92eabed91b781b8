//! What a bounded store has to have room for before the locks of a command are taken: under them only their shards can evict.

use super::command::{Access, Command, Flags};
use super::parser::Args;
use crate::engine::{Databases, Room};

/// Adds what one command may write, as far as that is known before its keys are locked.
pub(super) fn of(
    databases: &Databases,
    command: &Command,
    args: Args<'_>,
    db: u8,
    room: Room,
) -> Room {
    if !command.is(Flags::WRITE) || !databases.is_bounded() {
        return room;
    }
    match command.name {
        "mset" | "msetnx" => (1..args.len()).step_by(2).fold(room, |room, at| {
            room.and(args.at(at).len() + args.at(at + 1).len())
        }),
        // The result is as long as the longest of what is read.
        "bitop" | "copy" | "move" | "rename" | "renamenx" => {
            let len = |key: &[u8]| {
                let found = databases.read(db, key, |entry| entry.value.len());
                found.ok().flatten().unwrap_or(0)
            };
            let longest = args.from(1).iter().map(len).max().unwrap_or(0);
            let name = args.from(1).iter().map(<[u8]>::len).max().unwrap_or(0);
            room.and(name + longest)
        }
        _ => {
            let mut writes = false;
            let writing = command.for_each_key(args, |_, access| {
                writes |= !matches!(access, Access::Delete | Access::Take | Access::Channel);
            });
            match writing.is_ok() && writes && command.is(Flags::DENYOOM) {
                true => room.and(args.from(1).iter().map(<[u8]>::len).sum()),
                false => room,
            }
        }
    }
}
