//! COMMAND, and the HELP of containers: what the command table says.

use crate::server::resp::call::Call;
use crate::server::resp::command::{Access, Command, Flags, Keys};
use crate::server::resp::failure::{Failure, SYNTAX, bad_subcommand, failure, fixed};
use crate::server::resp::lookup;
use crate::server::resp::parser::Args;
use crate::server::resp::reply::Replies;
use crate::server::resp::table::tips_of;

type Done = Result<(), Failure>;

const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Groups of access control that a command is in.
fn categories_of(command: &Command) -> Vec<&'static str> {
    let is = |flags: Flags| command.is(flags);
    let is_apart = !command.subcommands.is_empty() || command.name == "pubsub|help";
    let in_group = |group: &str| command.group == group && !is_apart;
    let is_of_admins = is(Flags::ADMIN) || matches!(command.name, "lastsave" | "role");
    CATEGORIES
        .iter()
        .copied()
        .filter(|&category| match category {
            "keyspace" => is(Flags::KEYSPACE) || in_group("generic") && command.name != "wait",
            "read" => is(Flags::READONLY) && !in_group("scripting"),
            "write" => is(Flags::WRITE),
            "string" => in_group("string"),
            "bitmap" => in_group("bitmap"),
            "pubsub" => in_group("pubsub"),
            "admin" => is_of_admins,
            "fast" => is(Flags::FAST),
            "slow" => !is(Flags::FAST),
            "blocking" => is(Flags::BLOCKING),
            "dangerous" => is_of_admins || is(Flags::DANGEROUS),
            "connection" => is(Flags::CONNECTION) || command.name == "wait",
            "transaction" => in_group("transactions"),
            "scripting" => in_group("scripting"),
            _ => false,
        })
        .collect()
}

/// Places of the first and the last key, and the step between keys, as older clients know them.
fn legacy_range(command: &Command) -> (i64, i64, i64) {
    let mut range: Option<(i64, i64, i64)> = None;
    for keys in command.keys {
        let Keys::Range {
            first,
            last,
            step,
            access,
        } = *keys
        else {
            return (0, 0, 0);
        };
        if access == Access::Channel && command.name == "spublish" {
            return (1, 1, 1);
        }
        let (first, last, step) = (first as i64, last as i64, step as i64);
        range = Some(match range {
            None => (first, last, step),
            Some((from, to, _)) => (
                from.min(first),
                if last < 0 { last } else { to.max(last) },
                step,
            ),
        });
    }
    range.unwrap_or((0, 0, 0))
}

fn write_info(out: &mut Replies, command: &Command) {
    out.array(10);
    out.text(command.name);
    out.integer(i64::from(command.arity));
    out.simple_set(&command.flags.names());
    let (first, last, step) = legacy_range(command);
    [first, last, step]
        .into_iter()
        .for_each(|number| out.integer(number));
    let categories: Vec<String> = categories_of(command)
        .iter()
        .map(|name| format!("@{name}"))
        .collect();
    out.set(categories.len());
    categories.iter().for_each(|name| out.simple(name));
    let tips = tips_of(command.name);
    out.set(tips.len());
    tips.iter().for_each(|tip| out.text(tip));
    write_key_specs(out, command);
    match command.subcommands.len() {
        // As Redis has it: what is empty is a set.
        0 => out.set(0),
        some => out.array(some),
    }
    command
        .subcommands
        .iter()
        .for_each(|subcommand| write_info(out, subcommand));
}

fn write_key_specs(out: &mut Replies, command: &Command) {
    out.set(command.keys.len());
    for keys in command.keys {
        let (access, begin) = match *keys {
            Keys::Range { first, access, .. } => (access, first),
            Keys::Counted { count, access, .. } => (access, count),
        };
        out.map(3);
        out.text("flags");
        out.simple_set(access.names());
        out.text("begin_search");
        out.map(2);
        out.text("type");
        out.text("index");
        out.text("spec");
        out.map(1);
        out.text("index");
        out.integer(begin as i64);
        out.text("find_keys");
        out.map(2);
        out.text("type");
        let numbers = match *keys {
            Keys::Range {
                first, last, step, ..
            } => {
                out.text("range");
                let last = if last < 0 {
                    last
                } else {
                    last - first as isize
                };
                [
                    ("lastkey", last as i64),
                    ("keystep", step as i64),
                    ("limit", 0),
                ]
            }
            Keys::Counted { count, first, .. } => {
                out.text("keynum");
                [
                    ("keynumidx", 0),
                    ("firstkey", (first - count) as i64),
                    ("keystep", 1),
                ]
            }
        };
        out.text("spec");
        out.map(numbers.len());
        for (name, number) in numbers {
            out.text(name);
            out.integer(number);
        }
    }
}

pub(crate) fn command(call: &mut Call<'_, '_>) -> Done {
    call.out.array(lookup::commands().count());
    lookup::commands().for_each(|command| write_info(call.out, command));
    Ok(())
}

pub(crate) fn count(call: &mut Call<'_, '_>) -> Done {
    call.out.integer(lookup::commands().count() as i64);
    Ok(())
}

/// A command, or `container|subcommand`.
fn find(name: &[u8]) -> Option<&'static Command> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let row = lookup::find(parts.next()?)?;
    match parts.next() {
        None => Some(row.command),
        Some(subcommand) => lookup::find_subcommand(row, subcommand).map(|row| row.command),
    }
}

pub(crate) fn info(call: &mut Call<'_, '_>) -> Done {
    let names = call.args.from(2);
    if names.len() == 0 {
        return command(call);
    }
    call.out.array(names.len());
    for name in names.iter() {
        match find(name) {
            Some(command) => write_info(call.out, command),
            None => call.out.null(),
        }
    }
    Ok(())
}

fn write_docs(out: &mut Replies, command: &Command) {
    out.text(command.name);
    out.map(4 + usize::from(!command.subcommands.is_empty()));
    for (name, text) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group),
        ("complexity", command.complexity),
    ] {
        out.text(name);
        out.text(text);
    }
    if !command.subcommands.is_empty() {
        out.text("subcommands");
        out.map(command.subcommands.len());
        command
            .subcommands
            .iter()
            .for_each(|subcommand| write_docs(out, subcommand));
    }
}

pub(crate) fn docs(call: &mut Call<'_, '_>) -> Done {
    let names = call.args.from(2);
    let wanted: Vec<_> = match names.len() {
        0 => lookup::commands().collect(),
        _ => names.iter().filter_map(find).collect(),
    };
    call.out.map(wanted.len());
    wanted
        .iter()
        .for_each(|command| write_docs(call.out, command));
    Ok(())
}

pub(crate) fn list(call: &mut Call<'_, '_>) -> Done {
    let args = call.args;
    let mut names: Vec<_> = lookup::rows().iter().map(|row| row.command).collect();
    match (args.len(), call.word(2).as_str(), call.word(3).as_str()) {
        (2, ..) => names = lookup::commands().collect(),
        (5, "filterby", "module") => names.clear(),
        (5, "filterby", "aclcat") => {
            let category = call.word(4);
            names.retain(|command| categories_of(command).contains(&category.as_str()));
        }
        (5, "filterby", "pattern") => {
            let glob = super::scan::pattern(&args.at(4).to_ascii_lowercase())?;
            names.retain(|command| glob.matches(command.name.as_bytes()));
        }
        _ => return Err(SYNTAX),
    }
    call.out.array(names.len());
    names.iter().for_each(|command| call.out.text(command.name));
    Ok(())
}

/// The row of a command line that is an argument itself.
fn of_line(call: &Call<'_, '_>) -> Result<&'static Command, Failure> {
    const INVALID: Failure = fixed("ERR Invalid command specified");
    let line = call.args.from(2);
    let row = lookup::find(line.at(0)).ok_or(INVALID)?;
    let command = match (row.command.subcommands.is_empty(), line.len()) {
        (false, 2..) => {
            lookup::find_subcommand(row, line.at(1))
                .ok_or(INVALID)?
                .command
        }
        _ => row.command,
    };
    if command.keys.iter().all(|keys| {
        matches!(
            keys,
            Keys::Range {
                access: Access::Channel,
                ..
            }
        )
    }) {
        return Err(fixed("ERR The command has no key arguments"));
    }
    if !command.takes(line.len()) {
        return Err(fixed(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    Ok(command)
}

pub(crate) fn getkeys(call: &mut Call<'_, '_>) -> Done {
    let (command, line) = (of_line(call)?, call.args.from(2));
    let mut keys = Vec::new();
    if command
        .for_each_key(line, |at, _| keys.push(line.at(at)))
        .is_err()
    {
        keys.clear();
    }
    if keys.is_empty() && !command.is(Flags::NO_MANDATORY_KEYS) {
        return Err(fixed("ERR Invalid arguments specified for command"));
    }
    call.out.array(keys.len());
    keys.iter().for_each(|key| call.out.bulk(key));
    Ok(())
}

/// What SET and BITFIELD do with their key depends on what else is said.
fn of_this_line(command: &Command, line: Args<'_>, access: Access) -> Access {
    let says = |word: &str| {
        line.from(2)
            .iter()
            .any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    match command.name {
        "set" if says("get") => Access::Update,
        "set" => Access::Overwrite,
        "bitfield" if says("set") || says("incrby") => Access::Update,
        "bitfield" => Access::Read,
        _ => access,
    }
}

pub(crate) fn getkeysandflags(call: &mut Call<'_, '_>) -> Done {
    let (command, line) = (of_line(call)?, call.args.from(2));
    let mut keys = Vec::new();
    let named = command.for_each_key(line, |at, access| {
        keys.push((line.at(at), of_this_line(command, line, access)))
    });
    if named.is_err() {
        return Err(fixed("ERR Invalid arguments specified for command"));
    }
    call.out.array(keys.len());
    for (key, access) in keys {
        call.out.array(2);
        call.out.bulk(key);
        call.out.simple_set(access.names());
    }
    Ok(())
}

pub(crate) fn categories(call: &mut Call<'_, '_>) -> Done {
    match call.args.len() {
        2 => call.out.texts(CATEGORIES.iter().copied()),
        3 => {
            let category = call.word(2);
            if !CATEGORIES.contains(&category.as_str()) {
                let mut text = b"ERR Unknown category '".to_vec();
                text.extend_from_slice(call.args.at(2));
                text.push(b'\'');
                return Err(failure(text));
            }
            let rows = lookup::rows().iter().map(|row| row.command);
            let names: Vec<_> = rows
                .filter(|command| command.subcommands.is_empty())
                .filter(|command| categories_of(command).contains(&category.as_str()))
                .map(|command| command.name)
                .collect();
            call.out.texts(names.iter().copied());
        }
        _ => return Err(bad_subcommand("ACL", call.args.at(1))),
    }
    Ok(())
}

/// Lists the subcommands of a container, each with what it does.
pub(crate) fn help(call: &mut Call<'_, '_>) -> Done {
    let name = call.word(0);
    let Some(row) = lookup::find(name.as_str().as_bytes()) else {
        return Err(SYNTAX);
    };
    let subcommands = row.command.subcommands;
    call.out.array(2 * subcommands.len() + 1);
    call.out.simple(&format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        row.command.name.to_uppercase()
    ));
    for subcommand in subcommands {
        let name = subcommand.name.split_once('|').map_or("", |(_, name)| name);
        call.out.simple(&name.to_uppercase());
        call.out.simple(&format!("    {}", subcommand.summary));
    }
    Ok(())
}
