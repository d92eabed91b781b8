//! The stream of an HTTP connection: it ends where its peer stalls, and counts its bytes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::link::{Link, Phase};
use crate::server::Shared;
use crate::server::stats::Stats;
use crate::server::stream::Stream;

/// How long the head of a request may take, from its first byte to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a client may go on sending after its last answer, so that it gets to read that.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1 << 20;

/// How long a request may be on its way to a server that ends.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// A stream that ends where its peer stalls, and counts its bytes.
pub(super) struct Watched {
    stream: Stream,
    shared: Arc<Shared>,
    link: Arc<Link>,
    /// What was read before and not used.
    pub(super) ahead: Bytes,
    /// Made when the stream first waits for something that has to come in time.
    timer: Option<Pin<Box<Sleep>>>,
    waits: Option<Waits>,
    opened: Instant,
    head_began: Instant,
    /// When bytes last came or went, where that matters.
    active: Instant,
    /// Messages, whose reader watches for silence itself.
    pub(super) is_socket: bool,
}

/// What the peer has to do, and by when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Send(Instant),
    Take(Instant),
}

impl Watched {
    pub(super) fn new(stream: Stream, shared: Arc<Shared>, link: Arc<Link>) -> Watched {
        let now = Instant::now();
        Watched {
            stream,
            shared,
            link,
            ahead: Bytes::new(),
            timer: None,
            waits: None,
            opened: now,
            head_began: now,
            active: now,
            is_socket: false,
        }
    }

    /// Waits for the first byte of a request: until then a connection is a socket and little more.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if !self.ahead.is_empty() {
            return Ok(());
        }
        let deadline = match self.link.has_asked() {
            true => self.deadline(),
            false if !self.link.is_known() => Some(self.stranger_until()),
            false => Some(self.opened + self.shared.config.limits.stall_timeout),
        };
        let readable = self.shared.shutdown.unless_begun(self.stream.readable());
        let readable = match deadline {
            None => Ok(readable.await),
            Some(deadline) => tokio::time::timeout_at(deadline, readable).await,
        };
        match readable {
            Ok(Some(outcome)) => outcome,
            // Of a connection that is new it is not known at once what has come.
            Ok(None) => match tokio::time::timeout(LAST_LOOK, self.stream.readable()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            },
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Whether it can be waited for without what reads it.
    pub(super) fn may_rest(&self) -> bool {
        self.stream.knows_readable()
    }

    /// Ends the answers, and gives the client a moment to stop sending: closing at once would take back what it has not
    /// read yet.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        // Of what is encrypted there is a last word to say, which may have to wait.
        tokio::time::timeout(LINGER, self.stream.shutdown()).await??;
        if self.shared.shutdown.has_begun() {
            return Ok(());
        }
        let drain = async {
            let mut left = LINGER_BYTES;
            let mut bytes = [0; 4096];
            while left > 0 {
                match self.stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => left = left.saturating_sub(read),
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
        Ok(())
    }

    /// By when a secret has to be shown.
    fn stranger_until(&self) -> Instant {
        self.opened + self.shared.config.limits.unauthenticated_timeout
    }

    /// When the peer has to have sent more; None: whenever it likes.
    fn deadline(&self) -> Option<Instant> {
        if self.is_socket {
            return None;
        }
        let limits = &self.shared.config.limits;
        match self.link.phase() {
            Phase::InHead => Some(self.head_began + HEAD_TIMEOUT),
            // Who waits for the body watches it.
            Phase::AtWork => None,
            Phase::Idle if !self.link.is_known() => Some(self.stranger_until()),
            Phase::Idle => limits.idle_timeout.map(|idle| self.active + idle),
        }
    }

    /// Pending until the peer is too late.
    fn poll_too_late(
        &mut self,
        waits: Option<Waits>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_new = self.waits != waits;
        self.waits = waits;
        let Some(Waits::Send(deadline) | Waits::Take(deadline)) = waits else {
            return Poll::Pending;
        };
        if is_new && Instant::now() >= deadline {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let timer = match &mut self.timer {
            Some(timer) => {
                if is_new {
                    timer.as_mut().reset(deadline);
                }
                timer
            }
            None => self
                .timer
                .insert(Box::pin(tokio::time::sleep_until(deadline))),
        };
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Bytes came or went.
    #[inline]
    fn is_active(&mut self) {
        if self.shared.config.limits.idle_timeout.is_some() {
            self.active = Instant::now();
        }
    }

    /// What became of a write: waits are timed, bytes counted.
    fn written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.link.consumer.has_to_end(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.link.is_behind(polled.is_pending());
        match polled {
            Poll::Ready(Ok(bytes)) => {
                Stats::add(&self.shared.stats.bytes_out, bytes as u64);
                self.waits = None;
                self.is_active();
                if self.link.phase() == Phase::InHead {
                    // The next request can wait until this answer is taken.
                    self.head_began = Instant::now();
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                let waits = match self.waits {
                    Some(Waits::Take(since)) => Waits::Take(since),
                    _ => Waits::Take(Instant::now() + self.shared.config.limits.stall_timeout),
                };
                ready!(self.poll_too_late(Some(waits), cx))?;
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.link.consumer.has_to_end(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if !self.link.is_known() && Instant::now() >= self.stranger_until() {
            // Asking on and on for what is open to all does not prolong it.
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !self.ahead.is_empty() {
            let len = self.ahead.len().min(into.remaining());
            into.put_slice(&self.ahead.split_to(len));
            if self.link.has_read() {
                self.head_began = Instant::now();
            }
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, into) {
            Poll::Ready(Ok(())) => {
                let bytes = into.filled().len() - before;
                Stats::add(&self.shared.stats.bytes_in, bytes as u64);
                self.is_active();
                if bytes > 0 && !self.is_socket && self.link.has_read() {
                    self.head_began = Instant::now();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(error) => Poll::Ready(error),
            // An answer that is not taken is timed by its writer.
            Poll::Pending if matches!(self.waits, Some(Waits::Take(_))) => Poll::Pending,
            Poll::Pending => {
                self.link.is_dry();
                let waits = self.deadline().map(Waits::Send);
                ready!(self.poll_too_late(waits, cx))?;
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            // As a write that cannot go on.
            Poll::Pending => self.written(Poll::Pending, cx).map_ok(drop),
            Poll::Ready(Ok(())) => {
                // Who looked for more while the answer was made will not look again before there is some: it is from here
                // on that the next request is waited for.
                let waits = self.deadline().map(Waits::Send);
                match self.poll_too_late(waits, cx) {
                    Poll::Ready(error) => Poll::Ready(error),
                    Poll::Pending => Poll::Ready(Ok(())),
                }
            }
            error => error,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
