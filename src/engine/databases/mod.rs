//! Sixteen numbered stores with one seed and one budget of memory, as servers have them.

mod locked;
mod observed;
mod writes;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::events::{Classes, Notification, Notifier};
use super::fork::{self, AcrossForks};
use super::held::{Held, Wanted};
use super::room::Room;
use super::shard::Entry;
use super::store::Store;
use super::sync::lock_mutex;
use crate::{Error, Result};

pub use locked::LockedDatabases;
pub use observed::WatchedKey;

/// Bits of a database's number.
const BITS: u32 = 4;
const COUNT: usize = 1 << BITS;

/// Sixteen databases: number 0 is a store that was given, the others are made beside it at their first write.
///
/// Databases take each other's places by [`Databases::swap`]. A handle on a store stays with its data; whoever goes by the number calls
/// [`Databases::read`] and [`Databases::with_locked`], which look again once they have their locks.
///
/// ```
/// use std::sync::Arc;
/// use atbr::engine::{Databases, Event, Options, Store, Ttl};
/// let databases = Databases::new(Arc::new(Store::new(&Options::default())?))?;
/// databases.with_locked(&[(0, b"key"), (3, b"key")], |locked| {
///     locked.set(0, b"key", b"value", Ttl::Default, Event::Set)?;
///     locked.set(3, b"key", b"copy", Ttl::Default, Event::CopyTo)
/// })?;
/// databases.swap(0, 3)?;
/// let len = databases.read(0, b"key", |entry| entry.value.len())?;
/// assert_eq!(len, Some(4));
/// # Ok::<(), atbr::Error>(())
/// ```
pub struct Databases {
    /// The store that the others are made beside.
    zero: Arc<Store>,
    /// In the order of their making; which number is whose, `order` says.
    stores: [OnceLock<Arc<Store>>; COUNT],
    /// The place in `stores` of each number, four bits each. Changed under all locks of the two stores that it concerns.
    order: AtomicU64,
    /// Counts the changes of `order`.
    generation: AtomicU64,
    notifier: Arc<Notifier>,
    locks: Arc<Locks>,
}

/// What is locked before shards are. Forks hold it as they hold these.
struct Locks {
    /// Held by who makes a store, swaps two, or changes what is notified.
    changes: Mutex<()>,
    /// Events that were taken out of their shards, and are not handed out yet.
    taking: Mutex<Vec<Notification>>,
    notifier: Arc<Notifier>,
}

impl AcrossForks for Locks {
    fn lock(&self) {
        std::mem::forget(lock_mutex(&self.changes));
        std::mem::forget(lock_mutex(&self.taking));
    }

    unsafe fn unlock(&self, in_child: bool) {
        if in_child {
            // Who would take events, or be woken for them, is not there.
            self.notifier.set_classes(Classes::NONE);
        }
        // SAFETY: held since `lock`, by the caller.
        unsafe {
            self.taking.force_unlock();
            self.changes.force_unlock();
        }
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        // Stores that go on are not to queue what nobody takes. Taking a notifier away needs no memory.
        if self.notifies() != Classes::NONE {
            let _ = self.set_notify(Classes::NONE);
        }
        let locks: Arc<dyn AcrossForks> = Arc::clone(&self.locks) as _;
        fork::let_go(&locks);
    }
}

/// The bits of a database in an order.
fn nibble(db: u8) -> u64 {
    (COUNT as u64 - 1) << (u32::from(db) * BITS)
}

/// The place of a database in an order.
fn place_in(order: u64, db: u8) -> usize {
    (order >> (u32::from(db) * BITS)) as usize % COUNT
}

impl Databases {
    /// Number of databases.
    pub const COUNT: u8 = COUNT as u8;

    /// Databases of which number 0 is `zero`.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn new(zero: Arc<Store>) -> Result<Databases> {
        if zero.is_closed() {
            return Err(Error::Closed);
        }
        let order = (0..COUNT as u64).fold(0, |order, db| order | db << (db * u64::from(BITS)));
        let notifier = Arc::<Notifier>::default();
        let locks = Arc::new(Locks {
            changes: Mutex::new(()),
            taking: Mutex::default(),
            notifier: Arc::clone(&notifier),
        });
        fork::hold(Arc::clone(&locks) as _)?;
        let databases = Databases {
            zero: Arc::clone(&zero),
            stores: [const { OnceLock::new() }; COUNT],
            order: AtomicU64::new(order),
            generation: AtomicU64::new(0),
            notifier,
            locks,
        };
        // It is empty.
        let _ = databases.stores[0].set(zero);
        Ok(databases)
    }

    /// Place in `stores` of a database.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`].
    fn place(&self, db: u8) -> Result<usize> {
        Self::check(db)?;
        Ok(self.place_of(db))
    }

    fn check(db: u8) -> Result<()> {
        if db < Self::COUNT {
            Ok(())
        } else {
            Err(Error::NoSuchDatabase(db))
        }
    }

    #[inline]
    fn place_of(&self, db: u8) -> usize {
        place_in(self.order.load(Ordering::SeqCst), db)
    }

    fn store(&self, db: u8) -> Result<Option<&Arc<Store>>> {
        Ok(self.stores[self.place(db)?].get())
    }

    /// The store of a database; None where nothing was ever written there.
    pub fn get(&self, db: u8) -> Option<Arc<Store>> {
        self.store(db).ok().flatten().cloned()
    }

    /// The store of a database, made where nothing was ever written there.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`], [`Error::OutOfMemory`].
    pub fn get_or_make(&self, db: u8) -> Result<Arc<Store>> {
        self.made(db).cloned()
    }

    fn made(&self, db: u8) -> Result<&Arc<Store>> {
        self.made_in(self.place(db)?)
    }

    fn made_in(&self, place: usize) -> Result<&Arc<Store>> {
        match self.stores[place].get() {
            Some(store) => Ok(store),
            None => self.make(place, &lock_mutex(&self.locks.changes)),
        }
    }

    /// The store of a place, made where there is none; the lock says that `changes` is held.
    #[cold]
    fn make(
        &self,
        place: usize,
        _changes: &parking_lot::MutexGuard<'_, ()>,
    ) -> Result<&Arc<Store>> {
        if self.stores[place].get().is_none() {
            let store = self.zero.beside()?;
            if self.notifier.classes() != Classes::NONE {
                self.notify_in(&store, place, true)?;
            }
            let _ = self.stores[place].set(Arc::new(store));
        }
        self.stores[place].get().ok_or(Error::OutOfMemory)
    }

    /// Number of the store in a place.
    fn db_of(&self, place: usize) -> u8 {
        let is_it = |&db: &u8| self.place_of(db) == place;
        (0..Self::COUNT).find(is_it).unwrap_or(0)
    }

    /// Numbers of the databases that were ever written.
    pub fn written(&self) -> impl Iterator<Item = u8> + '_ {
        (0..Self::COUNT).filter(|&db| self.stores[self.place_of(db)].get().is_some())
    }

    /// How often databases took each other's places.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Calls `f` with the entry of a key, under its shard's read lock; None where it is missing. Nobody is told of a read. O(1)
    /// expected. `f` must not call back into the databases.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`], [`Error::Broken`].
    #[inline]
    pub fn read<R>(&self, db: u8, key: &[u8], f: impl FnOnce(Entry<'_>) -> R) -> Result<Option<R>> {
        let mut f = Some(f);
        loop {
            let place = self.place(db)?;
            let Some(store) = self.stores[place].get() else {
                return Ok(None);
            };
            let found = store.with_entry(key, |entry| {
                // Nobody exchanges a store of which a shard is locked.
                let stays = self.place_of(db) == place;
                let f = f.take_if(|_| stays)?;
                Some(entry.map(f))
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Asks for the cache lines that [`Databases::read`] and writes of these keys will read, so that their misses overlap. At most the
    /// first 32 keys are looked at.
    pub fn prefetch(&self, db: u8, keys: &[&[u8]]) {
        if let Ok(Some(store)) = self.store(db) {
            store.prefetch(keys);
        }
    }

    /// Exchanges two databases, as one step for everybody else. Watches of keys that are in either are dirty. O(shards).
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`], [`Error::OutOfMemory`].
    pub fn swap(&self, a: u8, b: u8) -> Result<()> {
        let _changes = lock_mutex(&self.locks.changes);
        let places = (self.place(a)?, self.place(b)?);
        if a == b {
            return Ok(());
        }
        let (first, second) = (
            self.make(places.0, &_changes)?,
            self.make(places.1, &_changes)?,
        );
        let mut wanted = Wanted::default();
        wanted.add_all(first)?;
        wanted.add_all(second)?;
        let mut held = wanted.lock()?;
        self.exchange(&mut held, a, b)
    }

    /// Exchanges two databases of which all shards are held.
    fn exchange(&self, held: &mut Held<'_>, a: u8, b: u8) -> Result<()> {
        let (place_a, place_b) = (self.place(a)?, self.place(b)?);
        let (Some(store_a), Some(store_b)) =
            (self.stores[place_a].get(), self.stores[place_b].get())
        else {
            return Err(Error::NotLocked);
        };
        held.exchange_watches(store_a, store_b)?;
        held.renumber(store_a, &self.notifier, b)?;
        held.renumber(store_b, &self.notifier, a)?;
        let (shift_a, shift_b) = (u32::from(a) * BITS, u32::from(b) * BITS);
        let change = (place_a ^ place_b) as u64;
        self.order
            .fetch_xor(change << shift_a | change << shift_b, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Calls `f` with the shards of all keys locked, so that what it does is one step for everybody else, at one moment of the
    /// clock. Databases of the keys that were never written are made. `f` must not call the databases or their stores itself. O(keys log
    /// keys), and what `f` does.
    ///
    /// In a bounded store room for a write is made in the shards that are held; it ends in [`Error::StoreFull`] where they have
    /// nothing to evict. [`Databases::with_room_and_locked`] makes room before.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`] and [`Error::OutOfMemory`] before `f` is called; else those of `f`, with what it did until then done.
    pub fn with_locked<K: AsRef<[u8]>, R>(
        &self,
        keys: &[(u8, K)],
        f: impl FnOnce(&mut LockedDatabases<'_>) -> Result<R>,
    ) -> Result<R> {
        self.with_room_and_locked(Room::NONE, &[], keys, f)
    }

    /// As [`Databases::with_locked`], with all shards of the databases `dbs` locked, too.
    ///
    /// # Errors
    /// As [`Databases::with_locked`].
    pub fn with_all_locked<K: AsRef<[u8]>, R>(
        &self,
        dbs: &[u8],
        keys: &[(u8, K)],
        f: impl FnOnce(&mut LockedDatabases<'_>) -> Result<R>,
    ) -> Result<R> {
        self.with_room_and_locked(Room::NONE, dbs, keys, f)
    }

    /// As [`Databases::with_all_locked`]. Where the store is bounded, `room` is taken before the locks, and other entries of all
    /// databases are evicted for it.
    ///
    /// # Errors
    /// As [`Databases::with_locked`], and [`Error::StoreFull`] before `f` is called.
    pub fn with_room_and_locked<K: AsRef<[u8]>, R>(
        &self,
        room: Room,
        dbs: &[u8],
        keys: &[(u8, K)],
        f: impl FnOnce(&mut LockedDatabases<'_>) -> Result<R>,
    ) -> Result<R> {
        let reserved = self.zero.reserve_room(room)?;
        loop {
            let order = self.order.load(Ordering::SeqCst);
            let mut concerned = 0;
            let mut store = |db: u8| {
                Self::check(db)?;
                concerned |= nibble(db);
                self.made_in(place_in(order, db))
            };
            let mut wanted = Wanted::default();
            for &db in dbs {
                wanted.add_all(store(db)?)?;
            }
            for (db, key) in keys {
                wanted.add_key(store(*db)?, key.as_ref())?;
            }
            let held = wanted.lock()?;
            // Nobody exchanges a store of which a shard is held.
            if (self.order.load(Ordering::SeqCst) ^ order) & concerned == 0 {
                return f(&mut LockedDatabases {
                    databases: self,
                    held: held.with_room(reserved),
                });
            }
        }
    }

    /// As [`Databases::with_room_and_locked`], with all shards of all databases that were ever written locked, and none made
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Databases::with_room_and_locked`].
    pub fn with_everything_locked<K: AsRef<[u8]>, R>(
        &self,
        room: Room,
        keys: &[(u8, K)],
        f: impl FnOnce(&mut LockedDatabases<'_>) -> Result<R>,
    ) -> Result<R> {
        // Those that are missing are made before, as none can be from here on.
        keys.iter()
            .try_for_each(|(db, _)| self.made(*db).map(drop))?;
        let _changes = lock_mutex(&self.locks.changes);
        let mut dbs = [0; COUNT];
        let written = dbs.iter_mut().zip(self.written());
        let written = written.map(|(place, db)| *place = db).count();
        self.with_room_and_locked(room, &dbs[..written], keys, f)
    }

    /// Whether a panic has left a shard half changed.
    pub fn is_broken(&self) -> bool {
        let mut stores = self.stores.iter().filter_map(OnceLock::get);
        stores.any(|store| store.is_broken())
    }

    /// Whether their entries or bytes are bounded.
    pub fn is_bounded(&self) -> bool {
        self.zero.is_bounded()
    }

    /// The time in milliseconds since 1970, as databases count it: the wall clock of when number 0 was made, and what has passed since.
    pub fn unix_now(&self) -> u64 {
        self.zero.unix_now()
    }
}
