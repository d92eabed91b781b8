//! Channels and scripts.

use super::bits::{AB, F, L, MK, MR, NMK, NS, PS, R, S, SM, SUB};
use super::row;
use crate::server::resp::command::{Access, Command, Keys, all_from, one};
use crate::server::resp::commands::introspection::help;
use crate::server::resp::commands::{listening, scripts};

const CHANNELS: &[Keys] = &[all_from(1, Access::Channel)];
const SCRIPT_KEYS: &[Keys] = &[Keys::Counted {
    count: 2,
    first: 3,
    access: Access::Update,
}];

const READ_KEYS: &[Keys] = &[Keys::Counted {
    count: 2,
    first: 3,
    access: Access::Read,
}];

const fn channel(command: Command) -> Command {
    command.group("pubsub")
}

const fn script(command: Command) -> Command {
    command.group("scripting")
}

static PUBSUB: &[Command] = &[
    channel(row(
        "pubsub|channels",
        -2,
        PS | L | S,
        &[],
        listening::channels,
    ))
    .since("2.8.0", "Lists the channels that somebody listens to.")
    .takes_time("O(N) for N channels"),
    channel(row("pubsub|numsub", -2, PS | L | S, &[], listening::numsub))
        .since("2.8.0", "Counts the listeners of channels.")
        .takes_time("O(N) for N channels"),
    channel(row("pubsub|numpat", 2, PS | L | S, &[], listening::numpat))
        .since("2.8.0", "Counts the patterns that somebody listens to."),
    channel(row(
        "pubsub|shardchannels",
        -2,
        PS | L | S,
        &[],
        listening::shardchannels,
    ))
    .since(
        "7.0.0",
        "Lists the shard channels that somebody listens to.",
    )
    .takes_time("O(N) for N channels"),
    channel(row(
        "pubsub|shardnumsub",
        -2,
        PS | L | S,
        &[],
        listening::shardnumsub,
    ))
    .since("7.0.0", "Counts the listeners of shard channels.")
    .takes_time("O(N) for N channels"),
    channel(row("pubsub|help", 2, L | S, &[], help)).since("6.2.0", "Lists the subcommands."),
];

static SCRIPT: &[Command] = &[
    script(row("script|load", 3, NS | S, &[], scripts::load))
        .since("2.6.0", "Takes note of a known script."),
    script(row("script|exists", -3, NS, &[], scripts::exists))
        .since("2.6.0", "Says which scripts were loaded."),
    script(row("script|flush", -2, NS, &[], scripts::flush))
        .since("2.6.0", "Forgets the loaded scripts."),
    script(row("script|kill", 2, NS | AB, &[], scripts::kill))
        .since("2.6.0", "Ends a script that runs; here none does."),
    script(row("script|debug", 3, NS, &[], scripts::debug))
        .since("3.2.0", "Switches debugging, which is not supported."),
    script(row("script|help", 2, L | S, &[], help)).since("5.0.0", "Lists the subcommands."),
];

pub(super) static COMMANDS: &[Command] = &[
    channel(row(
        "publish",
        3,
        PS | L | S | F | MR,
        &[],
        listening::publish,
    ))
    .since("2.0.0", "Sends a message to a channel.")
    .takes_time("O(N+M) for N listeners and M patterns"),
    channel(row(
        "subscribe",
        -2,
        PS | NS | L | S | SUB,
        &[],
        listening::subscribe,
    ))
    .since("2.0.0", "Listens to channels.")
    .takes_time("O(N) for N channels"),
    channel(row(
        "psubscribe",
        -2,
        PS | NS | L | S | SUB,
        &[],
        listening::psubscribe,
    ))
    .since("2.0.0", "Listens to channels that match patterns.")
    .takes_time("O(N) for N patterns"),
    channel(row(
        "unsubscribe",
        -1,
        PS | NS | L | S | SUB,
        &[],
        listening::unsubscribe,
    ))
    .since("2.0.0", "Listens to channels no more.")
    .takes_time("O(N) for N channels"),
    channel(row(
        "punsubscribe",
        -1,
        PS | NS | L | S | SUB,
        &[],
        listening::punsubscribe,
    ))
    .since("2.0.0", "Listens to patterns no more.")
    .takes_time("O(N) for N patterns"),
    channel(row(
        "spublish",
        3,
        PS | L | S | F | MR,
        &[one(1, Access::Channel)],
        listening::spublish,
    ))
    .since("7.0.0", "Sends a message to a shard channel.")
    .takes_time("O(N) for N listeners"),
    channel(row(
        "ssubscribe",
        -2,
        PS | NS | L | S | SUB,
        CHANNELS,
        listening::ssubscribe,
    ))
    .since("7.0.0", "Listens to shard channels.")
    .takes_time("O(N) for N channels"),
    channel(row(
        "sunsubscribe",
        -1,
        PS | NS | L | S | SUB,
        CHANNELS,
        listening::sunsubscribe,
    ))
    .since("7.0.0", "Listens to shard channels no more.")
    .takes_time("O(N) for N channels"),
    channel(row("pubsub", -2, 0, &[], help))
        .since("2.8.0", "Describes channels.")
        .contains(PUBSUB),
    script(row(
        "eval",
        -3,
        NS | S | SM | MR | NMK | MK,
        SCRIPT_KEYS,
        scripts::eval,
    ))
    .since("2.6.0", "Runs a script, of the few that are known."),
    script(row(
        "evalsha",
        -3,
        NS | S | SM | MR | NMK | MK,
        SCRIPT_KEYS,
        scripts::evalsha,
    ))
    .since("2.6.0", "Runs a script by its SHA-1."),
    script(row(
        "eval_ro",
        -3,
        NS | R | S | SM | NMK | MK,
        READ_KEYS,
        scripts::unsupported,
    ))
    .since("7.0.0", "Runs a script that reads: not supported."),
    script(row(
        "evalsha_ro",
        -3,
        NS | R | S | SM | NMK | MK,
        READ_KEYS,
        scripts::unsupported,
    ))
    .since(
        "7.0.0",
        "Runs a script that reads by its SHA-1: not supported.",
    ),
    script(row("script", -2, 0, &[], help))
        .since("2.6.0", "Has to do with scripts.")
        .contains(SCRIPT),
];
