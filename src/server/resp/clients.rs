//! Connections as others see them: who they are, what waits for them, and how to end them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use crate::server::Limits;

/// Messages that wait for a reader: beyond this it is closed.
const MOST_OUTBOX: usize = 32 << 20;
/// As above, for as long as a reader may stall.
const MUCH_OUTBOX: usize = 8 << 20;
/// Messages are kept together up to so many bytes, and sent together.
const CHUNK: usize = 256 << 10;

/// As CONFIG GET tells of them.
pub(crate) fn output_limits(limits: &Limits) -> String {
    let seconds = limits.stall_timeout.as_secs();
    format!("normal 0 0 0 slave 0 0 0 pubsub {MOST_OUTBOX} {MUCH_OUTBOX} {seconds}")
}

/// Messages that wait for a client.
#[derive(Default)]
struct Outbox {
    /// None is empty.
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Since when there is much, in milliseconds after the server's start.
    much_since: Option<u64>,
}

/// State of a client, as bits.
#[derive(Clone, Copy)]
pub(crate) struct State(pub(crate) u32);

impl State {
    pub(crate) const MULTI: State = State(1);
    pub(crate) const MONITOR: State = State(1 << 1);
    pub(crate) const PUBSUB: State = State(1 << 2);
    pub(crate) const RESP3: State = State(1 << 3);
    pub(crate) const NO_EVICT: State = State(1 << 4);
    pub(crate) const NO_TOUCH: State = State(1 << 5);
    pub(crate) const AUTHENTICATED: State = State(1 << 6);
}

/// Names that a client gave itself.
#[derive(Clone, Default)]
pub(crate) struct Names {
    pub(crate) name: Vec<u8>,
}

/// One connection.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) fd: i32,
    pub(crate) created: Instant,
    pub(crate) names: Mutex<Names>,
    state: AtomicU32,
    pub(crate) db: AtomicU8,
    pub(crate) channels: AtomicU32,
    pub(crate) patterns: AtomicU32,
    pub(crate) shard_channels: AtomicU32,
    /// Commands queued by MULTI; -1 without.
    pub(crate) queued: AtomicU32,
    pub(crate) watched: AtomicU32,
    /// Its place in the table of commands.
    pub(crate) last_command: AtomicU16,
    /// Milliseconds after the server's start.
    pub(crate) last_active: AtomicU64,
    /// Since when it has taken nothing of what waits for it, or sent nothing of what it began; 0: it has not.
    pub(crate) stalled_since: AtomicU64,
    /// Bytes of its buffers, without the outbox.
    pub(crate) buffered: AtomicUsize,
    pub(crate) unparsed: AtomicUsize,
    pub(crate) unsent: AtomicUsize,
    outbox: Mutex<Outbox>,
    has_mail: AtomicBool,
    killed: AtomicBool,
    /// It ends once what waits for it has been sent.
    pub(crate) ends_when_sent: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Client {
    pub(crate) fn is(&self, state: State) -> bool {
        self.state.load(Ordering::Relaxed) & state.0 != 0
    }

    pub(crate) fn set(&self, state: State, on: bool) {
        if on {
            self.state.fetch_or(state.0, Ordering::Relaxed);
        } else {
            self.state.fetch_and(!state.0, Ordering::Relaxed);
        }
    }

    /// Who to wake for news; one task a client.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut known = self.waker.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.wake();
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Adds a message; a client that lets too many wait is closed.
    pub(crate) fn post(&self, message: &[u8], buffers: &Buffers) {
        if self.is_killed() {
            return;
        }
        let mut outbox = self.outbox.lock();
        if outbox.bytes + message.len() > MOST_OUTBOX {
            drop(outbox);
            return self.kill();
        }
        match outbox.chunks.back_mut() {
            Some(last) if last.len() + message.len() <= CHUNK => last.extend_from_slice(message),
            _ => outbox.chunks.push_back(message.to_vec()),
        }
        outbox.bytes += message.len();
        buffers.change(0, message.len());
        let is_first = !self.has_mail.swap(true, Ordering::AcqRel);
        drop(outbox);
        if is_first {
            self.wake();
        }
    }

    /// Appends the messages that wait longest to `to`: a chunk of them, or a large one.
    pub(crate) fn take_mail(&self, to: &mut Vec<u8>, buffers: &Buffers) {
        let mut outbox = self.outbox.lock();
        let Some(mail) = outbox.chunks.pop_front() else {
            return;
        };
        outbox.bytes -= mail.len();
        self.has_mail
            .store(!outbox.chunks.is_empty(), Ordering::Release);
        drop(outbox);
        buffers.change(mail.len(), 0);
        if to.is_empty() && to.capacity() < mail.len() {
            *to = mail;
        } else {
            to.extend_from_slice(&mail);
        }
    }

    /// Appends all messages that wait to `to`.
    pub(crate) fn take_all_mail(&self, to: &mut Vec<u8>, buffers: &Buffers) {
        while self.has_mail() {
            self.take_mail(to, buffers);
        }
    }

    /// Whether so many messages have waited for `most` milliseconds that the client has to go.
    pub(crate) fn is_behind(&self, now: u64, most: u64) -> bool {
        if !self.has_mail() {
            return false;
        }
        let mut outbox = self.outbox.lock();
        if outbox.bytes <= MUCH_OUTBOX {
            outbox.much_since = None;
            return false;
        }
        now - *outbox.much_since.get_or_insert(now) > most
    }

    /// Bytes that wait for it or that it has sent in part.
    pub(crate) fn memory(&self) -> usize {
        self.buffered.load(Ordering::Relaxed) + self.outbox.lock().bytes
    }
}

/// Bytes of all buffers of all doors.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    used: AtomicUsize,
}

impl Buffers {
    /// `before` bytes are now `after`.
    pub(crate) fn change(&self, before: usize, after: usize) {
        match after.cmp(&before) {
            std::cmp::Ordering::Greater => self.used.fetch_add(after - before, Ordering::Relaxed),
            std::cmp::Ordering::Less => self.used.fetch_sub(before - after, Ordering::Relaxed),
            std::cmp::Ordering::Equal => 0,
        };
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// All clients, by id.
#[derive(Default)]
pub(crate) struct Clients {
    next_id: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    pub(crate) fn add(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
        fd: i32,
        now: u64,
    ) -> Arc<Client> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            peer,
            local,
            fd,
            created: Instant::now(),
            names: Mutex::default(),
            state: AtomicU32::new(0),
            db: AtomicU8::new(0),
            channels: AtomicU32::new(0),
            patterns: AtomicU32::new(0),
            shard_channels: AtomicU32::new(0),
            queued: AtomicU32::new(u32::MAX),
            watched: AtomicU32::new(0),
            last_command: AtomicU16::new(u16::MAX),
            last_active: AtomicU64::new(now),
            stalled_since: AtomicU64::new(0),
            buffered: AtomicUsize::new(0),
            unparsed: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            outbox: Mutex::default(),
            has_mail: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            ends_when_sent: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        self.all.lock().insert(id, Arc::clone(&client));
        client
    }

    pub(crate) fn remove(&self, client: &Client) {
        self.all.lock().remove(&client.id);
    }

    /// All of this moment, by id.
    pub(crate) fn list(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }

    /// Ends the one that holds the most memory, unless those that are about to leave hold what is beyond `most`.
    pub(crate) fn kill_largest(&self, buffers: &Buffers, most: usize) {
        let (leaving, others): (Vec<_>, Vec<_>) = self
            .list()
            .into_iter()
            .partition(|client| client.is_killed());
        let leaving = leaving.iter().map(|client| client.memory()).sum();
        if buffers.used().saturating_sub(leaving) <= most {
            return;
        }
        if let Some(largest) = others.iter().max_by_key(|client| client.memory()) {
            tracing::warn!(
                client = largest.id,
                bytes = largest.memory(),
                "buffers are full: closing the largest"
            );
            largest.kill();
        }
    }

    /// Wakes all, to see that the server ends or that a pause is over.
    pub(crate) fn wake_all(&self) {
        self.list().iter().for_each(|client| client.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(all: &Clients, count: usize) -> Vec<Arc<Client>> {
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        (0..count).map(|_| all.add(here, here, 0, 0)).collect()
    }

    #[test]
    fn messages_are_taken_in_order_and_counted_once() {
        let (all, buffers) = (Clients::default(), Buffers::default());
        let client = &clients(&all, 1)[0];
        let messages: Vec<Vec<u8>> = (0..100).map(|i| vec![i; 10_000]).collect();
        messages
            .iter()
            .for_each(|message| client.post(message, &buffers));
        assert_eq!(buffers.used(), 1_000_000);
        let mut taken = Vec::new();
        client.take_mail(&mut taken, &buffers);
        assert!(taken.len() <= CHUNK && buffers.used() == 1_000_000 - taken.len());
        client.take_all_mail(&mut taken, &buffers);
        assert_eq!((taken, buffers.used()), (messages.concat(), 0));
        assert!(!client.has_mail());
    }

    #[test]
    fn who_lets_messages_wait_is_closed() {
        let (all, buffers) = (Clients::default(), Buffers::default());
        let both = clients(&all, 2);
        let message = vec![0; MUCH_OUTBOX];
        for client in &both {
            client.post(&message, &buffers);
            assert!(!client.is_behind(1, 10));
            client.post(b"more", &buffers);
            assert!(!client.is_behind(5, 10) && !client.is_behind(15, 10));
        }
        assert!(both[0].is_behind(16, 10));
        both[1].take_mail(&mut Vec::new(), &buffers);
        assert!(!both[1].is_behind(16, 10) && !both[1].is_killed());
        for _ in 0..MOST_OUTBOX / MUCH_OUTBOX {
            both[1].post(&message, &buffers);
        }
        assert!(both[1].is_killed());
    }

    #[test]
    fn one_client_goes_for_what_is_too_much() {
        let (all, buffers) = (Clients::default(), Buffers::default());
        let three = clients(&all, 3);
        for (client, bytes) in three.iter().zip([30, 50, 20]) {
            client.post(&vec![0; bytes], &buffers);
        }
        let killed = || [0, 1, 2].map(|i: usize| three[i].is_killed());
        all.kill_largest(&buffers, 100);
        assert_eq!(killed(), [false; 3]);
        all.kill_largest(&buffers, 99);
        all.kill_largest(&buffers, 99);
        assert_eq!(killed(), [false, true, false]);
        all.kill_largest(&buffers, 49);
        assert_eq!(killed(), [true, true, false]);
    }
}
