//! Single-threaded shards, the locks around them, and the store that Python and the files see.
