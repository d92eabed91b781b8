//! The Redis protocol, versions 2 and 3.
//!
//! A connection is one task, woken for bytes, for messages and for news. Requests are parsed where they were read, replies
//! go into one buffer of the thread, and a batch of either is one call of the system; a connection that waits holds neither.

mod call;
mod clients;
mod command;
mod commands;
mod connection;
mod counts;
mod crc64;
mod dispatch;
mod expiry;
mod failure;
mod keyspace;
mod lookup;
mod lzf;
mod monitors;
mod notifications;
mod number;
mod parser;
#[cfg(fuzzing)]
mod probe;
mod pubsub;
mod rdb;
mod reply;
mod room;
mod session;
mod settings;
mod slowlog;
mod table;
mod transactions;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::{Config, Shared};
use clients::{Buffers, Clients, State};
use counts::Counts;
use monitors::Monitors;
use notifications::Notifications;
use pubsub::PubSub;
use settings::Settings;
use slowlog::{Latency, SlowLog};

pub(crate) use connection::serve;
#[cfg(fuzzing)]
pub use probe::{RespCommands, RespEnd, RespProbe, resp_commands, resp_keys_ahead};
pub(crate) use table::document;

/// What the connections of the Redis protocol share.
pub(crate) struct Resp {
    pub(crate) clients: Clients,
    pub(crate) buffers: Buffers,
    pub(crate) pubsub: PubSub,
    pub(crate) monitors: Monitors,
    pub(crate) notifications: Notifications,
    pub(crate) settings: Settings,
    pub(crate) slowlog: SlowLog,
    pub(crate) latency: Latency,
    pub(crate) counts: Counts,
    pub(crate) pause: Pause,
    /// Seconds since 1970 of the last save.
    pub(crate) last_save: AtomicU64,
    pub(crate) scripts: commands::scripts::Loaded,
    pub(crate) saving: AtomicBool,
    /// For commands that take long.
    pub(crate) places: Arc<Semaphore>,
    disabled: Vec<bool>,
    run_id: String,
}

impl Resp {
    pub(crate) fn new(config: &Config) -> Resp {
        let is_disabled = |row: &lookup::Row| {
            config.disabled_commands.iter().any(|name| {
                let name = name.replace(' ', "|");
                name.eq_ignore_ascii_case(row.command.name)
            })
        };
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        Resp {
            clients: Clients::default(),
            buffers: Buffers::default(),
            pubsub: PubSub::default(),
            monitors: Monitors::default(),
            notifications: Notifications::default(),
            settings: Settings::new(config),
            slowlog: SlowLog::default(),
            latency: Latency::default(),
            counts: Counts::new(lookup::rows().len()),
            pause: Pause::default(),
            last_save: AtomicU64::new(0),
            scripts: Default::default(),
            saving: AtomicBool::new(false),
            places: Arc::new(Semaphore::new((2 * config.threads()).max(4))),
            disabled: lookup::rows().iter().map(is_disabled).collect(),
            run_id: format!("{:016x}{:016x}{:08x}", random(), random(), random() as u32),
        }
    }

    /// Whether a command, by its place among all rows, is to be unknown.
    pub(crate) fn is_disabled(&self, row: u16) -> bool {
        self.disabled
            .get(usize::from(row))
            .copied()
            .unwrap_or_default()
    }

    /// 40 hexadecimal digits, others at each start.
    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }
}

/// CLIENT PAUSE.
#[derive(Default)]
pub(crate) struct Pause {
    on: AtomicBool,
    /// Until when, and whether reads wait, too.
    until: Mutex<Option<(Instant, bool)>>,
}

impl Pause {
    pub(crate) fn begin(&self, until: Instant, all: bool) {
        let mut known = self.until.lock();
        *known = match *known {
            Some((later, was_all)) if later > Instant::now() => {
                Some((later.max(until), was_all || all))
            }
            _ => Some((until, all)),
        };
        self.on.store(true, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        *self.until.lock() = None;
        self.on.store(false, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn is_still_on(&self) -> bool {
        let on = self.until().is_some();
        if !on {
            self.end();
        }
        on
    }

    fn stops_all(&self) -> bool {
        self.until.lock().is_some_and(|(_, all)| all)
    }

    /// Until when clients wait, where they do.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
            .lock()
            .map(|(until, _)| until)
            .filter(|until| *until > Instant::now())
    }
}

/// How often connections are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// Starts what looks after connections now and then, and what publishes events that nobody's command has caused.
pub(crate) fn spawn_housekeeping(runtime: &Runtime, shared: &Arc<Shared>) {
    let news = Arc::new(tokio::sync::Notify::new());
    let waker = Arc::clone(&news);
    shared.databases.set_waker(move || waker.notify_one());
    let publisher = Arc::clone(shared);
    runtime.spawn(async move {
        loop {
            news.notified().await;
            publisher.resp.notifications.publish(&publisher);
        }
    });
    let shared = Arc::clone(shared);
    runtime.spawn(async move {
        while !shared.shutdown.has_begun() {
            tokio::time::sleep(HOUSEKEEPING).await;
            look_after(&shared);
        }
    });
}

/// Ends connections that wait too long, and wakes all where there is news for all.
fn look_after(shared: &Shared) {
    let limits = &shared.config.limits;
    let resp = &shared.resp;
    resp.counts.sample(shared);
    let now = shared.started.elapsed().as_millis() as u64;
    let idle = resp.settings.idle_timeout();
    for client in resp.clients.list() {
        let stalled = client.stalled_since.load(Ordering::Relaxed);
        let patience = limits.stall_timeout.as_millis() as u64;
        let is_stalled = stalled != 0 && now.saturating_sub(stalled) > patience;
        let is_behind = client.is_behind(now, patience);
        let is_idle = idle.is_some_and(|idle| {
            let quiet = now.saturating_sub(client.last_active.load(Ordering::Relaxed));
            quiet > idle.as_millis() as u64
                && !client.is(State::PUBSUB)
                && !client.is(State::MONITOR)
        });
        let is_stranger = !client.is(State::AUTHENTICATED)
            && client.created.elapsed() > limits.unauthenticated_timeout;
        if is_stalled || is_behind || is_idle || is_stranger {
            client.kill();
        }
    }
    if resp.buffers.used() > limits.max_buffers {
        resp.clients.kill_largest(&resp.buffers, limits.max_buffers);
    }
}
