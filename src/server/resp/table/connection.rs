//! Connections and transactions.

use super::bits::{AB, ADMIN, CONN, F, L, NA, NM, NOW, NS, S, SS, SUB};
use super::row;
use crate::server::resp::command::{Access, Command, Handler, all_from};
use crate::server::resp::commands::introspection::help;
use crate::server::resp::commands::{clients, connection, scan, server};
use crate::server::resp::transactions;

const SIMPLE: u32 = NS | L | S;

const fn of_connection(command: Command) -> Command {
    command.group("connection")
}

/// A subcommand of CLIENT.
const fn client(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Command {
    of_connection(row(name, arity, flags | CONN, &[], handler))
}

static CLIENT: &[Command] = &[
    client("client|id", 2, SIMPLE, clients::id).since("5.0.0", "Returns this connection's number."),
    client("client|info", 2, SIMPLE, clients::info).since("6.2.0", "Describes this connection."),
    client("client|list", -2, ADMIN | SIMPLE, clients::list)
        .since("2.4.0", "Describes connections.")
        .takes_time("O(N) for N connections"),
    client("client|setname", 3, SIMPLE, clients::setname).since("2.6.9", "Names this connection."),
    client("client|getname", 2, SIMPLE, clients::getname)
        .since("2.6.9", "Returns the name of this connection."),
    client("client|setinfo", 4, SIMPLE, clients::setinfo)
        .since("7.2.0", "Takes note of the client's library."),
    client("client|kill", -3, ADMIN | SIMPLE, clients::kill)
        .since("2.4.0", "Ends connections.")
        .takes_time("O(N) for N connections"),
    client("client|pause", -3, ADMIN | SIMPLE, clients::pause)
        .since("3.0.0", "Has commands wait for a time."),
    client("client|unpause", 2, ADMIN | SIMPLE, clients::unpause)
        .since("6.2.0", "Has commands wait no longer.")
        .takes_time("O(N) for N connections"),
    client("client|reply", 3, SIMPLE, clients::reply)
        .since("3.2.0", "Says which replies are sent."),
    client("client|no-evict", 3, ADMIN | SIMPLE, clients::no_evict).since(
        "7.0.0",
        "Takes note that the connection should stay when memory is short.",
    ),
    client("client|no-touch", 3, SIMPLE, clients::no_touch)
        .since("7.2.0", "Takes note that reads should not count as uses."),
    client("client|unblock", -3, ADMIN | SIMPLE, clients::unblock)
        .since("5.0.0", "Wakes a connection that is blocked; here none is."),
    client("client|tracking", -3, SIMPLE, clients::tracking).since(
        "6.0.0",
        "Ends the tracking of keys, which is not supported.",
    ),
    client("client|trackinginfo", 2, SIMPLE, clients::trackinginfo)
        .since("6.2.0", "Says that keys are not tracked."),
    client("client|getredir", 2, SIMPLE, clients::getredir)
        .since("6.0.0", "Says where news of tracked keys goes: nowhere."),
    client("client|caching", 3, SIMPLE, clients::caching)
        .since("6.0.0", "Says whether the next command's keys are tracked."),
    client("client|help", 2, L | S, help).since("5.0.0", "Lists the subcommands."),
];

pub(super) static COMMANDS: &[Command] = &[
    of_connection(row("ping", -1, F | SUB | CONN, &[], connection::ping))
        .since("1.0.0", "Answers."),
    of_connection(row("echo", 2, L | S | F | CONN, &[], connection::echo))
        .since("1.0.0", "Returns its argument."),
    of_connection(row(
        "auth",
        -2,
        SIMPLE | F | NA | AB | CONN,
        &[],
        connection::auth,
    ))
    .since("1.0.0", "Authenticates the connection."),
    of_connection(row(
        "hello",
        -1,
        SIMPLE | F | NA | AB | CONN,
        &[],
        connection::hello,
    ))
    .since(
        "6.0.0",
        "Chooses the protocol's version, authenticates, and describes the server.",
    ),
    of_connection(row(
        "quit",
        -1,
        SIMPLE | F | NA | AB | CONN | NOW | SUB,
        &[],
        connection::quit,
    ))
    .since("1.0.0", "Ends the connection."),
    of_connection(row(
        "reset",
        1,
        SIMPLE | F | NA | AB | CONN | NOW | SUB,
        &[],
        connection::reset,
    ))
    .since("6.2.0", "Has the connection be as it was at its beginning."),
    of_connection(row("select", 2, L | S | F | CONN, &[], scan::select))
        .since("1.0.0", "Chooses the database."),
    of_connection(row("client", -2, 0, &[], help))
        .since("2.4.0", "Has to do with connections.")
        .contains(CLIENT),
    row("multi", 1, SIMPLE | F | AB | NOW, &[], transactions::multi)
        .group("transactions")
        .since("1.2.0", "Begins to queue commands for EXEC."),
    row("exec", 1, NS | L | S | SS | NOW, &[], transactions::exec)
        .group("transactions")
        .since("1.2.0", "Runs the queued commands in one step.")
        .takes_time("O(N) for N commands"),
    row(
        "discard",
        1,
        SIMPLE | F | AB | NOW,
        &[],
        transactions::discard,
    )
    .group("transactions")
    .since("2.0.0", "Forgets the queued commands."),
    row(
        "watch",
        -2,
        SIMPLE | F | AB | NOW,
        &[all_from(1, Access::Look)],
        transactions::watch,
    )
    .group("transactions")
    .since("2.2.0", "Has EXEC do nothing if one of the keys changes.")
    .takes_time("O(N) for N keys"),
    row("unwatch", 1, SIMPLE | F | AB, &[], transactions::unwatch)
        .group("transactions")
        .since("2.2.0", "Forgets the watched keys."),
    row("monitor", 1, ADMIN | SIMPLE, &[], connection::monitor)
        .group("server")
        .since("1.0.0", "Shows all commands from now on."),
    row(
        "shutdown",
        -1,
        ADMIN | SIMPLE | NM | AB,
        &[],
        server::shutdown,
    )
    .group("server")
    .since("1.0.0", "Ends the server."),
];
