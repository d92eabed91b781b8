//! The end of a server: one flag, and who waits for it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// Whether the server is to end.
#[derive(Debug)]
pub(crate) struct Shutdown {
    begun: AtomicBool,
    /// A client asked for it, and for nothing to be saved.
    saves_nothing: AtomicBool,
    sender: watch::Sender<bool>,
    waiting: Mutex<()>,
    news: Condvar,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            begun: AtomicBool::new(false),
            saves_nothing: AtomicBool::new(false),
            sender: watch::Sender::new(false),
            waiting: Mutex::new(()),
            news: Condvar::new(),
        }
    }
}

impl Shutdown {
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.sender.send_replace(true);
        let _waiting = self.waiting.lock();
        self.news.notify_all();
    }

    /// From now on nothing is saved when the server ends.
    pub(crate) fn save_nothing(&self) {
        self.saves_nothing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn saves_nothing(&self) -> bool {
        self.saves_nothing.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Ends when the shutdown has begun.
    pub(crate) async fn begun(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as `self`.
        let _ = receiver.wait_for(|begun| *begun).await;
    }

    /// What `work` comes to; None where the shutdown has begun and there is something to wait for.
    pub(crate) async fn unless_begun<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut begun) = (pin!(work), pin!(self.begun()));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.has_begun() => Poll::Ready(None),
            Poll::Pending => begun.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Waits on this thread, at most so long; returns whether it has begun.
    pub(crate) fn wait_for_begin(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut waiting = self.waiting.lock();
        while !self.has_begun() {
            if self.news.wait_until(&mut waiting, deadline).timed_out() {
                break;
            }
        }
        self.has_begun()
    }
}
