//! Any bytes as a TSV file: the parallel load and the plain one agree with a naive splitter.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;

use atbr::engine::{Filter, Keep, Options, Page, Store};
use atbr::files::tsv::{LoadOptions, load};
use libfuzzer_sys::fuzz_target;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn naive(input: &[u8], keep: Keep) -> (Map, Option<u64>) {
    let mut map = Map::new();
    let rows = input.strip_suffix(b"\n").unwrap_or(input);
    if input.is_empty() {
        return (map, None);
    }
    for (number, row) in rows.split(|&b| b == b'\n').enumerate() {
        let Some(tab) = row.iter().position(|&b| b == b'\t') else {
            return (map, Some(number as u64 + 1));
        };
        let (key, value) = (row[..tab].to_vec(), row[tab + 1..].to_vec());
        match keep {
            Keep::Last => drop(map.insert(key, value)),
            Keep::First => drop(map.entry(key).or_insert(value)),
        }
    }
    (map, None)
}

fn contents(store: &Store) -> Map {
    let (mut map, mut page, mut cursor) = (Map::new(), Page::default(), 0);
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 1000, true, &mut page)
            .unwrap();
        map.extend((0..page.len()).map(|i| (page.key(i).to_vec(), page.value(i).to_vec())));
        if cursor == 0 {
            return map;
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&head, input)) = data.split_first() else {
        return;
    };
    let path = std::env::temp_dir().join(format!("atbr-fuzz-{}.tsv", std::process::id()));
    fs::write(&path, input).unwrap();
    let keep = if head & 1 == 0 {
        Keep::Last
    } else {
        Keep::First
    };
    let (expected, bad_line) = naive(input, keep);
    for (threads, bulk_from) in [(1, u64::MAX), (1 + usize::from(head >> 1) % 4, 0)] {
        let store = Store::new(&Options::default()).unwrap();
        let options = LoadOptions {
            threads: Some(threads),
            keep,
            bulk_from,
            round_bytes: 1 + usize::from(head) * 8,
            ..LoadOptions::default()
        };
        match load(&store, &path, &options, &mut |_| ControlFlow::Continue(())) {
            Ok(report) => {
                assert_eq!(bad_line, None);
                assert_eq!(report.new, expected.len() as u64);
            }
            Err(failure) => match failure.error {
                atbr::Error::MalformedRow { line, .. } => assert_eq!(Some(line), bad_line),
                error => panic!("{error}"),
            },
        }
        assert_eq!(contents(&store), expected);
    }
});
