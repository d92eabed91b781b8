//! Commands that took long, and the spikes of LATENCY.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::command::{Command, Flags};
use super::dispatch::secret_from;
use super::parser::Args;
use super::session::Session;
use super::settings::Settings;

/// Arguments, and bytes of one, that an entry keeps.
const MOST_ARGS: usize = 32;
const MOST_BYTES: usize = 128;

/// A command that took long.
#[derive(Clone)]
pub(crate) struct Slow {
    pub(crate) id: u64,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) microseconds: u64,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) peer: String,
    pub(crate) name: Vec<u8>,
}

/// The newest come first.
#[derive(Default)]
pub(crate) struct SlowLog {
    entries: Mutex<(u64, VecDeque<Slow>)>,
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl SlowLog {
    /// Takes note of a command, if it took long enough.
    pub(crate) fn note(
        &self,
        session: &Session,
        command: &Command,
        args: Args<'_>,
        took: Duration,
        settings: &Settings,
    ) {
        let least = settings.slowlog_slower_than.load(Ordering::Relaxed);
        let microseconds = took.as_micros() as u64;
        if least < 0 || microseconds < least as u64 || command.is(Flags::SKIP_SLOWLOG) {
            return;
        }
        let secret = secret_from(command, args);
        let shown = if args.len() > MOST_ARGS {
            MOST_ARGS - 1
        } else {
            args.len()
        };
        let shorten = |(i, arg): (usize, &[u8])| {
            if i >= secret {
                return b"(redacted)".to_vec();
            }
            let mut shown = arg[..arg.len().min(MOST_BYTES)].to_vec();
            if arg.len() > MOST_BYTES {
                shown.extend(format!("... ({} more bytes)", arg.len() - MOST_BYTES).as_bytes());
            }
            shown
        };
        let mut kept: Vec<_> = args.iter().enumerate().take(shown).map(shorten).collect();
        if shown < args.len() {
            kept.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
        }
        let most = settings.slowlog_max_len.load(Ordering::Relaxed).max(0) as usize;
        let mut entries = self.entries.lock();
        let id = entries.0;
        entries.0 += 1;
        entries.1.push_front(Slow {
            id,
            at: unix_seconds(),
            microseconds,
            args: kept,
            peer: session.client.peer.to_string(),
            name: session.client.names.lock().name.clone(),
        });
        entries.1.truncate(most);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.lock().1.len()
    }

    pub(crate) fn newest(&self, most: usize) -> Vec<Slow> {
        self.entries.lock().1.iter().take(most).cloned().collect()
    }

    pub(crate) fn reset(&self) {
        self.entries.lock().1.clear();
    }
}

/// Spikes of one kind: (seconds since 1970, milliseconds).
type Spikes = VecDeque<(u64, u64)>;

/// The last spikes of each kind.
#[derive(Default)]
pub(crate) struct Latency {
    events: Mutex<BTreeMap<&'static str, (u64, Spikes)>>,
}

impl Latency {
    /// Spikes of one kind that are kept.
    const MOST: usize = 160;

    pub(crate) fn note(&self, event: &'static str, milliseconds: u64) {
        let mut events = self.events.lock();
        let (most, spikes) = events.entry(event).or_default();
        *most = (*most).max(milliseconds);
        let now = unix_seconds();
        match spikes.back_mut() {
            Some(last) if last.0 == now => last.1 = last.1.max(milliseconds),
            _ => spikes.push_back((now, milliseconds)),
        }
        if spikes.len() > Self::MOST {
            spikes.pop_front();
        }
    }

    pub(crate) fn history(&self, event: &str) -> Vec<(u64, u64)> {
        let events = self.events.lock();
        events
            .get(event)
            .map_or_else(Vec::new, |(_, spikes)| spikes.iter().copied().collect())
    }

    /// (kind, when, how long, the longest ever).
    pub(crate) fn latest(&self) -> Vec<(&'static str, u64, u64, u64)> {
        let events = self.events.lock();
        let latest = events.iter().filter_map(|(event, (most, spikes))| {
            let &(at, took) = spikes.back()?;
            Some((*event, at, took, *most))
        });
        latest.collect()
    }

    /// Forgets kinds, all where none is named; returns how many.
    pub(crate) fn reset(&self, names: &[&[u8]]) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|event, _| !names.is_empty() && !names.contains(&event.as_bytes()));
        before - events.len()
    }
}
