//! The command table. COMMAND and its kin, docs/commands.md and the dispatch come from it.

mod connection;
mod keys;
mod listening;
mod server;
mod strings;
mod tips;

use super::command::{Command, Flags, Handler, Keys};

pub(super) use tips::tips_of;

/// All commands, by family.
pub(super) static TABLES: [&[Command]; 5] = [
    strings::COMMANDS,
    keys::COMMANDS,
    connection::COMMANDS,
    listening::COMMANDS,
    server::COMMANDS,
];

/// A row, part by part.
const fn row(
    name: &'static str,
    arity: i32,
    flags: u32,
    keys: &'static [Keys],
    handler: Handler,
) -> Command {
    Command {
        name,
        arity,
        flags: Flags(flags),
        keys,
        group: "",
        since: "",
        complexity: "O(1)",
        summary: "",
        handler,
        subcommands: &[],
    }
}

impl Command {
    const fn group(self, group: &'static str) -> Command {
        Command { group, ..self }
    }

    const fn since(self, since: &'static str, summary: &'static str) -> Command {
        Command {
            since,
            summary,
            ..self
        }
    }

    const fn takes_time(self, complexity: &'static str) -> Command {
        Command { complexity, ..self }
    }

    const fn contains(self, subcommands: &'static [Command]) -> Command {
        Command {
            subcommands,
            ..self
        }
    }
}

/// Flags by short names.
mod bits {
    use super::Flags;

    pub(super) const W: u32 = Flags::WRITE.0;
    pub(super) const R: u32 = Flags::READONLY.0;
    pub(super) const OOM: u32 = Flags::DENYOOM.0;
    pub(super) const F: u32 = Flags::FAST.0;
    pub(super) const ADMIN: u32 = Flags::ADMIN.0;
    pub(super) const PS: u32 = Flags::PUBSUB.0;
    pub(super) const NS: u32 = Flags::NOSCRIPT.0;
    pub(super) const L: u32 = Flags::LOADING.0;
    pub(super) const S: u32 = Flags::STALE.0;
    pub(super) const NA: u32 = Flags::NO_AUTH.0;
    pub(super) const NM: u32 = Flags::NO_MULTI.0;
    pub(super) const MK: u32 = Flags::MOVABLEKEYS.0;
    pub(super) const AB: u32 = Flags::ALLOW_BUSY.0;
    pub(super) const NMK: u32 = Flags::NO_MANDATORY_KEYS.0;
    pub(super) const NAL: u32 = Flags::NO_ASYNC_LOADING.0;
    pub(super) const MR: u32 = Flags::MAY_REPLICATE.0;
    pub(super) const SM: u32 = Flags::SKIP_MONITOR.0;
    pub(super) const SS: u32 = Flags::SKIP_SLOWLOG.0;
    pub(super) const DANGER: u32 = Flags::DANGEROUS.0;
    pub(super) const WHOLE: u32 = Flags::WHOLE.0;
    pub(super) const NOW: u32 = Flags::UNQUEUED.0;
    pub(super) const HEAVY: u32 = Flags::HEAVY.0;
    pub(super) const OWN: u32 = Flags::OWN_LOCKS.0;
    pub(super) const QUICK: u32 = Flags::QUICK.0;
    pub(super) const SUB: u32 = Flags::WHILE_SUBSCRIBED.0;
    pub(super) const CONN: u32 = Flags::CONNECTION.0;
    pub(super) const OTHER: u32 = Flags::OTHER_DB.0;
    pub(super) const KEYSPACE: u32 = Flags::KEYSPACE.0;
}

/// docs/commands.md.
pub(crate) fn document() -> String {
    let mut text = String::from(
        "# Commands of the Redis protocol\n\nMade from the server's command table by `cargo run --features server --example commands`. \
         Error texts and edge cases are those of Redis 7.0.\n",
    );
    let mut groups: Vec<&str> = super::lookup::commands()
        .map(|command| command.group)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        text.push_str(&format!(
            "\n## {group}\n\n| command | since | takes | what it does |\n|---|---|---|---|\n"
        ));
        let mut commands: Vec<_> = super::lookup::commands()
            .filter(|command| command.group == group)
            .flat_map(|command| {
                let own = command.subcommands.is_empty().then_some(command);
                own.into_iter().chain(command.subcommands)
            })
            .collect();
        commands.sort_unstable_by_key(|command| command.name);
        for command in commands {
            let name = command.name.replace('|', " ").to_uppercase();
            text.push_str(&format!(
                "| {name} | {} | {} | {} |\n",
                command.since, command.complexity, command.summary
            ));
        }
    }
    text
}
