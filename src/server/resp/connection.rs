//! One connection: bytes in, commands, bytes out.

use std::cell::Cell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::AcquireError;
use tokio::time::Sleep;

use super::dispatch::{Outcome, dispatch};
use super::parser::{Allowed, Parsed, Parser, keys_ahead};
use super::reply::Replies;
use super::session::{Place, Session};
use crate::server::stats::Stats;
use crate::server::stream::Stream;
use crate::server::{ConnectionGuard, Shared};

/// Bytes that are read at once.
const READ: usize = 64 << 10;
/// From so many unsent bytes on a connection's requests wait, until there are no more than the second.
const STOP_AT: usize = 1 << 20;
const GO_ON_AT: usize = 256 << 10;
/// Commands whose keys are looked for together.
const AHEAD: usize = 16;
/// Reads after which others have their turn.
const TURNS: usize = 8;

thread_local! {
    /// Buffers that connections of this thread use in turn.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static REPLY_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A place that is waited for.
type ComingPlace = dyn Future<Output = Result<Place, AcquireError>> + Send;

struct Connection {
    stream: Stream,
    shared: Arc<Shared>,
    session: Session,
    parser: Parser,
    /// Bytes that were read and not used yet.
    input: Vec<u8>,
    out: Replies,
    /// Bytes of the replies that were sent already, and of the first large value.
    sent: usize,
    sent_of_block: usize,
    /// The input may hold a whole command.
    may_parse: bool,
    /// The next command waits for the end of a pause.
    is_paused: bool,
    /// Requests wait until replies were sent.
    is_stopped: bool,
    wakes: Option<Pin<Box<Sleep>>>,
    /// The next command waits for a place.
    place: Option<Pin<Box<ComingPlace>>>,
    /// What it has said of its buffers.
    accounted: usize,
    is_stranger: bool,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: Stream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    guard: ConnectionGuard,
) {
    let fd = stream.as_raw_fd();
    let local = stream.local_addr().unwrap_or(peer);
    let authenticated = !shared.secrets.are_set();
    if !authenticated
        && !shared
            .strangers
            .enter(shared.config.limits.max_unauthenticated)
    {
        stream.try_say(b"-ERR max number of clients reached\r\n");
        return;
    }
    let client =
        shared
            .resp
            .clients
            .add(peer, local, fd, shared.started.elapsed().as_millis() as u64);
    let mut connection = Connection {
        stream,
        session: Session::new(client, authenticated),
        shared: Arc::clone(&shared),
        parser: Parser::default(),
        input: Vec::new(),
        out: Replies::default(),
        sent: 0,
        sent_of_block: 0,
        may_parse: false,
        is_paused: false,
        is_stopped: false,
        wakes: None,
        place: None,
        accounted: 0,
        is_stranger: !authenticated,
    };
    // Goes before the stream does.
    let _noted = shared.descriptors.note(fd);
    std::future::poll_fn(|cx| connection.poll(cx)).await;
    connection.stream.say_goodbye().await;
    drop(guard);
}

impl Drop for Connection {
    fn drop(&mut self) {
        let resp = &self.shared.resp;
        let client = &self.session.client;
        resp.clients.remove(client);
        self.session.leave(&self.shared);
        // Nobody knows it any more, so nothing comes after this.
        self.session
            .client
            .take_all_mail(&mut Vec::new(), &resp.buffers);
        resp.buffers.change(self.accounted, 0);
        if self.is_stranger {
            self.shared.strangers.leave();
        }
    }
}

impl Connection {
    /// Goes on until there is nothing to do; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.client.register(cx.waker());
        let ended = self.go_on(cx);
        self.note_waiting();
        self.account();
        match ended {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        for _ in 0..TURNS {
            if self.session.client.is_killed() {
                return Poll::Ready(Ok(()));
            }
            if self.session.client.has_mail() && self.unsent() <= STOP_AT {
                self.take_buffer();
                self.session
                    .client
                    .take_mail(&mut self.out.bytes, &self.shared.resp.buffers);
            }
            let flushed = self.flush(cx)?;
            let ends =
                self.session.ends || self.session.client.ends_when_sent.load(Ordering::Relaxed);
            if ends || self.shared.shutdown.has_begun() {
                return flushed.map(Ok);
            }
            self.is_stopped = self.unsent() > if self.is_stopped { GO_ON_AT } else { STOP_AT };
            if self.is_stopped {
                return Poll::Pending;
            }
            let waits = self.is_paused && self.wait_for_pause(cx).is_pending()
                || self.wait_for_place(cx).is_pending();
            if waits {
                if self.session.client.has_mail() {
                    continue;
                }
                return Poll::Pending;
            }
            if self.may_parse && !self.input.is_empty() {
                let input = std::mem::take(&mut self.input);
                let used = self.work(&input);
                self.keep(input, used);
            } else {
                match self.read(cx)? {
                    Poll::Ready(0) => return Poll::Ready(Ok(())),
                    // More messages wait than were taken at once.
                    Poll::Pending if self.session.client.has_mail() => {}
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(_) => {}
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, and does what was read; 0 at the end.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.input.is_empty() {
            let mut bytes = READ_BUFFER.take();
            bytes.resize(READ, 0);
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => buffer.filled().len(),
                other => {
                    READ_BUFFER.set(bytes);
                    return other.map_ok(|()| 0);
                }
            };
            let used = self.work(&bytes[..read]);
            if used < read && !self.session.ends {
                self.input = bytes[used..read].to_vec();
            }
            READ_BUFFER.set(bytes);
            self.note_read(read);
            return Poll::Ready(Ok(read));
        }
        // What is announced is not believed: room grows with what has come.
        let have = self.input.len();
        let wanted = self.parser.wanted(have).clamp(READ / 4, have.max(READ));
        let mut input = std::mem::take(&mut self.input);
        input.reserve(wanted);
        let mut buffer = ReadBuf::uninit(input.spare_capacity_mut());
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        // SAFETY: so many bytes after the vector's have been written.
        unsafe { input.set_len(have + read) };
        if !matches!(polled, Poll::Ready(Ok(()))) {
            self.input = input;
            return polled.map_ok(|()| 0);
        }
        let used = self.work(&input);
        self.keep(input, used);
        self.note_read(read);
        Poll::Ready(Ok(read))
    }

    /// Bytes have come: what they are part of has so long again to become whole.
    fn note_read(&self, read: usize) {
        Stats::add(&self.shared.stats.bytes_in, read as u64);
        if self.out.is_empty() {
            let stalled = &self.session.client.stalled_since;
            stalled.store(0, Ordering::Relaxed);
        }
    }

    /// Begins to count how long the client lets a command wait for its rest; not while the command waits for the server.
    fn note_waiting(&self) {
        if !self.out.is_empty() {
            return;
        }
        let stalled = &self.session.client.stalled_since;
        if self.input.is_empty() || self.may_parse {
            stalled.store(0, Ordering::Relaxed);
        } else if stalled.load(Ordering::Relaxed) == 0 {
            stalled.store(self.now().max(1), Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        self.shared.started.elapsed().as_millis() as u64
    }

    /// Keeps what was not used, for when more has come.
    fn keep(&mut self, mut input: Vec<u8>, used: usize) {
        if used == input.len() || self.session.ends {
            return;
        }
        input.drain(..used);
        self.input = input;
    }

    /// Runs the commands at the beginning of `input`; returns how many bytes they were.
    fn work(&mut self, input: &[u8]) -> usize {
        self.take_buffer();
        self.out.resp3 = self.session.resp3;
        self.may_parse = false;
        self.is_paused = false;
        let start = Instant::now();
        let (mut commands, mut group, mut group_start) = (0_u64, (u16::MAX, 0_u64), start);
        let (mut used, mut ahead) = (0, 0);
        while used < input.len() && !self.session.ends {
            if self.out.len() > STOP_AT {
                self.may_parse = true;
                break;
            }
            let have = &input[used..];
            if used >= ahead {
                ahead = used + self.look_ahead(have);
            }
            let allowed = Allowed {
                authenticated: self.session.authenticated,
                bulk: self.shared.config.limits.max_value,
                line: self.shared.config.limits.max_request_line,
            };
            match self.parser.parse(have, allowed) {
                Parsed::Command => {
                    let args = self.parser.args(have);
                    if is_of_http(args.at(0)) {
                        self.session.ends = true;
                        break;
                    }
                    let outcome = dispatch(&self.shared, &mut self.session, args, &mut self.out);
                    if outcome != Outcome::Done {
                        self.parser.next();
                        self.is_paused = outcome == Outcome::Paused;
                        if outcome == Outcome::Waits {
                            let places = Arc::clone(&self.shared.resp.places);
                            self.place = Some(Box::pin(places.acquire_owned()));
                        }
                        self.may_parse = true;
                        break;
                    }
                    self.out.resp3 = self.session.resp3;
                    commands += 1;
                    let index = self.session.client.last_command.load(Ordering::Relaxed);
                    if index != group.0 {
                        if group.1 > 0 {
                            let now = Instant::now();
                            self.shared.resp.counts.ran(
                                group.0,
                                group.1,
                                (now - group_start).as_nanos() as u64,
                            );
                            group_start = now;
                        }
                        group = (index, 0);
                    }
                    group.1 += 1;
                }
                Parsed::Nothing => {}
                Parsed::Partial => break,
                Parsed::Foreign => self.session.ends = true,
                Parsed::Broken(error) => {
                    self.out.error(&[b"ERR ", &error[..]].concat());
                    self.session.ends = true;
                }
            }
            used += self.parser.next();
        }
        if commands > 0 {
            self.finish(commands, group, group_start, start);
        }
        used
    }

    /// Asks for the memory that the next commands will read, where there are several; returns how many bytes they are.
    fn look_ahead(&self, bytes: &[u8]) -> usize {
        if !self.session.authenticated || self.parser.has_begun() {
            return bytes.len();
        }
        let mut keys = [&[][..]; AHEAD];
        let (found, len) = keys_ahead(bytes, &mut keys);
        if found > 1 {
            let databases = &self.shared.databases;
            databases.prefetch(self.session.db, &keys[..found]);
        }
        len.max(1)
    }

    fn finish(&mut self, commands: u64, group: (u16, u64), group_start: Instant, start: Instant) {
        let now = Instant::now();
        let stats = &self.shared.stats;
        self.shared
            .resp
            .counts
            .ran(group.0, group.1, (now - group_start).as_nanos() as u64);
        Stats::add(&stats.commands, commands);
        stats.took(commands, (now - start).as_nanos() as u64 / commands);
        let session = &mut self.session;
        Stats::add(&stats.hits, std::mem::take(&mut session.hits));
        Stats::add(&stats.misses, std::mem::take(&mut session.misses));
        Stats::add(&stats.errors, std::mem::take(&mut session.errors));
        let active = (now - self.shared.started).as_millis() as u64;
        session.client.last_active.store(active, Ordering::Relaxed);
        if self.is_stranger && session.authenticated {
            self.is_stranger = false;
            self.shared.strangers.leave();
        }
    }

    fn unsent(&self) -> usize {
        self.out.len() - self.sent - self.sent_of_block
    }

    /// Takes the thread's buffer for replies, unless there is one already.
    fn take_buffer(&mut self) {
        if self.out.bytes.capacity() == 0 {
            self.out.bytes = REPLY_BUFFER.take();
        }
    }

    /// Sends what it can; ready when nothing is left.
    fn flush(&mut self, cx: &mut Context<'_>) -> std::io::Result<Poll<()>> {
        let before = self.unsent();
        let result = self.send(cx);
        let after = self.unsent();
        Stats::add(&self.shared.stats.bytes_out, (before - after) as u64);
        if after == 0 {
            self.out.clear();
            self.sent = 0;
            let bytes = std::mem::take(&mut self.out.bytes);
            if bytes.capacity() > 0 && bytes.capacity() <= STOP_AT {
                REPLY_BUFFER.set(bytes);
            }
        } else if self.sent > STOP_AT {
            self.out.bytes.drain(..self.sent);
            for (at, _) in &mut self.out.blocks {
                *at -= self.sent;
            }
            self.sent = 0;
        }
        let stalled = &self.session.client.stalled_since;
        if after == 0 && before > 0 {
            stalled.store(0, Ordering::Relaxed);
        } else if after < before || (after > 0 && stalled.load(Ordering::Relaxed) == 0) {
            stalled.store(self.now().max(1), Ordering::Relaxed);
        }
        result
    }

    fn send(&mut self, cx: &mut Context<'_>) -> std::io::Result<Poll<()>> {
        const SLICES: usize = 16;
        while self.unsent() > 0 {
            let polled = if self.out.blocks.is_empty() {
                Pin::new(&mut self.stream).poll_write(cx, &self.out.bytes[self.sent..])
            } else {
                let mut slices = Vec::with_capacity(2 * SLICES + 1);
                let (mut from, mut skip) = (self.sent, self.sent_of_block);
                for (at, block) in self.out.blocks.iter().take(SLICES) {
                    slices.push(IoSlice::new(&self.out.bytes[from..*at]));
                    slices.push(IoSlice::new(&block.value()[skip..]));
                    (from, skip) = (*at, 0);
                }
                if self.out.blocks.len() <= SLICES {
                    slices.push(IoSlice::new(&self.out.bytes[from..]));
                }
                Pin::new(&mut self.stream).poll_write_vectored(cx, &slices)
            };
            match polled {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.advance(written?),
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => flushed.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// So many bytes more were sent.
    fn advance(&mut self, mut written: usize) {
        while let Some((at, block)) = self.out.blocks.front() {
            let before = at - self.sent;
            if written < before {
                break;
            }
            let of_block = block.value().len() - self.sent_of_block;
            if written < before + of_block {
                self.sent = *at;
                self.sent_of_block += written - before;
                return;
            }
            written -= before + of_block;
            self.sent = *at;
            self.sent_of_block = 0;
            self.out.pop_block();
        }
        self.sent += written;
    }

    /// Ready when clients are no longer paused.
    fn wait_for_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.shared.resp.pause.until() else {
            self.wakes = None;
            return Poll::Ready(());
        };
        let wakes = self
            .wakes
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        wakes.as_mut().reset(until.into());
        wakes.as_mut().poll(cx)
    }

    /// Ready when the next command has a place, or needs none.
    fn wait_for_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(place) = &mut self.place else {
            return Poll::Ready(());
        };
        let place = ready!(place.as_mut().poll(cx));
        self.place = None;
        // They are never closed.
        self.session.place = place.ok();
        Poll::Ready(())
    }

    /// Says how much memory the buffers take; where it is too much for all, the largest goes.
    fn account(&mut self) {
        let queue = self
            .session
            .queue
            .as_ref()
            .map_or(0, |queue| queue.memory());
        let now = self.input.capacity() + self.out.bytes.capacity() + self.parser.memory() + queue;
        let client = &self.session.client;
        client.unparsed.store(self.input.len(), Ordering::Relaxed);
        client.unsent.store(self.unsent(), Ordering::Relaxed);
        if now == self.accounted {
            return;
        }
        let resp = &self.shared.resp;
        resp.buffers.change(self.accounted, now);
        self.accounted = now;
        client.buffered.store(now, Ordering::Relaxed);
        let most = self.shared.config.limits.max_buffers;
        if resp.buffers.used() > most {
            resp.clients.kill_largest(&resp.buffers, most);
        }
    }
}

/// Whether a command is what a browser would send.
fn is_of_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}
