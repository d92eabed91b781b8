//! Keyspace notifications: what happened to which key of which database, in the order in which it happened. Shards queue
//! events under their locks; one taker puts the queues together. Knows no shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::sync::lock_mutex;

/// Bytes of all events that wait, their keys included.
const MOST_BYTES: usize = 64 << 20;
/// Events that wait in one shard.
pub(super) const MOST_IN_A_SHARD: usize = 1 << 14;

/// Kinds of events that somebody wants, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(pub u32);

impl Classes {
    /// None.
    pub const NONE: Classes = Classes(0);
    /// Commands that every type has: `g`.
    pub const GENERIC: Classes = Classes(1);
    /// Commands of strings: `$`.
    pub const STRING: Classes = Classes(2);
    /// Entries that have expired: `x`.
    pub const EXPIRED: Classes = Classes(4);
    /// Entries that made room: `e`.
    pub const EVICTED: Classes = Classes(8);
    /// Keys that were not there before: `n`.
    pub const NEW: Classes = Classes(16);

    /// Both.
    pub const fn and(self, other: Classes) -> Classes {
        Classes(self.0 | other.0)
    }

    /// Whether any of `other` is among them.
    pub const fn has(self, other: Classes) -> bool {
        self.0 & other.0 != 0
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident;)*) => {
        /// What happened to a key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event { $($(#[$doc])* $name,)* }

        impl Event {
            /// Its name in notifications.
            pub const fn name(self) -> &'static str {
                match self { $(Event::$name => $text,)* }
            }

            /// The class that it is of.
            pub const fn class(self) -> Classes {
                match self { $(Event::$name => Classes::$class,)* }
            }
        }
    };
}

events! {
    /// Nobody is told; watches see the change all the same.
    Silent = "", NONE;
    /// A value was written. Where it expires, [`Event::Expire`] follows.
    Set = "set", STRING;
    /// Taken out.
    Del = "del", GENERIC;
    /// It expires at another time.
    Expire = "expire", GENERIC;
    /// It does not expire any more.
    Persist = "persist", GENERIC;
    /// Its integer was added to.
    IncrBy = "incrby", STRING;
    /// Its number was added to.
    IncrByFloat = "incrbyfloat", STRING;
    /// Bytes were appended.
    Append = "append", STRING;
    /// Bytes were overwritten.
    SetRange = "setrange", STRING;
    /// Bits were written.
    SetBit = "setbit", STRING;
    /// It has another name now.
    RenameFrom = "rename_from", GENERIC;
    /// It is the new name of another one.
    RenameTo = "rename_to", GENERIC;
    /// It went to another database.
    MoveFrom = "move_from", GENERIC;
    /// It came from another database.
    MoveTo = "move_to", GENERIC;
    /// It is a copy.
    CopyTo = "copy_to", GENERIC;
    /// It was restored from a dump.
    Restore = "restore", GENERIC;
    /// Its time was over. Told by the store itself.
    Expired = "expired", EXPIRED;
    /// It made room. Told by the store itself.
    Evicted = "evicted", EVICTED;
    /// It was not there before. Told by the store itself, before what made it.
    New = "new", NEW;
}

/// One event, taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The database's number when it happened.
    pub db: u8,
    /// What happened.
    pub event: Event,
    /// To which key.
    pub key: Box<[u8]>,
    pub(super) stamp: u64,
}

impl Notification {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Notification>() + self.key.len()
    }
}

/// What shards and the taker of their events share.
#[derive(Default)]
pub(crate) struct Notifier {
    classes: AtomicU32,
    /// Events of all shards, in the order in which they happened.
    stamp: AtomicU64,
    bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Shards may have events: looked at before their queues are.
    pending: AtomicBool,
    /// The taker is to be woken.
    wants_waking: AtomicBool,
    waker: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Notifier {
    pub(crate) fn classes(&self) -> Classes {
        Classes(self.classes.load(Ordering::Relaxed))
    }

    pub(crate) fn set_classes(&self, classes: Classes) {
        self.classes.store(classes.0, Ordering::Relaxed);
    }

    /// What is called, under a shard's lock, when events come after all were taken. It must only take note.
    pub(crate) fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        *lock_mutex(&self.waker) = Some(waker);
        self.wants_waking.store(true, Ordering::SeqCst);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// The place of the next event among all; it is pushed, and the shard's lock held, until [`Notifier::pushed`].
    pub(crate) fn stamp(&self) -> u64 {
        self.pending.store(true, Ordering::SeqCst);
        self.stamp.fetch_add(1, Ordering::SeqCst)
    }

    /// Takes room for an event of so many bytes; false where there is none.
    pub(crate) fn take_room(&self, bytes: usize) -> bool {
        let more = |used: usize| Some(used + bytes).filter(|&sum| sum <= MOST_BYTES);
        let taken = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }

    pub(crate) fn give_room(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// An event was queued.
    pub(crate) fn pushed(&self) {
        if self.wants_waking.swap(false, Ordering::SeqCst)
            && let Some(waker) = lock_mutex(&self.waker).clone()
        {
            waker();
        }
    }

    /// Begins to take events: of those with stamps before the one returned, all are queued or about to be, under a lock. None
    /// where there are none.
    pub(crate) fn begin_taking(&self) -> Option<u64> {
        self.wants_waking.store(true, Ordering::SeqCst);
        if !self.pending.swap(false, Ordering::SeqCst) {
            return None;
        }
        Some(self.stamp.load(Ordering::SeqCst))
    }
}
