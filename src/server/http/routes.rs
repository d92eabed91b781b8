//! Paths and methods, and what answers them. Who is asked finds the server in the request's extensions.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};

use super::keys::Call;
use super::link::Link;
use super::path::Query;
use super::problem::Problem;
use super::{App, LARGE, batch, console, figures, listing, load, original, reply, socket};

pub(super) type Result<T = Response> = std::result::Result<T, Problem>;

/// Everything but what the door answers itself.
pub(super) fn router() -> Router {
    let router = Router::new();
    #[cfg(test)]
    let router = router.route("/panic", get(panics));
    router
        .route("/", get(console::page))
        .route("/console/{name}", get(console::part))
        .route("/health", get(figures::health))
        .route("/metrics", get(figures::metrics))
        .route("/openapi.json", get(openapi))
        .route("/v1/stats", get(figures::stats))
        .route("/v1/key", get(get_key).put(put_key).delete(delete_key))
        .route("/v1/keys", get(listing::list))
        // The door answers GET and HEAD of these.
        .route(
            "/v1/keys/{*key}",
            get(get_key).put(put_key).delete(delete_key),
        )
        .route("/v1/get-many", post(batch::get_many))
        .route("/v1/set-many", post(batch::set_many))
        .route("/v1/files", get(load::files))
        .route("/v1/load", post(load::load_file).put(load::load_body))
        .route("/v1/save", post(load::save))
        .route("/v1/ws", any(socket::api))
        .route("/get/key/{*key}", get(missing))
        .route("/put/key/{*rest}", get(original::put))
        .route("/load/{*file}", get(original::load))
        .route("/save/{*file}", get(original::save))
        .route("/getws/", any(socket::get))
        .route("/putws/", any(socket::put))
        .route("/loadws/", any(socket::load))
        .route("/savews/", any(socket::save))
        .fallback(missing)
        .method_not_allowed_fallback(method_not_allowed)
}

#[cfg(test)]
async fn panics() -> Response {
    panic!("as the test asked for")
}

/// Whether a path is one of 2012, whose refusals are lines of text.
pub(super) fn is_original(path: &str) -> bool {
    ["/get/", "/put/", "/load/", "/save/"]
        .iter()
        .any(|start| path.starts_with(start))
}

async fn missing(request: Request) -> Response {
    let problem = Problem::new(404, "no_such_path", "there is nothing at this path");
    match is_original(request.uri().path()) {
        true => problem.line(),
        false => problem.into_response(),
    }
}

async fn method_not_allowed(request: Request) -> Response {
    let detail = format!("{} is not for this path", request.method());
    let problem = Problem::new(405, "method_not_allowed", detail);
    match is_original(request.uri().path()) {
        true => problem.line(),
        false => problem.into_response(),
    }
}

async fn openapi() -> Response {
    let text = include_str!("openapi.json").replace("0.0.0", env!("CARGO_PKG_VERSION"));
    reply::typed("application/json", text)
}

/// The key that a request is about.
fn call(request: &Request) -> Result<Call> {
    let query = Query::new(request.uri().query());
    match request.uri().path().strip_prefix("/v1/keys/") {
        Some(encoded) => Call::of_path(encoded, query),
        None => Call::of_query(query),
    }
}

async fn get_key(Extension(app): Extension<App>, request: Request) -> Result {
    let call = call(&request)?;
    let found = app.look_up(call.db, &call.key)?;
    let is_large = |found: &super::keys::Found| found.value.as_slice().len() > LARGE;
    if !found.as_ref().is_some_and(is_large) {
        return app.get(request.method(), request.headers(), found);
    }
    let (worker, parts) = (app.clone(), request.into_parts().0);
    app.offload
        .run(move || worker.get(&parts.method, &parts.headers, found))
        .await
}

async fn put_key(
    Extension(app): Extension<App>,
    Extension(link): Extension<Arc<Link>>,
    request: Request,
) -> Result {
    let call = call(&request)?;
    app.check_writable()?;
    let (parts, body) = request.into_parts();
    let most = app.config.limits.max_value;
    let value = app.collect(&link, &parts.headers, body, most).await?;
    if value.len() <= LARGE && !may_hash(&parts.headers) {
        return app.put(&call, &parts.headers, &value);
    }
    let worker = app.clone();
    app.offload
        .run(move || worker.put(&call, &parts.headers, &value))
        .await
}

async fn delete_key(Extension(app): Extension<App>, request: Request) -> Result {
    let call = call(&request)?;
    if !may_hash(request.headers()) {
        return app.delete(&call, request.headers());
    }
    let (worker, headers) = (app.clone(), request.headers().clone());
    app.offload
        .run(move || worker.delete(&call, &headers))
        .await
}

/// Whether a write's conditions may have a value hashed that is there, which may be large.
fn may_hash(headers: &HeaderMap) -> bool {
    let names_tags = |name| headers.get_all(name).iter().any(|tags| tags != "*");
    names_tags(IF_MATCH) || names_tags(IF_NONE_MATCH)
}

/// An answer without content.
pub(super) fn done() -> Response {
    let mut response = reply::typed("text/plain; charset=utf-8", Body::empty());
    *response.status_mut() = StatusCode::OK;
    response
}

/// Refuses HEAD of what a GET changes.
pub(super) fn check_get(method: &Method) -> Result<()> {
    match *method {
        Method::GET => Ok(()),
        _ => Err(Problem::new(
            405,
            "method_not_allowed",
            "only GET is for this path",
        )),
    }
}
