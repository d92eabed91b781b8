//! Tips of the command table: what proxies and test tools have to know of replies, in Redis's words.

/// Tips, and the commands that have them.
const TIPS: &[(&[&str], &[&str])] = &[
    (
        &["nondeterministic_output"],
        &[
            "client|info",
            "client|list",
            "cluster|getkeysinslot",
            "cluster|info",
            "cluster|nodes",
            "cluster|shards",
            "cluster|slots",
            "dump",
            "lastsave",
            "object|encoding",
            "object|freq",
            "object|idletime",
            "object|refcount",
            "pttl",
            "time",
            "ttl",
        ],
    ),
    (
        &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        &[
            "latency|doctor",
            "latency|graph",
            "latency|histogram",
            "latency|history",
            "latency|latest",
        ],
    ),
    (
        &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        &[
            "info",
            "memory|doctor",
            "memory|malloc-stats",
            "memory|stats",
        ],
    ),
    (
        &["nondeterministic_output", "request_policy:special"],
        &["scan"],
    ),
    (
        &["nondeterministic_output_order"],
        &[
            "command",
            "command|docs",
            "command|info",
            "command|list",
            "module|list",
        ],
    ),
    (
        &["request_policy:all_nodes", "nondeterministic_output"],
        &["slowlog|get"],
    ),
    (
        &[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ],
        &["slowlog|len"],
    ),
    (
        &["request_policy:all_nodes", "response_policy:all_succeeded"],
        &[
            "config|set",
            "latency|reset",
            "script|flush",
            "script|load",
            "slowlog|reset",
        ],
    ),
    (
        &["request_policy:all_shards", "nondeterministic_output"],
        &["randomkey"],
    ),
    (
        &["request_policy:all_shards", "nondeterministic_output_order"],
        &["keys"],
    ),
    (
        &[
            "request_policy:all_shards",
            "response_policy:agg_logical_and",
        ],
        &["script|exists"],
    ),
    (
        &["request_policy:all_shards", "response_policy:agg_min"],
        &["wait"],
    ),
    (
        &["request_policy:all_shards", "response_policy:agg_sum"],
        &["dbsize"],
    ),
    (
        &["request_policy:all_shards", "response_policy:all_succeeded"],
        &["flushall", "flushdb", "memory|purge", "ping"],
    ),
    (
        &["request_policy:all_shards", "response_policy:one_succeeded"],
        &["script|kill"],
    ),
    (&["request_policy:multi_shard"], &["mget"]),
    (
        &["request_policy:multi_shard", "response_policy:agg_min"],
        &["msetnx"],
    ),
    (
        &["request_policy:multi_shard", "response_policy:agg_sum"],
        &["del", "exists", "touch", "unlink"],
    ),
    (
        &[
            "request_policy:multi_shard",
            "response_policy:all_succeeded",
        ],
        &["mset"],
    ),
];

/// The tips of a command.
pub(crate) fn tips_of(name: &str) -> &'static [&'static str] {
    let row = TIPS.iter().find(|(_, names)| names.contains(&name));
    row.map_or(&[], |(tips, _)| tips)
}
