//! Keys and parameters in paths and queries: percent-decoded bytes. Knows no HTTP.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};

/// What a `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    /// Itself, as in paths.
    Plus,
    /// A space, as in queries.
    Space,
}

/// Decodes `%XX`; None where a `%` is not followed by two hexadecimal digits.
#[inline]
pub(super) fn decode(text: &[u8], plus: Plus) -> Option<Cow<'_, [u8]>> {
    let first = match plus {
        Plus::Plus => memchr(b'%', text),
        Plus::Space => memchr2(b'%', b'+', text),
    };
    match first {
        None => Some(Cow::Borrowed(text)),
        Some(first) => decode_from(text, first, plus).map(Cow::Owned),
    }
}

fn decode_from(text: &[u8], first: usize, plus: Plus) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(&text[..first]);
    let mut rest = &text[first..];
    loop {
        rest = match rest {
            [] => return Some(decoded),
            [b'%', high, low, after @ ..] => {
                decoded.push(hexadecimal(*high)? << 4 | hexadecimal(*low)?);
                after
            }
            [b'%', ..] => return None,
            [b'+', after @ ..] if plus == Plus::Space => {
                decoded.push(b' ');
                after
            }
            [byte, after @ ..] => {
                decoded.push(*byte);
                after
            }
        }
    }
}

fn hexadecimal(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// Key and value, still encoded, of what follows `/put/key/`: cut at the last `/value/`.
pub(super) fn split_put(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    const MIDDLE: &[u8] = b"/value/";
    let at = memmem::rfind(rest, MIDDLE)?;
    Some((&rest[..at], &rest[at + MIDDLE.len()..]))
}

/// A query string.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(&'a [u8]);

/// Why a query cannot be read. Holds the parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    /// A `%` without two hexadecimal digits.
    Encoding(&'static str),
    /// A parameter that is given twice.
    Twice(&'static str),
    /// A parameter that is not what it has to be. Says what.
    Value(&'static str, &'static str),
}

impl<'a> Query<'a> {
    pub(super) fn new(query: Option<&'a str>) -> Self {
        Query(query.unwrap_or_default().as_bytes())
    }

    /// The decoded value of a parameter; None where it is absent.
    pub(super) fn get(self, name: &'static str) -> Result<Option<Cow<'a, [u8]>>, QueryError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut found = None;
        for pair in self.0.split(|&byte| byte == b'&') {
            let (this, value) = match memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            let is_it = decode(this, Plus::Space).is_some_and(|this| *this == *name.as_bytes());
            if !is_it {
                continue;
            }
            if found.is_some() {
                return Err(QueryError::Twice(name));
            }
            found = Some(decode(value, Plus::Space).ok_or(QueryError::Encoding(name))?);
        }
        Ok(found)
    }

    /// A decimal integer of a range.
    pub(super) fn integer(
        self,
        name: &'static str,
        range: std::ops::RangeInclusive<u64>,
        expected: &'static str,
    ) -> Result<Option<u64>, QueryError> {
        let Some(text) = self.get(name)? else {
            return Ok(None);
        };
        let is_decimal = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let value = std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok());
        match value {
            Some(value) if is_decimal && range.contains(&value) => Ok(Some(value)),
            _ => Err(QueryError::Value(name, expected)),
        }
    }

    /// The database of `db=`; 0 where there is none.
    #[inline]
    pub(super) fn database(self) -> Result<u8, QueryError> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let db = self.integer("db", 0..=15, "a number from 0 to 15")?;
        Ok(db.unwrap_or(0) as u8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percent_sequences_are_bytes_and_a_plus_is_a_space_in_queries_only() {
        for (text, path, query) in [
            (&b"a%2Fb"[..], &b"a/b"[..], &b"a/b"[..]),
            (b"%00%ff%FE", b"\x00\xff\xfe", b"\x00\xff\xfe"),
            (b"a+b", b"a+b", b"a b"),
            (b"a%2Bb+", b"a+b+", b"a+b "),
            (b"%25", b"%", b"%"),
            (b"", b"", b""),
            (b"a/b//c", b"a/b//c", b"a/b//c"),
        ] {
            assert_eq!(decode(text, Plus::Plus).as_deref(), Some(path));
            assert_eq!(decode(text, Plus::Space).as_deref(), Some(query));
        }
    }

    #[test]
    fn a_percent_without_two_digits_is_refused() {
        for text in [&b"%"[..], b"%2", b"a%zz", b"%2g", b"%%20", b"%+1", b"% 1"] {
            assert_eq!(decode(text, Plus::Plus), None, "{text:?}");
        }
    }

    #[test]
    fn a_put_is_cut_at_its_last_value() {
        for (rest, parts) in [
            ("k/value/v", Some(("k", "v"))),
            ("a/value/b/value/v", Some(("a/value/b", "v"))),
            ("k/value/", Some(("k", ""))),
            ("/value/v", Some(("", "v"))),
            ("k%2Fvalue%2Fx/value/v", Some(("k%2Fvalue%2Fx", "v"))),
            ("k/value", None),
            ("k", None),
        ] {
            let parts = parts.map(|(k, v): (&str, &str)| (k.as_bytes(), v.as_bytes()));
            assert_eq!(split_put(rest.as_bytes()), parts, "{rest}");
        }
    }

    #[test]
    fn queries_say_what_is_wrong_with_them() {
        let query = |text| Query::new(Some(text));
        assert_eq!(
            query("k=a%20b&x=1").get("k").unwrap().as_deref(),
            Some(&b"a b"[..])
        );
        assert_eq!(query("k64&k=").get("k").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(query("k64=1").get("k"), Ok(None));
        assert_eq!(query("%6b=1").get("k").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(query("k=1&k=2").get("k"), Err(QueryError::Twice("k")));
        assert_eq!(query("k=%").get("k"), Err(QueryError::Encoding("k")));
        assert_eq!(query("").database(), Ok(0));
        assert_eq!(query("db=15").database(), Ok(15));
        for bad in [
            "db=16",
            "db=-1",
            "db=",
            "db=+1",
            "db=1x",
            "db=99999999999999999999",
        ] {
            assert!(query(bad).database().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(bytes: Vec<u8>) {
            let encoded: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(encoded.as_bytes(), Plus::Plus).unwrap().into_owned(), bytes);
        }

        #[test]
        fn decoding_never_panics_and_never_grows(bytes: Vec<u8>) {
            for plus in [Plus::Plus, Plus::Space] {
                if let Some(decoded) = decode(&bytes, plus) {
                    prop_assert!(decoded.len() <= bytes.len());
                }
            }
        }
    }
}
