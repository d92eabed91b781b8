//! Databases, and what they tell.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use atbr::Error;
use atbr::engine::{Classes, Databases, Event, Ttl, Wait, failpoint};

use crate::{contents, filled, key};

/// Databases 0 to 3, made and filled: making one counts references, for which the standard library wants memory.
fn four_databases() -> Arc<Databases> {
    let databases = Arc::new(Databases::new(Arc::new(filled(100))).unwrap());
    for db in 1..4 {
        let store = databases.get_or_make(db).unwrap();
        for i in 0..100 {
            store.set(&key(i), b"value", Wait::Block).unwrap();
        }
    }
    databases
}

#[test]
fn steps_over_databases_that_fail_are_not_begun_and_leave_no_lock() {
    type Act<'a> = &'a dyn Fn(&Arc<Databases>) -> Result<(), Error>;
    // Made before: what the test itself needs is not what fails.
    let keys: Vec<_> = (0..8).map(|i| (i as u8 % 4, key(i))).collect();
    let dirty = Arc::new(AtomicBool::new(false));
    let acts: [(&str, Act<'_>); 5] = [
        ("with_locked", &|databases| {
            databases.with_locked(&keys, |_| Ok(()))
        }),
        ("watch", &|databases| {
            databases.watch(2, b"key 1", &dirty).map(drop)
        }),
        ("set_notify", &|databases| {
            databases.set_notify(Classes::STRING)
        }),
        ("swap", &|databases| databases.swap(1, 2)),
        ("random_key", &|databases| {
            databases.with_all_locked::<&[u8], _>(&[0, 1, 2, 3], &[], |locked| {
                locked.random_key(3, &mut Vec::new()).map(drop)
            })
        }),
    ];
    for (what, act) in acts {
        let databases = four_databases();
        failpoint::arm(None);
        act(&databases).unwrap();
        let sites = failpoint::disarm();
        assert!(sites > 0, "{what}");
        for site in 0..sites {
            let databases = four_databases();
            let generation = databases.generation();
            failpoint::arm(Some(site));
            let outcome = act(&databases);
            let reached = failpoint::disarm();
            match outcome {
                // The end of a watch may be left to who looks at it next; where keys are depends on the seed, and with it how
                // much is allocated.
                Ok(()) => assert!(what == "watch" || reached <= site, "{what}, site {site}"),
                Err(Error::OutOfMemory) => assert_eq!(databases.generation(), generation),
                Err(error) => panic!("{what}, site {site}: {error}"),
            }
            act(&databases).unwrap();
            for db in 0..4 {
                assert_eq!(contents(&databases.get(db).unwrap()).len(), 100);
            }
        }
        println!("{what}: {sites} sites");
    }
}

#[test]
fn events_for_which_there_is_no_memory_are_counted_and_the_write_is_done() {
    let told = |databases: &Databases| {
        let mut events = Vec::new();
        databases.take_events(&mut events).unwrap();
        events.len() as u64
    };
    let keys: Vec<_> = (0..100).map(key).collect();
    let write = |databases: &Databases, key: &[u8]| {
        databases
            .set(1, key, b"other", Ttl::Default, Event::Set)
            .is_ok()
    };
    let mut lost = 0;
    for site in 0..20 {
        let databases = four_databases();
        databases.set_notify(Classes::STRING).unwrap();
        failpoint::arm(Some(site));
        let written = keys.iter().filter(|key| write(&databases, key)).count() as u64;
        failpoint::disarm();
        assert_eq!(told(&databases) + databases.dropped_events(), written);
        lost += databases.dropped_events();
    }
    assert!(lost > 0);
}
