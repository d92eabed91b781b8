//! What is left of a request's body when its answer is there: taken off the connection where it is little, so that the
//! next request can follow. Where it is much, or the client waits to be told to send it, the answer says that the
//! connection ends (RFC 9112, 9.6): who does not know loses its next request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::App;
use super::body::Reader;
use super::link::{Link, Phase};

/// More than this is not waited for.
const MOST: u64 = 64 << 10;
/// A client that has its answer coming sends what it has at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is left of a body.
enum Rest {
    Unread(Body),
    /// It broke off, so nobody knows where the next request begins.
    Broken,
}

/// Finds what is left of a body.
pub(super) struct Unread {
    left: Arc<Mutex<Option<Rest>>>,
    /// The client sends no body until it is asked to.
    waits: bool,
}

impl Unread {
    /// A body to be given to whoever reads it, and what finds out how much of it they left.
    pub(super) fn watch<B>(parts: &Parts, body: B) -> (Unread, Body)
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let left = Arc::default();
        let watched = WatchedBody {
            body: Some(Body::new(body)),
            left: Arc::clone(&left),
        };
        let waits = parts.headers.contains_key(EXPECT);
        (Unread { left, waits }, Body::new(watched))
    }

    /// Takes what is left off the connection, or says in the answer that the connection ends.
    pub(super) async fn settle(self, app: &App, link: &Link, response: &mut Response) {
        let Some(rest) = self.left.lock().take() else {
            return;
        };
        // Otherwise the answer is still being made, and ends the request by itself.
        let is_answered = link.phase() == Phase::Idle;
        link.resume();
        let is_usable = match rest {
            Rest::Unread(body) => !self.waits && is_taken(app, body).await,
            Rest::Broken => false,
        };
        if !is_usable {
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if is_answered {
            link.end();
        }
    }
}

/// Reads a body to its end; whether it was there.
async fn is_taken(app: &App, body: Body) -> bool {
    if hyper::body::Body::size_hint(&body).lower() > MOST {
        return false;
    }
    let read = async {
        let mut reader = Reader::new(app, &HeaderMap::new(), body, MOST)?;
        while reader.next().await?.is_some() {}
        Ok::<(), super::Problem>(())
    };
    matches!(tokio::time::timeout(PATIENCE, read).await, Ok(Ok(())))
}

/// A body that is put aside when it is given up before its end.
struct WatchedBody {
    body: Option<Body>,
    left: Arc<Mutex<Option<Rest>>>,
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.body = None,
            Poll::Ready(Some(Err(_))) => {
                self.body = None;
                *self.left.lock() = Some(Rest::Broken);
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if !hyper::body::Body::is_end_stream(self) {
            *self.left.lock() = self.body.take().map(Rest::Unread);
        }
    }
}
