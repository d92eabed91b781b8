//! Numbers as text, as the protocol and the commands have them.

/// The decimal digits of a number, on the stack.
pub(crate) struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    #[inline]
    pub(crate) fn of(number: i64) -> Digits {
        let mut digits = Digits {
            text: [0; 20],
            start: 20,
        };
        let mut rest = number.unsigned_abs();
        loop {
            digits.start -= 1;
            digits.text[digits.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            digits.start -= 1;
            digits.text[digits.start] = b'-';
        }
        digits
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

/// A signed 64-bit integer: no plus, no leading zeros, no spaces, no minus zero.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude = 0_u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative {
        (magnitude <= 1 << 63).then(|| (magnitude as i64).wrapping_neg())
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// An unsigned 64-bit integer, with the rules of [`parse_i64`].
pub(crate) fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// Longest text of a sum of two decimals.
const MAX_DECIMAL: usize = 5 * 1024;

unsafe extern "C" {
    /// See cpp/decimal.cc.
    fn atbr_add_decimals(
        a: *const u8,
        a_len: usize,
        b: *const u8,
        b_len: usize,
        sum: *mut u8,
        room: usize,
    ) -> isize;
}

/// Why decimals have no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSum {
    /// The first one is no number.
    First,
    /// The second one is no number.
    Second,
    /// It is infinite or undefined.
    Overflow,
}

/// The sum of two decimals in the platform's widest floating-point type, written with up to 17 decimals.
pub(crate) fn add_decimals(a: &[u8], b: &[u8]) -> Result<Vec<u8>, NoSum> {
    let mut sum = vec![0; MAX_DECIMAL + 64];
    // SAFETY: the addresses are valid for the lengths that go with them.
    let len = unsafe {
        atbr_add_decimals(
            a.as_ptr(),
            a.len(),
            b.as_ptr(),
            b.len(),
            sum.as_mut_ptr(),
            sum.len(),
        )
    };
    match len {
        -1 => Err(NoSum::First),
        -2 => Err(NoSum::Second),
        len if len < 0 => Err(NoSum::Overflow),
        len => {
            sum.truncate(len as usize);
            Ok(sum)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_only_as_they_are_written() {
        for number in [0, 1, -1, 10, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
            assert_eq!(Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
        let others = [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
        ];
        for text in others {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn decimals_add_up_without_noise() {
        let sum = |a: &str, b: &str| {
            String::from_utf8(add_decimals(a.as_bytes(), b.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(sum("10.50", "0.1"), "10.6");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("3", "-3"), "0");
        assert_eq!(add_decimals(b"x", b"1"), Err(NoSum::First));
        assert_eq!(add_decimals(b"1", b" 1"), Err(NoSum::Second));
        assert_eq!(add_decimals(b"1", b"inf"), Err(NoSum::Overflow));
    }
}
