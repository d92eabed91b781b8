//! Deadlines as commands give them, in milliseconds since 1970.

use super::failure::{Failure, failure};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

/// The number is no deadline.
pub(crate) fn invalid(command: &str) -> Failure {
    failure(format!("ERR invalid expire time in '{command}' command"))
}

/// The deadline that a number means at the time `now`.
pub(crate) fn deadline(
    number: i64,
    unit: Unit,
    is_absolute: bool,
    now: i64,
    command: &str,
) -> Result<i64, Failure> {
    let milliseconds = match unit {
        Unit::Seconds => number.checked_mul(1_000),
        Unit::Milliseconds => Some(number),
    };
    let deadline = match is_absolute {
        true => milliseconds,
        false => milliseconds.and_then(|milliseconds| milliseconds.checked_add(now)),
    };
    deadline.ok_or_else(|| invalid(command))
}
