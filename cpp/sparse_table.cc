#include "sparse_table.h"

#include "atbr/src/engine/ffi.rs.h"

#include <utility>

#if defined(__APPLE__)
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

#if defined(ATBR_FAILPOINTS)
extern "C" bool atbr_failpoint() noexcept;
#endif

namespace atbr {

bool allocation_must_fail() noexcept {
#if defined(ATBR_FAILPOINTS)
  return atbr_failpoint();
#else
  return false;
#endif
}

std::size_t usable_bytes(void *block) noexcept {
#if defined(__APPLE__)
  return malloc_size(block);
#else
  return malloc_usable_size(block);
#endif
}

namespace {

// What sparsegroup::read_metadata reads: a count (big-endian) and a bitmap.
class MetadataInput {
 public:
  explicit MetadataInput(std::uint64_t bitmap) noexcept {
    const unsigned count = static_cast<unsigned>(__builtin_popcountll(bitmap));
    bytes_[0] = static_cast<unsigned char>(count >> 8);
    bytes_[1] = static_cast<unsigned char>(count & 0xFF);
    std::memcpy(bytes_ + 2, &bitmap, 6);
  }
  std::size_t Read(void *to, std::size_t length) noexcept {
    std::memcpy(to, bytes_ + at_, length);
    at_ += length;
    return length;
  }

 private:
  unsigned char bytes_[8];
  std::size_t at_ = 0;
};

}  // namespace

SparseTable::~SparseTable() {
  for (std::uint32_t g = 0; g < count_; ++g) groups_[g].~Group();
  std::free(groups_);
}

std::uint32_t SparseTable::find_free(std::uint32_t position) const noexcept {
  for (;;) {
    const Group &group = groups_[position / kGroupBuckets];
    const auto i = static_cast<Group::size_type>(position % kGroupBuckets);
    if (!group.test(i) || load_offset(group.unsafe_get(i)) == kTombstone) return position;
    position = position + 1 == count_ * kGroupBuckets ? 0 : position + 1;
  }
}

bool SparseTable::put(std::uint32_t position, std::uint8_t tag, std::uint32_t offset) noexcept {
  Group &group = groups_[position / kGroupBuckets];
  const auto i = static_cast<Group::size_type>(position % kGroupBuckets);
  const bool fresh = !group.test(i);
  const bool tombstone = !fresh && load_offset(group.unsafe_get(i)) == kTombstone;
  const std::size_t before = malloc_bytes(group.num_nonempty());
  try {
    group.set(i, make_slot(tag, offset));
  } catch (const std::bad_alloc &) {
    return false;
  }
  bytes_ += malloc_bytes(group.num_nonempty()) - before;
  used_ += fresh;
  tombstones_ -= tombstone;
  return true;
}

void SparseTable::erase(std::uint32_t position) noexcept {
  const std::uint32_t buckets = count_ * kGroupBuckets;
  const std::uint32_t after = position + 1 == buckets ? 0 : position + 1;
  const Group &next = groups_[after / kGroupBuckets];
  if (next.test(static_cast<Group::size_type>(after % kGroupBuckets))) {
    // The bucket is full, so this allocates nothing.
    put(position, 0, kTombstone);
    ++tombstones_;
    return;
  }
  // No probe passes an empty bucket: this one and the tombstones before it go.
  bool tombstone = false;
  do {
    Group &group = groups_[position / kGroupBuckets];
    const std::size_t before = malloc_bytes(group.num_nonempty());
    // Shrinking never throws: see the allocator.
    group.erase(static_cast<Group::size_type>(position % kGroupBuckets));
    bytes_ += malloc_bytes(group.num_nonempty()) - before;
    --used_;
    tombstones_ -= tombstone;
    position = position == 0 ? buckets - 1 : position - 1;
    const Group &previous = groups_[position / kGroupBuckets];
    const auto i = static_cast<Group::size_type>(position % kGroupBuckets);
    tombstone = previous.test(i) && load_offset(previous.unsafe_get(i)) == kTombstone;
  } while (tombstone);
}

void SparseTable::read_group(std::uint32_t index, GroupImage &image) const noexcept {
  const Group &group = groups_[index];
  const Slot *slot = group.nonempty_begin();
  image.bitmap = bitmap(group);
  for (std::uint64_t bits = image.bitmap; bits != 0; bits &= bits - 1, ++slot) {
    image.slots[__builtin_ctzll(bits)] =
        static_cast<std::uint64_t>(slot->tag) << 32 | load_offset(*slot);
  }
}

bool SparseTable::write_group(std::uint32_t index, const GroupImage &image) noexcept {
  Group &group = groups_[index];
  Allocator allocator;
  Group fresh(allocator);
  if (image.bitmap != 0) {
    MetadataInput input(image.bitmap);
    try {
      fresh.read_metadata(&input);
    } catch (const std::bad_alloc &) {
      // The count was read before the allocation failed: the destructor runs
      // over no slots, because the group pointer is still null.
      return false;
    }
  }
  std::uint32_t tombstones = 0;
  Slot *slot = fresh.nonempty_begin();
  for (std::uint64_t bits = image.bitmap; bits != 0; bits &= bits - 1, ++slot) {
    const std::uint64_t packed = image.slots[__builtin_ctzll(bits)];
    const auto offset = static_cast<std::uint32_t>(packed);
    *slot = make_slot(static_cast<std::uint8_t>(packed >> 32), offset);
    tombstones += offset == kTombstone;
  }
  std::uint32_t old_tombstones = 0;
  if (tombstones_ != 0) {
    for (const Slot *old = group.nonempty_begin(); old != group.nonempty_end(); ++old) {
      old_tombstones += load_offset(*old) == kTombstone;
    }
  }
  used_ += fresh.num_nonempty() - group.num_nonempty();
  tombstones_ += tombstones - old_tombstones;
  bytes_ += malloc_bytes(fresh.num_nonempty()) - malloc_bytes(group.num_nonempty());
  group.swap(fresh);
  return true;
}

std::uint32_t SparseTable::nonempty_groups() const noexcept {
  std::uint32_t count = 0;
  for (std::uint32_t g = 0; g < count_; ++g) count += groups_[g].num_nonempty() != 0;
  return count;
}

std::unique_ptr<SparseTable> new_sparse_table(std::uint32_t groups) noexcept {
  typedef SparseTable::Group Group;
  void *memory = allocation_must_fail() ? nullptr : std::malloc(groups * sizeof(Group));
  if (memory == nullptr) return nullptr;
  SparseTable::Allocator allocator;
  Group *array = static_cast<Group *>(memory);
  for (std::uint32_t g = 0; g < groups; ++g) new (array + g) Group(allocator);
  SparseTable *table =
      allocation_must_fail() ? nullptr : new (std::nothrow) SparseTable(array, groups);
  if (table == nullptr) std::free(memory);
  return std::unique_ptr<SparseTable>(table);
}

void trim_malloc() noexcept {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace atbr
