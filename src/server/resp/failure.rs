//! Errors as replies say them.

use std::borrow::Cow;

use crate::Error;

/// An error reply: its code, a space and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) Cow<'static, [u8]>);

pub(crate) const SYNTAX: Failure = fixed("ERR syntax error");
pub(crate) const NOT_AN_INTEGER: Failure = fixed("ERR value is not an integer or out of range");
pub(crate) const NOT_A_FLOAT: Failure = fixed("ERR value is not a valid float");
pub(crate) const WRONG_TYPE: Failure =
    fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(crate) const NO_SUCH_KEY: Failure = fixed("ERR no such key");
pub(crate) const TOO_LONG: Failure =
    fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub(crate) const SAME_OBJECT: Failure = fixed("ERR source and destination objects are the same");
pub(crate) const OVERFLOW: Failure = fixed("ERR increment or decrement would overflow");
pub(crate) const OUT_OF_MEMORY: Failure =
    fixed("OOM command not allowed when used memory > 'maxmemory'.");

/// A failure of fixed text.
pub(crate) const fn fixed(text: &'static str) -> Failure {
    Failure(Cow::Borrowed(text.as_bytes()))
}

/// A failure of text made for it.
pub(crate) fn failure(text: impl Into<Vec<u8>>) -> Failure {
    Failure(Cow::Owned(text.into()))
}

/// Too few or too many arguments.
pub(crate) fn wrong_arity(name: &str) -> Failure {
    failure(format!(
        "ERR wrong number of arguments for '{name}' command"
    ))
}

/// A container has no such subcommand, or not with so many arguments.
pub(crate) fn bad_subcommand(container: &str, name: &[u8]) -> Failure {
    let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
    text.extend_from_slice(name);
    text.extend_from_slice(format!("'. Try {container} HELP.").as_bytes());
    failure(text)
}

impl Failure {
    /// Its first word.
    pub(crate) fn code(&self) -> &[u8] {
        self.0
            .split(|&byte| byte == b' ')
            .next()
            .unwrap_or_default()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::StoreFull | Error::NothingToEvict | Error::OutOfMemory | Error::ArenaFull => {
                OUT_OF_MEMORY
            }
            Error::ValueTooLong(_) => TOO_LONG,
            Error::NotAnInteger => NOT_AN_INTEGER,
            Error::IntegerOverflow => OVERFLOW,
            other => failure(format!("ERR {other}")),
        }
    }
}
