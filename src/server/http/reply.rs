//! Answers: stored values under headers that keep a browser from running them, JSON, and lines of JSON as they come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

use super::link::Link;
use crate::engine::Block;

/// A key's time to live in milliseconds, in requests and answers.
pub(super) const TTL: HeaderName = HeaderName::from_static("atbr-ttl-ms");

/// A value, as it is sent.
pub(super) enum Value {
    Copied(Bytes),
    /// A large one, shared with the store.
    Shared(Block),
}

impl Value {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Value::Copied(bytes) => bytes,
            Value::Shared(block) => block.value(),
        }
    }

    /// The bytes, not copied.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Value::Copied(bytes) => bytes,
            Value::Shared(block) => Bytes::from_owner(Shared(block)),
        }
    }
}

struct Shared(Block);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

/// Keeps a browser from taking a stored value for a page or a script.
#[inline]
fn confine(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
}

/// An answer that holds a stored value.
#[inline]
pub(super) fn stored(value: Bytes) -> Response {
    let is_empty = value.is_empty();
    let mut response = Response::new(Body::from(value));
    let headers = response.headers_mut();
    headers.reserve(8);
    if is_empty {
        // Else hyper says it, but not of nothing where the method is HEAD.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // It may be kept, and has to be asked about each time: that is what tags are for.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    confine(headers);
    response
}

/// As [`stored`], as text, as the original's paths answer.
#[inline]
pub(super) fn stored_text(value: Bytes) -> Response {
    let mut response = Response::new(Body::from(value));
    let headers = response.headers_mut();
    headers.reserve(4);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    confine(headers);
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer of some type.
pub(super) fn typed(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    confine(headers);
    response
}

pub(super) fn json(value: &impl Serialize) -> Response {
    // What is serialised here has text for keys, so nothing can fail.
    typed(
        "application/json",
        serde_json::to_vec(value).unwrap_or_default(),
    )
}

/// A body of lines that another thread sends. Dropped early, it tells the sender by an error.
pub(super) struct Lines {
    lines: mpsc::Receiver<Vec<u8>>,
    link: Arc<Link>,
}

/// Marks an answer whose connection is at work until its body ends.
#[derive(Clone)]
pub(super) struct IsMadeYet;

impl Lines {
    /// A body, and where its lines go; so many of them wait.
    pub(super) fn new(waiting: usize, link: Arc<Link>) -> (mpsc::Sender<Vec<u8>>, Lines) {
        let (sender, lines) = mpsc::channel(waiting);
        (sender, Lines { lines, link })
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = typed("application/x-ndjson", Body::new(self));
        response.extensions_mut().insert(IsMadeYet);
        response
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.link.end();
    }
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let line = std::task::ready!(self.lines.poll_recv(cx));
        Poll::Ready(line.map(|line| Ok(Frame::data(Bytes::from(line)))))
    }
}
