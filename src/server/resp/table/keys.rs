//! Keys, whatever they hold, and whole databases.

use super::bits::{DANGER, F, HEAVY, KEYSPACE, L, OOM, OTHER, R, S, W, WHOLE};
use super::row;
use crate::server::resp::command::{Access, Command, Keys, all_from, one};
use crate::server::resp::commands::introspection::help;
use crate::server::resp::commands::{expire, keys, scan};

const READ: &[Keys] = &[one(1, Access::Read)];
const LOOK: &[Keys] = &[one(1, Access::Look)];
const MODIFY: &[Keys] = &[one(1, Access::Modify)];
const LOOK_SECOND: &[Keys] = &[one(2, Access::Look)];
const RENAME: &[Keys] = &[one(1, Access::Take), one(2, Access::Overwrite)];
const RENAME_NX: &[Keys] = &[one(1, Access::Take), one(2, Access::Insert)];

const fn key(command: Command) -> Command {
    command.group("generic")
}

static OBJECT: &[Command] = &[
    key(row(
        "object|encoding",
        3,
        R,
        LOOK_SECOND,
        keys::object_encoding,
    ))
    .since("2.2.3", "Says how Redis would hold the value."),
    key(row(
        "object|refcount",
        3,
        R,
        LOOK_SECOND,
        keys::object_refcount,
    ))
    .since("2.2.3", "Says how often the value is referred to: once."),
    key(row(
        "object|idletime",
        3,
        R,
        LOOK_SECOND,
        keys::object_idletime,
    ))
    .since(
        "2.2.3",
        "Says how long the key was not used; here it is not known, so 0.",
    ),
    key(row("object|freq", 3, R, LOOK_SECOND, keys::object_freq)).since(
        "4.0.0",
        "Says how often the key is used; here it is not known, so an error.",
    ),
    key(row("object|help", 2, L | S, &[], help)).since("6.2.0", "Lists the subcommands."),
];

pub(super) static COMMANDS: &[Command] = &[
    key(row("del", -2, W, &[all_from(1, Access::Delete)], keys::del))
        .since("1.0.0", "Deletes keys.")
        .takes_time("O(N) for N keys"),
    key(row(
        "unlink",
        -2,
        W | F,
        &[all_from(1, Access::Delete)],
        keys::del,
    ))
    .since("4.0.0", "Deletes keys, as DEL.")
    .takes_time("O(N) for N keys"),
    key(row(
        "exists",
        -2,
        R | F,
        &[all_from(1, Access::Look)],
        keys::exists,
    ))
    .since("1.0.0", "Counts the keys that are there.")
    .takes_time("O(N) for N keys"),
    key(row(
        "touch",
        -2,
        R | F,
        &[all_from(1, Access::Look)],
        keys::exists,
    ))
    .since("3.2.1", "Counts the keys that are there, as a use of them.")
    .takes_time("O(N) for N keys"),
    key(row("type", 2, R | F, LOOK, keys::type_of)).since("1.0.0", "Returns the type of a value."),
    key(row("ttl", 2, R | F, READ, expire::ttl))
        .since("1.0.0", "Returns the seconds that a key has left."),
    key(row("pttl", 2, R | F, READ, expire::pttl))
        .since("2.6.0", "Returns the milliseconds that a key has left."),
    key(row("expiretime", 2, R | F, READ, expire::expiretime)).since(
        "7.0.0",
        "Returns when a key expires, in seconds since 1970.",
    ),
    key(row("pexpiretime", 2, R | F, READ, expire::pexpiretime)).since(
        "7.0.0",
        "Returns when a key expires, in milliseconds since 1970.",
    ),
    key(row("expire", -3, W | F, MODIFY, expire::expire))
        .since("1.0.0", "Has a key expire after so many seconds."),
    key(row("pexpire", -3, W | F, MODIFY, expire::pexpire))
        .since("2.6.0", "Has a key expire after so many milliseconds."),
    key(row("expireat", -3, W | F, MODIFY, expire::expireat))
        .since("1.2.0", "Has a key expire at a time in seconds since 1970."),
    key(row("pexpireat", -3, W | F, MODIFY, expire::pexpireat)).since(
        "2.6.0",
        "Has a key expire at a time in milliseconds since 1970.",
    ),
    key(row("persist", 2, W | F, MODIFY, expire::persist))
        .since("2.2.0", "Has a key never expire."),
    key(row("rename", 3, W, RENAME, keys::rename)).since(
        "1.0.0",
        "Gives a key another name, and overwrites what had it.",
    ),
    key(row("renamenx", 3, W | F, RENAME_NX, keys::renamenx))
        .since("1.0.0", "Gives a key another name, if no other has it."),
    key(row(
        "copy",
        -3,
        W | OOM,
        &[one(1, Access::Read), one(2, Access::Overwrite)],
        keys::copy,
    ))
    .since(
        "6.2.0",
        "Copies a value and its time to live, to another database if asked.",
    )
    .takes_time("O(N) for N bytes"),
    key(row(
        "move",
        3,
        W | F | OTHER,
        &[one(1, Access::Update)],
        keys::move_to,
    ))
    .since(
        "1.0.0",
        "Moves a key to another database, if it is not there.",
    ),
    key(row("randomkey", 1, R | WHOLE, &[], keys::randomkey)).since("1.0.0", "Returns any key."),
    key(row("keys", 2, R | WHOLE | HEAVY | DANGER, &[], scan::keys))
        .since("1.0.0", "Lists the keys that match a pattern.")
        .takes_time("O(N) for N keys of the database"),
    key(row("scan", -2, R | WHOLE, &[], scan::scan))
        .since("2.8.0", "Lists keys from a cursor on.")
        .takes_time("O(N) for N keys asked for"),
    key(row("object", -2, 0, &[], help))
        .since("2.2.3", "Says how a value is held.")
        .contains(OBJECT),
    key(row("dump", 2, R, READ, keys::dump))
        .since(
            "2.6.0",
            "Returns a value in the form that RESTORE takes, here and in Redis.",
        )
        .takes_time("O(N) for N bytes"),
    key(row(
        "restore",
        -4,
        W | OOM | DANGER,
        &[one(1, Access::Overwrite)],
        keys::restore,
    ))
    .since("2.6.0", "Creates a key from what DUMP returned.")
    .takes_time("O(N) for N bytes"),
    row("dbsize", 1, R | F | WHOLE | KEYSPACE, &[], scan::dbsize)
        .group("server")
        .since("1.0.0", "Counts the keys of the database.")
        .takes_time("O(N) for N shards"),
    row(
        "flushdb",
        -1,
        W | WHOLE | HEAVY | DANGER | KEYSPACE,
        &[],
        scan::flushdb,
    )
    .group("server")
    .since("1.0.0", "Deletes all keys of the database.")
    .takes_time("O(N) for N keys"),
    row(
        "flushall",
        -1,
        W | WHOLE | HEAVY | DANGER | KEYSPACE,
        &[],
        scan::flushall,
    )
    .group("server")
    .since("1.0.0", "Deletes all keys of all databases.")
    .takes_time("O(N) for N keys"),
    row("swapdb", 3, W | F | DANGER | KEYSPACE, &[], scan::swapdb)
        .group("server")
        .since("4.0.0", "Exchanges two databases.")
        .takes_time("O(N) for N shards"),
];
