//! WebSockets: the handshake, and who answers the messages of each path.

mod api;
mod frame;
mod original;
mod out;
mod run;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::guard::{PROTOCOL, offered_protocols};
use super::link::Link;
use super::path::Query;
use super::problem::Problem;
use super::routes::Result;
use super::{App, reply};
use frame::{CloseCode, Kind};
use out::Out;
pub(super) use run::run;

/// Answers the messages of one connection.
pub(super) trait Handler: Send {
    /// A message has come.
    fn message(&mut self, kind: Kind, payload: &[u8], out: &mut Out) -> Next;

    /// How often [`Handler::tick`] is to be called.
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// The interval is over.
    fn tick(&mut self) -> Next {
        Next::Go
    }
}

/// What follows the answer to a handshake.
pub(super) type Upgrade = Box<dyn Handler>;

/// What a handler wants to happen before the next message.
pub(super) enum Next {
    Go,
    /// This work, whose outcome is sent.
    Wait(Work),
    Close(CloseCode),
}

/// Writes what it came to.
type Work = Pin<Box<dyn Future<Output = Box<dyn FnOnce(&mut Out) + Send>> + Send>>;

/// Work that is followed by what it returns.
fn wait<F>(work: F) -> Next
where
    F: Future<Output: FnOnce(&mut Out) + Send + 'static> + Send + 'static,
{
    Next::Wait(Box::pin(async move {
        let write: Box<dyn FnOnce(&mut Out) + Send> = Box::new(work.await);
        write
    }))
}

pub(super) async fn api(
    app: Extension<App>,
    link: Extension<Arc<Link>>,
    request: Request,
) -> Result {
    accept(&link, &request, |db| {
        Box::new(api::Api::new(app.0.clone(), db))
    })
}

pub(super) async fn get(
    app: Extension<App>,
    link: Extension<Arc<Link>>,
    request: Request,
) -> Result {
    accept(&link, &request, |db| {
        Box::new(original::Get(app.0.clone(), db))
    })
}

pub(super) async fn put(
    app: Extension<App>,
    link: Extension<Arc<Link>>,
    request: Request,
) -> Result {
    accept(&link, &request, |db| {
        Box::new(original::Put(app.0.clone(), db))
    })
}

pub(super) async fn load(
    app: Extension<App>,
    link: Extension<Arc<Link>>,
    request: Request,
) -> Result {
    accept(&link, &request, |db| {
        Box::new(original::Load(app.0.clone(), db))
    })
}

pub(super) async fn save(
    app: Extension<App>,
    link: Extension<Arc<Link>>,
    request: Request,
) -> Result {
    accept(&link, &request, |_| Box::new(original::Save(app.0.clone())))
}

/// Answers a handshake, and leaves the handler for when the answer is sent.
fn accept(link: &Link, request: &Request, handler: impl FnOnce(u8) -> Upgrade) -> Result {
    let headers = request.headers();
    let names = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let is_upgrade = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && names(CONNECTION, "upgrade")
        && names(UPGRADE, "websocket");
    if !is_upgrade {
        let problem = Problem::new(426, "websocket_only", "this path is a WebSocket's");
        return Err(problem.with_header(UPGRADE, HeaderValue::from_static("websocket")));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let problem = Problem::new(426, "websocket_version", "only version 13 is spoken");
        return Err(problem.with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    let answer = accept_key(headers)?;
    let db = Query::new(request.uri().query()).database()?;
    *link.upgrade.lock() = Some(handler(db));
    let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let answered = response.headers_mut();
    answered.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answered.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answered.insert(SEC_WEBSOCKET_ACCEPT, answer);
    if offered_protocols(headers).any(|protocol| protocol == PROTOCOL) {
        answered.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    Ok(response)
}

/// What shows a client that the handshake was understood (RFC 6455, 4.2.2).
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue> {
    const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let refused = || Problem::new(400, "invalid_header", "Sec-WebSocket-Key is no key");
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(refused)?;
    if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        return Err(refused());
    }
    let hash = Sha1::new()
        .chain_update(key)
        .chain_update(SUFFIX)
        .finalize();
    HeaderValue::from_str(&STANDARD.encode(hash)).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        let mut headers = HeaderMap::new();
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        headers.insert(SEC_WEBSOCKET_KEY, key);
        assert_eq!(
            accept_key(&headers).unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("c2hvcnQ="));
        assert!(accept_key(&headers).is_err());
    }
}
