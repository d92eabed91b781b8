//! Patterns over bytes as Redis has them: `*`, `?`, `[a-z]`, `[^a]` and `\x`. O(pattern x text) at worst.

/// A pattern.
///
/// ```
/// use atbr::engine::Glob;
/// assert!(Glob::new(b"user:*:[0-9]").matches(b"user:ann:7"));
/// assert!(!Glob::new(b"user:?").matches(b"user:ann"));
/// ```
#[derive(Clone, Debug)]
pub struct Glob {
    pattern: Vec<u8>,
}

impl Glob {
    /// A pattern; every sequence of bytes is one.
    pub fn new(pattern: &[u8]) -> Self {
        Glob {
            pattern: pattern.to_vec(),
        }
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let pattern = &self.pattern[..];
        let (mut p, mut t) = (0, 0);
        // Where to go on when what follows the last star does not match: one byte further for the star.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            if pattern.get(p) == Some(&b'*') {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            let step = match text.get(t) {
                None if p == pattern.len() => return true,
                None => return false,
                Some(&byte) => match_one(&pattern[p..], byte),
            };
            match (step, retry) {
                (Some(len), _) => {
                    p += len;
                    t += 1;
                }
                (None, Some((after_star, from))) => {
                    p = after_star;
                    t = from + 1;
                    retry = Some((after_star, t));
                }
                (None, None) => return false,
            }
        }
    }
}

/// Length of the pattern's first element where it matches the byte.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => match_class(rest, byte).map(|len| len + 1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Length of a class, after its opening bracket, where it matches the byte. A class that is not closed ends
/// with the pattern.
fn match_class(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::Glob;

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
