//! Forks: all locks of all stores are taken before a fork and released after it in parent and child, so that
//! the child finds every store whole. Waiting never parks (see sync.rs), so a lock word is all there is.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use parking_lot::Mutex;

use super::store::Inner;
use super::sweeper;
use super::sync::lock_mutex;
use super::table::try_push;
use crate::Result;

struct Entry(*const Inner);

// SAFETY: an entry is dereferenced only while the registry is locked, and removed before its store goes.
unsafe impl Send for Entry {}

/// In the order in which they were registered.
static STORES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static SERIAL: AtomicU64 = AtomicU64::new(0);
static HANDLERS: Once = Once::new();

/// How many forks led to this process, and 1.
static PROCESS: AtomicU32 = AtomicU32::new(1);

/// A number that this process has and its ancestors have not; never 0. Only in processes that have had a store, or called
/// [`prepare_for_forks`], before they forked.
#[inline]
pub fn process_number() -> u32 {
    PROCESS.load(Ordering::Relaxed)
}

/// A store's place in the registry.
#[derive(Default)]
pub(crate) struct Registered {
    at: AtomicUsize,
    serial: AtomicU64,
}

impl Registered {
    /// Says which of two stores was registered first. Locks of several stores are taken in this order, as forks do.
    pub(crate) fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }
}

/// Installs the fork handlers, once. The first store does it; who may fork while another thread makes the first store
/// calls this before.
pub fn prepare_for_forks() {
    HANDLERS.call_once(|| {
        // SAFETY: the handlers are functions without arguments that live as long as the process. Failure
        // (no memory) leaves a store that works and a fork that may find a lock taken.
        unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
    });
}

pub(crate) fn register(store: &Inner) -> Result<()> {
    prepare_for_forks();
    let mut stores = lock_mutex(&STORES);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    store.registered.serial.store(serial, Ordering::Relaxed);
    store.registered.at.store(stores.len(), Ordering::Relaxed);
    try_push(&mut stores, Entry(store))
}

pub(crate) fn unregister(store: &Inner) {
    let mut stores = lock_mutex(&STORES);
    let at = store.registered.at.load(Ordering::Relaxed);
    stores.remove(at);
    let moved = stores.len() > at;
    for (at, moved) in stores.iter().enumerate().skip(at) {
        // SAFETY: registered stores are alive.
        unsafe { (*moved.0).registered.at.store(at, Ordering::Relaxed) };
    }
    drop(stores);
    if moved {
        sweeper::look_again();
    }
}

/// Called in the child of a fork.
type InChild = Arc<dyn Fn() + Send + Sync>;

static HOOKS: Mutex<Vec<(u64, InChild)>> = Mutex::new(Vec::new());

/// Has something done in the children of forks until it is dropped.
pub struct ForkHook(u64);

/// Calls `hook` in the child of every fork, on its only thread, once all stores can be used there: for whoever has descriptors that
/// are not the child's. Hooks are called in the order in which they were given, and must not drop one.
///
/// # Errors
/// [`crate::Error::OutOfMemory`].
pub fn in_forked_children(hook: impl Fn() + Send + Sync + 'static) -> Result<ForkHook> {
    prepare_for_forks();
    let number = SERIAL.fetch_add(1, Ordering::Relaxed);
    try_push(&mut lock_mutex(&HOOKS), (number, Arc::new(hook)))?;
    Ok(ForkHook(number))
}

impl Drop for ForkHook {
    fn drop(&mut self) {
        let mut hooks = lock_mutex(&HOOKS);
        let at = hooks.iter().position(|(number, _)| *number == self.0);
        let removed = at.map(|at| hooks.remove(at));
        // What it holds may take locks when it goes.
        drop(hooks);
        drop(removed);
    }
}

/// Locks that are taken before those of stores.
pub(super) trait AcrossForks: Send + Sync {
    /// Takes them for the time of a fork.
    fn lock(&self);

    /// Gives them back.
    ///
    /// # Safety
    /// Taken by this thread, or by the thread that forked this process.
    unsafe fn unlock(&self, in_child: bool);
}

static LOCKS: Mutex<Vec<Arc<dyn AcrossForks>>> = Mutex::new(Vec::new());

/// Has locks held over forks, until [`let_go`].
pub(super) fn hold(locks: Arc<dyn AcrossForks>) -> Result<()> {
    prepare_for_forks();
    try_push(&mut lock_mutex(&LOCKS), locks)
}

pub(super) fn let_go(locks: &Arc<dyn AcrossForks>) {
    let mut all = lock_mutex(&LOCKS);
    all.retain(|other| !Arc::ptr_eq(other, locks));
}

/// A registered store that does not go while this is held.
pub(crate) struct Pinned(*const Inner);

impl Deref for Pinned {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        // SAFETY: a store waits for its pins before it goes.
        unsafe { &*self.0 }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.pins.fetch_sub(1, Ordering::Release);
    }
}

/// Store number `number`, as long as there are so many. Numbers change as stores go.
pub(crate) fn pin(number: usize) -> Option<Pinned> {
    let stores = lock_mutex(&STORES);
    let entry = stores.get(number)?;
    // SAFETY: registered stores are alive while the registry is locked, and wait for their pins after that.
    unsafe { (*entry.0).pins.fetch_add(1, Ordering::Acquire) };
    Some(Pinned(entry.0))
}

extern "C" fn prepare() {
    sweeper::stop_over_fork();
    std::mem::forget(lock_mutex(&HOOKS));
    let locks = lock_mutex(&LOCKS);
    locks.iter().for_each(|locks| locks.lock());
    std::mem::forget(locks);
    let stores = lock_mutex(&STORES);
    for entry in stores.iter() {
        // SAFETY: registered stores are alive while the registry is locked.
        let store = unsafe { &*entry.0 };
        for cell in &store.cells {
            std::mem::forget(cell.lock.write());
        }
        store.cx.pool.lock().forget();
        store.cx.expired.lock_over_fork();
    }
    std::mem::forget(stores);
}

fn release(child: bool) {
    // SAFETY: `prepare` of this fork locked the registry, so its data are this thread's.
    let stores = unsafe { &*STORES.data_ptr() };
    if child {
        for entry in stores {
            // SAFETY: registered stores are alive.
            let store = unsafe { &*entry.0 };
            // Of threads that are not here: this one forks while it holds none.
            store.pins.store(0, Ordering::Relaxed);
            // Who has published a deadline may not have come to say so.
            store.earliest.lower(0);
            if let Some(bounds) = &store.cx.bounds {
                bounds.reset();
            }
        }
    }
    for entry in stores {
        // SAFETY: as in `prepare`, which holds what is released here.
        unsafe {
            let store = &*entry.0;
            if child {
                store.recount();
            }
            store.cx.expired.force_unlock();
            store.cx.pool.force_unlock();
            for cell in &store.cells {
                cell.lock.force_unlock(child);
            }
        }
    }
    // SAFETY: locked by `prepare`.
    unsafe {
        STORES.force_unlock();
        for locks in &*LOCKS.data_ptr() {
            locks.unlock(child);
        }
        LOCKS.force_unlock();
        HOOKS.force_unlock();
        sweeper::release_after_fork();
    }
}

extern "C" fn in_parent() {
    release(false);
}

extern "C" fn in_child() {
    PROCESS.fetch_add(1, Ordering::Relaxed);
    release(true);
    let hooks = lock_mutex(&HOOKS);
    hooks.iter().for_each(|(_, hook)| hook());
}
