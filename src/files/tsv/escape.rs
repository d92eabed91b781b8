//! How rows hold what would end them: not at all, or behind a backslash. Knows neither files nor stores.

use memchr::{memchr, memchr3};

use crate::{Error, Result};

/// How a row holds tabs, newlines and backslashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// A value may hold tabs. Nothing else that would end a row can be held, and a backslash is one.
    #[default]
    None,
    /// As `\t`, `\n` and `\\`, so that any key and any value can be held. Nothing else follows a backslash.
    Backslash,
}

/// Appends bytes with a backslash before what would end a row.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut rest = bytes;
    loop {
        let special = memchr3(b'\\', b'\t', b'\n', rest);
        let plain = &rest[..special.unwrap_or(rest.len())];
        out.try_reserve(plain.len() + 2)
            .map_err(|_| Error::OutOfMemory)?;
        out.extend_from_slice(plain);
        let Some(at) = special else {
            return Ok(());
        };
        out.extend_from_slice(match rest[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
}

/// Takes the backslashes out of rows.
#[derive(Default)]
pub(super) struct Unescaper {
    escape: Escape,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Unescaper {
    pub(super) fn new(escape: Escape) -> Self {
        Unescaper {
            escape,
            ..Unescaper::default()
        }
    }

    /// The key and the value that a row holds.
    ///
    /// # Errors
    /// [`Error::BadEscape`], [`Error::OutOfMemory`].
    #[inline]
    pub(super) fn row<'a>(
        &'a mut self,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<(&'a [u8], &'a [u8])> {
        if self.escape == Escape::None {
            return Ok((key, value));
        }
        Ok((
            unescape(key, &mut self.key)?,
            unescape(value, &mut self.value)?,
        ))
    }
}

fn unescape<'a>(bytes: &'a [u8], copy: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    let Some(mut at) = memchr(b'\\', bytes) else {
        return Ok(bytes);
    };
    copy.clear();
    copy.try_reserve(bytes.len())
        .map_err(|_| Error::OutOfMemory)?;
    let mut rest = bytes;
    loop {
        copy.extend_from_slice(&rest[..at]);
        copy.push(match rest.get(at + 1) {
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'\\') => b'\\',
            _ => return Err(Error::BadEscape),
        });
        rest = &rest[at + 2..];
        match memchr(b'\\', rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    copy.extend_from_slice(rest);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b'\\'),
            Just(b'\t'),
            Just(b'\n'),
            Just(b't'),
            any::<u8>()
        ];
        vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn what_was_escaped_is_one_row_and_comes_back(key in bytes(), value in bytes()) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            escape(&key, &mut left).unwrap();
            escape(&value, &mut right).unwrap();
            prop_assert!(!left.iter().chain(&right).any(|byte| matches!(byte, b'\t' | b'\n')));
            let mut unescaper = Unescaper::new(Escape::Backslash);
            let row = unescaper.row(&left, &right).unwrap();
            prop_assert_eq!(row, (&key[..], &value[..]));
        }
    }

    #[test]
    fn what_follows_a_backslash_is_one_of_three() {
        for bad in [&b"\\"[..], b"a\\", b"\\x", b"\\\\\\", b"\\t\\0"] {
            let mut unescaper = Unescaper::new(Escape::Backslash);
            assert!(matches!(unescaper.row(bad, b""), Err(Error::BadEscape)));
            assert!(matches!(unescaper.row(b"", bad), Err(Error::BadEscape)));
        }
    }
}
