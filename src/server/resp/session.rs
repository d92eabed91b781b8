//! What one connection has said about itself and begun.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::clients::{Client, State};
use super::command::Command;
use super::failure::{Failure, fixed};
use super::parser::Args;
use super::watches::Watches;
use crate::server::Shared;

/// Which replies are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyMode {
    On,
    Off,
    /// Off for the next command.
    SkipNext,
    /// Off for this command.
    Skip,
}

/// A command that waits for EXEC.
pub(crate) struct Queued {
    pub(crate) command: &'static Command,
    /// The place of its first argument among those of all, and how many it has.
    first: usize,
    args: usize,
}

/// Commands that wait for EXEC.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    ranges: Vec<(usize, usize)>,
    pub(crate) commands: Vec<Queued>,
    /// One of them was refused.
    pub(crate) is_broken: bool,
}

impl Queue {
    pub(crate) fn add(&mut self, command: &'static Command, args: Args<'_>) {
        self.commands.push(Queued {
            command,
            first: self.ranges.len(),
            args: args.len(),
        });
        for arg in args.iter() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(arg);
            self.ranges.push((start, self.bytes.len()));
        }
    }

    pub(crate) fn args(&self, queued: &Queued) -> Args<'_> {
        Args::new(
            &self.bytes,
            &self.ranges[queued.first..queued.first + queued.args],
        )
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.ranges.capacity() * 16
            + self.commands.capacity() * size_of::<Queued>()
    }
}

/// Names of channels that a connection listens to.
pub(crate) type Names = HashSet<Box<[u8]>>;

/// One connection's state.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pub(crate) db: u8,
    pub(crate) resp3: bool,
    pub(crate) authenticated: bool,
    pub(crate) reply_mode: ReplyMode,
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) watches: Watches,
    pub(crate) channels: Names,
    pub(crate) patterns: Names,
    pub(crate) shard_channels: Names,
    pub(crate) is_monitor: bool,
    /// It ends after its replies have been sent.
    pub(crate) ends: bool,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) errors: u64,
    /// What the command that waited for it has been given.
    pub(crate) place: Option<Place>,
    /// The command that runs has one already.
    pub(crate) holds_place: bool,
    /// The command has done nothing: it needs a place, and is to be run again with one.
    pub(crate) waits: bool,
}

/// One of the places for commands that take long, so that there is always a thread for those that do not.
pub(crate) type Place = OwnedSemaphorePermit;

impl Session {
    pub(crate) fn new(client: Arc<Client>, authenticated: bool) -> Session {
        client.set(State::AUTHENTICATED, authenticated);
        Session {
            client,
            db: 0,
            resp3: false,
            authenticated,
            reply_mode: ReplyMode::On,
            queue: None,
            watches: Watches::default(),
            channels: Names::new(),
            patterns: Names::new(),
            shard_channels: Names::new(),
            is_monitor: false,
            ends: false,
            hits: 0,
            misses: 0,
            errors: 0,
            place: None,
            holds_place: false,
            waits: false,
        }
    }

    /// A place for a command that takes long; the command that gets none has to return the failure, having done nothing.
    pub(crate) fn take_place(
        &mut self,
        shared: &Shared,
        is_heavy: bool,
    ) -> Result<Option<Place>, Failure> {
        if !is_heavy || self.holds_place {
            return Ok(None);
        }
        let place = self.place.take();
        match place.map_or_else(|| Arc::clone(&shared.resp.places).try_acquire_owned(), Ok) {
            Ok(place) => Ok(Some(place)),
            Err(_) => {
                self.waits = true;
                Err(fixed("ERR the server is busy"))
            }
        }
    }

    /// Channels and patterns that it listens to.
    pub(crate) fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscriptions() + self.shard_channels.len() > 0
    }

    pub(crate) fn select(&mut self, db: u8) {
        self.db = db;
        self.client
            .db
            .store(db, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn speak(&mut self, resp3: bool) {
        self.resp3 = resp3;
        self.client.set(State::RESP3, resp3);
    }

    /// Forgets MULTI and what it queued, and WATCH.
    pub(crate) fn discard(&mut self) {
        self.queue = None;
        self.watches.clear();
        self.client.set(State::MULTI, false);
        self.client
            .queued
            .store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
        self.client
            .watched
            .store(0, std::sync::atomic::Ordering::Relaxed);
    }

    /// Ends everything that others know of.
    pub(crate) fn leave(&mut self, shared: &Shared) {
        self.discard();
        shared.resp.pubsub.leave(self, shared);
        shared.resp.monitors.remove(&self.client);
        self.is_monitor = false;
    }
}
