//! `/v1/ws`: requests with ids, as many on their way as a client likes, answered in order; live statistics. Text messages
//! are JSON, binary ones what `docs/protocol.md` says.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::frame::Kind;
use super::out::Out;
use super::{Handler, Next, wait};
use crate::engine::Ttl;
use crate::server::http::batch::write_found;
use crate::server::http::json::Item;
use crate::server::http::listing::Wanted;
use crate::server::http::problem::Problem;
use crate::server::http::routes::Result;
use crate::server::http::{App, LARGE};

/// Statistics come no more often, and no more seldom, in milliseconds.
const INTERVALS: std::ops::RangeInclusive<u64> = 100..=3_600_000;

const GET: u8 = 1;
const SET: u8 = 2;
const DELETE: u8 = 3;

const DONE: u8 = 0;
const MISSING: u8 = 1;
const REFUSED: u8 = 2;

pub(super) struct Api {
    app: App,
    db: u8,
    interval: Option<Duration>,
}

/// An answer.
enum Answer {
    Now(Vec<u8>),
    /// It takes a while.
    Later(Box<dyn FnOnce() -> Vec<u8> + Send>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(default)]
    db: u8,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value64: Option<Cow<'a, str>>,
    #[serde(default)]
    ttl_ms: Option<i64>,
    #[serde(borrow, default)]
    prefix: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    r#match: Option<Cow<'a, str>>,
    #[serde(default)]
    cursor: u64,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    interval_ms: Option<u64>,
}

impl Handler for Api {
    fn message(&mut self, kind: Kind, payload: &[u8], out: &mut Out) -> Next {
        if payload.len() > LARGE {
            return self.large(kind, payload.to_vec());
        }
        if kind == Kind::Binary {
            return binary(&self.app, payload, out);
        }
        match self.text(payload) {
            Answer::Now(answer) => {
                out.message(Kind::Text, &answer);
                Next::Go
            }
            Answer::Later(work) => self.later(work),
        }
    }

    fn interval(&self) -> Option<Duration> {
        self.interval
    }

    fn tick(&mut self) -> Next {
        let app = self.app.clone();
        self.later(Box::new(move || {
            json!({"event": "stats", "stats": app.figures()})
                .to_string()
                .into_bytes()
        }))
    }
}

impl Api {
    pub(super) fn new(app: App, db: u8) -> Api {
        Api {
            app,
            db,
            interval: None,
        }
    }

    fn later(&self, work: Box<dyn FnOnce() -> Vec<u8> + Send>) -> Next {
        let app = self.app.clone();
        wait(async move {
            let answer = app.offload.run(work).await;
            move |out: &mut Out| out.message_of(Kind::Text, &[], Bytes::from(answer))
        })
    }

    /// A message that takes a while to read. It can only be one that writes.
    fn large(&self, kind: Kind, payload: Vec<u8>) -> Next {
        let app = self.app.clone();
        let mut worker = Api::new(app.clone(), self.db);
        wait(async move {
            let work = move || {
                let mut out = Out::default();
                match kind {
                    Kind::Binary => drop(binary(&worker.app, &payload, &mut out)),
                    Kind::Text => match worker.text(&payload) {
                        Answer::Now(answer) => out.message(Kind::Text, &answer),
                        Answer::Later(work) => out.message(Kind::Text, &work()),
                    },
                }
                out
            };
            let answered = app.offload.run(work).await;
            move |out: &mut Out| out.append(answered)
        })
    }

    fn text(&mut self, payload: &[u8]) -> Answer {
        let asked: Asked<'_> = match serde_json::from_slice(payload) {
            Ok(asked) => asked,
            Err(error) => return Answer::Now(refusal(None, &Problem::bad_body(error.to_string()))),
        };
        let id = asked.id;
        match self.answer(asked) {
            Ok(answer) => answer,
            Err(problem) => Answer::Now(refusal(id, &problem)),
        }
    }

    fn answer(&mut self, asked: Asked<'_>) -> Result<Answer> {
        let db = if asked.db == 0 { self.db } else { asked.db };
        if db > 15 {
            return Err(Problem::bad_body("db has to be a number from 0 to 15"));
        }
        let id = asked.id;
        let mut item = Item {
            key: asked.key,
            key64: asked.key64,
            value: asked.value,
            value64: asked.value64,
            ttl_ms: asked.ttl_ms,
        };
        let done = match &*asked.op {
            "ping" => begin(id),
            "get" => return self.get(db, &item.take_key()?, id),
            "set" => {
                let (key, value) = (item.take_key()?, item.take_value()?);
                let ttl = match item.ttl_ms {
                    Some(ttl) => self.app.ttl_from_millis(ttl)?,
                    None => Ttl::Default,
                };
                let is_new = self.app.set(db, &key, &value, ttl)?;
                with(id, "created", is_new)
            }
            "delete" => {
                let was_there = self.app.take_out(db, &item.take_key()?)?;
                with(id, "deleted", was_there)
            }
            "keys" => {
                let wanted = Wanted::new(
                    db,
                    asked.cursor,
                    asked.count,
                    asked.prefix.map(|prefix| prefix.as_bytes().to_vec()),
                    asked.r#match.as_ref().map(|pattern| pattern.as_bytes()),
                )?;
                let (app, id) = (self.app.clone(), id.map(RawValue::to_owned));
                return Ok(Answer::Later(Box::new(move || {
                    let mut answer = begin(id.as_deref());
                    match app.page(&wanted) {
                        Ok(page) => {
                            answer.extend_from_slice(b",\"page\":");
                            answer.extend_from_slice(&page);
                            end(answer)
                        }
                        Err(problem) => refusal(id.as_deref(), &problem),
                    }
                })));
            }
            "stats" => {
                let (app, id) = (self.app.clone(), id.map(RawValue::to_owned));
                return Ok(Answer::Later(Box::new(move || {
                    let mut answer = begin(id.as_deref());
                    answer.extend_from_slice(b",\"stats\":");
                    answer.extend_from_slice(app.figures().to_string().as_bytes());
                    end(answer)
                })));
            }
            "watch" => {
                let interval = asked.interval_ms.unwrap_or(1_000);
                if interval != 0 && !INTERVALS.contains(&interval) {
                    let detail = "interval_ms has to be 0, or from 100 to 3600000";
                    return Err(Problem::bad_body(detail));
                }
                self.interval = (interval > 0).then(|| Duration::from_millis(interval));
                begin(id)
            }
            other => {
                let detail = format!("there is no op {other:?}");
                return Err(Problem::new(400, "unknown_op", detail));
            }
        };
        Ok(Answer::Now(end(done)))
    }

    fn get(&self, db: u8, key: &[u8], id: Option<&RawValue>) -> Result<Answer> {
        let Some(found) = self.app.look_up(db, key)? else {
            let mut answer = begin(id);
            answer.extend_from_slice(b",\"value\":null");
            return Ok(Answer::Now(end(answer)));
        };
        let is_large = found.value.as_slice().len() > LARGE;
        let id = id.map(RawValue::to_owned);
        let write = move || {
            let mut answer = begin(id.as_deref());
            answer.push(b',');
            write_found(&mut answer, &found);
            end(answer)
        };
        match is_large {
            true => Ok(Answer::Later(Box::new(write))),
            false => Ok(Answer::Now(write())),
        }
    }
}

/// Answers a binary message.
fn binary(app: &App, payload: &[u8], out: &mut Out) -> Next {
    let &[op, db, a, b, c, d, ref rest @ ..] = payload else {
        return Next::Close(super::CloseCode::Protocol);
    };
    let head = |status| [status, op, a, b, c, d];
    let outcome = match (op, db) {
        (_, 16..) => Err(Problem::bad_body("the database has to be from 0 to 15")),
        (GET, _) => app.look_up(db, rest).map(|found| match found {
            Some(found) => out.message_of(Kind::Binary, &head(DONE), found.value.into_bytes()),
            None => out.message(Kind::Binary, &head(MISSING)),
        }),
        (SET, _) => set_binary(app, db, rest).map(|is_new| {
            let [a, b, c, d, e, f] = head(DONE);
            out.message(Kind::Binary, &[a, b, c, d, e, f, u8::from(is_new)]);
        }),
        (DELETE, _) => app.take_out(db, rest).map(|was_there| {
            let status = if was_there { DONE } else { MISSING };
            out.message(Kind::Binary, &head(status));
        }),
        _ => Err(Problem::new(
            400,
            "unknown_op",
            format!("there is no op {op}"),
        )),
    };
    if let Err(problem) = outcome {
        let mut answer = head(REFUSED).to_vec();
        answer.extend_from_slice(problem.json().to_string().as_bytes());
        out.message(Kind::Binary, &answer);
    }
    Next::Go
}

/// What follows a write's head: the milliseconds to live (8 bytes, 0: the default), the key's length (4), key and value.
fn set_binary(app: &App, db: u8, rest: &[u8]) -> Result<bool> {
    let parse = || {
        let (ttl, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (key, value) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        Some((i64::from_be_bytes(*ttl), key, value))
    };
    let (ttl, key, value) = parse().ok_or_else(|| Problem::bad_body("the message is cut short"))?;
    let ttl = match ttl {
        0 => Ttl::Default,
        ttl => app.ttl_from_millis(ttl)?,
    };
    app.set(db, key, value, ttl)
}

/// The start of an answer: `{"id":1,"ok":true`.
fn begin(id: Option<&RawValue>) -> Vec<u8> {
    start(id, b"\"ok\":true")
}

fn start(id: Option<&RawValue>, first: &[u8]) -> Vec<u8> {
    let mut answer = b"{".to_vec();
    if let Some(id) = id {
        answer.extend_from_slice(b"\"id\":");
        answer.extend_from_slice(id.get().as_bytes());
        answer.push(b',');
    }
    answer.extend_from_slice(first);
    answer
}

fn with(id: Option<&RawValue>, name: &str, value: bool) -> Vec<u8> {
    let mut answer = begin(id);
    answer.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    answer
}

fn end(mut answer: Vec<u8>) -> Vec<u8> {
    answer.push(b'}');
    answer
}

fn refusal(id: Option<&RawValue>, problem: &Problem) -> Vec<u8> {
    let mut answer = start(id, b"\"ok\":false,\"error\":");
    answer.extend_from_slice(problem.json().to_string().as_bytes());
    end(answer)
}
