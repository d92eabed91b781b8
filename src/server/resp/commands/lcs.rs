//! LCS.

use crate::server::resp::call::{Bytes, Call, heavy, is_string};
use crate::server::resp::failure::{Failure, NOT_AN_INTEGER, SYNTAX, fixed};
use crate::server::resp::number::parse_i64;
use crate::server::resp::reply::Replies;

/// Most cells of the table: 4 bytes each.
const MOST_CELLS: usize = 64 << 20;
/// Cells that take about a millisecond.
const HEAVY_CELLS: usize = 1 << 19;

/// A part that both have in common: its places in each.
struct Match {
    a: (usize, usize),
    b: (usize, usize),
}

impl Match {
    fn len(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }
}

struct Wanted {
    only_len: bool,
    indexes: bool,
    least_match: usize,
    with_lens: bool,
}

fn options(call: &Call<'_, '_>) -> Result<Wanted, Failure> {
    let mut wanted = Wanted {
        only_len: false,
        indexes: false,
        least_match: 0,
        with_lens: false,
    };
    let mut at = 3;
    while at < call.args.len() {
        match call.word(at).as_str() {
            "idx" => wanted.indexes = true,
            "len" => wanted.only_len = true,
            "withmatchlen" => wanted.with_lens = true,
            "minmatchlen" if at + 1 < call.args.len() => {
                at += 1;
                let least = parse_i64(call.args.at(at)).ok_or(NOT_AN_INTEGER)?;
                wanted.least_match = least.max(0) as usize;
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    if wanted.indexes && wanted.only_len {
        return Err(fixed(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    Ok(wanted)
}

pub(crate) fn lcs(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    const TYPES: Failure = fixed("ERR The specified keys must contain string values");
    // Both at once; they are compared without their locks.
    let db = call.keys.db;
    let keys = [call.args.at(1), call.args.at(2)];
    let mut values = Vec::new();
    let is_text = call.keys.read_together(db, &keys, |entry| {
        values.push(entry.as_ref().map(Bytes::of));
        entry.is_none_or(|entry| is_string(&entry))
    })?;
    values.iter().for_each(|value| call.count(value.is_some()));
    if !is_text {
        return Err(TYPES);
    }
    let wanted = options(call)?;
    let value = |i: usize| values[i].as_deref().unwrap_or_default();
    let (a, b) = (value(0), value(1));
    let cells = a
        .len()
        .saturating_add(1)
        .saturating_mul(b.len().saturating_add(1));
    if cells > MOST_CELLS {
        return Err(fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let _place = call.place(cells > HEAVY_CELLS)?;
    heavy(cells > HEAVY_CELLS, || solve(a, b, &wanted, call.out))
}

fn solve(a: &[u8], b: &[u8], wanted: &Wanted, out: &mut Replies) -> Result<(), Failure> {
    let width = b.len() + 1;
    let mut lens: Vec<u32> = Vec::new();
    lens.try_reserve_exact(width * (a.len() + 1)).map_err(|_| {
        fixed("ERR Insufficient memory, failed allocating transient memory for LCS")
    })?;
    lens.resize(width * (a.len() + 1), 0);
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            lens[i * width + j] = if a[i - 1] == b[j - 1] {
                lens[(i - 1) * width + j - 1] + 1
            } else {
                lens[(i - 1) * width + j].max(lens[i * width + j - 1])
            };
        }
    }
    let total = lens[a.len() * width + b.len()] as usize;
    if wanted.only_len {
        out.integer(total as i64);
        return Ok(());
    }
    let mut common = vec![0; total];
    let (mut left, mut i, mut j) = (total, a.len(), b.len());
    let mut matches = Vec::new();
    let mut open: Option<Match> = None;
    while i > 0 && j > 0 {
        let mut ends = false;
        if a[i - 1] == b[j - 1] {
            left -= 1;
            common[left] = a[i - 1];
            match &mut open {
                Some(found) if found.a.0 == i && found.b.0 == j => {
                    found.a.0 -= 1;
                    found.b.0 -= 1;
                }
                _ => {
                    matches.extend(open.take());
                    open = Some(Match {
                        a: (i - 1, i - 1),
                        b: (j - 1, j - 1),
                    });
                }
            }
            ends = open
                .as_ref()
                .is_some_and(|found| found.a.0 == 0 || found.b.0 == 0);
            i -= 1;
            j -= 1;
        } else {
            if lens[(i - 1) * width + j] > lens[i * width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
            ends |= open.is_some();
        }
        if ends {
            matches.extend(open.take());
        }
    }
    matches.extend(open);
    if !wanted.indexes {
        out.bulk(&common);
        return Ok(());
    }
    matches.retain(|found| wanted.least_match == 0 || found.len() >= wanted.least_match);
    out.map(2);
    out.text("matches");
    out.array(matches.len());
    for found in &matches {
        out.array(2 + usize::from(wanted.with_lens));
        for (first, last) in [found.a, found.b] {
            out.array(2);
            out.integer(first as i64);
            out.integer(last as i64);
        }
        if wanted.with_lens {
            out.integer(found.len() as i64);
        }
    }
    out.text("len");
    out.integer(total as i64);
    Ok(())
}
