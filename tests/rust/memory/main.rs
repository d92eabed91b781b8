//! Memory runs out at every allocation there is, one after the other: those of Rust by the allocator below,
//! those of C++ and mmap by the engine's failpoints. Each ends in an error, with the store whole.

mod databases;
mod expiring;
mod store;

use std::collections::BTreeMap;

use atbr::Error;
use atbr::engine::{Filter, Options, Page, Store, Wait, failpoint};

#[global_allocator]
static ALLOCATOR: failpoint::Failing = failpoint::Failing;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn contents(store: &Store) -> Map {
    let (mut map, mut page, mut cursor) = (Map::new(), Page::default(), 0);
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 1000, true, &mut page)
            .unwrap();
        map.extend((0..page.len()).map(|i| (page.key(i).to_vec(), page.value(i).to_vec())));
        if cursor == 0 {
            assert_eq!(map.len(), store.len());
            let stats = store.stats();
            assert_eq!(map.len() as u64, stats.entries);
            let (keys, values) = map.iter().fold((0, 0), |(k, v), (key, value)| {
                (k + key.len(), v + value.len())
            });
            assert_eq!(
                (keys as u64, values as u64),
                (stats.key_bytes, stats.value_bytes)
            );
            return map;
        }
    }
}

fn key(i: usize) -> Vec<u8> {
    format!("key {i}").into_bytes()
}

fn filled(entries: usize) -> Store {
    let store = Store::new(&Options {
        seed: Some(1),
        ..Options::default()
    })
    .unwrap();
    for i in 0..entries {
        store.set(&key(i), b"value", Wait::Block).unwrap();
    }
    store
}

/// Runs `act` on fresh stores, failing allocation 0, 1, 2 and so on, until none is left to fail. `allowed`
/// says whether what a failed call left behind is right. Returns the number of sites.
fn fail_everywhere(
    what: &str,
    make: impl Fn() -> Store,
    act: impl Fn(&Store) -> Result<(), Error>,
    allowed: impl Fn(&Map, &Map) -> bool,
) -> u64 {
    let reference = make();
    let before = contents(&reference);
    failpoint::arm(None);
    act(&reference).unwrap();
    let sites = failpoint::disarm();
    let after = contents(&reference);
    for site in 0..sites {
        let store = make();
        failpoint::arm(Some(site));
        let outcome = act(&store);
        failpoint::disarm();
        let left = contents(&store);
        match outcome {
            // Some allocations can be done without: a smaller table, a step of compaction.
            Ok(()) => assert_eq!(left, after, "{what}, site {site}"),
            Err(Error::OutOfMemory) => {
                assert!(
                    left == before || allowed(&left, &after),
                    "{what}, site {site}"
                );
            }
            Err(error) => panic!("{what}, site {site}: {error}"),
        }
        act(&store).unwrap();
        assert_eq!(
            contents(&store),
            after,
            "{what} after the failure at site {site}"
        );
        store.compact().unwrap();
        assert_eq!(contents(&store), after, "{what}, compacted, site {site}");
    }
    println!("{what}: {sites} sites");
    sites
}

fn nothing_else(_left: &Map, _after: &Map) -> bool {
    false
}

fn a_part(left: &Map, after: &Map) -> bool {
    left.iter()
        .all(|(key, value)| after.get(key) == Some(value))
}
