//! Numbered databases: one step over many keys, watches, notifications, exchange.

mod basics;

use std::sync::Arc;

use atbr::engine::{Databases, Options, Store};

fn databases() -> Arc<Databases> {
    with(&Options::default())
}

fn with(options: &Options) -> Arc<Databases> {
    let zero = Arc::new(Store::new(options).unwrap());
    Arc::new(Databases::new(zero).unwrap())
}

fn get(databases: &Databases, db: u8, key: &[u8]) -> Option<Vec<u8>> {
    let copy = |entry: atbr::engine::Entry<'_>| entry.value.as_slice().to_vec();
    databases.read(db, key, copy).unwrap()
}
