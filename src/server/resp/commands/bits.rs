//! Bits of strings: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP.

use super::strings::LARGE;
use crate::engine::{Change, Event, Ttl};
use crate::server::resp::call::{Bytes, Call, heavy, owned};
use crate::server::resp::failure::{Failure, SYNTAX, fixed};
use crate::server::resp::number::parse_i64;

type Done = Result<(), Failure>;

/// A bit's place; with `#`, in units of so many bits.
pub(crate) fn bit_offset(
    call: &Call<'_, '_>,
    text: &[u8],
    unit: Option<u64>,
) -> Result<usize, Failure> {
    const BAD: Failure = fixed("ERR bit offset is not an integer or out of range");
    let offset = match (text, unit) {
        ([b'#', number @ ..], Some(bits)) => parse_i64(number)
            .and_then(|number| number.checked_mul(bits as i64))
            .ok_or(BAD)?,
        _ => parse_i64(text).ok_or(BAD)?,
    };
    let offset = usize::try_from(offset).map_err(|_| BAD)?;
    if offset >> 3 >= call.shared.config.limits.max_value {
        return Err(BAD);
    }
    Ok(offset)
}

pub(crate) fn setbit(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(1);
    let offset = bit_offset(call, call.args.at(2), None)?;
    let on = match parse_i64(call.args.at(3)) {
        Some(bit @ (0 | 1)) => bit == 1,
        _ => return Err(fixed("ERR bit is not an integer or out of range")),
    };
    let at = offset / 8;
    let room = call.room_to_write(key, Some(at), 1)?;
    let _place = call.place(room > LARGE)?;
    let was = heavy(room > LARGE, || {
        call.change_string(key, room, Some(Event::SetBit), |entry, _| {
            let old = entry
                .as_ref()
                .and_then(|entry| entry.value.as_slice().get(at));
            let byte = old.copied().unwrap_or(0);
            let mask = 0x80 >> (offset % 8);
            let was = byte & mask != 0;
            if was == on && old.is_some() {
                return Ok((Change::Keep, was));
            }
            let byte = if on { byte | mask } else { byte & !mask };
            Ok((Change::Write(at, owned(vec![byte])), was))
        })
    })?;
    call.out.flag(was);
    Ok(())
}

pub(crate) fn getbit(call: &mut Call<'_, '_>) -> Done {
    let key = call.args.at(1);
    let offset = bit_offset(call, call.args.at(2), None)?;
    call.read_string(key, |entry, out| {
        let value = entry
            .as_ref()
            .map_or(&[][..], |entry| entry.value.as_slice());
        out.flag(
            value
                .get(offset / 8)
                .is_some_and(|byte| byte & (0x80 >> (offset % 8)) != 0),
        );
    })
}

/// Whether a range counts bits, which the argument `at` says.
fn counts_bits(call: &Call<'_, '_>, at: usize) -> Result<bool, Failure> {
    if at >= call.args.len() {
        return Ok(false);
    }
    match call.word(at).as_str() {
        "bit" => Ok(true),
        "byte" => Ok(false),
        _ => Err(SYNTAX),
    }
}

/// The bits from `start` to `end`, inclusive, of `len` units of `unit` bits.
fn bit_range(start: i64, end: i64, len: usize, unit: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (start <= end).then(|| (start as usize * unit, end as usize * unit + unit - 1))
}

/// Set bits from `first` to `last`, inclusive.
fn count_bits(value: &[u8], first: usize, last: usize) -> u64 {
    let (from, to) = (first / 8, last / 8);
    let ones = |bytes: &[u8]| -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: u64 = words
            .iter()
            .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
            .sum();
        words
            + rest
                .iter()
                .map(|byte| u64::from(byte.count_ones()))
                .sum::<u64>()
    };
    let before = (u16::from(value[from]) >> (8 - first % 8)).count_ones();
    let after = (u16::from(value[to]) & (0xff >> (last % 8 + 1))).count_ones();
    ones(&value[from..=to]) - u64::from(before) - u64::from(after)
}

pub(crate) fn bitcount(call: &mut Call<'_, '_>) -> Done {
    // A missing key answers before its arguments are looked at.
    let Some(value) = call.copy_string(call.args.at(1))? else {
        call.out.integer(0);
        return Ok(());
    };
    let bits = match call.args.len() {
        2 => bit_range(0, -1, value.len(), 8),
        4 | 5 => match (call.integer(2)?, call.integer(3)?) {
            (start, end) if start < 0 && end < 0 && start > end => None,
            (start, end) if counts_bits(call, 4)? => bit_range(start, end, value.len() * 8, 1),
            (start, end) => bit_range(start, end, value.len(), 8),
        },
        _ => return Err(SYNTAX),
    };
    let (first, last) = bits.unwrap_or_default();
    let is_heavy = last - first > LARGE * 8;
    let _place = call.place(is_heavy)?;
    let count = bits.map_or(0, |_| heavy(is_heavy, || count_bits(&value, first, last)));
    call.out.integer(count as i64);
    Ok(())
}

pub(crate) fn bitpos(call: &mut Call<'_, '_>) -> Done {
    let bit = call.integer(2)?;
    if bit != 0 && bit != 1 {
        return Err(fixed("ERR The bit argument must be 1 or 0."));
    }
    let wanted = bit == 1;
    let Some(value) = call.copy_string(call.args.at(1))? else {
        call.out.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    if call.args.len() > 6 {
        return Err(SYNTAX);
    }
    let start = if call.args.len() > 3 {
        call.integer(3)?
    } else {
        0
    };
    let by_bits = counts_bits(call, 5)?;
    let end = if call.args.len() > 4 {
        Some(call.integer(4)?)
    } else {
        None
    };
    let (len, unit) = if by_bits {
        (value.len() * 8, 1)
    } else {
        (value.len(), 8)
    };
    let Some((first, last)) = bit_range(start, end.unwrap_or(-1), len, unit) else {
        call.out.integer(-1);
        return Ok(());
    };
    let is_heavy = last - first > LARGE * 8;
    let _place = call.place(is_heavy)?;
    let found = heavy(is_heavy, || find_bit(&value, first, last, wanted));
    let position = match found {
        Some(at) => at as i64,
        // The text is followed by zeros, where no end was given.
        None if !wanted && end.is_none() => value.len() as i64 * 8,
        None => -1,
    };
    call.out.integer(position);
    Ok(())
}

/// The first bit of a kind from `first` to `last`, inclusive.
fn find_bit(value: &[u8], first: usize, last: usize, wanted: bool) -> Option<usize> {
    let is_wanted = |at: usize| (value[at / 8] & (0x80 >> (at % 8)) != 0) == wanted;
    let none = if wanted { 0 } else { 0xff };
    let mut at = first;
    while at <= last {
        if at.is_multiple_of(8) && value[at / 8] == none {
            at += 8;
        } else if is_wanted(at) {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

#[derive(Clone, Copy)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// The first source combined with each of the others, as if all were followed by zeros.
fn combine(
    sources: &[Option<Bytes>],
    len: usize,
    operation: Operation,
) -> Result<Vec<u8>, Failure> {
    let mut sources = sources
        .iter()
        .map(|source| source.as_deref().unwrap_or(&[]));
    let first = sources.next().unwrap_or(&[]);
    let mut combined = Vec::new();
    combined
        .try_reserve_exact(len)
        .map_err(|_| fixed("OOM not enough memory for the value"))?;
    combined.extend_from_slice(first);
    combined.resize(len, 0);
    if let Operation::Not = operation {
        combined.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for source in sources {
        let (both, rest) = combined.split_at_mut(source.len());
        let pairs = both.iter_mut().zip(source);
        match operation {
            Operation::And => {
                pairs.for_each(|(to, from)| *to &= from);
                rest.fill(0);
            }
            Operation::Or => pairs.for_each(|(to, from)| *to |= from),
            Operation::Xor | Operation::Not => pairs.for_each(|(to, from)| *to ^= from),
        }
    }
    Ok(combined)
}

pub(crate) fn bitop(call: &mut Call<'_, '_>) -> Done {
    let operation = match call.word(1).as_str() {
        "and" => Operation::And,
        "or" => Operation::Or,
        "xor" => Operation::Xor,
        "not" if call.args.len() == 4 => Operation::Not,
        "not" => {
            return Err(fixed(
                "ERR BITOP NOT must be called with a single source key.",
            ));
        }
        _ => return Err(SYNTAX),
    };
    let mut sources = Vec::new();
    for key in call.args.from(3).iter() {
        sources.push(call.copy_string(key)?);
    }
    let longest = sources
        .iter()
        .flatten()
        .map(|value| value.len())
        .max()
        .unwrap_or(0);
    let is_heavy = longest * sources.len() > LARGE;
    let _place = call.place(is_heavy)?;
    let combined = heavy(is_heavy, || combine(&sources, longest, operation))?;
    let (db, target) = (call.keys.db, call.args.at(2));
    if longest == 0 {
        call.keys.delete(db, target, Event::Del)?;
    } else {
        call.keys
            .set(db, target, &combined, Ttl::Never, Event::Set)?;
    }
    call.out.integer(longest as i64);
    Ok(())
}
