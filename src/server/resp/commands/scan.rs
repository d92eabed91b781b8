//! Whole databases: SCAN, KEYS, DBSIZE, FLUSHALL, FLUSHDB, SWAPDB.

use super::keys::{DB_OUT_OF_RANGE, database_of};
use crate::engine::{Filter, Glob, Page};
use crate::server::resp::call::{Call, heavy};
use crate::server::resp::failure::{Failure, NOT_AN_INTEGER, SYNTAX, fixed};
use crate::server::resp::number::{Digits, parse_i64, parse_u64};

type Done = Result<(), Failure>;

/// Longest pattern.
pub(crate) const MOST_PATTERN: usize = 4 << 10;

/// Keys from which on going through all of them leaves the network's threads.
const MANY: u64 = 4 << 10;

/// A pattern, if it is not too long.
pub(crate) fn pattern(text: &[u8]) -> Result<Glob, Failure> {
    if text.len() > MOST_PATTERN {
        return Err(fixed("ERR pattern is too long"));
    }
    Ok(Glob::new(text))
}

pub(crate) fn scan(call: &mut Call<'_, '_>) -> Done {
    let cursor = parse_u64(call.args.at(1)).ok_or(fixed("ERR invalid cursor"))?;
    let mut filter = Filter::default();
    let (mut count, mut wants_strings) = (10, true);
    let mut at = 2;
    while at < call.args.len() {
        let word = call.word(at);
        if at + 1 >= call.args.len() {
            return Err(SYNTAX);
        }
        let argument = call.args.at(at + 1);
        match word.as_str() {
            "count" => {
                count = parse_i64(argument).ok_or(NOT_AN_INTEGER)?;
                if count < 1 {
                    return Err(SYNTAX);
                }
            }
            "match" => filter.glob = Some(pattern(argument)?),
            "type" => wants_strings = argument.eq_ignore_ascii_case(b"string"),
            _ => return Err(SYNTAX),
        }
        at += 2;
    }
    let mut page = Page::default();
    let next = call
        .keys
        .scan(call.keys.db, cursor, &filter, count as usize, &mut page)?;
    call.out.array(2);
    call.out.bulk(Digits::of(next as i64).as_bytes());
    let keys = if wants_strings { page.len() } else { 0 };
    call.out.array(keys);
    (0..keys).for_each(|i| call.out.bulk(page.key(i)));
    Ok(())
}

pub(crate) fn keys(call: &mut Call<'_, '_>) -> Done {
    let filter = Filter {
        glob: Some(pattern(call.args.at(1))?).filter(|_| call.args.at(1) != b"*"),
        ..Filter::default()
    };
    let is_heavy = call.keys.len(call.keys.db)? > MANY;
    let _place = call.place(is_heavy)?;
    heavy(is_heavy, || {
        let mut found = crate::server::resp::reply::Replies::default();
        let (mut page, mut cursor, mut count) = (Page::default(), 0, 0);
        loop {
            cursor = call
                .keys
                .scan(call.keys.db, cursor, &filter, 1_000, &mut page)?;
            count += page.len();
            (0..page.len()).for_each(|i| found.bulk(page.key(i)));
            if cursor == 0 {
                break;
            }
        }
        call.out.array(count);
        call.out.append(&mut found);
        Ok(())
    })
}

pub(crate) fn dbsize(call: &mut Call<'_, '_>) -> Done {
    let keys = call.keys.len(call.keys.db)?;
    call.out.integer(keys as i64);
    Ok(())
}

fn check_mode(call: &Call<'_, '_>) -> Done {
    match call.args.len() {
        1 => Ok(()),
        2 if matches!(call.word(1).as_str(), "sync" | "async") => Ok(()),
        _ => Err(SYNTAX),
    }
}

pub(crate) fn flushdb(call: &mut Call<'_, '_>) -> Done {
    check_mode(call)?;
    let is_heavy = call.keys.len(call.keys.db)? > MANY;
    let _place = call.place(is_heavy)?;
    heavy(is_heavy, || call.keys.clear(call.keys.db))?;
    call.out.ok();
    Ok(())
}

pub(crate) fn flushall(call: &mut Call<'_, '_>) -> Done {
    check_mode(call)?;
    let mut len = 0;
    for db in call.shared.databases.written() {
        len += call.keys.len(db)?;
    }
    let _place = call.place(len > MANY)?;
    heavy(len > MANY, || call.keys.clear_all())?;
    call.out.ok();
    Ok(())
}

pub(crate) fn swapdb(call: &mut Call<'_, '_>) -> Done {
    let number = |at: usize, error: Failure| parse_i64(call.args.at(at)).ok_or(error);
    number(1, fixed("ERR invalid first DB index"))?;
    number(2, fixed("ERR invalid second DB index"))?;
    let (a, b) = (database_of(call.args.at(1))?, database_of(call.args.at(2))?);
    call.keys.swap(a, b)?;
    call.out.ok();
    Ok(())
}

pub(crate) fn select(call: &mut Call<'_, '_>) -> Done {
    let db = match parse_i64(call.args.at(1)) {
        None => return Err(fixed("ERR value is not an integer or out of range")),
        Some(_) => database_of(call.args.at(1)).map_err(|_| DB_OUT_OF_RANGE)?,
    };
    call.session.select(db);
    call.out.ok();
    Ok(())
}
