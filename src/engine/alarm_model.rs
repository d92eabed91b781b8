//! The alarm under the model checker shuttle, by `RUSTFLAGS='--cfg atbr_shuttle' cargo test --lib alarm_model`: a wake-up that
//! is lost is a deadlock, which shuttle finds.

#[path = "alarm.rs"]
#[allow(dead_code)] // nobody forks here
mod alarm;

use std::sync::Arc;

use shuttle::thread::{self, Thread};

use alarm::{Alarm, Earliest, LOOKING};
use sync::atomic::{AtomicU64, Ordering};

/// What `alarm.rs` takes from the engine's module of this name, made of shuttle's primitives.
mod sync {
    pub(super) use shuttle::sync::{MutexGuard, atomic};

    pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) const fn new(value: T) -> Self {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        #[allow(dead_code)]
        pub(super) unsafe fn force_unlock(&self) {}
    }

    pub(super) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.0.lock().unwrap()
    }
}

const NOTHING: u64 = LOOKING - 1;

struct Model {
    alarm: Alarm<Thread>,
    /// When something is due, by shard; 0: now.
    due: [AtomicU64; 2],
    earliest: Earliest,
    swept: AtomicU64,
}

fn publish(model: &Model, shard: usize, due: u64) {
    model.due[shard].store(due, Ordering::SeqCst);
    model.earliest.lower(due);
    if model.alarm.is_later_than(due) {
        model.alarm.call(|thread| {
            if let Some(thread) = thread {
                thread.unpark();
            }
        });
    }
}

/// Sleeps without a time limit, so that only being woken helps; time stands still at 0.
fn sweep_until(model: &Model, all: u64) {
    while model.swept.load(Ordering::SeqCst) < all {
        model.alarm.look();
        if model.earliest.get() == 0 {
            model.earliest.renew(|| {
                let mut next = NOTHING;
                for due in &model.due {
                    if due.load(Ordering::SeqCst) == 0 {
                        due.store(NOTHING, Ordering::SeqCst);
                        model.swept.fetch_add(1, Ordering::SeqCst);
                    }
                    next = next.min(due.load(Ordering::SeqCst));
                }
                next
            });
        }
        let next = model.earliest.get().min(NOTHING);
        model.alarm.sleep_until(next);
        if next > 0 && model.swept.load(Ordering::SeqCst) < all {
            thread::park();
        }
    }
    model.alarm.turn_off();
}

fn race() {
    let model = Arc::new(Model {
        alarm: Alarm::new(),
        due: [AtomicU64::new(NOTHING), AtomicU64::new(NOTHING)],
        earliest: Earliest::new(),
        swept: AtomicU64::new(0),
    });
    let sweeper = {
        let model = Arc::clone(&model);
        thread::spawn(move || sweep_until(&model, 2))
    };
    let handle = sweeper.thread().clone();
    model
        .alarm
        .call_alone(|thread| *thread = Some(handle), |_| {});
    let writers: Vec<_> = (0..2)
        .map(|shard| {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                publish(&model, shard, 9);
                publish(&model, shard, 5);
                publish(&model, shard, 0);
            })
        })
        .collect();
    writers.into_iter().for_each(|w| w.join().unwrap());
    sweeper.join().unwrap();
}

#[test]
fn no_wake_up_is_lost_between_writers_and_the_sweeper() {
    shuttle::check_random(race, 20_000);
    shuttle::check_pct(race, 20_000, 4);
}
