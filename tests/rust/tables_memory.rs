//! Memory runs out at every allocation of the ordered map, one after the other: each ends in an error or is done without,
//! and the map is whole, with every entry that was there.

use std::collections::BTreeMap;

use atbr::Error;
use atbr::engine::failpoint;
use atbr::tables::map::{Bounds, Interval, OrderedMap, Page};

#[global_allocator]
static ALLOCATOR: failpoint::Failing = failpoint::Failing;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const ALL: Interval<'_> = Interval {
    low: b"",
    high: None,
};

/// Looks at a map in every way there is, and holds the answers together.
fn contents(map: &OrderedMap) -> Model {
    let entries = |reverse| {
        let mut page = Page::default();
        let bounds = Bounds {
            entries: usize::MAX,
            reverse,
            keys_only: false,
        };
        map.fill(ALL, bounds, &mut page).unwrap();
        let copied = page
            .iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()));
        copied.collect::<Vec<_>>()
    };
    let forward = entries(false);
    let mut backward = entries(true);
    backward.reverse();
    assert_eq!(forward, backward);
    assert!(forward.is_sorted());
    assert_eq!((map.len(), map.count(ALL)), (forward.len(), forward.len()));
    for (key, value) in &forward {
        assert_eq!(map.get(key, <[u8]>::to_vec).as_ref(), Some(value));
    }
    forward.into_iter().collect()
}

fn key(i: usize) -> [u8; 8] {
    // Neighbours in time are no neighbours in the map.
    (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn value(i: usize) -> Vec<u8> {
    vec![i as u8; if i.is_multiple_of(50) { 2_000 } else { 32 }]
}

fn filled(entries: usize) -> OrderedMap {
    let map = OrderedMap::new();
    for i in 0..entries {
        map.write(&[(&key(i), Some(&value(i)))]).unwrap();
    }
    map
}

/// Runs `act` on maps of `entries`, failing allocation 0, 1, 2 and so on. A failed act has changed nothing.
fn fail_everywhere(entries: usize, act: impl Fn(&OrderedMap) -> Result<(), Error>) -> u64 {
    let reference = filled(entries);
    let before = contents(&reference);
    failpoint::arm(None);
    act(&reference).unwrap();
    let sites = failpoint::disarm();
    let after = contents(&reference);
    for site in 0..sites {
        let map = filled(entries);
        failpoint::arm(Some(site));
        let outcome = act(&map);
        failpoint::disarm();
        match outcome {
            Ok(()) => assert_eq!(contents(&map), after, "site {site}"),
            Err(Error::OutOfMemory) => assert_eq!(contents(&map), before, "site {site}"),
            Err(error) => panic!("site {site}: {error}"),
        }
        // The next write finds a map that works.
        map.write(&[(b"next", Some(b"1"))]).unwrap();
        assert_eq!(contents(&map).len(), map.len());
    }
    sites
}

#[test]
fn a_put_that_finds_no_memory_changes_nothing() {
    // The first leaf, inline and apart, new and replaced.
    let mut sites = fail_everywhere(0, |map| map.write(&[(b"k", Some(b"v"))]));
    sites += fail_everywhere(3, |map| map.write(&[(&key(1), Some(&[7; 3_000]))]));
    sites += fail_everywhere(3, |map| map.write(&[(&key(1), Some(&[7; 100]))]));
    assert!(sites > 8, "{sites}");
}

#[test]
fn leaves_and_branches_are_cut_in_two_or_stay_larger() {
    // One put after the other, each with the allocation that fails next: splits of leaves and, at some thousand leaves, of
    // branches are among them.
    let (map, mut model) = (OrderedMap::new(), Model::new());
    let (mut failed, mut site) = (0, 0);
    for i in 0..40_000 {
        let (key, value) = (key(i), value(i));
        failpoint::arm(Some(site % 7));
        let outcome = map.write(&[(&key, Some(&value))]);
        let seen = failpoint::disarm();
        site += u64::from(seen > 0);
        match outcome {
            Ok(()) => drop(model.insert(key.to_vec(), value)),
            Err(Error::OutOfMemory) => failed += 1,
            Err(error) => panic!("put {i}: {error}"),
        }
    }
    assert!(failed > 100 && model.len() > 30_000, "{failed}");
    assert_eq!(contents(&map), model);
    // What stayed too large is cut by later puts.
    for i in 0..40_000 {
        map.write(&[(&key(i), Some(&value(i)))]).unwrap();
    }
    assert_eq!(contents(&map), contents(&filled(40_000)));
}

#[test]
fn removing_needs_no_memory() {
    for site in 0..40 {
        let map = filled(3_000);
        let mut model = contents(&map);
        failpoint::arm(Some(site));
        for i in (0..3_000).step_by(2) {
            assert_eq!(map.remove_many(&[&key(i)]), 1);
            model.remove(&key(i)[..]);
        }
        let half = Interval {
            low: b"\x40",
            high: Some(b"\x90"),
        };
        let removed = map.remove_range(half);
        failpoint::disarm();
        let before = model.len();
        model.retain(|key, _| key[..] < b"\x40"[..] || key[..] >= b"\x90"[..]);
        assert_eq!(removed, before - model.len());
        assert_eq!(contents(&map), model, "site {site}");
    }
}

#[test]
fn reading_without_memory_is_an_error() {
    let keys: Vec<[u8; 8]> = (0..500).map(key).collect();
    let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let bounds = Bounds {
        entries: 400,
        reverse: false,
        keys_only: false,
    };
    let read = |map: &OrderedMap| {
        let mut page = Page::default();
        map.get_many(&slices, &mut page)?;
        map.fill(ALL, bounds, &mut Page::default())
    };
    let sites = fail_everywhere(500, read);
    assert!(sites > 5, "{sites}");
}
