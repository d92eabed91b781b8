//! Hashes of keys, and which of their bits mean what. Files never depend on them.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher as _};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_micro_inline};
use siphasher::sip::SipHasher13;

/// The hash function of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HasherKind {
    /// rapidhash with a random seed: the fastest.
    #[default]
    Fast,
    /// SipHash-1-3 with a random key: for keys that an attacker chooses.
    Siphash,
}

/// A keyed hash function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hasher {
    Fast(RapidSecrets),
    Siphash(SipHasher13),
}

impl Hasher {
    /// `seed` None: a random one.
    pub(crate) fn new(kind: HasherKind, seed: Option<u64>) -> Self {
        let random = || RandomState::new().build_hasher().finish();
        match kind {
            HasherKind::Fast => Hasher::Fast(RapidSecrets::seed(seed.unwrap_or_else(random))),
            HasherKind::Siphash => {
                let (low, high) = match seed {
                    Some(seed) => (seed, !seed),
                    None => (random(), random()),
                };
                Hasher::Siphash(SipHasher13::new_with_keys(low, high))
            }
        }
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        match self {
            Hasher::Fast(secrets) => rapidhash_v3_micro_inline::<true, false>(key, secrets),
            Hasher::Siphash(hasher) => hasher.hash(key),
        }
    }
}

/// Where a key lives: its shard, and its order hash within the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: u32,
    pub(crate) order: u32,
}

/// A hasher, and the number of shards that it spreads keys over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placer {
    hasher: Hasher,
    shard_bits: u32,
}

impl Placer {
    pub(crate) fn new(hasher: Hasher, shard_bits: u32) -> Self {
        Placer { hasher, shard_bits }
    }

    /// The top bits of the hash are the shard, the next 32 the order hash.
    #[inline]
    pub(crate) fn place(&self, key: &[u8]) -> Place {
        let hash = self.hasher.hash(key);
        Place {
            shard: (hash >> 32 >> (32 - self.shard_bits)) as u32,
            order: (hash >> (32 - self.shard_bits)) as u32,
        }
    }

    pub(crate) fn shard_bits(&self) -> u32 {
        self.shard_bits
    }
}
