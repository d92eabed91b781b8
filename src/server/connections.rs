//! How many connections there are, of all doors together, and whether more can come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::listen::Door;

/// Counts connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: AtomicUsize,
    of_door: [AtomicUsize; 2],
    /// Doors that still let clients in.
    doors: AtomicUsize,
    waiting: Mutex<()>,
    ended: Condvar,
}

impl Connections {
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections of one door.
    pub(crate) fn of(&self, door: Door) -> usize {
        self.of_door[door as usize].load(Ordering::Relaxed)
    }

    /// Whether there is none, and none can come.
    fn are_over(&self) -> bool {
        self.doors.load(Ordering::SeqCst) == 0 && self.open.load(Ordering::SeqCst) == 0
    }

    /// Waits on this thread until there is none and none can come; returns whether that came before the deadline.
    pub(crate) fn wait_until_none(&self, deadline: Instant) -> bool {
        let mut waiting = self.waiting.lock();
        while !self.are_over() {
            if self.ended.wait_until(&mut waiting, deadline).timed_out() {
                return self.are_over();
            }
        }
        true
    }

    /// Lets whoever waits look again.
    fn tell(&self) {
        let _waiting = self.waiting.lock();
        self.ended.notify_all();
    }
}

/// A door that lets clients in. Dropping it closes the door.
pub(crate) struct OpenDoor(Arc<Shared>);

impl OpenDoor {
    pub(crate) fn new(shared: &Arc<Shared>) -> OpenDoor {
        shared.connections.doors.fetch_add(1, Ordering::SeqCst);
        OpenDoor(Arc::clone(shared))
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.0.connections.doors.fetch_sub(1, Ordering::SeqCst);
        self.0.connections.tell();
    }
}

/// One connection's place. Dropping it gives the place back.
pub(crate) struct ConnectionGuard {
    shared: Arc<Shared>,
    door: Door,
}

impl ConnectionGuard {
    /// None where there are too many.
    pub(crate) fn new(shared: &Arc<Shared>, door: Door) -> Option<ConnectionGuard> {
        let connections = &shared.connections;
        let most = shared.config.limits.max_connections;
        let take = |open: usize| (open < most).then_some(open + 1);
        connections
            .open
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, take)
            .ok()?;
        connections.of_door[door as usize].fetch_add(1, Ordering::Relaxed);
        Some(ConnectionGuard {
            shared: Arc::clone(shared),
            door,
        })
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        connections.of_door[self.door as usize].fetch_sub(1, Ordering::Relaxed);
        if connections.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            connections.tell();
        }
    }
}
