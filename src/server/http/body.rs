//! Bodies of requests: collected as they come, within limits of size and time.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::App;
use super::link::Link;
use super::problem::Problem;

/// Who sends slower than this, for longer than the stall time-out, holds a connection for its own sake.
pub(super) const SLOWEST_BYTES_PER_SECOND: u64 = 16 << 10;

/// A body that is read part by part.
pub(super) struct Reader {
    body: Body,
    stall: Duration,
    started: Instant,
    read: u64,
    most: u64,
}

impl Reader {
    /// A body of at most so many bytes.
    ///
    /// # Errors
    /// 413 where it is known to be longer, 415 where it is encoded.
    pub(super) fn new(
        app: &App,
        headers: &HeaderMap,
        body: Body,
        most: u64,
    ) -> Result<Reader, Problem> {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|len| len.to_str().ok());
        if announced
            .and_then(|len| len.parse().ok())
            .is_some_and(|len: u64| len > most)
        {
            return Err(too_large(most));
        }
        let encoding = headers
            .get(CONTENT_ENCODING)
            .map(|encoding| encoding.as_bytes());
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::new(
                415,
                "encoded_body",
                "bodies are taken as they are, without Content-Encoding",
            ));
        }
        Ok(Reader {
            body,
            stall: app.config.limits.stall_timeout,
            started: Instant::now(),
            read: 0,
            most,
        })
    }

    /// The next part; None at the end.
    ///
    /// # Errors
    /// 400, 408, 413.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let allowed = Duration::from_secs(self.read / SLOWEST_BYTES_PER_SECOND);
            let deadline = (Instant::now() + self.stall).min(self.started + self.stall + allowed);
            let frame = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
            let frame = match timeout_at(deadline, frame).await {
                Ok(frame) => frame,
                Err(_) => {
                    return Err(Problem::new(
                        408,
                        "body_timeout",
                        "the body came too slowly",
                    ));
                }
            };
            let data = match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Problem::bad_body(error.to_string())),
                Some(Ok(frame)) => frame.into_data(),
            };
            // Trailers say nothing here.
            let Ok(data) = data else { continue };
            self.read += data.len() as u64;
            if self.read > self.most {
                return Err(too_large(self.most));
            }
            return Ok(Some(data));
        }
    }
}

fn too_large(most: u64) -> Problem {
    Problem::new(
        413,
        "body_too_large",
        format!("the limit for this body is {most} bytes"),
    )
}

impl App {
    /// A whole body of at most so many bytes. Memory grows with what has come, not with what was announced.
    ///
    /// # Errors
    /// 400, 408, 413, 415, 507.
    pub(super) async fn collect(
        &self,
        link: &Link,
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<Bytes, Problem> {
        let mut reader = Reader::new(self, headers, body, most as u64)?;
        let Some(first) = reader.next().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = reader.next().await? else {
            return Ok(first);
        };
        let mut held = self.hold(link);
        let mut all = Vec::new();
        let mut next = Some(second);
        extend(&mut all, &first)?;
        while let Some(part) = next {
            extend(&mut all, &part)?;
            held.set(all.capacity());
            next = reader.next().await?;
        }
        Ok(held.keep(all))
    }
}

fn extend(all: &mut Vec<u8>, part: &[u8]) -> Result<(), Problem> {
    all.try_reserve(part.len())
        .map_err(|_| crate::Error::OutOfMemory)?;
    all.extend_from_slice(part);
    Ok(())
}
