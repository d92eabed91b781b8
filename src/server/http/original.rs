//! The paths of 2012: `/put/key/K/value/V`, `/load/FILE` and `/save/FILE` answer with nothing, as they did. `/get/key/K` is
//! the door's.

use axum::Extension;
use axum::extract::Request;

use super::path::{Plus, Query, decode, split_put};
use super::problem::Problem;
use super::routes::{Result, check_get, done};
use super::{App, LARGE};
use crate::engine::Ttl;

/// Renders refusals as these paths do.
type Line = std::result::Result<axum::response::Response, axum::response::Response>;

pub(super) async fn put(Extension(app): Extension<App>, request: Request) -> Line {
    put_inner(&app, &request).map_err(Problem::line)
}

fn put_inner(app: &App, request: &Request) -> Result {
    check_get(request.method())?;
    app.check_writable()?;
    let rest = request.uri().path().strip_prefix("/put/key/");
    let (key, value) = rest
        .and_then(|rest| split_put(rest.as_bytes()))
        .ok_or_else(|| Problem::new(404, "no_such_path", "expected /put/key/KEY/value/VALUE"))?;
    if key.is_empty() || value.is_empty() {
        let detail = "key and value must not be empty here";
        return Err(Problem::new(400, "empty", detail));
    }
    let (key, value) = (decoded(key)?, decoded(value)?);
    debug_assert!(value.len() <= LARGE, "paths are shorter");
    let db = Query::new(request.uri().query()).database()?;
    app.set(db, &key, &value, Ttl::Default)?;
    Ok(done())
}

pub(super) async fn load(Extension(app): Extension<App>, request: Request) -> Line {
    let (name, db) = file(&request, "/load/").map_err(Problem::line)?;
    let loaded = app.load_quietly(name, db).await;
    loaded.map(|()| done()).map_err(Problem::line)
}

pub(super) async fn save(Extension(app): Extension<App>, request: Request) -> Line {
    let (name, _) = file(&request, "/save/").map_err(Problem::line)?;
    let saved = app.save_to(name).await;
    saved.map(|_| done()).map_err(Problem::line)
}

fn file(request: &Request, start: &str) -> Result<(Vec<u8>, u8)> {
    check_get(request.method())?;
    let name = request.uri().path().strip_prefix(start).unwrap_or_default();
    let name = decoded(name.as_bytes())?.into_owned();
    Ok((name, Query::new(request.uri().query()).database()?))
}

fn decoded(text: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>> {
    decode(text, Plus::Plus)
        .ok_or_else(|| Problem::new(400, "invalid_key", "a '%' lacks its two digits"))
}
