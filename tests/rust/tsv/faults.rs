//! Files that are missing, forbidden, no files, cut short while they are read; too little memory, too few threads.

use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use atbr::Error;
use atbr::engine::Keep;
use atbr::files::mapped::Mapped;
use atbr::files::os_error::errno;
use atbr::files::tsv::{self, LoadOptions};

use super::{
    Folder, assert_child_passes, assert_prefix, bulk, contents, in_child, load, new_store,
    numbered_rows,
};

fn load_errno(path: &Path) -> Option<i32> {
    let failure = load(&new_store(), path, &LoadOptions::default()).unwrap_err();
    assert_eq!(failure.report.rows, 0);
    match failure.error {
        Error::Io {
            path: named,
            source,
        } => {
            assert_eq!(named, path);
            errno(&source)
        }
        other => panic!("{other}"),
    }
}

fn shorten(path: &Path, len: u64) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(len)
        .unwrap();
}

#[test]
fn places_that_are_no_files_are_errors_at_once() {
    let folder = Folder::new();
    let fifo = folder.path("fifo");
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: the name is a valid C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert_eq!(load_errno(&folder.0), Some(libc::EISDIR));
    assert_eq!(load_errno(&fifo), Some(libc::EINVAL));
    assert_eq!(load_errno(Path::new("/dev/zero")), Some(libc::EINVAL));
    assert_eq!(load_errno(&folder.path("missing")), Some(libc::ENOENT));
    assert_eq!(load_errno(&folder.path("fifo/below")), Some(libc::ENOTDIR));
}

#[cfg(target_os = "linux")]
#[test]
fn forbidden_file_is_an_error() {
    let folder = Folder::new();
    let path = folder.file("rows.tsv", b"a\tb\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // SAFETY: no pointers; only this thread's rights on files change, and root's are given up for the test.
    unsafe { libc::setfsuid(65534) };
    let found = load_errno(&path);
    // SAFETY: as above, back to what was there.
    unsafe { libc::setfsuid(libc::geteuid()) };
    assert_eq!(found, Some(libc::EACCES));
}

#[test]
fn load_that_cannot_fit_is_refused_with_both_figures() {
    let folder = Folder::new();
    let path = folder.file("rows.tsv", b"");
    let len = 4 << 40;
    shorten(&path, len);
    let failure = load(&new_store(), &path, &LoadOptions::default()).unwrap_err();
    match failure.error {
        Error::NotEnoughMemory { needed, available } => {
            assert!(needed >= len, "{needed}");
            assert!(available < len, "{available}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn page_that_the_file_has_lost_reads_as_zeros_and_marks_only_its_own_mapping() {
    let folder = Folder::new();
    let bytes = vec![b'x'; 100_000];
    let cut = folder.file("cut", &bytes);
    let whole = folder.file("whole", &bytes);
    let (first, other) = (Mapped::open(&cut).unwrap(), Mapped::open(&whole).unwrap());
    assert_eq!(first.as_bytes(), bytes);
    assert!(first.intact().is_ok());
    shorten(&cut, 10);
    assert_eq!(first.as_bytes()[..10], bytes[..10]);
    assert!(first.intact().is_ok());
    assert_eq!(first.as_bytes()[99_999], 0);
    assert!(first.as_bytes()[50_000..].iter().all(|&byte| byte == 0));
    let error = first.intact().unwrap_err();
    assert_eq!(errno(&error), Some(libc::EIO));
    assert!(error.to_string().contains("truncated"), "{error}");
    assert_eq!(other.as_bytes(), bytes);
    assert!(other.intact().is_ok());
    drop(first);
    let next = Mapped::open(&whole).unwrap();
    assert!(next.intact().is_ok(), "a new mapping is born torn");
    assert_eq!(next.as_bytes(), bytes);
}

#[test]
fn mappings_torn_by_many_threads_at_once_each_know_it() {
    let folder = Folder::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = folder.path(&format!("{thread}"));
            scope.spawn(move || {
                for turn in 0..200 {
                    fs::write(&path, vec![b'x'; 20_000]).unwrap();
                    let mapped = Mapped::open(&path).unwrap();
                    let torn = turn % 2 == 0;
                    if torn {
                        shorten(&path, 0);
                    }
                    let sum: u64 = mapped.as_bytes().iter().map(|&byte| u64::from(byte)).sum();
                    assert_eq!(sum == 0, torn);
                    assert_eq!(mapped.intact().is_err(), torn);
                }
            });
        }
    });
}

#[test]
fn file_truncated_while_it_is_loaded_is_an_error_and_a_prefix_is_in() {
    let rows = 1_200_000;
    let folder = Folder::new();
    let text = numbered_rows(rows);
    for (left, round_bytes) in [
        (0, 1 << 20),
        (30_000_000, 1 << 20),
        (0, usize::MAX),
        (4_000_000, usize::MAX),
    ] {
        let path = folder.file("rows.tsv", &text);
        let store = new_store();
        let failure = tsv::load(
            &store,
            &path,
            &bulk(2, Keep::Last, round_bytes),
            &mut |_| {
                shorten(&path, left);
                ControlFlow::Continue(())
            },
        )
        .unwrap_err();
        match failure.error {
            Error::Io { source, .. } => assert_eq!(errno(&source), Some(libc::EIO)),
            other => panic!("{other}"),
        }
        assert!(failure.report.rows < rows);
        assert_prefix(&store, failure.report.rows);
    }
}

#[test]
fn keys_of_a_file_that_changes_while_it_is_loaded_are_found_where_the_index_has_them() {
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    let rows = 200_000;
    let folder = Folder::new();
    let text = numbered_rows(rows);
    let path = folder.file("rows.tsv", &text);
    let other = String::from_utf8(text.clone()).unwrap();
    let other = other.replace("\n00", "\n99").into_bytes();
    let done = AtomicBool::new(false);
    let mut counts = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            while !done.load(Ordering::Relaxed) {
                file.write_all_at(&other, 0).unwrap();
                file.write_all_at(&text, 0).unwrap();
            }
        });
        for _ in 0..6 {
            let store = new_store();
            let _ = load(&store, &path, &bulk(2, Keep::Last, usize::MAX));
            let found = contents(&store);
            let lost = found
                .iter()
                .filter(|(key, value)| store.get(key).unwrap().as_ref() != Some(value))
                .count();
            counts.push((lost, store.len() - found.len()));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(counts, [(0, 0); 6]);
}

#[test]
fn sigbus_of_memory_that_is_not_ours_still_ends_the_process() {
    for test in [
        "faults::child_meets_a_foreign_sigbus",
        "faults::child_is_sent_a_sigbus",
    ] {
        let output = in_child(test, &Folder::new());
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    }
}

/// A mapping of ours, so that the handler is there. In front of it nothing: the runtime's own handler is taken away.
fn mapping_over_the_default() -> Mapped {
    // SAFETY: the default is always a valid disposition.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    Mapped::open(&Folder::of_child().file("ours", b"x")).unwrap()
}

#[test]
#[ignore = "run by sigbus_of_memory_that_is_not_ours_still_ends_the_process"]
fn child_meets_a_foreign_sigbus() {
    use std::os::fd::AsRawFd;
    let _mapped = mapping_over_the_default();
    let path = Folder::of_child().file("foreign", &[b'x'; 9000]);
    let file = fs::File::open(&path).unwrap();
    // SAFETY: a new mapping of an open file; the read beyond its end is the fault that this test is about.
    unsafe {
        let address = libc::mmap(
            std::ptr::null_mut(),
            1 << 20,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(address, libc::MAP_FAILED);
        address.cast::<u8>().add(500_000).read_volatile();
    }
}

#[test]
#[ignore = "run by sigbus_of_memory_that_is_not_ours_still_ends_the_process"]
fn child_is_sent_a_sigbus() {
    let _mapped = mapping_over_the_default();
    // SAFETY: no pointers.
    unsafe { libc::raise(libc::SIGBUS) };
}

#[test]
fn handler_of_the_program_gets_what_is_not_ours() {
    assert_child_passes("faults::child_has_a_handler_of_its_own");
}

#[test]
#[ignore = "run by handler_of_the_program_gets_what_is_not_ours"]
fn child_has_a_handler_of_its_own() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    extern "C" fn own(_: libc::c_int) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only adds to an atomic.
    unsafe { libc::signal(libc::SIGBUS, own as *const () as usize) };
    let folder = Folder::of_child();
    let path = folder.file("ours", &[b'x'; 9000]);
    let mapped = Mapped::open(&path).unwrap();
    shorten(&path, 0);
    assert_eq!(mapped.as_bytes()[0], 0);
    assert_eq!(CALLS.load(Ordering::Relaxed), 0);
    // SAFETY: no pointers.
    unsafe { libc::raise(libc::SIGBUS) };
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
}

#[test]
fn load_without_a_single_thread_to_be_had_still_loads() {
    assert_child_passes("faults::child_may_have_no_threads");
}

#[test]
#[ignore = "run by load_without_a_single_thread_to_be_had_still_loads"]
fn child_may_have_no_threads() {
    let folder = Folder::of_child();
    let path = folder.file("rows.tsv", &numbered_rows(50_000));
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    let limit = libc::rlimit {
        rlim_cur: 1,
        rlim_max: 1,
    };
    // SAFETY: a valid limit, and a user that has no other process; this process is made for this test.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &limit), 0);
        if libc::geteuid() == 0 {
            assert_eq!(libc::setuid(54_321), 0);
        }
    }
    assert!(
        std::thread::Builder::new().spawn(|| ()).is_err(),
        "the limit does not hold"
    );
    let store = new_store();
    let report = load(&store, &path, &bulk(4, Keep::Last, 300_000)).unwrap();
    assert_eq!(report.rows, 50_000);
    assert_eq!(contents(&store).len(), 50_000);
}
