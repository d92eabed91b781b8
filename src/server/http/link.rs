//! What the parts of one HTTP connection tell each other, and when it rests: what hyper holds for it is then given back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::consumers::Consumer;
use super::socket;
use crate::server::Shared;

/// Who asks nothing for so long, or twice that, rests.
const RESTS_AFTER: Duration = Duration::from_millis(50);

/// Between requests.
const IDLE: u8 = 0;
/// Bytes of a request's head have come, and not all.
const IN_HEAD: u8 = 1;
/// The head is whole, and there is no answer yet.
const AT_WORK: u8 = 2;

/// Where a connection is within a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    InHead,
    AtWork,
}

/// One connection's.
#[derive(Default)]
pub(super) struct Link {
    phase: AtomicU8,
    /// What it holds of memory.
    pub(super) consumer: Arc<Consumer>,
    /// A request has shown a secret.
    authenticated: AtomicBool,
    /// What goes on after the answer to a handshake.
    pub(super) upgrade: Mutex<Option<socket::Upgrade>>,
    requests: AtomicU32,
    /// The request has no body.
    is_bare: AtomicBool,
    /// Nothing is left of the last request, nor of its answer once that is sent.
    is_settled: AtomicBool,
    /// The last look for bytes found none.
    is_dry: AtomicBool,
    /// Bytes wait to be sent.
    is_behind: AtomicBool,
}

impl Link {
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            IN_HEAD => Phase::InHead,
            AT_WORK => Phase::AtWork,
            _ => Phase::Idle,
        }
    }

    /// The head of a request is there; whether there is no body after it.
    #[inline]
    pub(super) fn begin(&self, is_bare: bool) {
        self.phase.store(AT_WORK, Ordering::Relaxed);
        self.is_bare.store(is_bare, Ordering::Relaxed);
        // The connection's task alone writes it.
        let requests = self.requests.load(Ordering::Relaxed);
        self.requests
            .store(requests.wrapping_add(1), Ordering::Relaxed);
    }

    /// What is left of the request's body is read, after its answer was found.
    pub(super) fn resume(&self) {
        self.phase.store(AT_WORK, Ordering::Relaxed);
    }

    /// Whether there was a request.
    pub(super) fn has_asked(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// The request has its answer.
    #[inline]
    pub(super) fn end(&self) {
        self.phase.store(IDLE, Ordering::Relaxed);
    }

    /// The answer is whole, and so is the request if it had no body.
    #[inline]
    pub(super) fn settle(&self) {
        let is_bare = self.is_bare.load(Ordering::Relaxed);
        self.is_settled.store(is_bare, Ordering::Relaxed);
    }

    /// Bytes have come; returns whether they begin a request.
    #[inline]
    pub(super) fn has_read(&self) -> bool {
        self.is_dry.store(false, Ordering::Relaxed);
        self.is_settled.store(false, Ordering::Relaxed);
        let begins = self.phase.load(Ordering::Relaxed) == IDLE;
        if begins {
            self.phase.store(IN_HEAD, Ordering::Relaxed);
        }
        begins
    }

    /// No bytes have come.
    #[inline]
    pub(super) fn is_dry(&self) {
        self.is_dry.store(true, Ordering::Relaxed);
    }

    /// Whether bytes wait to be sent.
    #[inline]
    pub(super) fn is_behind(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }

    /// Whether all that was asked has been answered, and nothing is on its way.
    #[inline]
    fn rests(&self) -> bool {
        self.is_settled.load(Ordering::Relaxed)
            && self.is_dry.load(Ordering::Relaxed)
            && !self.is_behind.load(Ordering::Relaxed)
    }

    /// Whether the client has shown a secret, or none is asked for.
    pub(super) fn is_known(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// The client need not show a secret.
    pub(super) fn trust(&self) {
        self.authenticated.store(true, Ordering::Relaxed);
    }

    /// The client has shown a secret.
    pub(super) fn authenticate(&self, shared: &Shared) {
        if !self.authenticated.swap(true, Ordering::Relaxed) {
            shared.strangers.leave();
        }
    }
}

/// Finds out that a connection rests. Its timer goes off once in a while however many requests there are.
#[derive(Default)]
pub(super) struct Rest {
    timer: Option<Pin<Box<Sleep>>>,
    /// Requests there had been when the timer was set.
    requests: u32,
}

impl Rest {
    /// Ready when the connection has rested for a while; to be asked whenever it has done what it can.
    #[inline]
    pub(super) fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<()> {
        match link.rests() {
            true => self.poll_timer(link.requests.load(Ordering::Relaxed), cx),
            false => Poll::Pending,
        }
    }

    fn poll_timer(&mut self, requests: u32, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.timer {
                None => self.timer = Some(Box::pin(tokio::time::sleep(RESTS_AFTER))),
                Some(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    if self.requests == requests {
                        return Poll::Ready(());
                    }
                    timer.as_mut().reset(Instant::now() + RESTS_AFTER);
                }
            }
            self.requests = requests;
        }
    }
}
