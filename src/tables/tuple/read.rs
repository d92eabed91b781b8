//! Reads the elements of a tuple one by one. Takes exactly what [`Writer`](super::Writer) writes: any other bytes are an
//! error, never a panic, and never a second form of some tuple.

use std::borrow::Cow;

use super::{
    BYTES, DOUBLE, ESCAPE, FALSE, LONG_NEGATIVE, LONG_POSITIVE, MAX_DEPTH, MOMENT, NESTED, NULL,
    SIGN, TEXT, TRUE, UUID, ZERO,
};
use crate::{Error, Result};

/// An element of a tuple.
#[derive(Debug, Clone, PartialEq)]
pub enum Item<'a> {
    /// Null.
    Null,
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// Text.
    Text(Cow<'a, str>),
    /// An integer of 64 bits.
    Int(i64),
    /// An integer beyond 64 bits, its magnitude with the most significant byte first.
    LongInt {
        /// Whether it is below zero.
        negative: bool,
        /// The magnitude.
        magnitude: Cow<'a, [u8]>,
    },
    /// A floating-point number, not NaN.
    Double(f64),
    /// A truth value.
    Boolean(bool),
    /// A UUID.
    Uuid([u8; 16]),
    /// Microseconds since 1970.
    Moment(i64),
    /// A tuple begins.
    Open,
    /// The tuple that began last ends.
    Close,
}

/// The elements of an encoded tuple, in order.
///
/// ```
/// use atbr::tables::tuple::{Item, Reader};
/// let mut reader = Reader::new(b"\x02a\x00\x15\x07");
/// assert_eq!(reader.item()?, Some(Item::Text("a".into())));
/// assert_eq!(reader.item()?, Some(Item::Int(7)));
/// assert_eq!(reader.item()?, None);
/// # Ok::<(), atbr::Error>(())
/// ```
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Reader {
            data,
            at: 0,
            depth: 0,
        }
    }

    /// The next element, or None at the end. O(its bytes).
    ///
    /// # Errors
    /// [`Error::MalformedTuple`], with the offset of the element.
    pub fn item(&mut self) -> Result<Option<Item<'a>>> {
        let start = self.at;
        let Some(&code) = self.data.get(start) else {
            return if self.depth == 0 {
                Ok(None)
            } else {
                Err(malformed(start, "a tuple does not end"))
            };
        };
        self.at += 1;
        let item = match code {
            NULL if self.depth == 0 => Item::Null,
            NULL if self.data.get(self.at) == Some(&ESCAPE) => {
                self.at += 1;
                Item::Null
            }
            NULL => {
                self.depth -= 1;
                Item::Close
            }
            BYTES => Item::Bytes(self.escaped(start)?),
            TEXT => Item::Text(
                match self.escaped(start)? {
                    Cow::Borrowed(data) => std::str::from_utf8(data).ok().map(Cow::Borrowed),
                    Cow::Owned(data) => String::from_utf8(data).ok().map(Cow::Owned),
                }
                .ok_or(malformed(start, "text is not UTF-8"))?,
            ),
            NESTED if self.depth == MAX_DEPTH => {
                return Err(malformed(start, "tuples are nested too deeply"));
            }
            NESTED => {
                self.depth += 1;
                Item::Open
            }
            ZERO => Item::Int(0),
            _ if code.abs_diff(ZERO) <= 8 => self.short_int(start, code)?,
            LONG_POSITIVE | LONG_NEGATIVE => self.long_int(start, code == LONG_NEGATIVE)?,
            DOUBLE => {
                let ordered = u64::from_be_bytes(self.array(start)?);
                let bits = if ordered & SIGN == 0 {
                    !ordered
                } else {
                    ordered ^ SIGN
                };
                match f64::from_bits(bits) {
                    value if value.is_nan() => return Err(malformed(start, "a number is NaN")),
                    value => Item::Double(value),
                }
            }
            FALSE | TRUE => Item::Boolean(code == TRUE),
            UUID => Item::Uuid(self.array(start)?),
            MOMENT => Item::Moment((u64::from_be_bytes(self.array(start)?) ^ SIGN) as i64),
            _ => return Err(malformed(start, "no element begins with this byte")),
        };
        Ok(Some(item))
    }

    fn take(&mut self, start: usize, len: usize) -> Result<&'a [u8]> {
        let taken = self.data[self.at..].get(..len);
        self.at += len;
        taken.ok_or(malformed(start, "an element is cut off"))
    }

    fn array<const N: usize>(&mut self, start: usize) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(start, N)?);
        Ok(array)
    }

    fn escaped(&mut self, start: usize) -> Result<Cow<'a, [u8]>> {
        let from = self.at;
        let mut copy: Option<Vec<u8>> = None;
        loop {
            let rest = &self.data[self.at..];
            let zero = memchr::memchr(0, rest).ok_or(malformed(start, "an element is cut off"))?;
            let part = &rest[..zero];
            self.at += zero + 1;
            if self.data.get(self.at) != Some(&ESCAPE) {
                return Ok(match copy {
                    None => Cow::Borrowed(&self.data[from..from + zero]),
                    Some(mut copy) => {
                        copy.extend_from_slice(part);
                        Cow::Owned(copy)
                    }
                });
            }
            self.at += 1;
            let copy = copy.get_or_insert_default();
            copy.extend_from_slice(part);
            copy.push(0);
        }
    }

    fn short_int(&mut self, start: usize, code: u8) -> Result<Item<'a>> {
        let len = usize::from(code.abs_diff(ZERO));
        let negative = code < ZERO;
        let bytes = self.take(start, len)?;
        let fill = if negative { 0xff } else { 0 };
        let mut array = [fill; 8];
        array[8 - len..].copy_from_slice(bytes);
        let mut magnitude = u64::from_be_bytes(array);
        if negative {
            magnitude = !magnitude;
        }
        if (64 - magnitude.leading_zeros()).div_ceil(8) as usize != len || magnitude == u64::MAX {
            return Err(malformed(
                start,
                "an integer has a longer form than it needs",
            ));
        }
        Ok(match (i64::try_from(magnitude), negative) {
            (Ok(value), false) => Item::Int(value),
            (Ok(value), true) => Item::Int(-value),
            (Err(_), true) if magnitude == SIGN => Item::Int(i64::MIN),
            (Err(_), _) => Item::LongInt {
                negative,
                magnitude: Cow::Owned(magnitude.to_be_bytes().to_vec()),
            },
        })
    }

    fn long_int(&mut self, start: usize, negative: bool) -> Result<Item<'a>> {
        let flip = if negative { 0xff } else { 0 };
        let len = usize::from(self.take(start, 1)?[0] ^ flip);
        let bytes = self.take(start, len)?;
        let magnitude: Cow<'a, [u8]> = if negative {
            bytes.iter().map(|byte| !byte).collect()
        } else {
            Cow::Borrowed(bytes)
        };
        match magnitude[..] {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => {}
            [first, ..] if first != 0 && len > 8 => {}
            _ => {
                return Err(malformed(
                    start,
                    "an integer has a longer form than it needs",
                ));
            }
        }
        Ok(Item::LongInt {
            negative,
            magnitude,
        })
    }
}

#[cold]
fn malformed(at: usize, what: &'static str) -> Error {
    Error::MalformedTuple { at, what }
}
