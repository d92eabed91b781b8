//! Forks: the lock of every map is taken before a fork and released after it in parent and child. Waiting for these locks
//! never parks (see the engine's `sync.rs`), so a lock word is all there is.

use std::sync::{Arc, Once, Weak};

use parking_lot::Mutex;

use super::Cell;
use crate::engine::sync::lock_mutex;

static MAPS: Mutex<Vec<Weak<Cell>>> = Mutex::new(Vec::new());
/// The maps that `prepare` of the fork under way has locked.
static HELD: Mutex<Vec<Arc<Cell>>> = Mutex::new(Vec::new());
static HANDLERS: Once = Once::new();

/// Remembers a map, weakly.
pub(super) fn register(cell: &Arc<Cell>) {
    HANDLERS.call_once(|| {
        // SAFETY: the handlers are functions without arguments that live as long as the process.
        unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
    });
    let mut maps = lock_mutex(&MAPS);
    if maps.len() == maps.capacity() {
        maps.retain(|other| other.strong_count() > 0);
    }
    maps.push(Arc::downgrade(cell));
}

extern "C" fn prepare() {
    let maps = lock_mutex(&MAPS);
    let mut held = lock_mutex(&HELD);
    held.extend(maps.iter().filter_map(Weak::upgrade));
    for cell in held.iter() {
        std::mem::forget(cell.lock.write());
    }
    std::mem::forget((maps, held));
}

fn release(child: bool) {
    // SAFETY: `prepare` of this fork locked both lists, so their data are this thread's, and every map in the list.
    let held = unsafe {
        let held = std::mem::take(&mut *HELD.data_ptr());
        for cell in &held {
            cell.lock.force_unlock(child);
        }
        HELD.force_unlock();
        MAPS.force_unlock();
        held
    };
    // The last handle on a map may be gone meanwhile: it is freed after the lists are.
    drop(held);
}

extern "C" fn in_parent() {
    release(false);
}

extern "C" fn in_child() {
    release(true);
}
