//! Channels, and who listens to them. A message goes to all listeners under one lock, so that they agree on the order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::clients::{Client, State};
use super::reply::Replies;
use super::session::Session;
use crate::engine::Glob;
use crate::server::Shared;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    Shard,
}

type Listeners = Vec<Arc<Client>>;

#[derive(Default)]
struct Tables {
    channels: HashMap<Box<[u8]>, Listeners>,
    patterns: BTreeMap<Box<[u8]>, (Glob, Listeners)>,
    shards: HashMap<Box<[u8]>, Listeners>,
}

/// All channels of a server.
#[derive(Default)]
pub(crate) struct PubSub {
    tables: Mutex<Tables>,
    /// Names that somebody listens to.
    used: AtomicUsize,
}

/// A message in both versions, made when it is needed.
#[derive(Default)]
struct Encoded([Option<Vec<u8>>; 2]);

impl Encoded {
    fn for_client(&mut self, client: &Client, parts: &[&[u8]]) -> &[u8] {
        let resp3 = client.is(State::RESP3);
        self.0[usize::from(resp3)].get_or_insert_with(|| {
            let mut out = Replies::of_version(resp3);
            out.push(parts.len());
            parts.iter().for_each(|part| out.bulk(part));
            out.bytes
        })
    }
}

impl PubSub {
    /// Whether anybody listens.
    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn listen(&self, kind: Kind, name: &[u8], client: &Arc<Client>) {
        let mut tables = self.tables.lock();
        let listeners = match kind {
            Kind::Channel => tables.channels.entry(name.into()).or_default(),
            Kind::Shard => tables.shards.entry(name.into()).or_default(),
            Kind::Pattern => {
                let made = || (Glob::new(name), Listeners::new());
                &mut tables.patterns.entry(name.into()).or_insert_with(made).1
            }
        };
        listeners.push(Arc::clone(client));
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ignore(&self, kind: Kind, name: &[u8], client: &Client) {
        let mut tables = self.tables.lock();
        let listeners = match kind {
            Kind::Channel => tables.channels.get_mut(name),
            Kind::Shard => tables.shards.get_mut(name),
            Kind::Pattern => tables
                .patterns
                .get_mut(name)
                .map(|(_, listeners)| listeners),
        };
        let Some(listeners) = listeners else {
            return;
        };
        let before = listeners.len();
        listeners.retain(|other| other.id != client.id);
        self.used
            .fetch_sub(before - listeners.len(), Ordering::Relaxed);
        if listeners.is_empty() {
            match kind {
                Kind::Channel => drop(tables.channels.remove(name)),
                Kind::Shard => drop(tables.shards.remove(name)),
                Kind::Pattern => drop(tables.patterns.remove(name)),
            }
        }
    }

    /// Ends all that a connection listens to.
    pub(crate) fn leave(&self, session: &mut Session, _shared: &Shared) {
        let client = Arc::clone(&session.client);
        for name in session.channels.drain() {
            self.ignore(Kind::Channel, &name, &client);
        }
        for name in session.patterns.drain() {
            self.ignore(Kind::Pattern, &name, &client);
        }
        for name in session.shard_channels.drain() {
            self.ignore(Kind::Shard, &name, &client);
        }
        for count in [&client.channels, &client.patterns, &client.shard_channels] {
            count.store(0, Ordering::Relaxed);
        }
        client.set(State::PUBSUB, false);
    }

    /// Sends a message to all listeners; returns how many.
    pub(crate) fn publish(&self, shared: &Shared, channel: &[u8], message: &[u8]) -> usize {
        if !self.is_used() {
            return 0;
        }
        let buffers = &shared.resp.buffers;
        let tables = self.tables.lock();
        let mut sent = 0;
        if let Some(listeners) = tables.channels.get(channel) {
            let mut encoded = Encoded::default();
            for client in listeners {
                client.post(
                    encoded.for_client(client, &[b"message", channel, message]),
                    buffers,
                );
            }
            sent += listeners.len();
        }
        for (name, (glob, listeners)) in &tables.patterns {
            if glob.matches(channel) {
                let mut encoded = Encoded::default();
                for client in listeners {
                    client.post(
                        encoded.for_client(client, &[b"pmessage", name, channel, message]),
                        buffers,
                    );
                }
                sent += listeners.len();
            }
        }
        sent
    }

    /// Sends a message to the listeners of a shard channel; returns how many.
    pub(crate) fn publish_to_shard(
        &self,
        shared: &Shared,
        channel: &[u8],
        message: &[u8],
    ) -> usize {
        let tables = self.tables.lock();
        let Some(listeners) = tables.shards.get(channel) else {
            return 0;
        };
        let mut encoded = Encoded::default();
        for client in listeners {
            client.post(
                encoded.for_client(client, &[b"smessage", channel, message]),
                &shared.resp.buffers,
            );
        }
        listeners.len()
    }

    /// Channels with listeners, of those that match.
    pub(crate) fn names(&self, kind: Kind, glob: Option<&Glob>) -> Vec<Box<[u8]>> {
        let tables = self.tables.lock();
        let channels = if kind == Kind::Shard {
            &tables.shards
        } else {
            &tables.channels
        };
        let matches = |name: &[u8]| glob.is_none_or(|glob| glob.matches(name));
        let names = channels.keys().filter(|name| matches(name));
        names.cloned().collect()
    }

    /// Listeners of a channel.
    pub(crate) fn count(&self, kind: Kind, name: &[u8]) -> usize {
        let tables = self.tables.lock();
        let channels = if kind == Kind::Shard {
            &tables.shards
        } else {
            &tables.channels
        };
        channels.get(name).map_or(0, Vec::len)
    }

    /// Channels, patterns and shard channels with listeners.
    pub(crate) fn totals(&self) -> (usize, usize, usize) {
        let tables = self.tables.lock();
        (
            tables.channels.len(),
            tables.patterns.len(),
            tables.shards.len(),
        )
    }
}
