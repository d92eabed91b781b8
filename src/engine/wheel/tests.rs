//! The wheel against a sorted list, its memory, and what it does where there is none.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Length of a slot of level 0.
const SLOT: u64 = 1 << TICK_BITS;
const END: u64 = 1 << 40;

/// The keys of a shard, their deadlines in a sorted list, and the wheel that has to find them.
struct Driver {
    wheel: Wheel,
    now: u64,
    deadlines: BTreeMap<u32, u64>,
    sorted: BTreeSet<(u64, u32)>,
    /// How often an entry has fired since its key was set or prolonged.
    fired: BTreeMap<u32, u32>,
    /// Entries in the wheel, those of keys that are gone included.
    entries: u64,
    keys: u32,
}

impl Driver {
    fn new(now: u64) -> Driver {
        Driver {
            wheel: Wheel::new(now),
            now,
            deadlines: BTreeMap::new(),
            sorted: BTreeSet::new(),
            fired: BTreeMap::new(),
            entries: 0,
            keys: 0,
        }
    }

    fn insert(&mut self, hash: u32, deadline: u64) {
        self.wheel.reserve(deadline, 1).unwrap();
        let bytes = self.wheel.bytes();
        self.wheel.insert(hash, deadline);
        assert_eq!(self.wheel.bytes(), bytes, "inserting allocates nothing");
        self.entries += 1;
        self.check();
    }

    fn set(&mut self, deadline: u64) {
        let hash = self.keys;
        self.keys += 1;
        self.deadlines.insert(hash, deadline);
        self.sorted.insert((deadline, hash));
        self.insert(hash, deadline);
    }

    /// Changes a deadline to a later one, of which the wheel hears when the entry fires.
    fn prolong(&mut self, pick: u32, by: u64) {
        if let Some((&hash, deadline)) = self.deadlines.range_mut(pick % self.keys.max(1)..).next()
        {
            self.sorted.remove(&(*deadline, hash));
            *deadline = (*deadline + by).min(END);
            self.sorted.insert((*deadline, hash));
            self.fired.insert(hash, 0);
        }
    }

    /// Deletes a key, of which the wheel does not hear at all.
    fn delete(&mut self, pick: u32) {
        if let Some((&hash, &deadline)) = self.deadlines.range(pick % self.keys.max(1)..).next() {
            self.deadlines.remove(&hash);
            self.sorted.remove(&(deadline, hash));
        }
    }

    /// One call, and what a shard does with it. Says whether there may be more.
    fn take(&mut self, limit: usize) -> bool {
        let due_later = self.wheel.next_due().is_none_or(|next| next > self.now);
        let mut out = vec![0; limit];
        let taken = self.wheel.take_due(self.now, &mut out);
        if due_later {
            assert_eq!(taken, 0, "nothing fires before the time that was given");
        } else {
            assert!(taken > 0, "something fires at the time that was given");
        }
        self.entries -= taken as u64;
        self.check();
        for &hash in &out[..taken] {
            self.fire(hash);
        }
        if taken < limit {
            self.check_drained();
        }
        taken == limit
    }

    fn fire(&mut self, hash: u32) {
        let Some(&deadline) = self.deadlines.get(&hash) else {
            return;
        };
        let fired = self.fired.entry(hash).or_default();
        *fired += 1;
        assert!(*fired <= LEVELS + 1, "an entry fires once a level");
        if deadline <= self.now {
            self.deadlines.remove(&hash);
            self.sorted.remove(&(deadline, hash));
        } else {
            self.insert(hash, deadline);
        }
    }

    fn drain(&mut self, limit: usize) {
        while self.take(limit) {}
    }

    /// Nothing whose slot is over is left, and nothing that was inserted again fires at once.
    fn check_drained(&self) {
        assert!(self.wheel.next_due().is_none_or(|next| next > self.now));
        if let Some(&(deadline, hash)) = self.sorted.first() {
            let late = self.now.saturating_sub(deadline);
            assert!(late < SLOT, "{hash} is {late} ms late at {}", self.now);
        }
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.entries);
        assert_eq!(self.wheel.next_due().is_none(), self.entries == 0);
        assert_eq!(self.wheel.bytes(), counted_bytes(&self.wheel));
    }
}

/// As [`Wheel::bytes`], by going through everything.
fn counted_bytes(wheel: &Wheel) -> usize {
    let chains = wheel.levels.iter().flat_map(|level| &level.chains);
    let nodes = chains
        .chain([&wheel.firing, &wheel.spare])
        .flat_map(Chain::nodes);
    let lists = wheel.levels.iter().map(|level| level.chains.capacity());
    malloc_bytes(size_of::<Wheel>())
        + nodes.map(Node::bytes).sum::<usize>()
        + lists
            .map(|n| malloc_bytes(n * size_of::<Chain>()))
            .sum::<usize>()
}

/// A boundary of a level at or after `now`, give or take a little.
fn near_boundary(now: u64, level: u32, steps: u64, jitter: i64) -> u64 {
    let slot = SLOT << (DIGIT_BITS * level);
    ((now / slot + steps) * slot)
        .saturating_add_signed(jitter)
        .min(END)
}

#[derive(Clone, Debug)]
enum When {
    Boundary(u32, u64, i64),
    After(u64),
    Before(u64),
}

impl When {
    fn at(&self, now: u64) -> u64 {
        match *self {
            When::Boundary(level, steps, jitter) => near_boundary(now, level, steps, jitter),
            When::After(delay) => (now + delay).min(END),
            When::Before(age) => now.saturating_sub(age).min(END),
        }
    }
}

fn when() -> impl Strategy<Value = When> {
    let jitter = prop_oneof![-3i64..=3, -300i64..300];
    prop_oneof![
        4 => (0..LEVELS, prop_oneof![0u64..3, 0u64..130], jitter)
            .prop_map(|(level, steps, jitter)| When::Boundary(level, steps, jitter)),
        4 => (0u32..40).prop_flat_map(|bits| 0..1u64 << bits).prop_map(When::After),
        1 => (0u32..40).prop_flat_map(|bits| 0..1u64 << bits).prop_map(When::Before),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Set(When),
    SetMany(When, u32),
    Prolong(u32, u64),
    Delete(u32),
    /// Time passes and nobody drains.
    Lag(When),
    /// Some calls, perhaps not enough of them.
    Take(usize, u32),
    /// Time passes to the time that the wheel gave, or to the one before.
    Next(bool),
    Drain(When, usize),
    Rebuild(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => when().prop_map(Op::Set),
        1 => (when(), 1u32..400).prop_map(|(when, count)| Op::SetMany(when, count)),
        2 => (any::<u32>(), (0u32..40).prop_flat_map(|bits| 0..1u64 << bits))
            .prop_map(|(pick, by)| Op::Prolong(pick, by)),
        1 => any::<u32>().prop_map(Op::Delete),
        2 => when().prop_map(Op::Lag),
        3 => (1usize..20, 1u32..4).prop_map(|(limit, calls)| Op::Take(limit, calls)),
        4 => any::<bool>().prop_map(Op::Next),
        3 => (when(), prop_oneof![1usize..4, 1usize..500])
            .prop_map(|(when, limit)| Op::Drain(when, limit)),
        1 => (1usize..50).prop_map(Op::Rebuild),
    ]
}

fn run(driver: &mut Driver, op: Op) {
    match op {
        Op::Set(when) => driver.set(when.at(driver.now)),
        Op::SetMany(when, count) => {
            (0..count).for_each(|_| driver.set(when.at(driver.now)));
        }
        Op::Prolong(pick, by) => driver.prolong(pick, by),
        Op::Delete(pick) => driver.delete(pick),
        Op::Lag(when) => driver.now = when.at(driver.now).max(driver.now),
        Op::Take(limit, calls) => {
            for _ in 0..calls {
                driver.take(limit);
            }
        }
        Op::Next(before) => {
            if let Some(next) = driver.wheel.next_due() {
                let now = next.saturating_sub(u64::from(before));
                driver.now = now.max(driver.now);
                driver.take(7);
            }
        }
        Op::Drain(when, limit) => {
            driver.now = when.at(driver.now).max(driver.now);
            driver.drain(limit);
        }
        Op::Rebuild(limit) => rebuild(driver, limit),
    }
}

fn rebuild(driver: &mut Driver, limit: usize) {
    let mut old = std::mem::replace(&mut driver.wheel, Wheel::new(driver.now));
    driver.entries = 0;
    driver.fired.clear();
    let (mut out, mut left) = (vec![0; limit], old.len());
    loop {
        let taken = old.take_any(&mut out);
        left -= taken as u64;
        assert_eq!(old.len(), left);
        for hash in &out[..taken] {
            if let Some(&deadline) = driver.deadlines.get(hash) {
                driver.insert(*hash, deadline);
            }
        }
        if taken < limit {
            break;
        }
    }
    assert_eq!(left, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_wheel_finds_what_a_sorted_list_finds(
        start in when(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut driver = Driver::new(start.at(0));
        for op in ops {
            run(&mut driver, op);
        }
        driver.now = driver.now.max(END + SLOT);
        driver.drain(100);
        prop_assert_eq!(driver.wheel.len(), 0);
        prop_assert!(driver.deadlines.is_empty());
        prop_assert_eq!(driver.wheel.bytes(), counted_bytes(&driver.wheel));
    }
}

#[test]
fn no_entry_fires_late_around_any_boundary() {
    for level in 0..LEVELS {
        let boundary = SLOT << (DIGIT_BITS * level);
        for start in [-129i64, -1, 0, 1] {
            let start = boundary.saturating_add_signed(start);
            let mut driver = Driver::new(start);
            for at in [1, 2, 63, 64].map(|steps| (steps * boundary).min(END)) {
                for jitter in [-129i64, -128, -127, -1, 0, 1, 127, 128, 129] {
                    driver.set(at.saturating_add_signed(jitter));
                }
            }
            while let Some(next) = driver.wheel.next_due() {
                assert!(next > driver.now || next == 0);
                // The last moment at which nothing may have been missed, and the first one after.
                for now in [next.saturating_sub(1), next] {
                    driver.now = now.max(driver.now);
                    driver.drain(3);
                }
            }
            assert!(driver.deadlines.is_empty());
        }
    }
}

#[test]
fn a_slot_that_has_begun_fires_before_what_is_inserted_after() {
    for level in 1..LEVELS {
        let begins = SLOT << (DIGIT_BITS * level);
        let mut wheel = Wheel::new(begins - SLOT);
        let mut out = [0; 1];
        for (hash, deadline) in [(1, begins - 1), (2, begins)] {
            wheel.reserve(deadline, 1).unwrap();
            wheel.insert(hash, deadline);
        }
        assert_eq!(wheel.take_due(begins, &mut out), 1);
        assert_eq!(out, [1]);
        wheel.reserve(begins + 5 * SLOT, 1).unwrap();
        wheel.insert(3, begins + 5 * SLOT);
        assert_eq!(wheel.next_due(), Some(begins));
        assert_eq!(wheel.take_due(begins, &mut out), 1);
        assert_eq!(out, [2]);
        assert_eq!(wheel.take_due(begins, &mut out), 0);
        assert_eq!(wheel.next_due(), Some(begins + 6 * SLOT));
    }
}

#[test]
fn a_deadline_in_the_past_fires_at_the_next_call() {
    let mut wheel = Wheel::new(1_000_000);
    let mut out = [0; 4];
    wheel.reserve(5, 1).unwrap();
    wheel.insert(7, 5);
    assert_eq!(wheel.next_due(), Some(0));
    assert_eq!(wheel.take_due(1_000_000, &mut out), 1);
    assert_eq!((out[0], wheel.len(), wheel.next_due()), (7, 0, None));
}

#[test]
fn a_deadline_beyond_the_last_level_is_kept() {
    let mut wheel = Wheel::new(0);
    wheel.reserve(u64::MAX, 1).unwrap();
    wheel.insert(7, u64::MAX);
    let mut out = [0; 4];
    assert_eq!(wheel.take_due(END, &mut out), 0);
    assert_eq!(wheel.len(), 1);
}

#[test]
fn room_for_many_entries_is_room_for_each_of_them() {
    for count in [1, 4, 5, 6, 62, 5000] {
        let mut wheel = Wheel::new(0);
        for round in 0..3 {
            wheel.reserve(SLOT * 70, count).unwrap();
            let bytes = wheel.bytes();
            (0..count).for_each(|hash| wheel.insert(hash as u32, SLOT * 70));
            assert_eq!(wheel.len(), (count * (round + 1)) as u64);
            assert_eq!(wheel.bytes(), bytes);
            assert_eq!(wheel.bytes(), counted_bytes(&wheel));
        }
    }
}

#[test]
fn nodes_grow_from_seven_hashes_to_251() {
    let sizes: Vec<_> = (0..100).map(capacity_after).collect();
    let runs: Vec<_> = sizes
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len()))
        .collect();
    let expected = [(7, 1), (15, 3), (27, 6), (59, 12), (123, 24), (251, 54)];
    assert_eq!(runs, expected);
}

#[test]
fn room_that_nobody_used_is_used_or_given_back() {
    let mut wheel = Wheel::new(0);
    // All that 22 nodes hold, so that the next one is much larger than a first one.
    for hash in 0..922 {
        wheel.reserve(SLOT, 1).unwrap();
        wheel.insert(hash, SLOT);
    }
    let full = wheel.bytes();
    for _ in 0..100 {
        wheel.reserve(SLOT, 1).unwrap();
        assert_eq!(wheel.bytes(), full + 512);
    }
    // Its only entry would have the large node to itself.
    wheel.reserve(9 * SLOT, 1).unwrap();
    assert_eq!(wheel.bytes(), full + 48);
    wheel.insert(1, 9 * SLOT);
    wheel.reserve(SLOT, 500).unwrap();
    let announced = wheel.bytes();
    for _ in 0..200 {
        wheel.reserve(SLOT, 1).unwrap();
        wheel.insert(1, SLOT);
    }
    assert_eq!(wheel.bytes(), announced);
    assert_eq!(wheel.bytes(), counted_bytes(&wheel));
}

#[test]
fn a_long_chain_is_dropped_without_recursion() {
    let mut wheel = Wheel::new(0);
    let count = 20_000_000;
    wheel.reserve(SLOT, count).unwrap();
    (0..count).for_each(|hash| wheel.insert(hash as u32, SLOT));
    drop(wheel);
}

/// Spreads `count` entries over `span` from `now` on, as a multiplicative sequence does.
fn spread(wheel: &mut Wheel, now: u64, span: u64, count: u64) {
    for i in 0..count {
        let deadline = now + i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span;
        wheel.reserve(deadline, 1).unwrap();
        wheel.insert(i as u32, deadline);
    }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The most bytes an entry takes where 80,000 are spread over `span`, wherever the slots' boundaries fall.
fn worst_bytes_of_a_spread(span: u64) -> f64 {
    let starts = [0, 1_234_567_890, 987_654_321_012];
    let each = starts.map(|now| {
        let mut wheel = Wheel::new(now);
        spread(&mut wheel, now, span, 80_000);
        wheel.bytes() as f64 / wheel.len() as f64
    });
    println!("spread over {span} ms: {each:.3?} bytes an entry");
    each.into_iter().fold(0.0, f64::max)
}

#[test]
fn entries_of_a_minute_or_an_hour_take_at_most_four_and_a_half_bytes_each() {
    for span in [MINUTE, HOUR] {
        assert!(worst_bytes_of_a_spread(span) <= 4.5);
    }
    // Where all slots in use have come to the beginning of a node at once.
    for span in [10 * SECOND, 10 * MINUTE, 24 * HOUR, 30 * 24 * HOUR] {
        assert!(worst_bytes_of_a_spread(span) <= 4.9);
    }
}

/// Lets 80,000 keys of one lifetime be set evenly, expire, and be set again. Returns the bytes of each at the worst
/// moment of the second lifetime.
fn worst_bytes_in_use(now: u64, lifetime: u64) -> f64 {
    let (steps, at_once) = (8_000, 10);
    let mut wheel = Wheel::new(now);
    let (mut out, mut worst) = ([0; 64], 0f64);
    let time_of = |step: u64| now + step * lifetime / steps;
    for step in 0..2 * steps {
        let now = time_of(step);
        loop {
            let taken = wheel.take_due(now, &mut out);
            for &hash in &out[..taken] {
                let deadline = time_of(u64::from(hash)) + lifetime;
                if deadline > now {
                    wheel.reserve(deadline, 1).unwrap();
                    wheel.insert(hash, deadline);
                }
            }
            if taken < out.len() {
                break;
            }
        }
        wheel.reserve(now + lifetime, at_once).unwrap();
        (0..at_once).for_each(|_| wheel.insert(step as u32, now + lifetime));
        if step > steps {
            worst = worst.max(wheel.bytes() as f64 / wheel.len() as f64);
        }
    }
    worst
}

#[test]
fn entries_that_come_and_go_take_at_most_four_and_a_half_bytes_each() {
    for lifetime in [MINUTE, HOUR] {
        for now in [0, 987_654_321_012] {
            let each = worst_bytes_in_use(now, lifetime);
            println!("lifetime of {lifetime} ms from {now}: {each:.3} bytes an entry at worst");
            assert!(each <= 4.5, "{each} bytes an entry, lifetime {lifetime}");
        }
    }
}

#[test]
fn a_wheel_of_a_few_entries_takes_less_than_a_kilobyte() {
    let mut wheel = Wheel::new(0);
    assert_eq!(wheel.bytes(), malloc_bytes(size_of::<Wheel>()));
    for (hash, deadline) in [0, SECOND, MINUTE, HOUR, 24 * HOUR].into_iter().enumerate() {
        wheel.reserve(deadline, 1).unwrap();
        wheel.insert(hash as u32, deadline);
    }
    println!("{} bytes for five entries", wheel.bytes());
    assert!(wheel.bytes() < 1024);
    spread(&mut wheel, 0, HOUR, 80_000);
    let mut out = [0; 1000];
    while wheel.take_due(END, &mut out) == out.len() {}
    println!("{} bytes when all are gone", wheel.bytes());
    assert!(wheel.bytes() < 512);
}

/// Allocations fail as in tests/rust/memory.
#[cfg(feature = "failpoints")]
mod failing {
    use super::*;
    use crate::engine::failpoint;

    #[global_allocator]
    static ALLOCATOR: failpoint::Failing = failpoint::Failing;

    fn filled() -> Wheel {
        let mut wheel = Wheel::new(0);
        spread(&mut wheel, 0, MINUTE, 1000);
        // Room that is not used, of a size that does not fit every slot.
        wheel.reserve(HOUR, 5).unwrap();
        wheel
    }

    #[test]
    fn room_that_cannot_be_had_changes_nothing() {
        let mut sites = 0;
        for deadline in [0, 5 * SECOND, MINUTE, HOUR, 24 * HOUR] {
            for count in [1, 100, 3000] {
                failpoint::arm(None);
                let mut wheel = filled();
                failpoint::arm(None);
                wheel.reserve(deadline, count).unwrap();
                let allocations = failpoint::disarm();
                for site in 0..allocations {
                    let mut wheel = filled();
                    let (bytes, next) = (wheel.bytes(), wheel.next_due());
                    failpoint::arm(Some(site));
                    let outcome = wheel.reserve(deadline, count);
                    failpoint::disarm();
                    assert!(outcome.is_err());
                    assert_eq!((wheel.bytes(), wheel.next_due()), (bytes, next));
                    assert_eq!((wheel.len(), counted_bytes(&wheel)), (1000, bytes));
                    wheel.reserve(deadline, count).unwrap();
                }
                sites += allocations;
            }
        }
        assert!(sites > 50, "{sites}");
    }

    #[test]
    fn nothing_but_making_room_allocates() {
        let mut wheel = filled();
        let mut out = [0; 100];
        let mut allocations = 0;
        let mut count = |act: &mut dyn FnMut()| {
            failpoint::arm(None);
            act();
            allocations += failpoint::disarm();
        };
        for deadline in [0, MINUTE, HOUR] {
            wheel.reserve(deadline, 3000).unwrap();
            count(&mut || (0..3000).for_each(|hash| wheel.insert(hash, deadline)));
        }
        count(&mut || while wheel.take_due(2 * MINUTE, &mut out) == out.len() {});
        count(&mut || while wheel.take_any(&mut out) == out.len() {});
        count(&mut || drop(std::mem::replace(&mut wheel, Wheel::new(5))));
        assert_eq!(allocations, 0);
    }
}
