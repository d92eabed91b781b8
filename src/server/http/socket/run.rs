//! One WebSocket from handshake to close: reads while there is little to send, answers what has come with one write, and
//! watches for silence.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::frame::{CloseCode, Event, Flow, Frames};
use super::out::Out;
use super::{Next, Upgrade, Work};
use crate::limits::MAX_KEY_LEN;
use crate::server::Shared;
use crate::server::http::body::SLOWEST_BYTES_PER_SECOND;
use crate::server::http::consumers::Held;
use crate::server::http::watched::Watched;
use crate::server::stats::Stats;

const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that has sent nothing for so long, not even the answer to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(75);
/// With so many bytes unsent nothing more is read, until there are few again.
const UNSENT_MOST: usize = 1 << 20;
const UNSENT_FEW: usize = 256 << 10;
/// Bytes that are read at once, on the stack: a connection that waits holds none.
const READ: usize = 32 << 10;
/// What a message may have besides a value.
const BESIDES: usize = MAX_KEY_LEN + 64;

/// Serves messages until the connection ends.
pub(in super::super) async fn run(
    stream: &mut Watched,
    first: Bytes,
    handler: Upgrade,
    held: Held,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let now = Instant::now();
    let mut socket = Socket {
        stream,
        handler,
        held,
        stats: &shared.stats,
        frames: Frames::new(shared.config.limits.max_value.saturating_add(BESIDES)),
        out: Out::default(),
        work: None,
        is_behind: false,
        has_more: false,
        is_closing: false,
        has_to_flush: false,
        heard: now,
        ping: now + PING_EVERY,
        tick: None,
        rest: None,
        stall: shared.config.limits.stall_timeout,
        timer: Box::pin(tokio::time::sleep_until(now + PING_EVERY)),
    };
    socket.take(&mut first.to_vec());
    drop(first);
    let mut ending = pin!(shared.shutdown.begun());
    let mut has_said_so = false;
    std::future::poll_fn(|cx| {
        if !has_said_so && ending.as_mut().poll(cx).is_ready() {
            has_said_so = true;
            socket.close(CloseCode::GoingAway);
        }
        socket.poll(cx)
    })
    .await
}

struct Socket<'a> {
    stream: &'a mut Watched,
    handler: Upgrade,
    /// Counts what is held of both directions.
    held: Held,
    stats: &'a Stats,
    frames: Frames,
    out: Out,
    /// What has to be done before the next message.
    work: Option<Work>,
    /// There is too much to send.
    is_behind: bool,
    /// What has come was not all looked at.
    has_more: bool,
    is_closing: bool,
    /// Something was written since it was last flushed.
    has_to_flush: bool,
    heard: Instant,
    ping: Instant,
    tick: Option<Instant>,
    /// Since when the rest of a message is waited for, and the bytes of it that were there by then.
    rest: Option<(Instant, usize)>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Socket<'_> {
    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let has_sent_all = self.poll_send(cx)?.is_ready();
            if self.is_closing {
                return match has_sent_all {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                };
            }
            if self.poll_timer(cx).is_ready() {
                continue;
            }
            if let Some(work) = &mut self.work {
                self.rest = None;
                let write = ready!(work.as_mut().poll(cx));
                write(&mut self.out);
                self.work = None;
                continue;
            }
            if self.is_behind {
                self.rest = None;
                self.held.set(self.frames.held() + self.out.unsent());
                return Poll::Pending;
            }
            if self.has_more {
                self.take(&mut []);
                continue;
            }
            self.held.set(self.frames.held() + self.out.unsent());
            if ready!(self.poll_receive(cx))?.is_break() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, io::Error> {
        let mut polled = Poll::Ready(());
        while self.out.unsent() > 0 {
            match Pin::new(&mut *self.stream).poll_write(cx, self.out.next()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.out.advance(written?);
                    self.has_to_flush = true;
                }
                Poll::Pending => {
                    polled = Poll::Pending;
                    break;
                }
            }
        }
        if polled.is_ready() && self.has_to_flush {
            match Pin::new(&mut *self.stream).poll_flush(cx)? {
                Poll::Ready(()) => self.has_to_flush = false,
                Poll::Pending => polled = Poll::Pending,
            }
        }
        let limit = if self.is_behind {
            UNSENT_FEW
        } else {
            UNSENT_MOST
        };
        self.is_behind = self.out.unsent() > limit;
        Ok(polled)
    }

    /// Reads once and answers; breaks at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ControlFlow<()>>> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buffer))?;
        let arrived = buffer.filled_mut();
        if arrived.is_empty() {
            return Poll::Ready(Ok(ControlFlow::Break(())));
        }
        self.heard = Instant::now();
        self.take(arrived);
        Poll::Ready(Ok(ControlFlow::Continue(())))
    }

    /// Answers what has come, as far as it goes.
    fn take(&mut self, arrived: &mut [u8]) {
        let Socket {
            frames,
            handler,
            out,
            work,
            ..
        } = self;
        let started = std::time::Instant::now();
        let mut messages = 0;
        let mut close = None;
        let fed = frames.feed(arrived, &mut |event| match event {
            Event::Message(kind, payload) => {
                messages += 1;
                match handler.message(kind, payload, out) {
                    Next::Go if out.unsent() > UNSENT_MOST => Flow::Stop,
                    Next::Go => Flow::Go,
                    Next::Wait(todo) => {
                        *work = Some(todo);
                        Flow::Stop
                    }
                    Next::Close(code) => {
                        close = Some(code);
                        Flow::Stop
                    }
                }
            }
            Event::Ping(payload) => {
                out.pong(payload);
                Flow::Go
            }
            Event::Pong => Flow::Go,
            Event::Close => {
                close = Some(CloseCode::Normal);
                Flow::Stop
            }
        });
        self.has_more = fed == Ok(Flow::Stop);
        if let Some(code) = close.or(fed.err()) {
            self.close(code);
        }
        if messages > 0 {
            Stats::add(&self.stats.commands, messages);
            let each = started.elapsed().as_nanos() as u64 / messages;
            self.stats.took(messages, each);
        }
    }

    fn close(&mut self, code: CloseCode) {
        if !self.is_closing {
            self.is_closing = true;
            self.work = None;
            self.out.close(code);
        }
    }

    /// By when a message that has begun has to end, or more of it to come; None: none has begun.
    fn too_late(&mut self) -> Option<Instant> {
        if !self.frames.is_midway() || self.has_more {
            self.rest = None;
            return None;
        }
        let begun = self.frames.begun();
        let (since, from) = *self.rest.get_or_insert_with(|| (Instant::now(), begun));
        let came = begun.saturating_sub(from) as u64;
        Some(since + self.stall + Duration::from_secs(came / SLOWEST_BYTES_PER_SECOND))
    }

    /// Pings, and ticks of the handler; pending where nothing is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let interval = self.handler.interval();
        self.tick = match (interval, self.tick) {
            (Some(interval), None) => Some(Instant::now() + interval),
            (None, _) => None,
            (_, tick) => tick,
        };
        let too_late = self.too_late();
        let next = [self.tick, too_late].into_iter().flatten();
        let next = next.fold(self.ping, Instant::min);
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        ready!(self.timer.as_mut().poll(cx));
        let now = Instant::now();
        if too_late.is_some_and(|late| now >= late) {
            self.close(CloseCode::TooSlow);
        }
        if now >= self.ping {
            self.ping = now + PING_EVERY;
            match now.duration_since(self.heard) >= SILENCE {
                true => self.close(CloseCode::GoingAway),
                false => self.out.ping(),
            }
        }
        if self.tick.is_some_and(|tick| now >= tick) {
            self.tick = interval.map(|interval| now + interval);
            // A client that does not keep up misses some.
            if self.work.is_none()
                && !self.is_behind
                && let Next::Wait(work) = self.handler.tick()
            {
                self.work = Some(work);
            }
        }
        Poll::Ready(())
    }
}
