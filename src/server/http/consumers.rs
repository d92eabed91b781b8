//! Memory that requests and answers hold, by connection: beyond the server's bound the connection with the most ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};

use axum::body::Bytes;
use parking_lot::Mutex;

/// All connections that hold, or held, something worth counting.
#[derive(Default)]
pub(super) struct Consumers {
    held: AtomicUsize,
    all: Mutex<Vec<Weak<Consumer>>>,
}

/// One connection.
#[derive(Default)]
pub(super) struct Consumer {
    held: AtomicUsize,
    is_known: AtomicBool,
    has_to_end: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Consumer {
    /// Whether the connection has to end; if not, `cx` is woken when it has to.
    #[inline]
    pub(super) fn has_to_end(&self, cx: &Context<'_>) -> bool {
        if !self.is_known.load(Ordering::Relaxed) {
            return false;
        }
        let mut waker = self.waker.lock();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        self.has_to_end.load(Ordering::Relaxed)
    }
}

impl Consumers {
    /// Counts for a connection, until the guard goes.
    pub(super) fn hold(self: &Arc<Self>, consumer: &Arc<Consumer>, most: usize) -> Held {
        if !consumer.is_known.swap(true, Ordering::Relaxed) {
            let mut all = self.all.lock();
            all.retain(|consumer| consumer.strong_count() > 0);
            all.push(Arc::downgrade(consumer));
        }
        Held {
            all: Arc::clone(self),
            consumer: Arc::clone(consumer),
            bytes: 0,
            most,
        }
    }

    /// Ends the connection that holds the most, unless those that are about to end hold what is too much.
    fn end_largest(&self, most: usize) {
        let all = self.all.lock();
        let held = |consumer: &Arc<Consumer>| consumer.held.load(Ordering::Relaxed);
        let (ending, others): (Vec<_>, Vec<_>) = all
            .iter()
            .filter_map(Weak::upgrade)
            .partition(|consumer| consumer.has_to_end.load(Ordering::Relaxed));
        let leaving = ending.iter().map(held).sum();
        if self.held.load(Ordering::Relaxed).saturating_sub(leaving) <= most {
            return;
        }
        let Some(largest) = others.iter().max_by_key(|consumer| held(consumer)) else {
            return;
        };
        largest.has_to_end.store(true, Ordering::Relaxed);
        let bytes = held(largest);
        tracing::warn!(bytes, "buffers are full: the connection with the most ends");
        if let Some(waker) = largest.waker.lock().take() {
            waker.wake();
        }
    }
}

/// Bytes that a connection holds.
pub(super) struct Held {
    all: Arc<Consumers>,
    consumer: Arc<Consumer>,
    bytes: usize,
    most: usize,
}

impl Held {
    /// The bytes are so many now.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let before = std::mem::replace(&mut self.bytes, bytes);
        // Differences below zero wrap around, and so do sums.
        let change = bytes.wrapping_sub(before);
        self.consumer.held.fetch_add(change, Ordering::Relaxed);
        let all = self.all.held.fetch_add(change, Ordering::Relaxed);
        if bytes > before && all.wrapping_add(change) > self.most {
            self.all.end_largest(self.most);
        }
    }

    /// Bytes that count until they are sent.
    pub(super) fn keep(mut self, bytes: Vec<u8>) -> Bytes {
        self.set(bytes.capacity());
        Bytes::from_owner(Kept(bytes, self))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

struct Kept(Vec<u8>, #[allow(dead_code)] Held); // the guard is there to be dropped

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_with_the_most_ends_and_what_it_held_no_longer_counts() {
        let all = Arc::new(Consumers::default());
        let consumers: [Arc<Consumer>; 3] = Default::default();
        let mut held: Vec<_> = consumers.iter().map(|one| all.hold(one, 100)).collect();
        let cx = Context::from_waker(Waker::noop());
        let ended = || consumers.each_ref().map(|one| one.has_to_end(&cx));
        for (one, bytes) in held.iter_mut().zip([30, 50, 20]) {
            one.set(bytes);
        }
        assert_eq!(ended(), [false; 3]);
        held[2].set(21);
        assert_eq!(ended(), [false, true, false]);
        drop(held.remove(1));
        held[0].set(79);
        assert_eq!(ended(), [false, true, false]);
        held[0].set(80);
        assert_eq!(ended(), [true, true, false]);
        drop(held);
        assert_eq!(all.held.load(Ordering::Relaxed), 0);
    }
}
