//! What a save writes, and that it replaces a file wholly or not at all.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use atbr::Error;
use atbr::engine::{Store, Ttl, Wait};
use atbr::files::os_error::errno;
use atbr::files::tsv::{self, Escape, LoadOptions, SaveOptions, SaveReport};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;

use super::{Folder, Map, assert_child_passes, contents, load, new_store, quiet};

fn save(store: &Store, path: &Path) -> Result<SaveReport, Error> {
    tsv::save(store, path, &SaveOptions::default(), &mut quiet)
}

fn store_of(map: &Map) -> Store {
    let store = new_store();
    for (key, value) in map {
        store.set(key, value, Wait::Block).unwrap();
    }
    store
}

fn errno_of(error: Error) -> Option<i32> {
    match error {
        Error::Io { source, .. } => errno(&source),
        other => panic!("{other}"),
    }
}

fn bytes_but(forbidden: &'static [u8], length: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(move |byte| {
        if forbidden.contains(&byte) {
            b' '
        } else {
            byte
        }
    });
    vec(byte, 0..length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn loading_what_was_saved_gives_the_same_store(
        map in hash_map(bytes_but(b"\t\n", 40), bytes_but(b"\n", 300), 0..300)
    ) {
        let folder = Folder::new();
        let path = folder.path("rows.tsv");
        let saved = save(&store_of(&map), &path).unwrap();
        prop_assert_eq!(saved.rows, map.len() as u64);
        prop_assert_eq!(saved.bytes, fs::metadata(&path).unwrap().len());
        let store = new_store();
        load(&store, &path, &LoadOptions::default()).unwrap();
        prop_assert_eq!(contents(&store), map);
        prop_assert_eq!(folder.names(), ["rows.tsv"]);
    }
}

#[test]
fn large_values_and_many_rows_are_saved() {
    let mut map = Map::new();
    for number in 0..50_000u32 {
        map.insert(
            number.to_string().into_bytes(),
            vec![b'v'; number as usize % 100],
        );
    }
    for number in 0..20u32 {
        map.insert(format!("large {number}").into_bytes(), vec![b'\t'; 300_000]);
    }
    let folder = Folder::new();
    let path = folder.path("rows.tsv");
    save(&store_of(&map), &path).unwrap();
    let store = new_store();
    load(&store, &path, &LoadOptions::default()).unwrap();
    assert!(contents(&store) == map);
}

#[test]
fn entry_that_tsv_cannot_hold_is_refused_and_the_old_file_stays() {
    let folder = Folder::new();
    let path = folder.file("rows.tsv", b"old\t1\n");
    let refused: [(&[u8], &[u8]); 3] = [(b"a\tb", b"v"), (b"a\nb", b"v"), (b"ab", b"v\nw")];
    for (key, value) in refused {
        let mut map: Map = (0..5_000)
            .map(|n| (format!("{n}").into_bytes(), b"v".to_vec()))
            .collect();
        map.insert(key.to_vec(), value.to_vec());
        match save(&store_of(&map), &path) {
            Err(Error::NotRepresentable(named)) => assert_eq!(named, key),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), b"old\t1\n");
        assert_eq!(folder.names(), ["rows.tsv"]);
    }
}

#[test]
fn cancelled_save_leaves_the_old_file() {
    let folder = Folder::new();
    let path = folder.file("rows.tsv", b"old\t1\n");
    let store = store_of(&Map::from([(b"a".to_vec(), b"b".to_vec())]));
    let outcome = tsv::save(&store, &path, &SaveOptions::default(), &mut |progress| {
        assert_eq!(
            (progress.rows, progress.bytes, progress.total_rows),
            (1, 4, Some(1))
        );
        ControlFlow::Break(())
    });
    assert!(matches!(outcome, Err(Error::Cancelled)));
    assert_eq!(fs::read(&path).unwrap(), b"old\t1\n");
    assert_eq!(folder.names(), ["rows.tsv"]);
}

#[test]
fn replaced_file_keeps_its_permissions_and_a_new_one_gets_the_usual_ones() {
    let folder = Folder::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let usual = mode(&folder.file("usual", b""));
    let path = folder.path("rows.tsv");
    save(&new_store(), &path).unwrap();
    assert_eq!(mode(&path), usual);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    save(&new_store(), &path).unwrap();
    assert_eq!(mode(&path), 0o604);
}

#[test]
fn symbolic_links_stay_links_and_what_they_name_is_replaced() {
    let folder = Folder::new();
    fs::create_dir(folder.path("below")).unwrap();
    folder.file("below/rows.tsv", b"old\t1\n");
    symlink("below/rows.tsv", folder.path("inner")).unwrap();
    symlink(folder.path("inner"), folder.path("outer")).unwrap();
    symlink("below/new.tsv", folder.path("dangling")).unwrap();
    symlink("loop", folder.path("loop")).unwrap();
    let store = store_of(&Map::from([(b"a".to_vec(), b"b".to_vec())]));
    save(&store, &folder.path("outer")).unwrap();
    assert_eq!(fs::read(folder.path("below/rows.tsv")).unwrap(), b"a\tb\n");
    assert!(
        fs::symlink_metadata(folder.path("outer"))
            .unwrap()
            .is_symlink()
    );
    save(&store, &folder.path("dangling")).unwrap();
    assert_eq!(fs::read(folder.path("below/new.tsv")).unwrap(), b"a\tb\n");
    let error = save(&store, &folder.path("loop")).unwrap_err();
    assert_eq!(errno_of(error), Some(libc::ELOOP));
}

#[test]
fn places_that_are_no_files_are_refused_and_stay() {
    let folder = Folder::new();
    let fifo = folder.path("fifo");
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: the name is a valid C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let store = new_store();
    for (path, expected) in [
        (folder.0.clone(), libc::EISDIR),
        (fifo, libc::EINVAL),
        ("/dev/null".into(), libc::EINVAL),
        (folder.path("no/such/folder"), libc::ENOENT),
        ("".into(), libc::ENOENT),
        ("/".into(), libc::EISDIR),
    ] {
        let error = save(&store, &path).unwrap_err();
        assert_eq!(errno_of(error), Some(expected), "{}", path.display());
    }
    assert_eq!(folder.names(), ["fifo"]);
}

#[test]
fn save_beside_a_writer_holds_every_key_that_was_there_throughout() {
    let map: Map = (0..20_000)
        .map(|n| (format!("old {n}").into_bytes(), b"v".to_vec()))
        .collect();
    let store = store_of(&map);
    let folder = Folder::new();
    let path = folder.path("rows.tsv");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                store
                    .set(format!("new {number}").as_bytes(), b"w", Wait::Block)
                    .unwrap();
            }
        });
        save(&store, &path).unwrap();
        done.store(true, Ordering::Relaxed);
    });
    let saved = new_store();
    load(&saved, &path, &LoadOptions::default()).unwrap();
    let saved = contents(&saved);
    assert!(map.iter().all(|(key, value)| saved.get(key) == Some(value)));
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_an_error_and_the_old_file_stays() {
    assert_child_passes("save::child_saves_to_a_full_disk");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by full_disk_is_an_error_and_the_old_file_stays"]
fn child_saves_to_a_full_disk() {
    let folder = Folder::of_child();
    let place = std::ffi::CString::new(folder.0.to_str().unwrap()).unwrap();
    // SAFETY: all pointers are to C strings. The mount is seen by this process alone and ends with it.
    let mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(
                c"tmpfs".as_ptr(),
                place.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=256k".as_ptr().cast(),
            ) == 0
    };
    let expected = if mounted {
        libc::ENOSPC
    } else {
        // No right to mount: the limit of a file's size stands in for the disk's.
        let limit = libc::rlimit {
            rlim_cur: 256 << 10,
            rlim_max: 256 << 10,
        };
        // SAFETY: the limit is a valid one, and this process is made for this test.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        libc::EFBIG
    };
    let path = folder.file("rows.tsv", b"old\t1\n");
    let map: Map = (0..20_000)
        .map(|n| (format!("{n:016}").into_bytes(), vec![b'v'; 32]))
        .collect();
    let error = save(&store_of(&map), &path).unwrap_err();
    assert!(error.to_string().contains("rows.tsv"), "{error}");
    assert_eq!(errno_of(error), Some(expected));
    assert_eq!(fs::read(&path).unwrap(), b"old\t1\n");
    assert_eq!(folder.names(), ["rows.tsv"]);
    if mounted {
        // SAFETY: a valid C string; detached, so that the folder can be removed.
        unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn escaped_rows_hold_any_bytes_by_either_way_of_loading(
        map in hash_map(vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..200), 0..100),
        bulk in any::<bool>(),
        threads in 1usize..4,
    ) {
        let folder = Folder::new();
        let path = folder.path("escaped.tsv");
        let options = SaveOptions { escape: Escape::Backslash, ..SaveOptions::default() };
        let report = tsv::save(&store_of(&map), &path, &options, &mut quiet).unwrap();
        prop_assert_eq!(report.rows as usize, map.len());
        let copy = new_store();
        let options = LoadOptions {
            escape: Escape::Backslash,
            bulk_from: if bulk { 0 } else { u64::MAX },
            round_bytes: 1000,
            threads: Some(threads),
            ..LoadOptions::default()
        };
        tsv::load(&copy, &path, &options, &mut quiet).unwrap();
        prop_assert_eq!(contents(&copy), map);
    }
}

#[test]
fn a_bad_escape_ends_the_load_at_its_row_by_either_way() {
    let folder = Folder::new();
    let path = folder.path("bad.tsv");
    fs::write(&path, "a\\tb\t1\nb\t\\x\nc\t3\n").unwrap();
    for bulk_from in [0, u64::MAX] {
        let store = new_store();
        let options = LoadOptions {
            escape: Escape::Backslash,
            bulk_from,
            ..LoadOptions::default()
        };
        let failure = tsv::load(&store, &path, &options, &mut quiet).unwrap_err();
        assert_eq!(failure.report.rows, 1);
        assert!(
            matches!(
                failure.error,
                Error::BadRow { line: 2, byte_offset: 7, ref cause, .. } if matches!(**cause, Error::BadEscape)
            ),
            "{}",
            failure.error
        );
        assert_eq!(store.get(b"a\tb").unwrap().unwrap(), b"1");
        assert_eq!(store.len(), 1);
    }
}

#[test]
fn an_escaped_key_may_be_as_long_as_any_other() {
    let folder = Folder::new();
    let path = folder.path("long.tsv");
    let store = new_store();
    let key = vec![b'\n'; atbr::limits::MAX_KEY_LEN];
    store.set(&key, b"value", Wait::Block).unwrap();
    let options = SaveOptions {
        escape: Escape::Backslash,
        ..SaveOptions::default()
    };
    tsv::save(&store, &path, &options, &mut quiet).unwrap();
    let copy = new_store();
    let options = LoadOptions {
        escape: Escape::Backslash,
        bulk_from: 0,
        ..LoadOptions::default()
    };
    tsv::load(&copy, &path, &options, &mut quiet).unwrap();
    assert_eq!(copy.get(&key).unwrap().unwrap(), b"value");
}

#[test]
fn entries_that_expire_are_left_out_and_counted_where_that_was_asked_for() {
    let folder = Folder::new();
    let path = folder.path("lasting.tsv");
    let store = new_store();
    store.set(b"lasts", b"1", Wait::Block).unwrap();
    for key in [b"a", b"b"] {
        store
            .set_with(key, b"2", Ttl::Millis(1_000_000), Wait::Block)
            .unwrap();
    }
    let options = SaveOptions {
        skip_expiring: true,
        ..SaveOptions::default()
    };
    let report = tsv::save(&store, &path, &options, &mut quiet).unwrap();
    assert_eq!((report.rows, report.skipped), (1, 2));
    assert_eq!(fs::read(&path).unwrap(), b"lasts\t1\n");
    let report = save(&store, &path).unwrap();
    assert_eq!((report.rows, report.skipped), (3, 0));
}
