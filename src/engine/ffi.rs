//! The one bridge to C++: `SparseTable`, an array of google sparsegroups. Knows no keys, hashes or records.

#[cxx::bridge(namespace = "atbr")]
mod bridge {
    /// The 48 buckets of one group, spread out: bit i of `bitmap` says whether `slots[i]` counts.
    /// A slot is `tag << 32 | offset`.
    struct GroupImage {
        bitmap: u64,
        slots: [u64; 48],
    }

    unsafe extern "C++" {
        include!("sparse_table.h");

        type SparseTable;

        fn new_sparse_table(groups: u32) -> UniquePtr<SparseTable>;
        fn trim_malloc();

        fn find(self: &SparseTable, position: u32, tag: u8, at: &mut u32) -> u32;
        fn find_free(self: &SparseTable, position: u32) -> u32;
        fn put(self: Pin<&mut SparseTable>, position: u32, tag: u8, offset: u32) -> bool;
        fn erase(self: Pin<&mut SparseTable>, position: u32);
        fn read_group(self: &SparseTable, group: u32, image: &mut GroupImage);
        fn write_group(self: Pin<&mut SparseTable>, group: u32, image: &GroupImage) -> bool;
        fn used(self: &SparseTable) -> u32;
        fn tombstones(self: &SparseTable) -> u32;
        fn nonempty_groups(self: &SparseTable) -> u32;
        fn bytes(self: &SparseTable) -> usize;
        fn prefetch_group(self: &SparseTable, position: u32);
        fn prefetch_slots(self: &SparseTable, position: u32);
        fn prefetch_block(self: &SparseTable, position: u32);
    }
}

pub(crate) use bridge::{GroupImage, SparseTable, new_sparse_table, trim_malloc};

// SAFETY: a SparseTable owns its groups and shares no state with other tables.
unsafe impl Send for SparseTable {}
// SAFETY: its const methods write nothing; the others need exclusive access.
unsafe impl Sync for SparseTable {}
