//! What a row of the command table is, and which keys its arguments name.

use super::call::Call;
use super::failure::Failure;
use super::number::parse_i64;
use super::parser::Args;

/// What runs a command.
pub(crate) type Handler = fn(&mut Call<'_, '_>) -> Result<(), Failure>;

/// Properties of a command, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u32);

impl Flags {
    /// Changes keys.
    pub(crate) const WRITE: Flags = Flags(1);
    pub(crate) const READONLY: Flags = Flags(1 << 1);
    /// Takes more memory.
    pub(crate) const DENYOOM: Flags = Flags(1 << 2);
    pub(crate) const ADMIN: Flags = Flags(1 << 3);
    pub(crate) const PUBSUB: Flags = Flags(1 << 4);
    pub(crate) const NOSCRIPT: Flags = Flags(1 << 5);
    pub(crate) const LOADING: Flags = Flags(1 << 6);
    pub(crate) const STALE: Flags = Flags(1 << 7);
    pub(crate) const SKIP_MONITOR: Flags = Flags(1 << 8);
    pub(crate) const SKIP_SLOWLOG: Flags = Flags(1 << 9);
    pub(crate) const FAST: Flags = Flags(1 << 10);
    /// Works without authentication.
    pub(crate) const NO_AUTH: Flags = Flags(1 << 11);
    pub(crate) const NO_MULTI: Flags = Flags(1 << 12);
    pub(crate) const MOVABLEKEYS: Flags = Flags(1 << 13);
    pub(crate) const ALLOW_BUSY: Flags = Flags(1 << 14);
    pub(crate) const NO_MANDATORY_KEYS: Flags = Flags(1 << 15);
    pub(crate) const BLOCKING: Flags = Flags(1 << 16);
    pub(crate) const NO_ASYNC_LOADING: Flags = Flags(1 << 17);
    /// Not told to clients: waits with writes while these are paused.
    pub(crate) const MAY_REPLICATE: Flags = Flags(1 << 18);
    /// Not told to clients: as quick as those that they are told are fast.
    pub(crate) const QUICK: Flags = Flags(1 << 19);
    /// Not told to clients: locks its keys itself, if it locks several at once.
    pub(crate) const OWN_LOCKS: Flags = Flags(1 << 20);
    /// Not told to clients: belongs to the group of dangerous commands.
    pub(crate) const DANGEROUS: Flags = Flags(1 << 24);
    /// Not told to clients: reads or writes whole databases.
    pub(crate) const WHOLE: Flags = Flags(1 << 25);
    /// Not told to clients: runs at once inside MULTI.
    pub(crate) const UNQUEUED: Flags = Flags(1 << 26);
    /// Not told to clients: takes as long as there is data.
    pub(crate) const HEAVY: Flags = Flags(1 << 27);
    /// Not told to clients: works while only messages are received, in version 2.
    pub(crate) const WHILE_SUBSCRIBED: Flags = Flags(1 << 28);
    /// Not told to clients: belongs to the group of connection commands.
    pub(crate) const CONNECTION: Flags = Flags(1 << 29);
    /// Not told to clients: belongs to the group of keyspace commands.
    pub(crate) const KEYSPACE: Flags = Flags(1 << 30);

    /// Not told to clients: also locks keys of another database.
    pub(crate) const OTHER_DB: Flags = Flags(1 << 31);

    pub(crate) const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    #[inline]
    pub(crate) const fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// Names of those that clients are told of, in the order in which they are told.
    pub(crate) fn names(self) -> Vec<&'static str> {
        const NAMES: [(Flags, &str); 18] = [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::DENYOOM, "denyoom"),
            (Flags::ADMIN, "admin"),
            (Flags::PUBSUB, "pubsub"),
            (Flags::NOSCRIPT, "noscript"),
            (Flags::BLOCKING, "blocking"),
            (Flags::LOADING, "loading"),
            (Flags::STALE, "stale"),
            (Flags::SKIP_MONITOR, "skip_monitor"),
            (Flags::SKIP_SLOWLOG, "skip_slowlog"),
            (Flags::FAST, "fast"),
            (Flags::NO_AUTH, "no_auth"),
            (Flags::NO_MANDATORY_KEYS, "no_mandatory_keys"),
            (Flags::NO_ASYNC_LOADING, "no_async_loading"),
            (Flags::NO_MULTI, "no_multi"),
            (Flags::MOVABLEKEYS, "movablekeys"),
            (Flags::ALLOW_BUSY, "allow_busy"),
        ];
        NAMES
            .iter()
            .filter(|(flag, _)| self.has(*flag))
            .map(|(_, name)| *name)
            .collect()
    }
}

/// What a command does with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads the value.
    Read,
    /// Reads only what is known about it.
    Look,
    /// Overwrites it.
    Overwrite,
    /// Changes it and returns some of it.
    Update,
    /// Changes it and returns nothing of it.
    Modify,
    /// Changes it depending on what it was.
    ReadModify,
    /// Takes it out.
    Delete,
    /// Takes it out and returns it.
    Take,
    /// Writes it where it is not there.
    Insert,
    /// Adds to it.
    Extend,
    /// It is no key of the store, but a channel.
    Channel,
}

impl Access {
    /// Names of the flags of key specifications.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Access::Read => &["RO", "access"],
            Access::Look => &["RO"],
            Access::Overwrite => &["OW", "update"],
            Access::Update => &["RW", "access", "update"],
            Access::Modify => &["RW", "update"],
            Access::ReadModify => &["RW", "access", "update", "variable_flags"],
            Access::Delete => &["RM", "delete"],
            Access::Take => &["RW", "access", "delete"],
            Access::Insert => &["OW", "insert"],
            Access::Extend => &["RW", "insert"],
            Access::Channel => &["not_key"],
        }
    }
}

/// Where a command's keys are among its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// From `first` to `last` (counted from the end where negative), every `step`.
    Range {
        first: usize,
        last: isize,
        step: usize,
        access: Access,
    },
    /// As many from `first` on as the argument `count` says.
    Counted {
        count: usize,
        first: usize,
        access: Access,
    },
}

/// One key at a place.
pub(crate) const fn one(at: usize, access: Access) -> Keys {
    Keys::Range {
        first: at,
        last: at as isize,
        step: 1,
        access,
    }
}

/// All arguments from a place on.
pub(crate) const fn all_from(first: usize, access: Access) -> Keys {
    Keys::Range {
        first,
        last: -1,
        step: 1,
        access,
    }
}

/// One row of the command table.
#[derive(Debug)]
pub(crate) struct Command {
    /// In lower case.
    pub(crate) name: &'static str,
    /// Arguments, the name included; where negative, that many or more.
    pub(crate) arity: i32,
    pub(crate) flags: Flags,
    pub(crate) keys: &'static [Keys],
    pub(crate) group: &'static str,
    /// The first version of Redis that had it.
    pub(crate) since: &'static str,
    /// How long it takes.
    pub(crate) complexity: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) handler: Handler,
    pub(crate) subcommands: &'static [Command],
}

impl Command {
    pub(crate) fn takes(&self, arguments: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            arguments >= least
        } else {
            arguments == least
        }
    }

    #[inline]
    pub(crate) fn is(&self, flags: Flags) -> bool {
        self.flags.has(flags)
    }

    /// Whether it names exactly one key, at place 1.
    #[inline]
    pub(crate) fn has_one_key(&self) -> bool {
        matches!(
            self.keys,
            [Keys::Range {
                first: 1,
                last: 1,
                ..
            }]
        )
    }

    /// Calls `visit` with the place of each key and what is done with it.
    ///
    /// # Errors
    /// The places of keys are not what the command takes.
    pub(crate) fn for_each_key(
        &self,
        args: Args<'_>,
        mut visit: impl FnMut(usize, Access),
    ) -> Result<(), BadKeys> {
        for keys in self.keys {
            match *keys {
                Keys::Range {
                    first,
                    last,
                    step,
                    access,
                } => {
                    let last = if last < 0 {
                        args.len() as isize + last
                    } else {
                        last
                    };
                    if last >= args.len() as isize {
                        return Err(BadKeys);
                    }
                    let mut at = first;
                    while at as isize <= last {
                        visit(at, access);
                        at += step;
                    }
                }
                Keys::Counted {
                    count,
                    first,
                    access,
                } => {
                    let keys =
                        parse_i64(args.at(count)).and_then(|count| usize::try_from(count).ok());
                    let keys = keys
                        .filter(|keys| *keys <= args.len().saturating_sub(first))
                        .ok_or(BadKeys)?;
                    (first..first + keys).for_each(|at| visit(at, access));
                }
            }
        }
        Ok(())
    }
}

/// The arguments name no keys as the command's row says.
#[derive(Debug)]
pub(crate) struct BadKeys;
