//! Patterns over bytes as Redis has them: `*`, `?`, `[a-z]`, `[^a]` and `\x`.

use memchr::memmem::Finder;

/// A pattern.
///
/// ```
/// use atbr::engine::Glob;
/// assert!(Glob::new(b"user:*:[0-9]").matches(b"user:ann:7"));
/// assert!(!Glob::new(b"user:?").matches(b"user:ann"));
/// ```
#[derive(Clone, Debug)]
pub struct Glob {
    /// What the text begins with.
    first: Vec<Element>,
    /// None: the text is no longer than `first`.
    rest: Option<Rest>,
}

/// What follows the first star.
#[derive(Clone, Debug)]
struct Rest {
    /// What is between two stars, and is found one after the other, each as early as it can be.
    between: Vec<Segment>,
    /// What the text ends with.
    last: Vec<Element>,
}

/// What one byte has to be.
#[derive(Clone, Debug)]
enum Element {
    Any,
    Byte(u8),
    Class(Box<Class>),
}

/// A bit for each byte.
type Class = [u64; 4];

impl Element {
    #[inline]
    fn takes(&self, byte: u8) -> bool {
        match self {
            Element::Any => true,
            Element::Byte(own) => *own == byte,
            Element::Class(class) => class[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1,
        }
    }
}

/// Elements that are looked for in a text.
#[derive(Clone, Debug)]
enum Segment {
    Literal(Box<Finder<'static>>),
    Elements(ShiftAnd),
}

/// Elements found by shifting a bit for each that has matched so far (Baeza-Yates and Gonnet 1992): O(text x elements / 64).
#[derive(Clone, Debug)]
struct ShiftAnd {
    len: usize,
    words: usize,
    /// For each byte, a bit for each element that takes it.
    takes: Vec<u64>,
}

impl ShiftAnd {
    fn new(elements: &[Element]) -> Self {
        let words = elements.len().div_ceil(64);
        let mut takes = vec![0; 256 * words];
        for (byte, of_byte) in (0..=u8::MAX).zip(takes.chunks_exact_mut(words)) {
            for (at, _) in elements.iter().enumerate().filter(|(_, e)| e.takes(byte)) {
                of_byte[at / 64] |= 1 << (at % 64);
            }
        }
        ShiftAnd {
            len: elements.len(),
            words,
            takes,
        }
    }

    /// Where the first match ends.
    fn find_end(&self, text: &[u8]) -> Option<usize> {
        let last = self.len - 1;
        if self.words == 1 {
            let mut matched = 0;
            return text.iter().position(|&byte| {
                matched = (matched << 1 | 1) & self.takes[usize::from(byte)];
                matched >> last & 1 == 1
            });
        }
        let mut matched = vec![0_u64; self.words];
        text.iter().position(|&byte| {
            let takes = &self.takes[usize::from(byte) * self.words..][..self.words];
            let mut carry = 1;
            for (word, takes) in matched.iter_mut().zip(takes) {
                let shifted = *word << 1 | carry;
                carry = *word >> 63;
                *word = shifted & takes;
            }
            matched[last / 64] >> (last % 64) & 1 == 1
        })
    }
}

impl Segment {
    fn new(elements: &[Element]) -> Self {
        let byte = |element: &Element| match element {
            Element::Byte(byte) => Some(*byte),
            _ => None,
        };
        match elements.iter().map(byte).collect::<Option<Vec<u8>>>() {
            Some(bytes) => Segment::Literal(Box::new(Finder::new(&bytes).into_owned())),
            None => Segment::Elements(ShiftAnd::new(elements)),
        }
    }

    /// What follows the first match.
    fn after<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let end = match self {
            Segment::Literal(finder) => finder.find(text)? + finder.needle().len(),
            Segment::Elements(elements) => elements.find_end(text)? + 1,
        };
        Some(&text[end..])
    }
}

impl Glob {
    /// A pattern; every sequence of bytes is one. O(pattern).
    pub fn new(pattern: &[u8]) -> Self {
        let mut segments = vec![Vec::new()];
        let mut rest = pattern;
        while let Some(&byte) = rest.first() {
            if byte == b'*' {
                segments.push(Vec::new());
                rest = &rest[1..];
                continue;
            }
            let (element, len) = first_element(rest);
            if let Some(segment) = segments.last_mut() {
                segment.push(element);
            }
            rest = &rest[len..];
        }
        let last = (segments.len() > 1).then(|| segments.pop()).flatten();
        let mut segments = segments.into_iter();
        Glob {
            first: segments.next().unwrap_or_default(),
            rest: last.map(|last| Rest {
                between: segments
                    .filter(|segment| !segment.is_empty())
                    .map(|segment| Segment::new(&segment))
                    .collect(),
                last,
            }),
        }
    }

    /// Whether the whole of `text` matches. O(pattern + text); O(pattern x text / 64) where there is `?` or a class between two stars.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some((first, text)) = text.split_at_checked(self.first.len()) else {
            return false;
        };
        let Some(rest) = &self.rest else {
            return text.is_empty() && all_take(&self.first, first);
        };
        let Some(at) = text.len().checked_sub(rest.last.len()) else {
            return false;
        };
        let (mut text, last) = text.split_at(at);
        all_take(&self.first, first)
            && all_take(&rest.last, last)
            && rest.between.iter().all(|segment| {
                segment.after(text).is_some_and(|after| {
                    text = after;
                    true
                })
            })
    }
}

fn all_take(elements: &[Element], bytes: &[u8]) -> bool {
    elements.iter().zip(bytes).all(|(e, &byte)| e.takes(byte))
}

/// The first element of a pattern that begins with none of the stars, and its length.
fn first_element(pattern: &[u8]) -> (Element, usize) {
    match pattern {
        [b'?', ..] => (Element::Any, 1),
        [b'[', class @ ..] => {
            let (class, len) = parse_class(class);
            (Element::Class(Box::new(class)), len + 1)
        }
        [b'\\', escaped, ..] => (Element::Byte(*escaped), 2),
        [literal, ..] => (Element::Byte(*literal), 1),
        [] => (Element::Any, 0),
    }
}

/// A class, after its opening bracket, and its length. One that is not closed ends with the pattern.
fn parse_class(pattern: &[u8]) -> (Class, usize) {
    let negated = pattern.first() == Some(&b'^');
    let mut class = [0; 4];
    let mut add = |byte: u8| class[usize::from(byte >> 6)] |= 1 << (byte & 63);
    let mut at = usize::from(negated);
    loop {
        match &pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                add(*escaped);
                at += 2;
            }
            [low, b'-', high, ..] => {
                (*low.min(high)..=*low.max(high)).for_each(&mut add);
                at += 3;
            }
            [literal, ..] => {
                add(*literal);
                at += 1;
            }
        }
    }
    if negated {
        class = class.map(|bits| !bits);
    }
    (class, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Glob;

    /// Byte by byte, trying every length for a star.
    fn naively(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|len| naively(rest, &text[len..])),
            (_, []) => false,
            ([b'?', rest @ ..], [_, text @ ..]) => naively(rest, text),
            ([b'[', class @ ..], [byte, text @ ..]) => {
                let negated = class.first() == Some(&b'^');
                let mut class = &class[usize::from(negated)..];
                let mut found = false;
                loop {
                    class = match class {
                        [] => break,
                        [b']', rest @ ..] => {
                            class = rest;
                            break;
                        }
                        [b'\\', escaped, rest @ ..] => {
                            found |= escaped == byte;
                            rest
                        }
                        [low, b'-', high, rest @ ..] => {
                            found |= low.min(high) <= byte && byte <= low.max(high);
                            rest
                        }
                        [literal, rest @ ..] => {
                            found |= literal == byte;
                            rest
                        }
                    };
                }
                found != negated && naively(class, text)
            }
            ([b'\\', escaped, rest @ ..], [byte, text @ ..]) => {
                escaped == byte && naively(rest, text)
            }
            ([literal, rest @ ..], [byte, text @ ..]) => literal == byte && naively(rest, text),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn patterns_match_what_they_match_byte_by_byte(
            pattern in "[ab*?\\[\\]^\\-\\\\]{0,12}|[ab]{0,3}\\*[ab?\\[\\]-]{0,4}\\*[ab?]{1,3}\\*[ab]{0,2}", text in "[ab\\]^-]{0,10}|[ab]{0,14}"
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Glob::new(pattern).matches(text), naively(pattern, text));
        }

        #[test]
        fn long_segments_match_as_short_ones(before in 0usize..300, len in 1usize..300, after in 0usize..300, bad in any::<bool>()) {
            let pattern = ["*", &"?".repeat(len / 2), &"[ab]".repeat(len - len / 2), "*"].concat();
            let text = ["c".repeat(before), "a".repeat(len), if bad { "c" } else { "b" }.repeat(after)].concat();
            prop_assert!(Glob::new(pattern.as_bytes()).matches(text.as_bytes()));
            let longer = ["*", &"[ab]".repeat(len + 1), "*"].concat();
            let fits = !bad && after > 0;
            prop_assert_eq!(Glob::new(longer.as_bytes()).matches(text.as_bytes()), fits);
        }
    }

    #[test]
    fn the_longest_patterns_over_the_longest_keys_take_no_long_time() {
        // Tried at every place of the text, each of them takes seconds.
        let text = "a".repeat(65_535);
        for middle in [
            "a".repeat(30_000) + "b",
            "?".repeat(20_000) + "b",
            "[ab]".repeat(8_000) + "c",
            "a*".repeat(30_000) + "b",
        ] {
            for pattern in [
                format!("*{middle}"),
                format!("*{middle}*"),
                format!("*{middle}[bc]*"),
            ] {
                assert!(!matches(&pattern, &text));
            }
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes()).matches(text.as_bytes())
    }

    #[test]
    fn patterns_match_as_redis_has_them() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*c", "abbc"),
            ("a*b*c", "aXbXbXc"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hbllo"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("[abc", "c"),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, text), "{pattern:?} should match {text:?}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("a*c", "abd"),
            ("h[^e]llo", "hello"),
            ("\\*", "a"),
            ("abc", "ab"),
            ("ab", "abc"),
            ("*a", "ab"),
        ] {
            assert!(
                !matches(pattern, text),
                "{pattern:?} should not match {text:?}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(64) + "b";
        assert!(!matches(&pattern, &"a".repeat(4096)));
    }
}
