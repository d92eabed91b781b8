//! One key: GET, HEAD, PUT, DELETE, with tags, conditions, ranges and times to live.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::http::header::{CONTENT_RANGE, ETAG};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

use super::conditional::{self, Conditions, Part, Tag, Verdict};
use super::path::{Plus, Query, decode};
use super::problem::Problem;
use super::reply::{self, TTL, Value};
use super::{App, json};
use crate::engine::{Block, Change, Entry, Event, Ttl};
use crate::limits;
use crate::server::stats::Stats;

/// What a request asks of one key.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) db: u8,
    pub(super) key: Vec<u8>,
}

impl Call {
    /// The key of `/v1/keys/{key}`: the path's bytes, decoded.
    ///
    /// # Errors
    /// 400 or 413.
    pub(super) fn of_path(encoded: &str, query: Query<'_>) -> Result<Call, Problem> {
        let key = decode(encoded.as_bytes(), Plus::Plus)
            .ok_or_else(|| invalid_key("a '%' lacks its two digits"))?;
        Call::new(key, query)
    }

    /// The key of `/v1/key?k=` or `?k64=`.
    ///
    /// # Errors
    /// 400 or 413.
    pub(super) fn of_query(query: Query<'_>) -> Result<Call, Problem> {
        match (query.get("k")?, query.get("k64")?) {
            (Some(key), None) => Call::new(key, query),
            (None, Some(encoded)) => {
                let key = json::from_base64(&encoded)
                    .ok_or_else(|| invalid_key("k64 is no base64url"))?;
                Call::new(Cow::Owned(key), query)
            }
            _ => Err(invalid_key("either k or k64 is needed")),
        }
    }

    fn new(key: Cow<'_, [u8]>, query: Query<'_>) -> Result<Call, Problem> {
        limits::check_key(key.len())?;
        Ok(Call {
            db: query.database()?,
            key: key.into_owned(),
        })
    }
}

fn invalid_key(detail: &str) -> Problem {
    Problem::new(400, "invalid_key", detail)
}

/// A value as it was found, and the milliseconds it has left.
pub(super) struct Found {
    pub(super) value: Value,
    pub(super) time_left: Option<u64>,
}

impl App {
    /// Reads a key of a database, and counts the look-up. A large value is shared with the store.
    #[inline]
    pub(super) fn look_up(&self, db: u8, key: &[u8]) -> Result<Option<Found>, Problem> {
        let found = self.databases.read(db, key, |entry| Found {
            value: match entry.value.share() {
                Some(block) => Value::Shared(block),
                None => Value::Copied(Bytes::copy_from_slice(entry.value.as_slice())),
            },
            time_left: entry.time_left,
        })?;
        let hits = u64::from(found.is_some());
        Stats::add(&self.stats.hits, hits);
        Stats::add(&self.stats.misses, 1 - hits);
        Ok(found)
    }

    /// Writes a value; true where the key is new.
    ///
    /// # Errors
    /// 403 and the store's.
    pub(super) fn set(&self, db: u8, key: &[u8], value: &[u8], ttl: Ttl) -> Result<bool, Problem> {
        self.check_writable()?;
        Ok(self.databases.set(db, key, value, ttl, Event::Set)?)
    }

    /// Takes a key out; false where it was not there.
    ///
    /// # Errors
    /// 403 and the store's.
    pub(super) fn take_out(&self, db: u8, key: &[u8]) -> Result<bool, Problem> {
        self.check_writable()?;
        limits::check_key(key.len())?;
        // Nothing is made for a key that is nowhere.
        match self.store(db) {
            Some(_) => Ok(self.databases.delete(db, key, Event::Del)?),
            None => Ok(false),
        }
    }

    /// GET and HEAD.
    ///
    /// # Errors
    /// 400, 404, 412, 416 and the store's.
    #[inline]
    pub(super) fn get(
        &self,
        method: &Method,
        headers: &HeaderMap,
        found: Option<Found>,
    ) -> Result<Response, Problem> {
        let conditions = Conditions::parse(headers)?;
        let Some(found) = found else {
            return match conditions.check(None) {
                Verdict::Failed => Err(failed()),
                _ => Err(Problem::key_not_found()),
            };
        };
        let tag = self.http.tagger.tag(found.value.as_slice());
        let (status, range) = match conditions.check(Some(tag)) {
            Verdict::Failed => return Err(failed()),
            Verdict::Unchanged => (StatusCode::NOT_MODIFIED, None),
            // Ranges are for GET alone.
            Verdict::Proceed if *method == Method::GET && conditional::asks_for_range(headers) => {
                let len = found.value.as_slice().len();
                match conditional::part(headers, len, tag) {
                    Part::Whole => (StatusCode::OK, None),
                    Part::Bytes(range) => (StatusCode::PARTIAL_CONTENT, Some((range, len))),
                    Part::Unsatisfiable => return Err(unsatisfiable(len)),
                }
            }
            Verdict::Proceed => (StatusCode::OK, None),
        };
        let mut response = match (status, &range) {
            (StatusCode::NOT_MODIFIED, _) => reply::empty(status),
            (_, Some((range, _))) => reply::stored(found.value.into_bytes().slice(range.clone())),
            _ => reply::stored(found.value.into_bytes()),
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(ETAG, tag.header());
        if let Some(left) = found.time_left {
            headers.insert(TTL, HeaderValue::from(left));
        }
        if let Some((range, len)) = range {
            let text = format!("bytes {}-{}/{len}", range.start, range.end - 1);
            insert(headers, CONTENT_RANGE, &text);
        }
        Ok(response)
    }

    /// PUT. Blocks for large values.
    ///
    /// # Errors
    /// 400, 412 and the store's.
    pub(super) fn put(
        &self,
        call: &Call,
        headers: &HeaderMap,
        value: &[u8],
    ) -> Result<Response, Problem> {
        self.check_writable()?;
        let ttl = self.ttl_of(headers)?;
        let conditions = Conditions::parse(headers)?;
        let is_new = if conditions.is_empty() {
            self.set(call.db, &call.key, value, ttl)?
        } else {
            let change = || Change::Set(Cow::Borrowed(value), ttl);
            match self.write_if(call, value.len(), Event::Set, &conditions, |_| change())? {
                Outcome::Done { was_there } => !was_there,
                Outcome::Refused => return Err(failed()),
            }
        };
        let status = if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::NO_CONTENT
        };
        let mut response = reply::empty(status);
        let tag = self.http.tagger.tag(value).header();
        response.headers_mut().insert(ETAG, tag);
        Ok(response)
    }

    /// DELETE.
    ///
    /// # Errors
    /// 404, 412 and the store's.
    pub(super) fn delete(&self, call: &Call, headers: &HeaderMap) -> Result<Response, Problem> {
        let conditions = Conditions::parse(headers)?;
        let was_there = if conditions.is_empty() {
            self.take_out(call.db, &call.key)?
        } else {
            self.check_writable()?;
            let change = |was_there| {
                if was_there {
                    Change::Delete
                } else {
                    Change::Keep
                }
            };
            match self.write_if(call, 0, Event::Del, &conditions, change)? {
                Outcome::Done { was_there } => was_there,
                Outcome::Refused => return Err(failed()),
            }
        };
        if was_there {
            Ok(reply::empty(StatusCode::NO_CONTENT))
        } else {
            Err(Problem::key_not_found())
        }
    }

    /// Writes where the conditions hold, in one step with looking. A large value is hashed before the lock is taken; under it
    /// only its identity is compared.
    fn write_if<'c>(
        &self,
        call: &Call,
        room: usize,
        event: Event,
        conditions: &Conditions,
        change: impl Fn(bool) -> Change<'c>,
    ) -> crate::Result<Outcome> {
        let mut hashed: Option<(Block, Tag)> = None;
        loop {
            let decide = |entry: Option<Entry<'_>>| {
                let was_there = entry.is_some();
                let verdict = match &entry {
                    Some(entry) if conditions.needs_tag() => {
                        match self.tag_under_lock(entry, hashed.as_ref()) {
                            Ok(tag) => conditions.check(Some(tag)),
                            Err(block) => return Ok((Change::Keep, Decided::Hash(block))),
                        }
                    }
                    _ => conditions.check_presence(was_there),
                };
                if verdict != Verdict::Proceed {
                    return Ok((Change::Keep, Decided::Outcome(Outcome::Refused)));
                }
                let done = Decided::Outcome(Outcome::Done { was_there });
                Ok((change(was_there), done))
            };
            let databases = &self.databases;
            match databases.modify_up_to(call.db, &call.key, room, Some(event), decide)? {
                Decided::Outcome(outcome) => return Ok(outcome),
                // While this handle is held its bytes stay as they are.
                Decided::Hash(block) => {
                    let tag = self.http.tagger.tag(block.value());
                    hashed = Some((block, tag));
                }
            }
        }
    }

    /// The tag of an entry: hashed at once where that is short, known where it is the block that was hashed before.
    fn tag_under_lock(
        &self,
        entry: &Entry<'_>,
        hashed: Option<&(Block, Tag)>,
    ) -> Result<Tag, Block> {
        let value = entry.value.as_slice();
        let Some(block) = entry.value.share() else {
            return Ok(self.http.tagger.tag(value));
        };
        match hashed {
            Some((known, tag)) if std::ptr::eq(known.value(), value) => Ok(*tag),
            _ => Err(block),
        }
    }
}

enum Decided {
    Outcome(Outcome),
    Hash(Block),
}

enum Outcome {
    Done { was_there: bool },
    Refused,
}

impl App {
    /// The time to live that a request asks for.
    ///
    /// # Errors
    /// 400.
    fn ttl_of(&self, headers: &HeaderMap) -> Result<Ttl, Problem> {
        let mut given = headers.get_all(TTL).iter();
        let Some(first) = given.next() else {
            return Ok(Ttl::Default);
        };
        let parsed = first.to_str().ok().and_then(|text| text.parse().ok());
        match (parsed, given.next()) {
            (Some(ttl), None) => self.ttl_from_millis(ttl),
            _ => Err(invalid_ttl()),
        }
    }

    /// The time to live of so many milliseconds. Ten years are a limit of Python's, not of this door.
    ///
    /// # Errors
    /// 400 where it is not positive, or ends beyond what can be told.
    pub(super) fn ttl_from_millis(&self, ttl: i64) -> Result<Ttl, Problem> {
        match u64::try_from(ttl) {
            Err(_) | Ok(0) => Err(invalid_ttl()),
            Ok(short) if short <= limits::MAX_TTL => Ok(Ttl::Millis(short)),
            Ok(_) => {
                let end = ttl.checked_add_unsigned(self.databases.unix_now());
                end.map(Ttl::At).ok_or_else(invalid_ttl)
            }
        }
    }
}

fn invalid_ttl() -> Problem {
    Problem::new(
        400,
        "invalid_ttl",
        "a time to live is a positive number of milliseconds",
    )
}

fn failed() -> Problem {
    Problem::new(
        412,
        "precondition_failed",
        "the value is not as the condition says",
    )
}

fn unsatisfiable(len: usize) -> Problem {
    let value = HeaderValue::from_str(&format!("bytes */{len}"));
    let problem = Problem::new(
        416,
        "range_not_satisfiable",
        format!("the value has {len} bytes"),
    );
    match value {
        Ok(value) => problem.with_header(CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

fn insert(headers: &mut HeaderMap, name: axum::http::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
