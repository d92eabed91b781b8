//! The command table by name: one multiplication and one comparison a look-up.

use std::sync::LazyLock;

use super::command::Command;
use super::table::TABLES;

/// A row, and its place among all rows and subcommands.
pub(crate) struct Row {
    pub(crate) command: &'static Command,
    pub(crate) index: u16,
}

/// Places: a power of two, and so many times the number of commands that few collide.
const PLACES: usize = 1 << 10;
const NONE: u16 = u16::MAX;

struct Lookup {
    /// Commands, each followed by its subcommands.
    rows: Vec<Row>,
    places: Vec<u16>,
}

static LOOKUP: LazyLock<Lookup> = LazyLock::new(|| {
    let mut rows = Vec::new();
    let mut places = vec![NONE; PLACES];
    for command in TABLES.iter().flat_map(|table| table.iter()) {
        let first = rows.len() as u16;
        let mut place = hash(command.name.as_bytes());
        while places[place] != NONE {
            place = (place + 1) % PLACES;
        }
        places[place] = first;
        for command in std::iter::once(command).chain(command.subcommands) {
            let index = rows.len() as u16;
            rows.push(Row { command, index });
        }
    }
    Lookup { rows, places }
});

/// Names are letters, digits, `_` and `-`, so a bit makes capitals small.
#[inline]
fn hash(name: &[u8]) -> usize {
    let mut word = [0x20; 8];
    let len = name.len().min(8);
    word[..len].copy_from_slice(&name[..len]);
    let word = u64::from_ne_bytes(word) | 0x2020_2020_2020_2020;
    let tail = name.last().map_or(0, |&last| u64::from(last | 0x20)) << 8 | name.len() as u64;
    ((word ^ tail.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize
}

/// The row of a command.
#[inline]
pub(crate) fn find(name: &[u8]) -> Option<&'static Row> {
    let lookup = &*LOOKUP;
    let mut place = hash(name);
    loop {
        let row = lookup.rows.get(usize::from(lookup.places[place]))?;
        if row.command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(row);
        }
        place = (place + 1) % PLACES;
    }
}

/// The row of a container's subcommand.
pub(crate) fn find_subcommand(container: &Row, name: &[u8]) -> Option<&'static Row> {
    let is_it = |command: &Command| {
        let subcommand = command
            .name
            .split_once('|')
            .map_or("", |(_, subcommand)| subcommand);
        subcommand.as_bytes().eq_ignore_ascii_case(name)
    };
    let at = container.command.subcommands.iter().position(is_it)?;
    LOOKUP.rows.get(usize::from(container.index) + 1 + at)
}

/// All commands and subcommands.
pub(crate) fn rows() -> &'static [Row] {
    &LOOKUP.rows
}

/// Commands, without subcommands.
pub(crate) fn commands() -> impl Iterator<Item = &'static Command> {
    TABLES.iter().flat_map(|table| table.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_whatever_its_case() {
        for command in commands() {
            for name in [command.name.to_owned(), command.name.to_uppercase()] {
                let row = find(name.as_bytes()).unwrap();
                assert!(std::ptr::eq(row.command, command), "{name}");
            }
            for subcommand in command.subcommands {
                let (container, name) = subcommand.name.split_once('|').unwrap();
                assert_eq!(container, command.name);
                let row =
                    find_subcommand(find(container.as_bytes()).unwrap(), name.as_bytes()).unwrap();
                assert!(std::ptr::eq(row.command, subcommand), "{}", subcommand.name);
            }
        }
        for name in ["", "ge", "gett", "getrangf", "a-command-that-nobody-has"] {
            assert!(find(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn rows_say_what_documents_need() {
        for row in rows() {
            let command = row.command;
            assert!(
                !command.summary.is_empty() && command.summary.ends_with('.'),
                "{}",
                command.name
            );
            assert!(
                !command.since.is_empty() && !command.complexity.is_empty(),
                "{}",
                command.name
            );
            assert_eq!(command.name, command.name.to_lowercase());
        }
    }
}
