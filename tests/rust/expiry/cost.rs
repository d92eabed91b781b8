//! What expiry costs: memory, and the work of a write and of a step of sweeping.

use atbr::Error;
use atbr::engine::{ManualClock, Store, Ttl, Wait};

use crate::{key_of, make};

fn rounds() -> u64 {
    if cfg!(debug_assertions) {
        1_000_000
    } else {
        10_000_000
    }
}

/// Fails where the bytes of a store rise while `write` is called ten million times.
fn stays_flat(what: &str, store: &Store, mut write: impl FnMut(u64)) {
    (0..200_000).for_each(&mut write);
    let most = store.stats().bytes_allocated;
    for part in 0..10 {
        let share = rounds() / 10;
        (part * share..(part + 1) * share).for_each(&mut write);
        let now = store.stats().bytes_allocated;
        assert!(
            now <= most + most / 4,
            "{what}: {most} bytes before, {now} after part {part}"
        );
    }
}

#[test]
fn ten_million_touches_of_one_key_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    store.set(b"session", b"data", Wait::Block).unwrap();
    stays_flat("touches", &store, |i| {
        clock.advance(i % 2);
        store
            .touch(b"session", Ttl::Millis(1_800_000), Wait::Block)
            .unwrap();
    });
    // Each touch a little earlier, so that each is news for the wheel.
    stays_flat("earlier and earlier", &store, |i| {
        let ttl = Ttl::Millis(1_800_000 - i % 1_700_000);
        store.touch(b"session", ttl, Wait::Block).unwrap();
    });
    clock.advance(1_800_000);
    assert_eq!(store.expire().unwrap(), 1);
    assert_eq!(store.stats().expiring, 0);
}

#[test]
fn ten_million_sets_of_ten_seconds_and_an_hour_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    stays_flat("alternating sets", &store, |i| {
        let ttl = if i % 2 == 0 { 10_000 } else { 3_600_000 };
        store
            .set_with(b"key", b"value", Ttl::Millis(ttl), Wait::Block)
            .unwrap();
    });
    clock.advance(3_600_000);
    assert_eq!(store.expire().unwrap(), 1);
}

#[test]
fn ten_million_sets_and_deletes_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    stays_flat("sets and deletes", &store, |i| {
        let key = key_of(i % 1_000);
        store
            .set_with(&key, b"value", Ttl::Millis(3_600_000), Wait::Block)
            .unwrap();
        store.delete(&key, Wait::Block).unwrap();
    });
    stays_flat("sets and deletes of a thousand", &store, |i| {
        let key = key_of(i % 1_000);
        if i / 1_000 % 2 == 0 {
            store
                .set_with(&key, b"value", Ttl::Millis(3_600_000), Wait::Block)
                .unwrap();
        } else {
            store.delete(&key, Wait::Block).unwrap();
        }
    });
}

#[test]
fn entries_that_expire_while_others_come_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    stays_flat("a stream", &store, |i| {
        let value = [7; 100];
        let ttl = Ttl::Millis(1 + i % 1_000);
        store
            .set_with(&key_of(i), &value[..(i % 100) as usize], ttl, Wait::Block)
            .unwrap();
        if i % 100 == 0 {
            clock.advance(10);
        }
        if i % 10_000 == 0 {
            store.expire().unwrap();
        }
    });
    clock.advance(2_000);
    store.expire().unwrap();
    assert!(store.is_empty());
}

#[test]
fn a_deadline_costs_five_bytes_and_a_share_of_the_wheel() {
    const ENTRIES: u64 = 200_000;
    let clock = ManualClock::default();
    let (plain, store) = (
        make(&clock, Ttl::Never, false),
        make(&clock, Ttl::Never, false),
    );
    for i in 0..ENTRIES {
        plain
            .set(&key_of(i), b"0123456789abcdef", Wait::Block)
            .unwrap();
        let ttl = Ttl::Millis(3_600_000 + i % 60_000);
        store
            .set_with(&key_of(i), b"0123456789abcdef", ttl, Wait::Block)
            .unwrap();
    }
    let more = store.stats().bytes_allocated - plain.stats().bytes_allocated;
    // Flags and deadline, 6 bytes, and the wheel's 4 and a half; what chunks have left over is the rest.
    assert!(more < ENTRIES * 14, "{more} bytes more");
}

#[test]
fn a_write_does_a_bounded_amount_of_work_beside_millions_of_entries_that_are_due() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    for i in 0..1_000_000 {
        store
            .set_with(&key_of(i), &key_of(i), Ttl::Millis(1_000), Wait::Block)
            .unwrap();
    }
    clock.advance(2_000);
    for i in 0..200_000 {
        store
            .set_with(&key_of(i * 5), b"", Ttl::Millis(1_000), Wait::Block)
            .unwrap();
        store.delete(&key_of(i * 5 + 1), Wait::Block).unwrap();
    }
    let stats = store.stats();
    assert!(stats.most_slots_moved <= 200 * 48, "{stats:?}");
    assert!(stats.most_bytes_copied <= 16 * 1024 + 16, "{stats:?}");
    assert_eq!(stats.expirations, 400_000);
    assert_eq!(store.expire().unwrap(), 600_000);
    assert_eq!(store.len(), 200_000);
}

#[test]
fn expiring_is_cancelled_between_steps_and_goes_on_where_it_was() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    for i in 0..100_000 {
        store
            .set_with(&key_of(i), b"", Ttl::Millis(1_000), Wait::Block)
            .unwrap();
    }
    clock.advance(2_000);
    let mut expired = 0;
    for steps in [1, 2, 100, 1_000] {
        let mut left = steps;
        let outcome = store.expire_while(&mut || {
            left -= 1;
            left > 0
        });
        assert!(matches!(outcome, Err(Error::Cancelled)));
        let taken = store.stats().expirations - expired;
        // A step is 32 entries of one shard.
        assert!(taken <= steps * 32, "{taken} in {steps} steps");
        expired += taken;
    }
    assert_eq!(store.expire().unwrap(), 100_000 - expired);
}

/// What a sweep that is cut short at any step leaves behind is as before but for the entries it took.
#[test]
fn a_sweep_that_stops_anywhere_leaves_the_store_whole() {
    for stop in 0..40 {
        let clock = ManualClock::default();
        let store = make(&clock, Ttl::Never, false);
        for i in 0..2_000 {
            let ttl = Ttl::Millis(if i % 4 == 0 { 100_000 } else { 100 + i % 300 });
            store
                .set_with(&key_of(i), &[1; 50], ttl, Wait::Block)
                .unwrap();
        }
        clock.advance(250);
        let mut steps = 0;
        let _ = store.expire_while(&mut || {
            steps += 1;
            steps <= stop * 5
        });
        for i in 0..2_000 {
            let there = i % 4 == 0 || 100 + i % 300 > 250;
            assert_eq!(store.contains(&key_of(i), Wait::Block).unwrap(), there);
        }
        clock.advance(150);
        store.expire().unwrap();
        assert_eq!(store.len(), 500);
        clock.advance(100_000);
        assert_eq!(store.expire().unwrap(), 500);
    }
}
