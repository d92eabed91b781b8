//! What a load leaves in the store, for every number of threads and every way to cut the input.

use std::ops::ControlFlow;

use atbr::Error;
use atbr::engine::{Keep, Wait};
use atbr::files::tsv::{self, LoadOptions};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    Folder, Map, assert_prefix, bulk, contents, load, new_store, numbered_rows, one_by_one,
};

/// What a load should do: the plainest code that can say it.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    map: Map,
    rows: u64,
    new: u64,
    replaced: u64,
    bytes: u64,
    /// Line and byte offset of the first row without a tab.
    bad: Option<(u64, u64)>,
}

fn naive(text: &[u8], before: &Map, keep: Keep) -> Expected {
    let mut expected = Expected {
        map: before.clone(),
        ..Expected::default()
    };
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let row = line.strip_suffix(b"\n").unwrap_or(line);
        let Some(tab) = row.iter().position(|&byte| byte == b'\t') else {
            expected.bad = Some((expected.rows + 1, expected.bytes));
            break;
        };
        let (key, value) = (row[..tab].to_vec(), row[tab + 1..].to_vec());
        let known = expected.map.contains_key(&key);
        expected.new += u64::from(!known);
        expected.replaced += u64::from(known && keep == Keep::Last);
        if !known || keep == Keep::Last {
            expected.map.insert(key, value);
        }
        expected.rows += 1;
        expected.bytes += line.len() as u64;
    }
    expected
}

fn check(text: &[u8], before: &Map, options: &LoadOptions) {
    let folder = Folder::new();
    let path = folder.file("rows.tsv", text);
    let store = new_store();
    for (key, value) in before {
        store.set(key, value, Wait::Block).unwrap();
    }
    let expected = naive(text, before, options.keep);
    let (report, bad) = match load(&store, &path, options) {
        Ok(report) => (report, None),
        Err(failure) => match failure.error {
            Error::MalformedRow {
                path: named,
                line,
                byte_offset,
            } => {
                assert_eq!(named, path);
                (failure.report, Some((line, byte_offset)))
            }
            other => panic!("{other}"),
        },
    };
    let found = Expected {
        map: contents(&store),
        rows: report.rows,
        new: report.new,
        replaced: report.replaced,
        bytes: report.bytes,
        bad,
    };
    assert_eq!(store.len(), expected.map.len());
    assert!(
        found == expected,
        "{options:?}: {found:?} instead of {expected:?}"
    );
}

fn check_all_ways(text: &[u8], before: &Map, keep: Keep, threads: usize, round_bytes: usize) {
    check(text, before, &one_by_one(keep));
    check(text, before, &bulk(threads, keep, round_bytes));
    check(text, before, &bulk(threads, keep, usize::MAX));
}

/// A key out of few, so that many repeat; a value around the sizes where the store changes its way to keep it.
fn row() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        20 => 0usize..40,
        4 => 100usize..140,
        2 => 2_000usize..2_100,
        1 => 16_300usize..16_500,
        1 => 65_400usize..65_700,
    ];
    (0u32..60, length, any::<u8>()).prop_map(|(key, length, fill)| {
        let fill = if fill == b'\n' { b'\t' } else { fill };
        let mut row = format!("key {key}\t").into_bytes();
        row.resize(row.len() + length, fill);
        row.push(b'\n');
        row
    })
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![Just(Keep::Last), Just(Keep::First)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_number_of_threads_loads_what_the_naive_splitter_finds(
        rows in vec(row(), 0..120),
        before in proptest::collection::hash_map("key [0-9]{1,2}", "[a-z]{0,9}", 0..20),
        bad in proptest::option::weighted(0.4, any::<prop::sample::Index>()),
        bad_row in prop_oneof![Just(&b"\n"[..]), Just(&b"no tab here\n"[..])],
        ends in any::<bool>(),
        keep in keep(),
        threads in 1usize..=8,
        round_bytes in prop_oneof![Just(1usize), 1usize..200, 1usize..100_000],
    ) {
        let mut rows = rows;
        if let Some(bad) = bad {
            rows.insert(bad.index(rows.len() + 1), bad_row.to_vec());
        }
        let mut text = rows.concat();
        if !ends {
            text.pop();
        }
        let before = before.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect();
        check_all_ways(&text, &before, keep, threads, round_bytes);
    }
}

#[test]
fn later_tabs_and_carriage_returns_belong_to_the_value() {
    let text = b"a\tb\tc\r\n\t\nnul\0\t\0\n\xff\t\xfe\xff";
    for threads in 1..=3 {
        check_all_ways(text, &Map::new(), Keep::Last, threads, 3);
    }
    let store = new_store();
    let folder = Folder::new();
    load(&store, &folder.file("x", text), &LoadOptions::default()).unwrap();
    assert_eq!(contents(&store)[&b"a"[..]], b"b\tc\r");
}

#[test]
fn bad_row_at_any_place_leaves_exactly_the_rows_before_it() {
    let rows: Vec<String> = (0..40)
        .map(|row| format!("{row}\t{}\n", "v".repeat(row % 7)))
        .collect();
    for place in 0..=rows.len() {
        let mut text: Vec<&str> = rows.iter().map(String::as_str).collect();
        text.insert(place, "bad\n");
        if place % 3 == 0 && place + 4 < text.len() {
            text.insert(place + 4, "\n");
        }
        check_all_ways(
            text.concat().as_bytes(),
            &Map::new(),
            Keep::Last,
            1 + place % 8,
            64,
        );
    }
}

#[test]
fn large_file_loads_the_same_by_one_and_by_eight_threads() {
    let mut text = numbered_rows(120_000);
    let again = numbered_rows(30_000);
    text.extend_from_slice(&again.to_ascii_lowercase());
    for threads in [1, 2, 3, 8] {
        check(&text, &Map::new(), &bulk(threads, Keep::Last, usize::MAX));
        check(&text, &Map::new(), &bulk(threads, Keep::First, 500_000));
    }
}

#[test]
fn bad_row_deep_in_a_large_file_is_named_exactly() {
    let text = numbered_rows(60_000);
    for place in [100, 7_000, 31_000, 59_999] {
        let (before, after) = text.split_at(place * 50);
        let text = [before, b"no tab", &b"\n"[..], after].concat();
        for threads in [1, 2, 5] {
            check(&text, &Map::new(), &bulk(threads, Keep::Last, usize::MAX));
        }
    }
}

#[test]
fn row_with_a_key_over_the_limit_names_its_line_and_keeps_the_rows_before() {
    let longest = "k".repeat(atbr::limits::MAX_KEY_LEN);
    let text = format!("a\t1\n{longest}\t2\n{longest}k\t3\nb\t4\n");
    let folder = Folder::new();
    let path = folder.file("rows.tsv", text.as_bytes());
    for options in [
        one_by_one(Keep::Last),
        bulk(1, Keep::Last, 9),
        bulk(4, Keep::Last, usize::MAX),
    ] {
        let store = new_store();
        let failure = load(&store, &path, &options).unwrap_err();
        match failure.error {
            Error::BadRow {
                line,
                byte_offset,
                cause,
                ..
            } => {
                assert_eq!((line, byte_offset), (3, 4 + longest.len() as u64 + 3));
                assert!(matches!(*cause, Error::KeyTooLong(len) if len == longest.len() + 1));
            }
            other => panic!("{other}"),
        }
        assert_eq!(failure.report.rows, 2);
        assert_eq!(contents(&store).len(), 2);
    }
}

#[test]
fn empty_file_loads_nothing() {
    for options in [LoadOptions::default(), bulk(2, Keep::Last, usize::MAX)] {
        check(b"", &Map::new(), &options);
    }
}

#[test]
fn cancelled_load_leaves_a_prefix_of_the_file() {
    let rows = 1_200_000;
    let folder = Folder::new();
    let path = folder.file("rows.tsv", &numbered_rows(rows));
    for options in [bulk(2, Keep::Last, 1 << 20), one_by_one(Keep::Last)] {
        let store = new_store();
        let mut calls = 0;
        let failure = tsv::load(&store, &path, &options, &mut |_| {
            calls += 1;
            ControlFlow::Break(())
        })
        .unwrap_err();
        assert!(matches!(failure.error, Error::Cancelled));
        assert_eq!(calls, 1);
        assert!(
            failure.report.rows < rows,
            "the load was over before it could be cancelled"
        );
        assert_eq!(failure.report.bytes, failure.report.rows * 50);
        assert_prefix(&store, failure.report.rows);
        store.set(b"alive", b"yes", Wait::Block).unwrap();
    }
}

#[test]
fn cancelling_at_the_last_report_is_an_error_with_every_row_in() {
    let folder = Folder::new();
    let path = folder.file("rows.tsv", &numbered_rows(10));
    let store = new_store();
    let failure = tsv::load(&store, &path, &LoadOptions::default(), &mut |progress| {
        assert_eq!(
            (progress.rows, progress.bytes, progress.total_bytes),
            (10, 500, Some(500))
        );
        ControlFlow::Break(())
    })
    .unwrap_err();
    assert!(matches!(failure.error, Error::Cancelled));
    assert_eq!(failure.report.rows, 10);
}

#[test]
fn progress_only_grows_and_ends_at_the_whole_file() {
    let folder = Folder::new();
    let path = folder.file("rows.tsv", &numbered_rows(400_000));
    let store = new_store();
    let mut seen = Vec::new();
    let report = tsv::load(
        &store,
        &path,
        &bulk(2, Keep::Last, 1 << 20),
        &mut |progress| {
            seen.push(*progress);
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.rows, last.bytes), (400_000, 20_000_000));
    assert!(
        seen.is_sorted_by(|a, b| a.rows <= b.rows && a.bytes <= b.bytes && a.seconds <= b.seconds)
    );
    assert_eq!((report.rows, report.bytes), (last.rows, last.bytes));
}

#[test]
fn report_reads_as_the_four_lines_in_the_units_of_2012() {
    let report = tsv::LoadReport {
        rows: 212_969,
        new: 212_969,
        replaced: 0,
        evicted: 0,
        bytes: 117_362_571,
        seconds: 1.178468,
    };
    let lines = report.to_string();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "Loaded in 1.178468 seconds",
            "New keys: 212969",
            "Rate: 180716.828968 pairs per second",
            "Throughput: 94.803225 MB per second",
        ]
    );
}
