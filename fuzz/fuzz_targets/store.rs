//! Any sequence of operations: the store agrees with a map.
#![no_main]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use atbr::engine::{BulkLoad, Filter, Keep, Options, Page, Popped, Store, Ttl, Wait};
use libfuzzer_sys::fuzz_target;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

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
}

fn run(mut input: Input<'_>, store: &Store, map: &mut Map) -> Option<()> {
    loop {
        match input.byte()? % 12 {
            0..=3 => {
                let (key, value) = (input.key()?, input.value()?);
                let new = store.set(&key, &value, Wait::Block).unwrap();
                assert_eq!(new, map.insert(key, value).is_none());
            }
            4..=5 => {
                let key = input.key()?;
                assert_eq!(store.delete(&key, Wait::Block).unwrap(), map.remove(&key).is_some());
            }
            6 => {
                let (key, tail) = (input.key()?, input.value()?);
                let value: &mut Vec<u8> = map.entry(key.clone()).or_default();
                value.extend_from_slice(&tail);
                assert_eq!(store.append(&key, &tail, Wait::Block).unwrap(), value.len());
            }
            7 => match store.pop_any().unwrap() {
                Some(Popped { key, value, .. }) => assert_eq!(map.remove(&key), Some(value)),
                None => assert!(map.is_empty()),
            },
            8 => store.compact().unwrap(),
            9 => {
                let count = input.byte()?;
                // Where the input ends, the rows that it still gave are loaded.
                let rows: Vec<_> =
                    (0..count).map_while(|_| Some((input.key()?, input.value()?))).collect();
                let mut bulk = BulkLoad::new(store, 2, Keep::Last, Ttl::Default).unwrap();
                for (i, (key, value)) in rows.into_iter().enumerate() {
                    // Rows of the second writer come after those of the first.
                    bulk.writers()[i % 2].push(&key, &value).unwrap();
                    if i % 2 == 1 {
                        bulk.merge(&AtomicBool::new(false)).unwrap();
                    }
                    map.insert(key, value);
                }
                bulk.merge(&AtomicBool::new(false)).unwrap();
                bulk.finish().unwrap();
            }
            10 => {
                let key = input.key()?;
                assert_eq!(store.get(&key).unwrap().as_ref(), map.get(&key));
            }
            _ => store.reserve(usize::from(input.byte()?) * 100).unwrap(),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let store = Store::new(&Options { seed: Some(1), ..Options::default() }).unwrap();
    let mut map = Map::new();
    run(Input(data), &store, &mut map);
    let (mut page, mut cursor, mut left) = (Page::default(), 0, Map::new());
    loop {
        cursor = store.scan(cursor, &Filter::default(), 100, true, &mut page).unwrap();
        for i in 0..page.len() {
            assert!(left.insert(page.key(i).to_vec(), page.value(i).to_vec()).is_none());
        }
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(store.len(), left.len());
    assert_eq!(left, map);
});
