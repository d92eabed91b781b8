//! Runs jobs on threads that live no longer than the call, while the calling thread reports progress and listens for a
//! cancellation. Knows neither rows nor stores.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use super::report::Progress;
use crate::{Error, Result};

/// Time between two reports; with it Ctrl-C ends a call well within the 100 ms that it may take.
const INTERVAL: Duration = Duration::from_millis(30);

/// Steps of priority that threads give up: with five, others that are always busy get three times as much.
#[cfg(target_os = "linux")]
const GIVEN_WAY: libc::c_int = 5;

/// Called on the calling thread; [`ControlFlow::Break`] cancels.
pub(super) type Report<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

/// What the threads of a call count, and whether they are to stop.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) cancelled: AtomicBool,
    pub(super) rows: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Shared {
    /// [`Error::Cancelled`] once the call has been cancelled.
    pub(super) fn check(&self) -> Result<()> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Counts what was read or written since the last call.
    pub(super) fn count(&self, rows: u64, bytes: usize) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Reports at its interval.
pub(super) struct Ticker<'a> {
    report: &'a mut Report<'a>,
    shared: &'a Shared,
    totals: Progress,
    started: Instant,
    last: Instant,
}

impl<'a> Ticker<'a> {
    /// `totals` says how much there will be; its other fields do not matter.
    pub(super) fn new(report: &'a mut Report<'a>, shared: &'a Shared, totals: Progress) -> Self {
        let now = Instant::now();
        Ticker {
            report,
            shared,
            totals,
            started: now,
            last: now,
        }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Bytes that there will be in all, where that is known.
    pub(super) fn total_bytes(&self) -> Option<u64> {
        self.totals.total_bytes
    }

    /// Reports if it is time to, and says whether the call has been cancelled.
    pub(super) fn tick(&mut self) -> Result<()> {
        if self.last.elapsed() >= INTERVAL {
            return self.tick_now();
        }
        self.shared.check()
    }

    /// Reports, and says whether the call has been cancelled.
    pub(super) fn tick_now(&mut self) -> Result<()> {
        let progress = Progress {
            rows: self.shared.rows.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            seconds: self.seconds(),
            ..self.totals
        };
        if (self.report)(&progress).is_break() {
            self.shared.cancelled.store(true, Ordering::Relaxed);
        }
        self.last = Instant::now();
        self.shared.check()
    }

    fn until_next(&self) -> Duration {
        INTERVAL.saturating_sub(self.last.elapsed())
    }
}

/// Calls `work` once for each job, on at most `threads` threads, which `give_way` to others or not, and returns when all
/// are done. Each call is given a function that it has to call often: it says whether to stop, and where no thread could
/// be had it reports as well.
pub(super) fn run<J: Send>(
    threads: usize,
    give_way: bool,
    jobs: Vec<J>,
    ticker: &mut Ticker<'_>,
    work: impl Fn(J, &mut dyn FnMut() -> Result<()>) + Sync,
) {
    let caller = thread::current();
    let shared = ticker.shared;
    let threads = threads.min(jobs.len());
    // Of the standard library, which keeps no table of waiting threads that a fork could find locked.
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let running = AtomicUsize::new(0);
    let labour = || {
        if give_way {
            lower_priority();
        }
        let _done = OnDrop(|| {
            running.fetch_sub(1, Ordering::Release);
            caller.unpark();
        });
        while let Some(job) = next() {
            work(job, &mut || shared.check());
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            running.fetch_add(1, Ordering::Relaxed);
            let name = "atbr-load".to_owned();
            if Builder::new()
                .name(name)
                .spawn_scoped(scope, labour)
                .is_err()
            {
                // No more threads may be had: those that there are do the work, or else the calling one.
                running.fetch_sub(1, Ordering::Relaxed);
                break;
            }
        }
        if running.load(Ordering::Acquire) == 0 {
            while let Some(job) = next() {
                work(job, &mut || ticker.tick());
            }
        }
        while running.load(Ordering::Acquire) > 0 {
            thread::park_timeout(ticker.until_next());
            // Its answer is in `shared`, where the threads see it.
            let _ = ticker.tick();
        }
    });
}

/// Makes the calling thread, and those that it starts, wait longer for a processor that others want as well. For good:
/// few may raise a priority.
fn lower_priority() {
    // Elsewhere it is the priority of the process.
    #[cfg(target_os = "linux")]
    // SAFETY: it takes a number; on Linux it acts on the calling thread alone.
    unsafe {
        libc::nice(GIVEN_WAY);
    }
}

/// Calls its function when it goes, also when a panic makes it go.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn priority() -> libc::c_int {
        // SAFETY: it takes numbers; 0 is the calling thread.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn only_threads_that_give_way_have_a_lower_priority() {
        let (own, shared) = (priority(), Shared::default());
        let mut report = |_: &Progress| ControlFlow::Continue(());
        let mut ticker = Ticker::new(&mut report, &shared, Progress::default());
        for (give_way, expected) in [(true, (own + GIVEN_WAY).min(19)), (false, own)] {
            let seen = Mutex::new(Vec::new());
            run(2, give_way, vec![(); 3], &mut ticker, |(), _| {
                seen.lock().unwrap().push(priority());
            });
            assert_eq!(seen.into_inner().unwrap(), [expected; 3]);
        }
        assert_eq!(priority(), own);
    }
}
