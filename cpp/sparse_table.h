// One bounded sub-table of the index: an array of google::sparsegroup, each of
// 48 buckets. It owns the groups and their memory; it knows nothing of keys,
// hashes or records: a slot is a tag and an offset, and positions come from the
// caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include <sparsehash/sparsetable>

namespace atbr {

// Packed, so that an entry costs five bytes and no padding.
struct Slot {
  unsigned char tag;
  unsigned char offset[4];
};
static_assert(sizeof(Slot) == 5 && alignof(Slot) == 1, "a slot is five bytes");
static_assert(std::is_trivially_copyable<Slot>::value, "slots are moved by realloc");

// True when a test asks this allocation to fail (always false in a release).
bool allocation_must_fail() noexcept;
// Bytes that malloc gave for this block.
std::size_t usable_bytes(void *block) noexcept;

}  // namespace atbr

namespace google {

template <>
struct has_trivial_copy<atbr::Slot> : true_type {};
template <>
struct has_trivial_destructor<atbr::Slot> : true_type {};

// sparsehash ends the process when its allocator returns null, so this one
// throws. Shrinking never fails: the larger block serves as well.
template <>
class libc_allocator_with_realloc<atbr::Slot> {
 public:
  typedef atbr::Slot value_type;
  typedef std::size_t size_type;
  typedef std::ptrdiff_t difference_type;
  typedef atbr::Slot *pointer;
  typedef const atbr::Slot *const_pointer;
  typedef atbr::Slot &reference;
  typedef const atbr::Slot &const_reference;
  template <class U>
  struct rebind {
    typedef libc_allocator_with_realloc<U> other;
  };

  pointer allocate(size_type n, const_pointer = nullptr) {
    void *p = atbr::allocation_must_fail() ? nullptr : std::malloc(n * sizeof(value_type));
    if (p == nullptr) throw std::bad_alloc();
    return static_cast<pointer>(p);
  }
  void deallocate(pointer p, size_type) { std::free(p); }
  pointer reallocate(pointer p, size_type n) {
    const std::size_t size = n * sizeof(value_type);
    const std::size_t usable = p == nullptr ? 0 : atbr::usable_bytes(p);
    // Blocks of malloc differ by 16 bytes, three slots; those of many slots by 32 here, so that
    // five calls of six change nothing.
    const std::size_t step = size < kManySlots ? 16 : 32;
    if (usable >= size && usable - size < step) return p;
    const std::size_t wanted = (size + kHead + step - 1) / step * step - kHead;
    void *moved = atbr::allocation_must_fail() ? nullptr : std::realloc(p, wanted);
    if (moved != nullptr) return static_cast<pointer>(moved);
    if (usable >= size) return p;
    throw std::bad_alloc();
  }
  // What malloc keeps before each block, and from how many bytes on an eighth of a block may be
  // left over.
  static constexpr std::size_t kHead = 8;
  static constexpr std::size_t kManySlots = 96;

  size_type max_size() const { return static_cast<size_type>(-1) / sizeof(value_type); }
};

}  // namespace google

namespace atbr {

struct GroupImage;

constexpr std::uint32_t kGroupBuckets = 48;
constexpr std::uint32_t kNoOffset = 0xFFFFFFFFu;
constexpr std::uint32_t kTombstone = 0xFFFFFFFEu;

class SparseTable {
 public:
  typedef google::libc_allocator_with_realloc<Slot> Allocator;
  typedef google::sparsegroup<Slot, kGroupBuckets, Allocator> Group;
  static_assert(sizeof(Group) == 16, "pointer, count and bitmap");

  explicit SparseTable(Group *groups, std::uint32_t count) noexcept
      : groups_(groups), count_(count) {}
  ~SparseTable();
  SparseTable(const SparseTable &) = delete;
  SparseTable &operator=(const SparseTable &) = delete;

  // Offset of the first slot with this tag at or after `position`, and its
  // position; kNoOffset and the first empty position when there is none. At
  // least one bucket of the table is empty.
  std::uint32_t find(std::uint32_t position, std::uint8_t tag, std::uint32_t &at) const noexcept {
    std::uint32_t g = position / kGroupBuckets;
    std::uint32_t i = position % kGroupBuckets;
    for (;;) {
      const Group &group = groups_[g];
      const std::uint64_t bits = bitmap(group);
      const Slot *slot = group.nonempty_begin() + __builtin_popcountll(bits & ((1ull << i) - 1));
      const std::uint32_t run = static_cast<std::uint32_t>(__builtin_ctzll(~(bits >> i)));
      for (std::uint32_t k = 0; k < run; ++k) {
        if (slot[k].tag == tag) {
          const std::uint32_t offset = load_offset(slot[k]);
          if (offset != kTombstone) {
            at = g * kGroupBuckets + i + k;
            return offset;
          }
        }
      }
      if (i + run < kGroupBuckets) {
        at = g * kGroupBuckets + i + run;
        return kNoOffset;
      }
      i = 0;
      g = g + 1 == count_ ? 0 : g + 1;
    }
  }

  // First position at or after `position` that is empty or a tombstone.
  std::uint32_t find_free(std::uint32_t position) const noexcept;
  // Fills a bucket; false when memory ran out (the table is as before).
  bool put(std::uint32_t position, std::uint8_t tag, std::uint32_t offset) noexcept;
  // Empties the bucket of a live slot, leaving a tombstone where a probe must go on.
  void erase(std::uint32_t position) noexcept;
  void read_group(std::uint32_t group, GroupImage &image) const noexcept;
  // Replaces a group by one exact allocation; false when memory ran out.
  bool write_group(std::uint32_t group, const GroupImage &image) noexcept;

  std::uint32_t used() const noexcept { return used_; }
  std::uint32_t tombstones() const noexcept { return tombstones_; }
  std::uint32_t nonempty_groups() const noexcept;
  // Bytes that malloc holds for this table.
  std::size_t bytes() const noexcept { return bytes_ + sizeof(*this) + count_ * sizeof(Group); }

  void prefetch_group(std::uint32_t position) const noexcept {
    __builtin_prefetch(&groups_[position / kGroupBuckets]);
  }
  void prefetch_slots(std::uint32_t position) const noexcept {
    const Group &group = groups_[position / kGroupBuckets];
    const std::uint64_t below = (1ull << (position % kGroupBuckets)) - 1;
    const char *slot = reinterpret_cast<const char *>(group.nonempty_begin() +
                                                      __builtin_popcountll(bitmap(group) & below));
    __builtin_prefetch(slot);
    __builtin_prefetch(slot + 24);
  }

  // Asks for the cache lines that `put` writes and moves: the group's block, and malloc's own words
  // before and after it.
  void prefetch_block(std::uint32_t position) const noexcept {
    const Group &group = groups_[position / kGroupBuckets];
    const char *block = reinterpret_cast<const char *>(group.nonempty_begin());
    const char *end = block + group.num_nonempty() * sizeof(Slot) + kUnused;
    for (const char *line = block - 8; line < end; line += 64) __builtin_prefetch(line, 1);
  }

 private:
  // No block has more bytes than this that its slots do not take.
  static constexpr std::size_t kUnused = 32;

  // The bitmap is private to sparsegroup; its six bytes end the object. Read in
  // two halves, as it is written, so that stores forward to loads.
  static std::uint64_t bitmap(const Group &group) noexcept {
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(&group) + 10;
    std::uint16_t low;
    std::uint32_t high;
    std::memcpy(&low, bytes, 2);
    std::memcpy(&high, bytes + 2, 4);
    return low | static_cast<std::uint64_t>(high) << 16;
  }
  static std::uint32_t load_offset(const Slot &slot) noexcept {
    std::uint32_t offset;
    std::memcpy(&offset, slot.offset, 4);
    return offset;
  }
  static Slot make_slot(std::uint8_t tag, std::uint32_t offset) noexcept {
    Slot slot;
    slot.tag = tag;
    std::memcpy(slot.offset, &offset, 4);
    return slot;
  }
  // What glibc's malloc takes for a group of n slots.
  static std::size_t malloc_bytes(std::size_t n) noexcept {
    if (n == 0) return 0;
    const std::size_t chunk = (n * sizeof(Slot) + 8 + 15) & ~static_cast<std::size_t>(15);
    return chunk < 32 ? 32 : chunk;
  }

  Group *groups_;
  std::uint32_t count_;
  std::uint32_t used_ = 0;  // live slots and tombstones
  std::uint32_t tombstones_ = 0;
  std::size_t bytes_ = 0;
};

// A table of empty groups, or null when memory ran out.
std::unique_ptr<SparseTable> new_sparse_table(std::uint32_t groups) noexcept;

// Hands the free pages of malloc back to the system.
void trim_malloc() noexcept;

}  // namespace atbr
