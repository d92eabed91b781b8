//! Any sequence of operations and moments: the store agrees with a map with deadlines.
#![no_main]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use atbr::engine::{
    BulkLoad, Clock, Filter, Keep, ManualClock, Options, Page, Popped, Store, Ttl, Wait,
};
use libfuzzer_sys::fuzz_target;

/// Values and deadlines; some have passed.
type Map = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

const NEVER: u64 = u64::MAX;
/// Deadlines are told for 34 years.
const LAST: u64 = 20 * 365 * 24 * 3_600_000;

/// Takes operands off the front of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        let (number, kind) = (self.byte()?, self.byte()?);
        let len = match kind {
            0..=200 => 1 + usize::from(kind % 8),
            201..=230 => 60 + usize::from(kind % 8),
            231..=250 => 2000 + usize::from(kind),
            _ => 0,
        };
        Some(vec![number; len])
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let (fill, kind) = (self.byte()?, self.byte()?);
        let len = match kind {
            0..=180 => usize::from(kind),
            181..=230 => usize::from(kind) * 11,
            231..=252 => usize::from(kind) * 70,
            _ => usize::from(kind) * 300,
        };
        Some(vec![fill; len])
    }

    /// Milliseconds, at any level of a wheel.
    fn span(&mut self) -> Option<u64> {
        let (bits, offset) = (self.byte()? % 38, u64::from(self.byte()?));
        Some(((1 << bits) + offset).clamp(1, 10 * 365 * 24 * 3_600_000))
    }

    fn ttl(&mut self) -> Option<Ttl> {
        Some(match self.byte()? % 4 {
            0 => Ttl::Never,
            _ => Ttl::Millis(self.span()?),
        })
    }
}

fn live<'m>(map: &'m Map, key: &[u8], clock: &ManualClock) -> Option<&'m (Vec<u8>, u64)> {
    map.get(key).filter(|(_, deadline)| *deadline > clock.now())
}

fn deadline(ttl: Ttl, clock: &ManualClock) -> u64 {
    match ttl {
        Ttl::Millis(ttl) => clock.now() + ttl,
        _ => NEVER,
    }
}

fn expire(store: &Store, map: &mut Map, clock: &ManualClock) {
    let before = map.len();
    map.retain(|_, (_, deadline)| *deadline > clock.now());
    assert_eq!(store.expire().unwrap() as usize, before - map.len());
    assert_eq!(store.len(), map.len());
}

fn run(mut input: Input<'_>, store: &Store, map: &mut Map, clock: &ManualClock) -> Option<()> {
    loop {
        match input.byte()? % 18 {
            0..=3 => {
                let (key, value, ttl) = (input.key()?, input.value()?, input.ttl()?);
                let new = store.set_with(&key, &value, ttl, Wait::Block).unwrap();
                assert_eq!(new, live(map, &key, clock).is_none());
                map.insert(key, (value, deadline(ttl, clock)));
            }
            4..=5 => {
                let key = input.key()?;
                let there = live(map, &key, clock).is_some();
                assert_eq!(store.delete(&key, Wait::Block).unwrap(), there);
                map.remove(&key);
            }
            6 => {
                let (key, tail) = (input.key()?, input.value()?);
                let (mut value, deadline) = live(map, &key, clock)
                    .cloned()
                    .unwrap_or((Vec::new(), NEVER));
                value.extend_from_slice(&tail);
                assert_eq!(store.append(&key, &tail, Wait::Block).unwrap(), value.len());
                map.insert(key, (value, deadline));
            }
            7 => match store.pop_any().unwrap() {
                Some(Popped {
                    key,
                    value,
                    time_left,
                    ..
                }) => {
                    let (expected, deadline) = map.remove(&key).unwrap();
                    assert_eq!(value, expected);
                    assert_eq!(time_left.map_or(NEVER, |left| clock.now() + left), deadline);
                }
                None => assert!(map.keys().all(|key| live(map, key, clock).is_none())),
            },
            8 => store.compact().unwrap(),
            9 => {
                let (count, ttl, first) = (input.byte()?, input.ttl()?, input.byte()? % 2 == 1);
                // Where the input ends, the rows that it still gave are loaded.
                let rows: Vec<_> = (0..count)
                    .map_while(|_| Some((input.key()?, input.value()?)))
                    .collect();
                let keep = if first { Keep::First } else { Keep::Last };
                let mut bulk = BulkLoad::new(store, 2, keep, ttl).unwrap();
                for (i, (key, value)) in rows.into_iter().enumerate() {
                    // Rows of the second writer come after those of the first.
                    bulk.writers()[i % 2].push(&key, &value).unwrap();
                    if i % 2 == 1 {
                        bulk.merge(&AtomicBool::new(false)).unwrap();
                    }
                    if !first || live(map, &key, clock).is_none() {
                        map.insert(key, (value, deadline(ttl, clock)));
                    }
                }
                bulk.merge(&AtomicBool::new(false)).unwrap();
                bulk.finish().unwrap();
            }
            10 => {
                let key = input.key()?;
                let there = live(map, &key, clock);
                assert_eq!(
                    store.get(&key).unwrap().as_ref(),
                    there.map(|(value, _)| value)
                );
                let left = there.map(|&(_, at)| (at != NEVER).then(|| at - clock.now()));
                assert_eq!(store.time_left(&key, Wait::Block).unwrap(), left);
            }
            11..=13 => {
                let (key, ttl) = (input.key()?, input.ttl()?);
                let there = live(map, &key, clock).is_some();
                assert_eq!(store.touch(&key, ttl, Wait::Block).unwrap(), there);
                if there && let Some(entry) = map.get_mut(&key) {
                    entry.1 = deadline(ttl, clock);
                }
            }
            14..=15 => {
                let span = input.span()?;
                if clock.now() + span < LAST {
                    clock.advance(span);
                }
            }
            16 => expire(store, map, clock),
            _ => store.reserve(usize::from(input.byte()?) * 100).unwrap(),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let clock = ManualClock::default();
    let options = Options {
        seed: Some(1),
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    };
    let store = Store::new(&options).unwrap();
    let mut map = Map::new();
    run(Input(data), &store, &mut map, &clock);
    assert_eq!(store.len(), map.len());
    expire(&store, &mut map, &clock);
    let (mut page, mut cursor, mut left) = (Page::default(), 0, Map::new());
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 100, true, &mut page)
            .unwrap();
        for i in 0..page.len() {
            let deadline = page.time_left(i).map_or(NEVER, |left| clock.now() + left);
            let entry = (page.value(i).to_vec(), deadline);
            assert!(left.insert(page.key(i).to_vec(), entry).is_none());
        }
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(store.len(), left.len());
    assert_eq!(left, map);
    // All that has a deadline is found when it has come.
    clock.advance(LAST);
    expire(&store, &mut map, &clock);
    assert_eq!(store.stats().expiring, 0);
});
