//! The payload of DUMP and RESTORE: a type, a string, a version, a checksum.

use super::crc64::crc64;
use super::lzf::decompress;
use super::number::{Digits, parse_i64};

/// The version that is written.
const VERSION: u16 = 10;
/// Bytes of version and checksum.
const FOOTER: usize = 10;
/// The type of strings.
const STRING: u8 = 0;

/// Why a payload is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its version or checksum is wrong.
    Footer,
    /// What is in it makes no sense, or is no string.
    Format,
}

/// The payload of a string.
pub(crate) fn dump(value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(value.len() + 16);
    payload.push(STRING);
    match small_integer(value) {
        Some(number) => push_integer(&mut payload, number),
        None => {
            push_len(&mut payload, value.len());
            payload.extend_from_slice(value);
        }
    }
    payload.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// The number that a text of at most 11 bytes is the digits of, where it has 32 bits.
fn small_integer(value: &[u8]) -> Option<i32> {
    if value.len() > 11 {
        return None;
    }
    let number = i32::try_from(parse_i64(value)?).ok()?;
    (Digits::of(number.into()).as_bytes() == value).then_some(number)
}

fn push_integer(payload: &mut Vec<u8>, number: i32) {
    if let Ok(number) = i8::try_from(number) {
        payload.push(0xc0);
        payload.extend(number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        payload.push(0xc1);
        payload.extend(number.to_le_bytes());
    } else {
        payload.push(0xc2);
        payload.extend(number.to_le_bytes());
    }
}

fn push_len(payload: &mut Vec<u8>, len: usize) {
    if len < 1 << 6 {
        payload.push(len as u8);
    } else if len < 1 << 14 {
        payload.extend([0x40 | (len >> 8) as u8, len as u8]);
    } else if let Ok(len) = u32::try_from(len) {
        payload.push(0x80);
        payload.extend(len.to_be_bytes());
    } else {
        payload.push(0x81);
        payload.extend((len as u64).to_be_bytes());
    }
}

/// The string of a payload, at most `most` bytes.
pub(crate) fn restore(payload: &[u8], most: usize) -> Result<Vec<u8>, Refused> {
    let (body, footer) = payload
        .split_at_checked(payload.len().wrapping_sub(FOOTER))
        .ok_or(Refused::Footer)?;
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let checksum = u64::from_le_bytes(footer[2..].try_into().map_err(|_| Refused::Footer)?);
    if version > VERSION || crc64(&payload[..payload.len() - 8]) != checksum {
        return Err(Refused::Footer);
    }
    let (&kind, body) = body.split_first().ok_or(Refused::Format)?;
    if kind != STRING {
        return Err(Refused::Format);
    }
    let mut reader = Reader(body);
    let value = reader.string(most).ok_or(Refused::Format)?;
    // What follows the string is not looked at, as elsewhere.
    Ok(value)
}

/// Bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

/// What stands where a length does.
enum Len {
    Bytes(usize),
    Special(u8),
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn len(&mut self) -> Option<Len> {
        let [first] = self.array()?;
        Some(match first >> 6 {
            0 => Len::Bytes(usize::from(first)),
            1 => {
                let [second] = self.array()?;
                Len::Bytes(usize::from(first & 0x3f) << 8 | usize::from(second))
            }
            2 if first == 0x80 => Len::Bytes(u32::from_be_bytes(self.array()?) as usize),
            2 if first == 0x81 => {
                Len::Bytes(usize::try_from(u64::from_be_bytes(self.array()?)).ok()?)
            }
            3 => Len::Special(first & 0x3f),
            _ => return None,
        })
    }

    fn plain_len(&mut self) -> Option<usize> {
        match self.len()? {
            Len::Bytes(len) => Some(len),
            Len::Special(_) => None,
        }
    }

    fn string(&mut self, most: usize) -> Option<Vec<u8>> {
        let digits = |number: i64| Some(Digits::of(number).as_bytes().to_vec());
        match self.len()? {
            Len::Bytes(len) if len <= most => self.take(len).map(<[u8]>::to_vec),
            Len::Special(0) => digits(i8::from_le_bytes(self.array()?).into()),
            Len::Special(1) => digits(i16::from_le_bytes(self.array()?).into()),
            Len::Special(2) => digits(i32::from_le_bytes(self.array()?).into()),
            Len::Special(3) => {
                let compressed = self.plain_len()?;
                let len = self.plain_len().filter(|&len| len <= most)?;
                decompress(self.take(compressed)?, len)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dumped_comes_back() {
        for len in [0, 1, 63, 64, 16_383, 16_384, 100_000] {
            let value = vec![b'x'; len];
            assert_eq!(restore(&dump(&value), len), Ok(value), "{len}");
        }
        for number in [
            0,
            -1,
            127,
            128,
            -129,
            32_768,
            i32::MAX.into(),
            i64::from(i32::MAX) + 1,
        ] {
            let value = number.to_string().into_bytes();
            assert_eq!(restore(&dump(&value), 64), Ok(value));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let payload = dump(b"value");
        for at in 0..payload.len() * 8 {
            let mut changed = payload.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert!(restore(&changed, 64).is_err(), "bit {at}");
        }
        for cut in 0..payload.len() {
            assert!(restore(&payload[..cut], 64).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_value_over_the_limit_is_refused() {
        assert_eq!(restore(&dump(&[0; 65]), 64), Err(Refused::Format));
    }
}
