//! Connections as others see them: who they are, what waits for them, and how to end them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

/// Messages that wait for a reader: beyond this it is closed.
const MOST_OUTBOX: usize = 32 << 20;
/// Messages that wait for a reader too long: beyond this, for as long as a reader may stall, it is closed.
pub(crate) const MUCH_OUTBOX: usize = 8 << 20;

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
    outbox: Mutex<Vec<u8>>,
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
        let mut outbox = self.outbox.lock();
        if outbox.len() + message.len() > MOST_OUTBOX {
            drop(outbox);
            return self.kill();
        }
        outbox.extend_from_slice(message);
        buffers.change(0, message.len());
        let is_first = !self.has_mail.swap(true, Ordering::AcqRel);
        drop(outbox);
        if is_first {
            self.wake();
        }
    }

    /// Appends what waits to `to`; returns how much it was.
    pub(crate) fn take_mail(&self, to: &mut Vec<u8>, buffers: &Buffers) -> usize {
        if !self.has_mail() {
            return 0;
        }
        let mut outbox = self.outbox.lock();
        self.has_mail.store(false, Ordering::Release);
        let mail = std::mem::take(&mut *outbox);
        drop(outbox);
        buffers.change(mail.len(), 0);
        if to.is_empty() && to.capacity() < mail.len() {
            let len = mail.len();
            *to = mail;
            return len;
        }
        to.extend_from_slice(&mail);
        mail.len()
    }

    /// Bytes that wait for it or that it has sent in part.
    pub(crate) fn memory(&self) -> usize {
        self.buffered.load(Ordering::Relaxed) + self.outbox.lock().len()
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

    /// Ends the one that holds the most memory.
    pub(crate) fn kill_largest(&self) {
        let largest = self
            .list()
            .into_iter()
            .filter(|client| !client.is_killed())
            .max_by_key(|client| client.memory());
        if let Some(client) = largest {
            tracing::warn!(
                client = client.id,
                bytes = client.memory(),
                "buffers are full: closing the largest"
            );
            client.kill();
        }
    }

    /// Wakes all, to see that the server ends or that a pause is over.
    pub(crate) fn wake_all(&self) {
        self.list().iter().for_each(|client| client.wake());
    }
}
