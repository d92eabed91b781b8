//! Numbered databases: one step over many keys, watches, notifications, exchange.

mod basics;
mod bounded;
#[cfg(feature = "failpoints")]
mod broken;
mod deadlines;
mod events;
mod isolation;
mod watches;

use std::sync::Arc;

use atbr::engine::{Classes, Clock, Databases, Entry, Event, ManualClock, Options, Store, Ttl};

const ALL: Classes = Classes::GENERIC
    .and(Classes::STRING)
    .and(Classes::EXPIRED)
    .and(Classes::EVICTED)
    .and(Classes::NEW);

fn databases() -> Arc<Databases> {
    with(&Options::default())
}

fn with(options: &Options) -> Arc<Databases> {
    let zero = Arc::new(Store::new(options).unwrap());
    Arc::new(Databases::new(zero).unwrap())
}

/// Databases whose time stands still, and which take out what has expired only when asked to.
fn by_hand() -> (Arc<Databases>, ManualClock) {
    let clock = ManualClock::default();
    let options = Options {
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    };
    (with(&options), clock)
}

fn get(databases: &Databases, db: u8, key: &[u8]) -> Option<Vec<u8>> {
    let copy = |entry: Entry<'_>| entry.value.as_slice().to_vec();
    databases.read(db, key, copy).unwrap()
}

fn set(databases: &Databases, db: u8, key: &[u8], value: &[u8]) {
    set_until(databases, db, key, value, Ttl::Default);
}

fn set_until(databases: &Databases, db: u8, key: &[u8], value: &[u8], ttl: Ttl) {
    databases
        .with_locked(&[(db, key)], |locked| {
            locked.set(db, key, value, ttl, Event::Set)
        })
        .unwrap();
}

/// What was told since the last call, as "database event key".
fn told(databases: &Databases) -> Vec<String> {
    let mut events = Vec::new();
    databases.take_events(&mut events).unwrap();
    let text = |e: &atbr::engine::Notification| {
        format!(
            "{} {} {}",
            e.db,
            e.event.name(),
            String::from_utf8_lossy(&e.key)
        )
    };
    events.iter().map(text).collect()
}
