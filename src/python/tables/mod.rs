//! What `atbr.tables` has compiled: the codec of tuple keys, and the ordered map of `local://`.

mod buckets;
mod codec;
mod decode;
mod encode;
mod frames;
mod kinds;
mod map;
mod packed;
mod pairs;
mod requests;
mod rows;

pub use buckets::bucket_positions;
pub use codec::{KeyCodec, pack, unpack};
pub use frames::{postgresql_array, postgresql_copy};
pub use map::LocalMap;
pub use packed::PackedKeys;
pub use pairs::{cut_pairs, sorted_pairs};
pub use requests::RedisPacker;
