//! The console: one page and what it consists of, all of it part of the program. It asks for data as any other client.

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! parts {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(($name, $kind, include_bytes!(concat!("console/", $name)))),*]
    };
}

const PAGE: &[u8] = include_bytes!("console/index.html");
const PARTS: &[(&str, &str, &[u8])] = parts![
    "api.js": JAVASCRIPT,
    "browse.js": JAVASCRIPT,
    "charts.js": JAVASCRIPT,
    "console.css": CSS,
    "console.js": JAVASCRIPT,
    "entry.js": JAVASCRIPT,
    "format.js": JAVASCRIPT,
    "icon.svg": "image/svg+xml",
    "live.js": JAVASCRIPT,
    "load.js": JAVASCRIPT,
];

/// GET /
pub(super) async fn page() -> Response {
    answer(HTML, PAGE)
}

/// GET /console/{name}
pub(super) async fn part(Path(name): Path<String>) -> Response {
    PARTS
        .iter()
        .find(|(known, _, _)| *known == name)
        .map_or_else(
            || StatusCode::NOT_FOUND.into_response(),
            |(_, kind, bytes)| answer(kind, bytes),
        )
}

fn answer(kind: &'static str, bytes: &'static [u8]) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, kind),
        // Another version may answer the next request.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes).into_response()
}
