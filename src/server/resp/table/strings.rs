//! Strings and bitmaps.

use super::bits::{F, HEAVY, OOM, OWN, QUICK, R, W};
use super::row;
use crate::server::resp::command::{Access, Command, Keys, all_from, one};
use crate::server::resp::commands::{bitfield, bits, lcs, strings};

const READ: &[Keys] = &[one(1, Access::Read)];
const LOOK: &[Keys] = &[one(1, Access::Look)];
const OVERWRITE: &[Keys] = &[one(1, Access::Overwrite)];
const INSERT: &[Keys] = &[one(1, Access::Insert)];
const UPDATE: &[Keys] = &[one(1, Access::Update)];
const MODIFY: &[Keys] = &[one(1, Access::Modify)];
const PAIRS: &[Keys] = &[Keys::Range {
    first: 1,
    last: -1,
    step: 2,
    access: Access::Overwrite,
}];
const NEW_PAIRS: &[Keys] = &[Keys::Range {
    first: 1,
    last: -1,
    step: 2,
    access: Access::Insert,
}];

const fn string(command: Command) -> Command {
    command.group("string")
}

const fn bitmap(command: Command) -> Command {
    command.group("bitmap")
}

pub(super) static COMMANDS: &[Command] = &[
    string(row("get", 2, R | F, READ, strings::get)).since("1.0.0", "Returns a string."),
    string(row(
        "set",
        -3,
        W | OOM | QUICK,
        &[one(1, Access::ReadModify)],
        strings::set,
    ))
    .since(
        "1.0.0",
        "Sets a string, under conditions and with a time to live where asked.",
    ),
    string(row("getex", -2, W | F, UPDATE, strings::getex))
        .since("6.2.0", "Returns a string and changes its time to live."),
    string(row(
        "getdel",
        2,
        W | F,
        &[one(1, Access::Take)],
        strings::getdel,
    ))
    .since("6.2.0", "Returns a string and deletes its key."),
    string(row("getset", 3, W | OOM | F, UPDATE, strings::getset))
        .since("1.0.0", "Sets a string and returns what it was."),
    string(row(
        "mget",
        -2,
        R | F,
        &[all_from(1, Access::Read)],
        strings::mget,
    ))
    .since("1.0.0", "Returns several strings of one moment.")
    .takes_time("O(N) for N keys"),
    string(row("mset", -3, W | OOM, PAIRS, strings::mset))
        .since("1.0.1", "Sets several strings in one step.")
        .takes_time("O(N) for N keys"),
    string(row("msetnx", -3, W | OOM, NEW_PAIRS, strings::msetnx))
        .since(
            "1.0.1",
            "Sets several strings, if none of the keys is there.",
        )
        .takes_time("O(N) for N keys"),
    string(row("setnx", 3, W | OOM | F, INSERT, strings::setnx))
        .since("1.0.0", "Sets a string, if its key is not there."),
    string(row("setex", 4, W | OOM | QUICK, OVERWRITE, strings::setex))
        .since("2.0.0", "Sets a string for so many seconds."),
    string(row(
        "psetex",
        4,
        W | OOM | QUICK,
        OVERWRITE,
        strings::psetex,
    ))
    .since("2.6.0", "Sets a string for so many milliseconds."),
    string(row("incr", 2, W | OOM | F, UPDATE, strings::incr))
        .since("1.0.0", "Adds one to an integer."),
    string(row("incrby", 3, W | OOM | F, UPDATE, strings::incrby))
        .since("1.0.0", "Adds to an integer."),
    string(row("decr", 2, W | OOM | F, UPDATE, strings::decr))
        .since("1.0.0", "Takes one from an integer."),
    string(row("decrby", 3, W | OOM | F, UPDATE, strings::decrby))
        .since("1.0.0", "Takes from an integer."),
    string(row(
        "incrbyfloat",
        3,
        W | OOM | F,
        UPDATE,
        strings::incrbyfloat,
    ))
    .since("2.6.0", "Adds to a decimal number."),
    string(row(
        "append",
        3,
        W | OOM | F,
        &[one(1, Access::Extend)],
        strings::append,
    ))
    .since("2.0.0", "Appends to a string."),
    string(row("strlen", 2, R | F, LOOK, strings::strlen))
        .since("2.2.0", "Returns the length of a string."),
    string(row("getrange", 4, R, READ, strings::getrange))
        .since("2.4.0", "Returns a part of a string.")
        .takes_time("O(N) for N bytes returned"),
    string(row("substr", 4, R, READ, strings::getrange))
        .since(
            "1.0.0",
            "Returns a part of a string: an old name of GETRANGE.",
        )
        .takes_time("O(N) for N bytes returned"),
    string(row("setrange", 4, W | OOM, MODIFY, strings::setrange))
        .since(
            "2.2.0",
            "Overwrites a part of a string, which grows where it has to.",
        )
        .takes_time("O(N) for N bytes of the value"),
    string(row(
        "lcs",
        -3,
        R | OWN | HEAVY,
        &[Keys::Range {
            first: 1,
            last: 2,
            step: 1,
            access: Access::Read,
        }],
        lcs::lcs,
    ))
    .since(
        "7.0.0",
        "Finds the longest common subsequence of two strings.",
    )
    .takes_time("O(N*M) for lengths N and M"),
    bitmap(row("setbit", 4, W | OOM, UPDATE, bits::setbit))
        .since("2.2.0", "Sets a bit and returns what it was.")
        .takes_time("O(N) for N bytes of the value"),
    bitmap(row("getbit", 3, R | F, READ, bits::getbit)).since("2.2.0", "Returns a bit."),
    bitmap(row("bitcount", -2, R, READ, bits::bitcount))
        .since("2.6.0", "Counts the bits that are 1.")
        .takes_time("O(N) for N bytes"),
    bitmap(row("bitpos", -3, R, READ, bits::bitpos))
        .since("2.8.7", "Finds the first bit that is 1, or 0.")
        .takes_time("O(N) for N bytes"),
    bitmap(row(
        "bitop",
        -4,
        W | OOM | HEAVY,
        &[one(2, Access::Overwrite), all_from(3, Access::Read)],
        bits::bitop,
    ))
    .since("2.6.0", "Combines strings bit by bit.")
    .takes_time("O(N) for N bytes"),
    bitmap(row(
        "bitfield",
        -2,
        W | OOM,
        &[one(1, Access::ReadModify)],
        bitfield::bitfield,
    ))
    .since(
        "3.2.0",
        "Reads and writes integers of any width within a string.",
    )
    .takes_time("O(N) for N steps"),
    bitmap(row("bitfield_ro", -2, R | F, READ, bitfield::bitfield_ro))
        .since("6.0.0", "Reads integers of any width within a string.")
        .takes_time("O(N) for N steps"),
];
