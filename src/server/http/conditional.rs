//! Entity tags, the conditions that name them, and byte ranges (RFC 9110). Knows header values, not the store.

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use axum::http::header::{GetAll, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderValue};
use siphasher::sip128::{Hasher128, SipHasher13};

/// Makes tags: a keyed hash of the value, with a key of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tagger(SipHasher13);

/// A strong entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u128);

impl Tagger {
    /// A random key.
    pub(super) fn new() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        Tagger(SipHasher13::new_with_keys(random(), random()))
    }

    /// The tag of a value. O(length): about a millisecond a MiB at worst.
    pub(super) fn tag(&self, value: &[u8]) -> Tag {
        let mut hasher = self.0;
        hasher.write(value);
        Tag(hasher.finish128().as_u128())
    }
}

impl Tag {
    /// The tag with its quotes.
    pub(super) fn header(self) -> HeaderValue {
        let mut text = [b'"'; 34];
        for (i, digit) in text[1..33].iter_mut().enumerate() {
            let nibble = (self.0 >> (124 - 4 * i)) as usize & 15;
            *digit = b"0123456789abcdef"[nibble];
        }
        // Hexadecimal digits and quotes are visible ASCII.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }

    /// The tag without quotes, for JSON.
    pub(super) fn text(self) -> String {
        let mut text = String::with_capacity(32);
        let _ = write!(text, "{:032x}", self.0);
        text
    }
}

/// Whether it is weak, and what is between the quotes.
type Listed = (bool, Vec<u8>);

/// Tags that a condition names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<Listed>),
}

/// A header that names tags is malformed. Holds its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Tags {
    fn parse(
        name: &'static str,
        values: &GetAll<'_, HeaderValue>,
    ) -> Result<Option<Tags>, Malformed> {
        let mut list = Vec::new();
        let mut any = false;
        let mut seen = false;
        for value in values {
            seen = true;
            let mut rest = value.as_bytes().trim_ascii();
            if rest == b"*" {
                any = true;
                continue;
            }
            while !rest.is_empty() {
                let (tag, after) = next_tag(rest).ok_or(Malformed(name))?;
                list.push(tag);
                rest = after.trim_ascii_start();
                rest = match rest {
                    [] => rest,
                    [b',', after @ ..] => after.trim_ascii_start(),
                    _ => return Err(Malformed(name)),
                };
            }
        }
        match (seen, any, list.is_empty()) {
            (false, ..) => Ok(None),
            (_, true, true) => Ok(Some(Tags::Any)),
            (_, false, false) => Ok(Some(Tags::List(list))),
            _ => Err(Malformed(name)),
        }
    }

    fn matches(&self, tag: Option<Tag>, weakly: bool) -> bool {
        match (self, tag) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::List(list), Some(tag)) => {
                let text = tag.text();
                list.iter()
                    .any(|(weak, listed)| (weakly || !weak) && listed == text.as_bytes())
            }
        }
    }
}

/// The first tag of a list, and what follows it.
fn next_tag(text: &[u8]) -> Option<(Listed, &[u8])> {
    let (weak, text) = match text.strip_prefix(b"W/") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    Some(((weak, text[..end].to_vec()), &text[end + 1..]))
}

/// `If-Match` and `If-None-Match` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    matching: Option<Tags>,
    none_matching: Option<Tags>,
}

/// What becomes of a request with conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    /// 412.
    Failed,
    /// 304 for a read, 412 for a write.
    Unchanged,
}

impl Conditions {
    /// # Errors
    /// [`Malformed`].
    pub(super) fn parse(headers: &HeaderMap) -> Result<Conditions, Malformed> {
        Ok(Conditions {
            matching: Tags::parse("If-Match", &headers.get_all(IF_MATCH))?,
            none_matching: Tags::parse("If-None-Match", &headers.get_all(IF_NONE_MATCH))?,
        })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.matching.is_none() && self.none_matching.is_none()
    }

    /// Whether it takes more than the entry's presence to decide.
    pub(super) fn needs_tag(&self) -> bool {
        let lists = |tags: &Option<Tags>| matches!(tags, Some(Tags::List(_)));
        lists(&self.matching) || lists(&self.none_matching)
    }

    /// Whether they hold for a value of this tag; None: there is no value.
    pub(super) fn check(&self, tag: Option<Tag>) -> Verdict {
        if self
            .matching
            .as_ref()
            .is_some_and(|tags| !tags.matches(tag, false))
        {
            return Verdict::Failed;
        }
        if self
            .none_matching
            .as_ref()
            .is_some_and(|tags| tags.matches(tag, true))
        {
            return Verdict::Unchanged;
        }
        Verdict::Proceed
    }

    /// As [`Conditions::check`] where no tag is needed.
    pub(super) fn check_presence(&self, is_there: bool) -> Verdict {
        self.check(is_there.then_some(Tag(0)))
    }
}

/// The part of a value that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Bytes(Range<usize>),
    Unsatisfiable,
}

/// Whether a request asks for a range at all.
pub(super) fn asks_for_range(headers: &HeaderMap) -> bool {
    headers.contains_key(RANGE)
}

/// The part of a value of `len` bytes that `Range` asks for. What is no single range of bytes is the whole.
pub(super) fn part(headers: &HeaderMap, len: usize, tag: Tag) -> Part {
    let Some(range) = headers.get(RANGE) else {
        return Part::Whole;
    };
    if let Some(only_if) = headers.get(IF_RANGE)
        && *only_if != tag.header()
    {
        return Part::Whole;
    }
    parse_range(range.as_bytes(), len)
}

fn parse_range(text: &[u8], len: usize) -> Part {
    let parse = || {
        let (unit, range) = std::str::from_utf8(text).ok()?.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        unit.trim()
            .eq_ignore_ascii_case("bytes")
            .then_some((first, last))
    };
    let Some((first, last)) = parse() else {
        return Part::Whole;
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too large for a usize is beyond every value.
        true => Some(text.parse().unwrap_or(usize::MAX)),
        false => None,
    };
    let (Some(from), Some(to)) = (number(first), number(last)) else {
        return Part::Whole;
    };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Part::Whole,
        (true, false) if to == 0 || len == 0 => Part::Unsatisfiable,
        (true, false) => Part::Bytes(len - to.min(len)..len),
        (false, false) if to < from => Part::Whole,
        (false, _) if from >= len => Part::Unsatisfiable,
        (false, true) => Part::Bytes(from..len),
        (false, false) => Part::Bytes(from..to.saturating_add(1).min(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(headers: &[(&'static str, &str)]) -> Result<Conditions, Malformed> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Conditions::parse(&map)
    }

    #[test]
    fn equal_values_have_one_tag_and_others_another() {
        let tagger = Tagger::new();
        assert_eq!(tagger.tag(b"a"), tagger.tag(b"a"));
        assert_ne!(tagger.tag(b"a"), tagger.tag(b"b"));
        assert_ne!(tagger.tag(b""), tagger.tag(b"\0"));
        assert_ne!(tagger.tag(b"a"), Tagger::new().tag(b"a"));
        let tag = tagger.tag(b"a");
        assert_eq!(
            tag.header().to_str().unwrap(),
            format!("\"{}\"", tag.text())
        );
    }

    #[test]
    fn conditions_hold_as_rfc_9110_has_them() {
        let tag = Tagger::new().tag(b"value");
        let (strong, weak) = (
            format!("\"{}\"", tag.text()),
            format!("W/\"{}\"", tag.text()),
        );
        let many = format!("\"a,b\", {strong} ,\"\"");
        for (name, value, there, missing) in [
            ("if-match", "*", Verdict::Proceed, Verdict::Failed),
            ("if-match", &*strong, Verdict::Proceed, Verdict::Failed),
            ("if-match", &*many, Verdict::Proceed, Verdict::Failed),
            ("if-match", &*weak, Verdict::Failed, Verdict::Failed),
            ("if-match", "\"other\"", Verdict::Failed, Verdict::Failed),
            ("if-none-match", "*", Verdict::Unchanged, Verdict::Proceed),
            (
                "if-none-match",
                &*strong,
                Verdict::Unchanged,
                Verdict::Proceed,
            ),
            (
                "if-none-match",
                &*weak,
                Verdict::Unchanged,
                Verdict::Proceed,
            ),
            (
                "if-none-match",
                "\"other\"",
                Verdict::Proceed,
                Verdict::Proceed,
            ),
        ] {
            let parsed = conditions(&[(name, value)]).unwrap();
            assert_eq!(parsed.check(Some(tag)), there, "{name}: {value}");
            assert_eq!(parsed.check(None), missing, "{name}: {value}");
        }
    }

    #[test]
    fn malformed_conditions_are_refused() {
        for value in [
            "",
            "abc",
            "\"a",
            "\"a\" \"b\"",
            "w/\"a\"",
            "\"a\",b",
            "*, \"a\"",
        ] {
            assert_eq!(
                conditions(&[("if-match", value)]),
                Err(Malformed("If-Match")),
                "{value}"
            );
        }
        assert!(conditions(&[("if-match", "*"), ("if-match", "\"a\"")]).is_err());
        assert!(conditions(&[("if-match", "\"a\""), ("if-match", "\"b\"")]).is_ok());
    }

    #[test]
    fn ranges_are_cut_at_the_end_of_the_value() {
        for (range, part) in [
            ("bytes=0-0", Part::Bytes(0..1)),
            ("bytes=2-", Part::Bytes(2..10)),
            ("bytes=2-99999999999999999999999", Part::Bytes(2..10)),
            ("bytes=-3", Part::Bytes(7..10)),
            ("bytes=-30", Part::Bytes(0..10)),
            ("Bytes=9-9", Part::Bytes(9..10)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=3-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("rows=1-2", Part::Whole),
        ] {
            assert_eq!(parse_range(range.as_bytes(), 10), part, "{range}");
        }
        assert_eq!(parse_range(b"bytes=-1", 0), Part::Unsatisfiable);
        assert_eq!(parse_range(b"bytes=0-", 0), Part::Unsatisfiable);
    }
}
