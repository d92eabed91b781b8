//! What commands do, by family.

pub(crate) mod bitfield;
pub(crate) mod bits;
pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod expire;
pub(crate) mod info;
pub(crate) mod introspection;
pub(crate) mod keys;
pub(crate) mod lcs;
pub(crate) mod listening;
pub(crate) mod scan;
pub(crate) mod scripts;
pub(crate) mod server;
pub(crate) mod standalone;
pub(crate) mod strings;
