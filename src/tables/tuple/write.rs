//! Writes the elements of a tuple one by one. Leaves limits to its caller.

use super::{
    BYTES, DOUBLE, ESCAPE, FALSE, LONG_NEGATIVE, LONG_POSITIVE, MAX_INT_LEN, MOMENT, NESTED, NULL,
    SIGN, TEXT, TRUE, UUID, ZERO,
};

/// The bytes of a tuple, growing.
///
/// ```
/// use atbr::tables::tuple::Writer;
/// let mut writer = Writer::default();
/// writer.text("a");
/// writer.int(-2);
/// assert_eq!(writer.as_slice(), b"\x02a\x00\x13\xfd");
/// ```
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
    depth: usize,
}

impl Writer {
    /// An empty tuple with room for most keys, so that one key is one allocation.
    pub fn new() -> Self {
        Writer {
            out: Vec::with_capacity(128),
            depth: 0,
        }
    }

    /// What has been written since the last [`Writer::clear`].
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// What has been written, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.out.clear();
        self.depth = 0;
    }

    /// Tuples that are open within the tuple.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Null.
    pub fn null(&mut self) {
        self.out.push(NULL);
        if self.depth > 0 {
            self.out.push(ESCAPE);
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, data: &[u8]) {
        self.out.push(BYTES);
        self.escaped(data);
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        self.out.push(TEXT);
        self.escaped(text.as_bytes());
    }

    fn escaped(&mut self, data: &[u8]) {
        let mut rest = data;
        while let Some(zero) = memchr::memchr(0, rest) {
            self.out.extend_from_slice(&rest[..=zero]);
            self.out.push(ESCAPE);
            rest = &rest[zero + 1..];
        }
        self.out.extend_from_slice(rest);
        self.out.push(0);
    }

    /// An integer of 64 bits.
    #[inline]
    pub fn int(&mut self, value: i64) {
        let magnitude = value.unsigned_abs();
        let len = (64 - magnitude.leading_zeros()).div_ceil(8) as usize;
        let (code, bits) = if value < 0 {
            (ZERO - len as u8, !magnitude)
        } else {
            (ZERO + len as u8, magnitude)
        };
        self.out.push(code);
        self.out.extend_from_slice(&bits.to_be_bytes()[8 - len..]);
    }

    /// An integer beyond 64 bits by its magnitude, most significant byte first and not zero; false if it is longer than
    /// [`MAX_INT_LEN`].
    #[must_use]
    pub fn long_int(&mut self, negative: bool, magnitude: &[u8]) -> bool {
        let len = magnitude.len();
        if len > MAX_INT_LEN {
            return false;
        }
        let short = len < 8 || (len == 8 && magnitude != [0xff; 8]);
        self.out.push(match (negative, short) {
            (false, true) => ZERO + len as u8,
            (true, true) => ZERO - len as u8,
            (false, false) => LONG_POSITIVE,
            (true, false) => LONG_NEGATIVE,
        });
        let flip = if negative { 0xff } else { 0 };
        if !short {
            self.out.push(len as u8 ^ flip);
        }
        self.out.extend(magnitude.iter().map(|byte| byte ^ flip));
        true
    }

    /// A floating-point number that is not NaN.
    pub fn double(&mut self, value: f64) {
        let bits = value.to_bits();
        let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
        self.out.push(DOUBLE);
        self.out.extend_from_slice(&ordered.to_be_bytes());
    }

    /// A truth value.
    pub fn boolean(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    /// A UUID.
    pub fn uuid(&mut self, value: &[u8; 16]) {
        self.out.push(UUID);
        self.out.extend_from_slice(value);
    }

    /// A moment, in microseconds since 1970.
    pub fn moment(&mut self, micros: i64) {
        self.out.push(MOMENT);
        self.out
            .extend_from_slice(&(micros as u64 ^ SIGN).to_be_bytes());
    }

    /// Begins a tuple within the tuple.
    pub fn open(&mut self) {
        self.out.push(NESTED);
        self.depth += 1;
    }

    /// Ends the tuple that was opened last.
    pub fn close(&mut self) {
        self.out.push(0);
        self.depth -= 1;
    }
}
