//! Many keys in one request, in JSON or in binary with lengths before each part. As in Python, a batch is checked before
//! its first write, and is no single step for others.
//!
//! Binary, integers in network order. A request to read: for each key its length (4 bytes) and the key. The answer: for
//! each key the value's length (4 bytes, ffffffff where there is none) and the value. A request to write: for each entry
//! the lengths of key and value (4 bytes each), the milliseconds to live (8 bytes, 0: the server's default), key and value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::json::{Item, write_bytes};
use super::keys::Found;
use super::link::Link;
use super::path::Query;
use super::problem::Problem;
use super::routes::Result;
use super::{App, reply};
use crate::engine::Ttl;
use crate::limits;

/// Most items of a request.
const MOST_ITEMS: usize = 100_000;
/// Longest answer, in bytes.
const LONGEST_ANSWER: usize = 64 << 20;
/// Bodies of more bytes are worked on apart.
const SMALL_BODY: usize = 16 << 10;
/// The length of a value that is not there.
const MISSING: u32 = u32::MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Items<'a> {
    #[serde(borrow)]
    items: List<'a>,
}

/// Items, of which no more than [`MOST_ITEMS`] are kept: an empty one takes two bytes of a body and a hundred here.
struct List<'a> {
    kept: Vec<Item<'a>>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ListVisitor<'a> {
    type Value = List<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<List<'a>, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MOST_ITEMS {
            match items.next_element()? {
                Some(item) => kept.push(item),
                None => break,
            }
        }
        let mut count = kept.len();
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(List { kept, count })
    }
}

pub(super) async fn get_many(
    Extension(app): Extension<App>,
    Extension(link): Extension<Arc<Link>>,
    request: Request,
) -> Result {
    let (encoding, db, body) = receive(&app, &link, request).await?;
    let is_small = body.len() <= SMALL_BODY;
    let worker = app.clone();
    let work = move || match encoding {
        Encoding::Json => worker.get_many_json(&link, db, &body),
        Encoding::Binary => worker.get_many_binary(&link, db, &body),
    };
    if is_small {
        work()
    } else {
        app.offload.run(work).await
    }
}

pub(super) async fn set_many(
    Extension(app): Extension<App>,
    Extension(link): Extension<Arc<Link>>,
    request: Request,
) -> Result {
    app.check_writable()?;
    let (encoding, db, body) = receive(&app, &link, request).await?;
    let is_small = body.len() <= SMALL_BODY;
    let worker = app.clone();
    let work = move || match encoding {
        Encoding::Json => worker.set_many(db, worker.entries_of_json(&body)?),
        Encoding::Binary => worker.set_many(db, worker.entries_of_binary(&body)?),
    };
    if is_small {
        work()
    } else {
        app.offload.run(work).await
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Json,
    Binary,
}

async fn receive(app: &App, link: &Link, request: Request) -> Result<(Encoding, u8, Bytes)> {
    let (parts, body) = request.into_parts();
    let encoding = encoding(&parts.headers)?;
    let db = Query::new(parts.uri.query()).database()?;
    let most = app.config.limits.max_value;
    let body = app.collect(link, &parts.headers, body, most).await?;
    Ok((encoding, db, body))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding> {
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return Ok(Encoding::Json);
    };
    let essence = given.to_str().unwrap_or_default().split(';').next();
    match essence
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "application/json" => Ok(Encoding::Json),
        "application/octet-stream" => Ok(Encoding::Binary),
        _ => Err(Problem::new(
            415,
            "unsupported_media_type",
            "send application/json or application/octet-stream",
        )),
    }
}

fn items(body: &[u8]) -> Result<Vec<Item<'_>>> {
    let items: Items<'_> =
        serde_json::from_slice(body).map_err(|error| Problem::bad_body(error.to_string()))?;
    check_count(items.items.count)?;
    Ok(items.items.kept)
}

fn check_count(items: usize) -> Result<()> {
    if items > MOST_ITEMS {
        return Err(Problem::new(
            413,
            "too_many_items",
            format!("at most {MOST_ITEMS} items fit into a request"),
        ));
    }
    Ok(())
}

fn check_answer(len: usize) -> Result<()> {
    if len > LONGEST_ANSWER {
        return Err(Problem::new(
            413,
            "answer_too_large",
            format!("the answer would be longer than {LONGEST_ANSWER} bytes; ask for fewer keys"),
        ));
    }
    Ok(())
}

impl App {
    fn get_many_json(&self, link: &Link, db: u8, body: &[u8]) -> Result {
        let mut out = b"{\"items\":[".to_vec();
        for (i, mut item) in items(body)?.into_iter().enumerate() {
            if item.value.is_some() || item.value64.is_some() || item.ttl_ms.is_some() {
                return Err(Problem::bad_body("an item to read is a key alone"));
            }
            let key = item.take_key()?;
            limits::check_key(key.len())?;
            if i > 0 {
                out.push(b',');
            }
            out.push(b'{');
            write_bytes(&mut out, "key", &key);
            out.push(b',');
            match self.look_up(db, &key)? {
                Some(found) => {
                    check_answer(out.len() + found.value.as_slice().len())?;
                    write_found(&mut out, &found);
                }
                None => out.extend_from_slice(b"\"value\":null"),
            }
            out.push(b'}');
            check_answer(out.len())?;
        }
        out.extend_from_slice(b"]}");
        Ok(reply::typed("application/json", self.hold(link).keep(out)))
    }

    fn get_many_binary(&self, link: &Link, db: u8, body: &[u8]) -> Result {
        let mut out = Vec::new();
        let mut rest = Parts(body);
        let mut count = 0;
        while !rest.0.is_empty() {
            count += 1;
            check_count(count)?;
            let len = rest.number()?;
            let key = rest.take(len)?;
            limits::check_key(key.len())?;
            match self.look_up(db, key)? {
                Some(found) => {
                    let value = found.value.as_slice();
                    check_answer(out.len() + value.len())?;
                    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                    out.extend_from_slice(value);
                }
                None => out.extend_from_slice(&MISSING.to_be_bytes()),
            }
        }
        Ok(reply::typed(
            "application/octet-stream",
            self.hold(link).keep(out),
        ))
    }

    fn set_many(&self, db: u8, entries: Vec<NewEntry<'_>>) -> Result {
        let mut created = 0;
        for (written, entry) in entries.iter().enumerate() {
            match self.set(db, &entry.key, &entry.value, entry.ttl) {
                Ok(is_new) => created += u64::from(is_new),
                Err(mut problem) => {
                    problem.detail = format!("{} ({written} entries are written)", problem.detail);
                    return Err(problem);
                }
            }
        }
        Ok(reply::json(
            &json!({"written": entries.len(), "created": created}),
        ))
    }
}

/// Writes the value and the time to live of an item.
pub(super) fn write_found(out: &mut Vec<u8>, found: &Found) {
    write_bytes(out, "value", found.value.as_slice());
    if let Some(left) = found.time_left {
        out.extend_from_slice(format!(",\"ttl_ms\":{left}").as_bytes());
    }
}

struct NewEntry<'a> {
    key: Cow<'a, [u8]>,
    value: Cow<'a, [u8]>,
    ttl: Ttl,
}

impl<'a> NewEntry<'a> {
    fn new(key: Cow<'a, [u8]>, value: Cow<'a, [u8]>, ttl: Ttl) -> Result<NewEntry<'a>> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        Ok(NewEntry { key, value, ttl })
    }
}

impl App {
    fn entries_of_json<'a>(&self, body: &'a [u8]) -> Result<Vec<NewEntry<'a>>> {
        let entry = |mut item: Item<'a>| {
            let key = item.take_key()?;
            let value = item.take_value()?;
            let ttl = item
                .ttl_ms
                .map_or(Ok(Ttl::Default), |ttl| self.ttl_from_millis(ttl))?;
            NewEntry::new(key, value, ttl)
        };
        items(body)?.into_iter().map(entry).collect()
    }

    fn entries_of_binary<'a>(&self, body: &'a [u8]) -> Result<Vec<NewEntry<'a>>> {
        let mut entries = Vec::new();
        let mut rest = Parts(body);
        while !rest.0.is_empty() {
            let (key, value) = (rest.number()?, rest.number()?);
            let ttl = match rest.long()? {
                0 => Ttl::Default,
                ttl => self.ttl_from_millis(ttl)?,
            };
            let (key, value) = (rest.take(key)?, rest.take(value)?);
            entries.push(NewEntry::new(
                Cow::Borrowed(key),
                Cow::Borrowed(value),
                ttl,
            )?);
            check_count(entries.len())?;
        }
        Ok(entries)
    }
}

/// What is left of a body.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, len: u32) -> Result<&'a [u8]> {
        let (part, rest) = self
            .0
            .split_at_checked(len as usize)
            .ok_or_else(|| Problem::bad_body("the body ends in the middle of an item"))?;
        self.0 = rest;
        Ok(part)
    }

    fn number(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_be_bytes(bytes))
    }

    fn long(&mut self) -> Result<i64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(i64::from_be_bytes(bytes))
    }
}
