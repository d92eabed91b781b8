//! Reads LZF, as dumps of compressible strings have it.

/// The text of `len` bytes that was compressed; None where it was not.
pub(crate) fn decompress(mut compressed: &[u8], len: usize) -> Option<Vec<u8>> {
    // A byte stands for at most 264 / 3 of text, so a lie about the length costs no more than what was sent.
    if len > compressed.len().saturating_mul(88) {
        return None;
    }
    let mut text = Vec::new();
    text.try_reserve_exact(len).ok()?;
    while let Some((&control, rest)) = compressed.split_first() {
        compressed = rest;
        if control < 32 {
            let (literals, rest) = compressed.split_at_checked(usize::from(control) + 1)?;
            text.extend_from_slice(literals);
            compressed = rest;
        } else {
            let mut copied = usize::from(control >> 5);
            if copied == 7 {
                let (&more, rest) = compressed.split_first()?;
                copied += usize::from(more);
                compressed = rest;
            }
            let (&low, rest) = compressed.split_first()?;
            compressed = rest;
            let back = (usize::from(control & 31) << 8 | usize::from(low)) + 1;
            let from = text.len().checked_sub(back)?;
            if text.len() + copied + 2 > len {
                return None;
            }
            // Byte by byte: what is copied may reach into what is being written.
            for from in from..from + copied + 2 {
                text.push(text[from]);
            }
        }
        if text.len() > len {
            return None;
        }
    }
    (text.len() == len).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::decompress;

    #[test]
    fn literals_and_copies_make_the_text() {
        assert_eq!(
            decompress(&[1, b'a', b'b', 0x20, 1], 5).as_deref(),
            Some(&b"ababa"[..])
        );
        // A long copy: 7 + 10 + 2 bytes from one byte back.
        assert_eq!(
            decompress(&[0, b'x', 0xe0, 10, 0], 20).as_deref(),
            Some(&[b'x'; 20][..])
        );
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_refused() {
        let whole = [1, b'a', b'b', 0x20, 1];
        for cut in 0..whole.len() {
            assert_eq!(decompress(&whole[..cut], 5), None, "cut at {cut}");
        }
        for len in [0, 4, 6, usize::MAX] {
            assert_eq!(decompress(&whole, len), None, "{len}");
        }
        assert_eq!(decompress(&[0x20, 5], 3), None);
    }
}
