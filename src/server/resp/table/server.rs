//! The server.

use super::bits::{AB, ADMIN, CONN, DANGER, F, L, NAL, NM, NS, R, S};
use super::row;
use crate::server::resp::command::{Access, Command, Flags, Handler, Keys, one};
use crate::server::resp::commands::introspection::{self, help};
use crate::server::resp::commands::{info, server, standalone};

const USED: &[Keys] = &[one(2, Access::Look)];

const fn of_server(command: Command) -> Command {
    command.group("server")
}

/// A row of the server's group without keys.
const fn sub(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Command {
    of_server(row(name, arity, flags, &[], handler))
}

static COMMAND: &[Command] = &[
    sub("command|count", 2, L | S | CONN, introspection::count)
        .since("2.8.13", "Counts the commands."),
    sub("command|docs", -2, L | S | CONN, introspection::docs)
        .since("7.0.0", "Describes commands for people."),
    sub("command|info", -2, L | S | CONN, introspection::info)
        .since("2.8.13", "Describes commands for programs."),
    sub("command|list", -2, L | S | CONN, introspection::list)
        .since("7.0.0", "Lists the names of commands."),
    sub("command|getkeys", -4, L | S | CONN, introspection::getkeys)
        .since("2.8.13", "Finds the keys of a command line."),
    sub(
        "command|getkeysandflags",
        -4,
        L | S | CONN,
        introspection::getkeysandflags,
    )
    .since(
        "7.0.0",
        "Finds the keys of a command line, and what becomes of them.",
    ),
    sub("command|help", 2, L | S | CONN, help).since("5.0.0", "Lists the subcommands."),
];

static CONFIG: &[Command] = &[
    sub("config|get", -3, ADMIN | NS | L | S, server::config_get)
        .since("2.0.0", "Returns settings."),
    sub("config|set", -4, ADMIN | NS | L | S, server::config_set)
        .since("2.0.0", "Changes settings."),
    sub(
        "config|resetstat",
        2,
        ADMIN | NS | L | S,
        server::config_resetstat,
    )
    .since("2.0.0", "Has counters begin at 0."),
    sub(
        "config|rewrite",
        2,
        ADMIN | NS | L | S,
        server::config_rewrite,
    )
    .since("2.8.0", "Would write settings to a file; there is none."),
    sub("config|help", 2, L | S, help).since("5.0.0", "Lists the subcommands."),
];

static MEMORY: &[Command] = &[
    of_server(row("memory|usage", -3, R, USED, server::memory_usage))
        .since("4.0.0", "Estimates the bytes that a key takes."),
    sub("memory|stats", 2, 0, server::memory_stats)
        .since("4.0.0", "Describes the use of memory.")
        .takes_time("O(N) for N shards"),
    sub("memory|doctor", 2, 0, server::memory_doctor)
        .since("4.0.0", "Says what is wrong with the memory."),
    sub("memory|purge", 2, 0, server::memory_purge)
        .since("4.0.0", "Gives free memory back to the system.")
        .takes_time("O(N) for N keys"),
    sub("memory|malloc-stats", 2, 0, server::memory_malloc_stats)
        .since("4.0.0", "Describes the allocator."),
    sub("memory|help", 2, L | S, help).since("4.0.0", "Lists the subcommands."),
];

static SLOWLOG: &[Command] = &[
    sub("slowlog|get", -2, ADMIN | L | S, server::slowlog_get)
        .since("2.2.12", "Lists commands that took long."),
    sub("slowlog|len", 2, ADMIN | L | S, server::slowlog_len)
        .since("2.2.12", "Counts commands that took long."),
    sub("slowlog|reset", 2, ADMIN | L | S, server::slowlog_reset)
        .since("2.2.12", "Forgets commands that took long."),
    sub("slowlog|help", 2, L | S, help).since("6.2.0", "Lists the subcommands."),
];

static LATENCY: &[Command] = &[
    sub(
        "latency|history",
        3,
        ADMIN | NS | L | S,
        server::latency_history,
    )
    .since("2.8.13", "Lists spikes of one kind."),
    sub(
        "latency|latest",
        2,
        ADMIN | NS | L | S,
        server::latency_latest,
    )
    .since("2.8.13", "Lists the last spike of each kind."),
    sub(
        "latency|reset",
        -2,
        ADMIN | NS | L | S,
        server::latency_reset,
    )
    .since("2.8.13", "Forgets spikes."),
    sub(
        "latency|doctor",
        2,
        ADMIN | NS | L | S,
        server::latency_doctor,
    )
    .since("2.8.13", "Describes the spikes."),
    sub(
        "latency|graph",
        3,
        ADMIN | NS | L | S,
        server::latency_graph,
    )
    .since("2.8.13", "Draws the spikes of one kind."),
    sub(
        "latency|histogram",
        -2,
        ADMIN | NS | L | S,
        server::latency_histogram,
    )
    .since("7.0.0", "Says how long commands took.")
    .takes_time("O(N) for N commands"),
    sub("latency|help", 2, L | S, help).since("2.8.13", "Lists the subcommands."),
];

const fn cluster(name: &'static str, arity: i32) -> Command {
    Command {
        group: "cluster",
        ..sub(name, arity, S, standalone::no_cluster)
    }
    .since("3.0.0", "Is for clusters, which this is none of.")
}

static CLUSTER: &[Command] = &[
    cluster("cluster|info", 2),
    cluster("cluster|nodes", 2),
    cluster("cluster|slots", 2),
    cluster("cluster|shards", 2),
    cluster("cluster|myid", 2),
    cluster("cluster|keyslot", 3),
    cluster("cluster|countkeysinslot", 3),
    cluster("cluster|getkeysinslot", 4),
    Command {
        flags: Flags(ADMIN | NS | S),
        ..cluster("cluster|reset", -2)
    },
    Command {
        flags: Flags(ADMIN | NAL | S),
        ..cluster("cluster|meet", -4)
    },
    Command {
        group: "cluster",
        ..sub("cluster|help", 2, L | S, standalone::no_cluster)
    }
    .since("5.0.0", "Lists the subcommands."),
];

static MODULE: &[Command] = &[
    sub("module|list", 2, ADMIN | NS, standalone::module_list)
        .since("4.0.0", "Lists the modules: none."),
    sub("module|load", -3, ADMIN | NS | NAL, standalone::no_modules)
        .since("4.0.0", "Would load a module."),
    sub("module|unload", 3, ADMIN | NS | NAL, standalone::no_modules)
        .since("4.0.0", "Would unload a module."),
    sub("module|help", 2, L | S, help).since("5.0.0", "Lists the subcommands."),
];

static ACL: &[Command] = &[
    sub("acl|whoami", 2, NS | L | S, standalone::acl_whoami)
        .since("6.0.0", "Returns the user's name: default."),
    sub("acl|users", 2, ADMIN | NS | L | S, standalone::acl_users)
        .since("6.0.0", "Lists the users: default."),
    sub("acl|list", 2, ADMIN | NS | L | S, standalone::no_acl)
        .since("6.0.0", "Would list the rules."),
    sub("acl|setuser", -3, ADMIN | NS | L | S, standalone::no_acl)
        .since("6.0.0", "Would change a user."),
    sub("acl|deluser", -3, ADMIN | NS | L | S, standalone::no_acl)
        .since("6.0.0", "Would delete a user."),
    sub("acl|getuser", 3, ADMIN | NS | L | S, standalone::no_acl)
        .since("6.0.0", "Would describe a user."),
    sub("acl|cat", -2, NS | L | S, introspection::categories)
        .since("6.0.0", "Lists groups of commands, or the commands of one."),
    sub("acl|help", 2, L | S, help).since("6.0.0", "Lists the subcommands."),
];

pub(super) static COMMANDS: &[Command] = &[
    sub("command", -1, L | S | CONN, introspection::command)
        .since("2.8.13", "Describes all commands.")
        .contains(COMMAND),
    sub("config", -2, 0, help)
        .since("2.0.0", "Has to do with settings.")
        .contains(CONFIG),
    sub("memory", -2, 0, help)
        .since("4.0.0", "Has to do with memory.")
        .contains(MEMORY),
    sub("slowlog", -2, 0, help)
        .since("2.2.12", "Has to do with commands that took long.")
        .contains(SLOWLOG),
    sub("latency", -2, 0, help)
        .since("2.8.13", "Has to do with spikes of latency.")
        .contains(LATENCY),
    Command {
        group: "cluster",
        ..sub("cluster", -2, 0, help)
    }
    .since("3.0.0", "Is for clusters, which this is none of.")
    .contains(CLUSTER),
    sub("module", -2, 0, help)
        .since("4.0.0", "Has to do with modules, of which there are none.")
        .contains(MODULE),
    sub("acl", -2, 0, help)
        .since("6.0.0", "Has to do with users, of which there is one.")
        .contains(ACL),
    sub("info", -1, L | S | DANGER, info::info)
        .since("1.0.0", "Describes the server.")
        .takes_time("O(N) for N shards"),
    sub("time", 1, L | S | F, server::time).since("2.6.0", "Returns the time."),
    sub("lastsave", 1, L | S | F | DANGER, server::lastsave)
        .since("1.0.0", "Returns when the databases were last saved."),
    sub("save", 1, ADMIN | NS | NAL | NM, server::save)
        .since("1.0.0", "Saves the databases to the data folder.")
        .takes_time("O(N) for N keys"),
    sub("bgsave", -1, ADMIN | NS | NAL, server::bgsave)
        .since(
            "1.0.0",
            "Saves the databases to the data folder, without waiting.",
        )
        .takes_time("O(N) for N keys"),
    sub("debug", -2, ADMIN | NS | L | S, server::debug).since("1.0.0", "Is for tests."),
    sub("role", 1, NS | L | S | F | DANGER, server::role)
        .since("2.8.12", "Returns the server's role: master."),
    Command {
        group: "generic",
        ..sub("wait", 3, NS, server::wait)
    }
    .since("3.0.0", "Waits for replicas, of which there are none."),
    sub("lolwut", -1, R | F, server::lolwut).since("5.0.0", "Returns the version."),
    Command {
        group: "cluster",
        ..sub("readonly", 1, L | S | F | CONN, standalone::no_cluster)
    }
    .since("3.0.0", "Is for clusters, which this is none of."),
    Command {
        group: "cluster",
        ..sub("readwrite", 1, L | S | F | CONN, standalone::no_cluster)
    }
    .since("3.0.0", "Is for clusters, which this is none of."),
    Command {
        group: "cluster",
        ..sub("asking", 1, F | CONN, standalone::no_cluster)
    }
    .since("3.0.0", "Is for clusters, which this is none of."),
    sub("replicaof", 3, ADMIN | NS | S | NAL, standalone::replicaof).since(
        "5.0.0",
        "Makes the server a replica, which is not supported, or a master, which it is.",
    ),
    sub("slaveof", 3, ADMIN | NS | S | NAL, standalone::replicaof)
        .since("1.0.0", "Does what REPLICAOF does."),
    sub(
        "psync",
        -3,
        ADMIN | NS | NAL | NM,
        standalone::no_replication,
    )
    .since("2.8.0", "Is for replicas."),
    sub("sync", 1, ADMIN | NS | NAL | NM, standalone::no_replication)
        .since("1.0.0", "Is for replicas."),
    sub(
        "replconf",
        -1,
        ADMIN | NS | L | S | AB,
        standalone::no_replication,
    )
    .since("3.0.0", "Is for replicas."),
];
