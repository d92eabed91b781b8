//! The one owner of SIGBUS: a handler that replaces lost pages of registered mappings by zeros, and hands every other
//! SIGBUS to whoever handled it before. Knows addresses only.
//!
//! The handler is installed with the first mapping and stays. One that a program installs later sits before it; it
//! reaches this one if it calls its predecessor, as it should.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// One mapping, or a free place for one. Entries are never freed, so that the handler may walk them at any moment; a new
/// mapping takes a free one first, so there are as many as there were mappings at one time.
#[derive(Debug)]
struct Entry {
    taken: AtomicBool,
    start: AtomicUsize,
    /// Address after the mapping; 0 while there is none.
    end: AtomicUsize,
    torn: AtomicBool,
    next: Option<&'static Entry>,
}

static HEAD: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());
static PAGE: AtomicUsize = AtomicUsize::new(4096);
/// What handled SIGBUS before; null until [`install`] has asked.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

/// A mapping that the handler looks after.
#[derive(Debug)]
pub(super) struct Registration {
    entry: &'static Entry,
}

impl Registration {
    /// Registers the mapping of `len` bytes at `start`.
    pub(super) fn new(start: usize, len: usize) -> io::Result<Registration> {
        install()?;
        let entry = free_entry();
        entry.torn.store(false, Ordering::Relaxed);
        entry.start.store(start, Ordering::Release);
        entry.end.store(start + len, Ordering::Release);
        Ok(Registration { entry })
    }

    /// Whether a page of the mapping was missing when it was read.
    pub(super) fn torn(&self) -> bool {
        self.entry.torn.load(Ordering::Acquire)
    }

    /// Takes the mapping out, before it is unmapped. Only the first call does something.
    pub(super) fn end(&mut self) {
        self.entry.end.store(0, Ordering::Release);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.end();
        self.entry.taken.store(false, Ordering::Release);
    }
}

/// An entry that was free and is now taken.
fn free_entry() -> &'static Entry {
    let mut place = first();
    while let Some(entry) = place {
        if !entry.taken.swap(true, Ordering::AcqRel) {
            return entry;
        }
        place = entry.next;
    }
    let mut head = HEAD.load(Ordering::Acquire);
    let entry = Box::leak(Box::new(Entry {
        taken: AtomicBool::new(true),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        torn: AtomicBool::new(false),
        next: None,
    }));
    loop {
        // SAFETY: the head is null or points to an entry that was leaked, which lives for ever.
        entry.next = unsafe { head.as_ref() };
        match HEAD.compare_exchange_weak(head, entry, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return entry,
            Err(now) => head = now,
        }
    }
}

fn first() -> Option<&'static Entry> {
    // SAFETY: the head is null or points to an entry that was leaked, which lives for ever.
    unsafe { HEAD.load(Ordering::Acquire).as_ref() }
}

/// The entry whose mapping holds `address`. An entry that changes hands meanwhile is read until both ends belong together.
fn find(address: usize) -> Option<&'static Entry> {
    let mut place = first();
    while let Some(entry) = place {
        let mut end = entry.end.load(Ordering::Acquire);
        loop {
            let start = entry.start.load(Ordering::Acquire);
            let again = entry.end.load(Ordering::Acquire);
            if again == end {
                if (start..end).contains(&address) {
                    return Some(entry);
                }
                break;
            }
            end = again;
        }
        place = entry.next;
    }
    None
}

/// Installs the handler unless it is there. Takes no lock, so that a fork at any moment leaves the child able to: two
/// threads that come here at once do the same things twice.
fn install() -> io::Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    // SAFETY: sysconf and sigaction are called with valid pointers and a zeroed `sigaction`, which is a valid one; the
    // handler has the signature that SA_SIGINFO asks for. What was there before is stored before the handler can run.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE);
        if page > 0 {
            PAGE.store(page as usize, Ordering::Relaxed);
        }
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = handler as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut ours.sa_mask);
        let mut previous: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut previous) != 0 {
            return Err(io::Error::last_os_error());
        }
        if previous.sa_sigaction != ours.sa_sigaction {
            keep_previous(previous);
            if libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    INSTALLED.store(true, Ordering::Release);
    Ok(())
}

/// Stores the first handler that it is given, for ever.
fn keep_previous(previous: libc::sigaction) {
    let new = Box::into_raw(Box::new(previous));
    let null = std::ptr::null_mut();
    if PREVIOUS
        .compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        // SAFETY: the box was made above and nobody has seen it.
        drop(unsafe { Box::from_raw(new) });
    }
}

/// Runs on the thread that met the fault. It allocates nothing, takes no lock and calls only what a handler may call.
extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo_t, and `si_addr` is set where the code says that it is a fault (> 0).
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let entry = if code > 0 { find(address) } else { None };
    match entry {
        Some(entry) if replace_page(address) => entry.torn.store(true, Ordering::Release),
        _ => call_previous(signal, code, info, context),
    }
}

/// Puts a page of zeros where `address` is.
fn replace_page(address: usize) -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    let errno = errno_location();
    // SAFETY: errno belongs to this thread and is put back. The page lies in a mapping of this crate that is still
    // registered, so nothing but its lost page is replaced; mmap is a bare system call.
    unsafe {
        let saved = *errno;
        let mapped = libc::mmap(
            (address & !(page - 1)) as *mut libc::c_void,
            page,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
        *errno = saved;
        mapped != libc::MAP_FAILED
    }
}

/// Does with the signal what would have been done without this module.
fn call_previous(
    signal: libc::c_int,
    code: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: null, or a box that is never freed.
    let previous = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() };
    let previous = previous.map_or((libc::SIG_DFL, 0), |p| (p.sa_sigaction, p.sa_flags));
    match previous {
        (libc::SIG_IGN, _) if code <= 0 => {}
        (libc::SIG_DFL | libc::SIG_IGN, _) => {
            // SAFETY: both calls are allowed in a handler. A fault comes again when the handler returns; a signal that
            // somebody sent has to be sent again. Either then meets the default, which ends the process.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        (address, flags) if flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: sigaction gave this address with SA_SIGINFO, so it is a handler of three arguments.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(address) };
            handler(signal, info, context);
        }
        (address, _) => {
            // SAFETY: sigaction gave this address without SA_SIGINFO, so it is a handler of one argument.
            let handler =
                unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(address) };
            handler(signal);
        }
    }
}

#[cfg(target_os = "linux")]
fn errno_location() -> *mut libc::c_int {
    // SAFETY: always callable.
    unsafe { libc::__errno_location() }
}

#[cfg(not(target_os = "linux"))]
fn errno_location() -> *mut libc::c_int {
    // SAFETY: always callable.
    unsafe { libc::__error() }
}
