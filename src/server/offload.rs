//! Work that takes more than about a millisecond: done apart from the threads of the network, few at once, so that these
//! always find a processor.

use std::panic;

use tokio::sync::Semaphore;

/// Places for such work.
#[derive(Debug)]
pub(crate) struct Offload {
    places: Semaphore,
}

impl Offload {
    /// Places for one processor less than there are, and one at least.
    pub(crate) fn new() -> Offload {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Offload {
            places: Semaphore::new(processors.saturating_sub(1).max(1)),
        }
    }

    /// Runs `work` on a thread that may take its time, when there is a place. Its panic is the caller's.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        // Never closed.
        let _place = self.places.acquire().await;
        Self::run_now(work).await
    }

    /// As [`Offload::run`], without a place: for work that has a limit of its own.
    pub(crate) async fn run_now<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => panic::resume_unwind(panic),
                // The runtime is going, and nobody waits for the answer.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
