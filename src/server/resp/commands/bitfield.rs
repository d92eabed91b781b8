//! BITFIELD: integers of any width within strings.

use super::bits::bit_offset;
use super::strings::LARGE;
use crate::engine::{Change, Event};
use crate::server::resp::call::{Call, heavy, owned};
use crate::server::resp::failure::{Failure, NOT_AN_INTEGER, SYNTAX, fixed};
use crate::server::resp::number::{parse_i64, parse_u64};

type Done = Result<(), Failure>;

/// A part of a string as a number.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    bits: u32,
}

fn field(text: &[u8]) -> Result<Field, Failure> {
    const BAD: Failure = fixed(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    let (signed, number) = match text {
        [b'i', number @ ..] => (true, number),
        [b'u', number @ ..] => (false, number),
        _ => return Err(BAD),
    };
    let bits = parse_u64(number).filter(|&bits| bits >= 1 && bits <= if signed { 64 } else { 63 });
    Ok(Field {
        signed,
        bits: bits.ok_or(BAD)? as u32,
    })
}

impl Field {
    /// The number at a place; `byte` returns the bytes of the text.
    fn read(self, byte: impl Fn(usize) -> u8, offset: usize) -> i64 {
        let mut number = 0_u64;
        for at in offset..offset + self.bits as usize {
            let bit = byte(at / 8) >> (7 - at % 8) & 1;
            number = number << 1 | u64::from(bit);
        }
        if self.signed && self.bits < 64 {
            let shift = 64 - self.bits;
            return (number << shift) as i64 >> shift;
        }
        number as i64
    }

    /// Writes the number into the part of a text that begins with byte `first`.
    fn write(self, part: &mut [u8], first: usize, offset: usize, number: i64) {
        for i in 0..self.bits as usize {
            let at = offset + i;
            let bit = number as u64 >> (self.bits as usize - 1 - i) & 1;
            let mask = 0x80 >> (at % 8);
            let byte = &mut part[at / 8 - first];
            *byte = if bit == 1 {
                *byte | mask
            } else {
                *byte & !mask
            };
        }
    }

    /// The number as it fits; None where it does not and may not.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = match self.signed {
            true => (
                -(1_i128 << (self.bits - 1)),
                (1_i128 << (self.bits - 1)) - 1,
            ),
            false => (0, (1_i128 << self.bits) - 1),
        };
        if (least..=most).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(number.clamp(least, most) as i64),
            Overflow::Wrap => {
                let wrapped = number & ((1_i128 << self.bits) - 1);
                Some(if self.signed && wrapped > most {
                    wrapped - (1 << self.bits)
                } else {
                    wrapped
                } as i64)
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Step {
    field: Field,
    offset: usize,
    action: Action,
    overflow: Overflow,
}

fn steps(call: &Call<'_, '_>) -> Result<Vec<Step>, Failure> {
    let args = call.args;
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        let word = call.word(at);
        let arguments = match word.as_str() {
            "get" if left >= 2 => 2,
            "set" | "incrby" if left >= 3 => 3,
            "overflow" if left >= 1 => {
                overflow = match call.word(at + 1).as_str() {
                    "wrap" => Overflow::Wrap,
                    "sat" => Overflow::Saturate,
                    "fail" => Overflow::Fail,
                    _ => return Err(fixed("ERR Invalid OVERFLOW type specified")),
                };
                at += 2;
                continue;
            }
            _ => return Err(SYNTAX),
        };
        let field = field(args.at(at + 1))?;
        let offset = bit_offset(call, args.at(at + 2), Some(u64::from(field.bits)))?;
        let action = match arguments {
            2 => Action::Get,
            _ => {
                let number = parse_i64(args.at(at + 3)).ok_or(NOT_AN_INTEGER)?;
                if word.as_str() == "set" {
                    Action::Set(number)
                } else {
                    Action::Add(number)
                }
            }
        };
        steps.push(Step {
            field,
            offset,
            action,
            overflow,
        });
        at += 1 + arguments;
    }
    Ok(steps)
}

pub(crate) fn bitfield(call: &mut Call<'_, '_>) -> Done {
    let steps = steps(call)?;
    let key = call.args.at(1);
    let writes = |step: &&Step| !matches!(step.action, Action::Get);
    let end = |step: &Step| (step.offset + step.field.bits as usize).div_ceil(8);
    let written = steps.iter().filter(writes);
    let Some(end) = written.clone().map(end).max() else {
        return read_fields(call, key, &steps);
    };
    // Only this part of the text is written.
    let first = written.map(|step| step.offset / 8).min().unwrap_or(0);
    let room = call.room_to_write(key, Some(first), end - first)?;
    let is_heavy = room.max(end - first) > LARGE;
    let _place = call.place(is_heavy)?;
    heavy(is_heavy, || {
        call.change_string(key, room, Some(Event::SetBit), |entry, out| {
            let old = entry
                .as_ref()
                .map_or(&[][..], |entry| entry.value.as_slice());
            let mut part = Vec::new();
            part.try_reserve_exact(end - first)
                .map_err(|_| fixed("OOM not enough memory for the value"))?;
            part.extend_from_slice(&old[first.min(old.len())..end.min(old.len())]);
            part.resize(end - first, 0);
            let grows = old.len() < end;
            let mut changes = false;
            out.array(steps.len());
            for step in &steps {
                let byte = |at: usize| {
                    let new = at.checked_sub(first).and_then(|at| part.get(at));
                    new.or(old.get(at)).copied().unwrap_or(0)
                };
                let before = step.field.read(byte, step.offset);
                let (number, reply_before) = match step.action {
                    Action::Get => {
                        out.integer(before);
                        continue;
                    }
                    Action::Set(number) if step.field.signed => (i128::from(number), true),
                    Action::Set(number) => (i128::from(number as u64), true),
                    Action::Add(by) => (i128::from(before) + i128::from(by), false),
                };
                match step.field.fit(number, step.overflow) {
                    Some(fitting) => {
                        step.field.write(&mut part, first, step.offset, fitting);
                        changes |= grows || fitting != before;
                        out.integer(if reply_before { before } else { fitting });
                    }
                    None => out.null(),
                }
            }
            let change = match (changes, grows) {
                (true, _) => Change::Write(first, owned(part)),
                // Nothing fits, and there is room for it all the same.
                (false, true) => Change::Write(end, owned(Vec::new())),
                (false, false) => Change::Keep,
            };
            Ok((change, ()))
        })
    })
}

fn read_fields(call: &mut Call<'_, '_>, key: &[u8], steps: &[Step]) -> Done {
    call.read_string(key, |entry, out| {
        let value = entry
            .as_ref()
            .map_or(&[][..], |entry| entry.value.as_slice());
        out.array(steps.len());
        steps.iter().for_each(|step| {
            let byte = |at: usize| value.get(at).copied().unwrap_or(0);
            out.integer(step.field.read(byte, step.offset));
        });
    })
}

pub(crate) fn bitfield_ro(call: &mut Call<'_, '_>) -> Done {
    let steps = steps(call)?;
    if steps.iter().any(|step| !matches!(step.action, Action::Get)) {
        return Err(fixed("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let key = call.args.at(1);
    read_fields(call, key, &steps)
}
