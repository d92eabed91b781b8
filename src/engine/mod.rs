//! The engine: single-threaded shards, the locks around them, and the store that Python and the files see.
//! It knows no file and no Python.

mod alarm;
#[cfg(all(test, atbr_shuttle))]
mod alarm_model;
mod arena;
mod batch;
mod block;
mod bounds;
mod bulk;
mod cell;
mod clock;
mod databases;
mod events;
mod expired;
#[cfg(feature = "failpoints")]
pub mod failpoint;
#[cfg(not(feature = "failpoints"))]
mod failpoint;
mod ffi;
mod fork;
mod glob;
mod hash;
mod held;
mod index;
mod locked;
mod ops;
mod pool;
mod record;
#[cfg(test)]
mod reference;
mod room;
mod scan;
mod shard;
mod stats;
mod store;
mod sweeper;
pub(crate) mod sync;
mod table;
#[cfg(test)]
mod tests;
mod ttl;
mod upkeep;
mod wheel;
#[cfg(test)]
mod whole;
mod writes;

pub use batch::Batch;
pub use block::{Block, BorrowedBlock};
pub use bounds::{Limits, MIN_BYTES, OnFull};
pub use bulk::{BulkLoad, BulkWriter, Merged};
pub use clock::{Clock, ManualClock};
pub use databases::{Databases, LockedDatabases, WatchedKey};
pub use events::{Classes, Event, Notification};
pub use expired::{Expired, Watch, on_unwatched};
pub use fork::{ForkHook, in_forked_children, prepare_for_forks, process_number};
pub use glob::Glob;
pub use hash::HasherKind;
pub use locked::Locked;
pub use record::{Kind, ValueRef};
pub use room::Room;
pub use scan::{Filter, Page};
pub use shard::{Change, Entry, Keep, Popped};
pub use stats::Stats;
pub use store::{Found, Options, Store, Wait};
pub use ttl::Ttl;
