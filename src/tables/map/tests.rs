//! The ordered map against BTreeMap.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::leaf::{BIG_VALUE_LEN, SPLIT_LEN};
use super::{Bounds, Interval, OrderedMap, Page};

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<u8>, usize),
    Run(u16, usize, usize),
    Remove(Vec<u8>),
    RemoveRange(Vec<u8>, Option<Vec<u8>>),
    Scan(Vec<u8>, Option<Vec<u8>>, usize, bool),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop_oneof![Just(0_u8), Just(0xff), 0..3_u8], 0..4),
        any::<u16>().prop_map(|n| n.to_be_bytes().to_vec()),
    ]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..40_usize,
        Just(BIG_VALUE_LEN),
        Just(BIG_VALUE_LEN + 1),
        Just(SPLIT_LEN * 2)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (key(), len()).prop_map(|(key, len)| Step::Put(key, len)),
        2 => (any::<u16>(), 1..2_000_usize, 0..60_usize).prop_map(|(from, n, len)| Step::Run(from, n, len)),
        2 => key().prop_map(Step::Remove),
        1 => (key(), prop::option::of(key())).prop_map(|(low, high)| Step::RemoveRange(low, high)),
        2 => (key(), prop::option::of(key()), 0..500_usize, any::<bool>())
            .prop_map(|(low, high, n, reverse)| Step::Scan(low, high, n, reverse)),
    ]
}

type Ends<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

fn range<'a>(low: &'a [u8], high: &'a Option<Vec<u8>>) -> Option<Ends<'a>> {
    match high {
        Some(high) if high.as_slice() <= low => None,
        Some(high) => Some((Bound::Included(low), Bound::Excluded(high))),
        None => Some((Bound::Included(low), Bound::Unbounded)),
    }
}

fn apply(map: &OrderedMap, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, step: Step) {
    match step {
        Step::Put(key, len) => {
            let value = vec![len as u8; len];
            map.write(&[(&key, Some(&value))]).unwrap();
            model.insert(key, value);
        }
        Step::Run(from, n, len) => {
            for i in 0..n {
                let key = (from as usize + i).to_be_bytes()[6..].to_vec();
                let value = vec![7; len];
                map.write(&[(&key, Some(&value))]).unwrap();
                model.insert(key, value);
            }
        }
        Step::Remove(key) => {
            assert_eq!(map.remove_many(&[&key]) == 1, model.remove(&key).is_some());
        }
        Step::RemoveRange(low, high) => {
            let keys: Vec<Vec<u8>> = range(&low, &high)
                .map(|range| {
                    model
                        .range::<[u8], _>(range)
                        .map(|(key, _)| key.clone())
                        .collect()
                })
                .unwrap_or_default();
            let interval = Interval {
                low: &low,
                high: high.as_deref(),
            };
            assert_eq!(map.count(interval), keys.len());
            assert_eq!(map.remove_range(interval), keys.len());
            keys.iter().for_each(|key| {
                model.remove(key);
            });
        }
        Step::Scan(low, high, n, reverse) => {
            let mut page = Page::default();
            let bounds = Bounds {
                entries: n,
                reverse,
                keys_only: false,
            };
            map.fill(
                Interval {
                    low: &low,
                    high: high.as_deref(),
                },
                bounds,
                &mut page,
            )
            .unwrap();
            let all: Vec<(&[u8], &[u8])> = range(&low, &high)
                .map(|range| {
                    let found = model.range::<[u8], _>(range).map(|(k, v)| (&k[..], &v[..]));
                    if reverse {
                        found.rev().take(n).collect()
                    } else {
                        found.take(n).collect()
                    }
                })
                .unwrap_or_default();
            assert!(page.iter().eq(all));
        }
    }
    assert_eq!(map.len(), model.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_steps_does_what_it_does_to_a_btreemap(steps in prop::collection::vec(step(), 0..40)) {
        let (map, mut model) = (OrderedMap::new(), BTreeMap::new());
        for step in steps {
            apply(&map, &mut model, step);
        }
        for (key, value) in &model {
            let found = map.get(key, <[u8]>::to_vec);
            prop_assert_eq!(found.as_ref(), Some(value));
        }
        // Keys that are there, and neighbours that mostly are not.
        let asked: Vec<Vec<u8>> = model
            .keys()
            .flat_map(|key| [key.clone(), [key, &[0][..]].concat(), key[..key.len() / 2].to_vec()])
            .collect();
        let slices: Vec<&[u8]> = asked.iter().map(Vec::as_slice).collect();
        let mut page = Page::default();
        let found = map.get_many(&slices, &mut page).unwrap();
        prop_assert!(found.iter().zip(&asked).all(|(found, key)| *found == model.contains_key(key)));
        let there = asked.iter().filter_map(|key| model.get(key));
        prop_assert!(page.iter().map(|(_, value)| value).eq(there));
        let payload: usize = model.iter().map(|(key, value)| key.len() + value.len()).sum();
        let figures = map.figures();
        prop_assert!(figures.payload >= payload && figures.allocated >= payload);
    }
}

#[test]
fn entries_in_order_fill_their_leaves() {
    let map = OrderedMap::new();
    for i in 0..100_000_u64 {
        map.write(&[(&i.to_be_bytes(), Some(&[1; 32]))]).unwrap();
    }
    let figures = map.figures();
    assert!(figures.allocated < figures.payload * 3 / 2, "{figures:?}");
}

#[test]
fn deleting_nearly_all_gives_the_memory_back() {
    let map = OrderedMap::new();
    let keys: Vec<[u8; 8]> = (0..50_000_u64)
        .map(|i| (i * 7_919 % 50_000).to_be_bytes())
        .collect();
    for key in &keys {
        map.write(&[(key, Some(&[1; 32]))]).unwrap();
    }
    let before = map.figures().allocated;
    for key in &keys[..49_900] {
        map.remove_many(&[key]);
    }
    assert_eq!(map.len(), 100);
    assert!(
        map.figures().allocated < before / 50,
        "{:?} of {before}",
        map.figures()
    );
}

#[test]
fn thinning_out_joins_branches() {
    let map = OrderedMap::new();
    let value = [1; 1_000];
    let key = |i: u64| (i * 2).to_be_bytes();
    // Four rows a leaf: some dozen branches.
    for i in 0..20_000 {
        map.write(&[(&key(i), Some(&value))]).unwrap();
    }
    let before = map.figures().allocated;
    // All but one row in a thousand, one after the other and then by ranges, so that every branch shrinks by itself.
    for i in (0..20_000).filter(|i| i % 1_000 != 0) {
        if i % 1_000 < 500 {
            assert_eq!(map.remove_many(&[&key(i)]), 1);
        } else if i % 1_000 == 500 {
            let (low, high) = (key(i), key(i + 500));
            let half = Interval {
                low: &low,
                high: Some(&high),
            };
            assert_eq!(map.remove_range(half), 500);
        }
    }
    assert_eq!(map.len(), 20);
    for i in 0..20_000 {
        assert_eq!(map.get(&key(i), |_| ()).is_some(), i % 1_000 == 0, "{i}");
    }
    let after = map.figures().allocated;
    assert!(after < before / 50, "{after} of {before}");
}
