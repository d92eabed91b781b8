//! Entries that expire. Time is moved.

mod cost;
mod model;
mod sweeper;

use atbr::engine::{Clock, ManualClock, Options, Store, Ttl};

fn make(clock: &ManualClock, ttl: Ttl, sweeps: bool) -> Store {
    Store::new(&Options {
        clock: Clock::Manual(clock.clone()),
        ttl,
        sweeps,
        ..Options::default()
    })
    .unwrap()
}

fn key_of(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}
