//! Keys in pages, by the store's stateless cursor.

use axum::Extension;
use axum::extract::Request;
use serde::Serialize;

use super::json::Key;
use super::path::Query;
use super::problem::Problem;
use super::routes::Result;
use super::{App, reply};
use crate::engine::{Filter, Glob, Page};

/// Keys of a page, unless `count` says otherwise, and at most.
const COUNT: u64 = 100;
const MOST: u64 = 10_000;
const LONGEST_PATTERN: usize = 4 << 10;

#[derive(Serialize)]
struct Listing<'a> {
    keys: Vec<Listed<'a>>,
    /// Where the next page begins; 0: there is none.
    cursor: u64,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    key: Key<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

/// Which keys are asked for.
pub(super) struct Wanted {
    db: u8,
    cursor: u64,
    filter: Filter,
    count: usize,
}

impl Wanted {
    /// # Errors
    /// 400.
    pub(super) fn new(
        db: u8,
        cursor: u64,
        count: Option<u64>,
        prefix: Option<Vec<u8>>,
        pattern: Option<&[u8]>,
    ) -> Result<Wanted> {
        let invalid = |detail: &str| Problem::new(400, "invalid_parameter", detail);
        let count = count.unwrap_or(COUNT);
        if !(1..=MOST).contains(&count) {
            return Err(invalid("count has to be a number from 1 to 10000"));
        }
        if pattern.is_some_and(|pattern| pattern.len() > LONGEST_PATTERN) {
            return Err(invalid("match is longer than 4096 bytes"));
        }
        Ok(Wanted {
            db,
            cursor,
            filter: Filter {
                prefix: prefix.unwrap_or_default(),
                glob: pattern.map(Glob::new),
            },
            count: count as usize,
        })
    }
}

/// `GET /v1/keys`.
pub(super) async fn list(Extension(app): Extension<App>, request: Request) -> Result {
    let query = Query::new(request.uri().query());
    let cursor = query.integer("cursor", 0..=(1 << 53) - 1, "what the page before said")?;
    let wanted = Wanted::new(
        query.database()?,
        cursor.unwrap_or(0),
        query.integer("count", 1..=MOST, "a number from 1 to 10000")?,
        query.get("prefix")?.map(|prefix| prefix.into_owned()),
        query.get("match")?.as_deref(),
    )?;
    let worker = app.clone();
    let page = app.offload.run(move || worker.page(&wanted)).await?;
    Ok(reply::typed("application/json", page))
}

impl App {
    /// A page as JSON.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn page(&self, wanted: &Wanted) -> Result<Vec<u8>> {
        let mut page = Page::default();
        let cursor = match self.store(wanted.db) {
            Some(store) => store.scan(
                wanted.cursor,
                &wanted.filter,
                wanted.count,
                false,
                &mut page,
            )?,
            None => 0,
        };
        let keys = (0..page.len()).map(|i| Listed {
            key: Key::new(page.key(i)),
            ttl_ms: page.time_left(i),
        });
        let listing = Listing {
            keys: keys.collect(),
            cursor,
        };
        // Keys of objects are text, so nothing can fail.
        Ok(serde_json::to_vec(&listing).unwrap_or_default())
    }
}
