//! The leaves of an ordered map under their lower bounds: a list of branches, each of some hundred leaves.
//!
//! A bound has its first 16 bytes as a number in a list of its own: a search compares numbers that lie next to each other,
//! and follows a pointer only where they are equal. Every allocation may fail, and leaves the index as it was.

use super::leaf::Leaf;
use super::memory::reserve;
use crate::Result;

/// Leaves at which a branch is split: what inserting one moves is some ten kilobytes at most.
const MAX_LEAVES: usize = 256;

/// Where a leaf is. Changes of the index move leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    branch: usize,
    leaf: usize,
}

#[derive(Default)]
struct Branch {
    heads: Vec<u128>,
    bounds: Vec<Vec<u8>>,
    leaves: Vec<Leaf>,
}

impl Branch {
    fn len(&self) -> usize {
        self.leaves.len()
    }

    fn reserve(&mut self, additional: usize) -> Result<()> {
        reserve(&mut self.heads, additional)?;
        reserve(&mut self.bounds, additional)?;
        reserve(&mut self.leaves, additional)
    }

    /// Moves the leaves from `from` on to the end of another branch, which has room for them.
    fn hand_over(&mut self, from: usize, to: &mut Branch) {
        to.heads.extend(self.heads.drain(from..));
        to.bounds.extend(self.bounds.drain(from..));
        to.leaves.extend(self.leaves.drain(from..));
    }
}

/// Leaves in the order of their bounds.
#[derive(Default)]
pub struct Index {
    /// The first head of each branch.
    firsts: Vec<u128>,
    /// None is empty.
    branches: Vec<Branch>,
}

impl Index {
    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// Makes the first leaf, whose bound is empty.
    pub fn begin(&mut self) -> Result<()> {
        let mut branch = Branch::default();
        branch.reserve(1)?;
        reserve(&mut self.firsts, 1)?;
        reserve(&mut self.branches, 1)?;
        branch.heads.push(0);
        branch.bounds.push(Vec::new());
        branch.leaves.push(Leaf::default());
        self.firsts.push(0);
        self.branches.push(branch);
        Ok(())
    }

    /// The last leaf whose bound is not above `key`; none only where there is no leaf. O(log n).
    pub fn find(&self, key: &[u8]) -> Option<Position> {
        let head = head_of(key);
        let branch = last_not_above(&self.firsts, head, |i| &self.branches[i].bounds[0], key)?;
        let within = &self.branches[branch];
        let leaf = last_not_above(&within.heads, head, |i| &within.bounds[i], key)?;
        Some(Position { branch, leaf })
    }

    pub fn leaf(&self, at: Position) -> &Leaf {
        &self.branches[at.branch].leaves[at.leaf]
    }

    pub fn leaf_mut(&mut self, at: Position) -> &mut Leaf {
        &mut self.branches[at.branch].leaves[at.leaf]
    }

    pub fn bound(&self, at: Position) -> &[u8] {
        &self.branches[at.branch].bounds[at.leaf]
    }

    /// The last leaf.
    pub fn last(&self) -> Option<Position> {
        let branch = self.branches.len().checked_sub(1)?;
        let leaf = self.branches[branch].len() - 1;
        Some(Position { branch, leaf })
    }

    pub fn next(&self, at: Position) -> Option<Position> {
        let (branch, leaf) = if at.leaf + 1 < self.branches[at.branch].len() {
            (at.branch, at.leaf + 1)
        } else {
            (at.branch + 1, 0)
        };
        (branch < self.branches.len()).then_some(Position { branch, leaf })
    }

    pub fn previous(&self, at: Position) -> Option<Position> {
        if let Some(leaf) = at.leaf.checked_sub(1) {
            return Some(Position { leaf, ..at });
        }
        let branch = at.branch.checked_sub(1)?;
        let leaf = self.branches[branch].len() - 1;
        Some(Position { branch, leaf })
    }

    /// Puts `left` in the place of the leaf at `at`, and `right` after it.
    pub fn replace(&mut self, at: Position, left: Leaf, bound: Vec<u8>, right: Leaf) -> Result<()> {
        let branch = &mut self.branches[at.branch];
        branch.reserve(1)?;
        let index = at.leaf + 1;
        branch.heads.insert(index, head_of(&bound));
        branch.bounds.insert(index, bound);
        branch.leaves[at.leaf] = left;
        branch.leaves.insert(index, right);
        if branch.len() > MAX_LEAVES {
            let last = at.branch + 1 == self.branches.len();
            let in_order = last && index + 1 == self.branches[at.branch].len();
            // Without memory the branch is larger for a while.
            let _ = self.split(at.branch, in_order);
        }
        Ok(())
    }

    /// Cuts a branch in two; where leaves come in order, at the end of the last branch, the first is all but one.
    fn split(&mut self, at: usize, in_order: bool) -> Result<()> {
        reserve(&mut self.firsts, 1)?;
        reserve(&mut self.branches, 1)?;
        let branch = &mut self.branches[at];
        let from = if in_order {
            branch.len() - 1
        } else {
            branch.len() / 2
        };
        let mut right = Branch::default();
        right.reserve(branch.len() - from)?;
        branch.hand_over(from, &mut right);
        self.firsts.insert(at + 1, right.heads[0]);
        self.branches.insert(at + 1, right);
        Ok(())
    }

    /// Takes a leaf out; returns where the one after it is then.
    pub fn remove(&mut self, mut at: Position) -> Option<Position> {
        let branch = &mut self.branches[at.branch];
        branch.heads.remove(at.leaf);
        branch.bounds.remove(at.leaf);
        branch.leaves.remove(at.leaf);
        match branch.heads.first() {
            None => {
                self.branches.remove(at.branch);
                self.firsts.remove(at.branch);
            }
            Some(&first) => {
                self.firsts[at.branch] = first;
                self.join_with_next(at.branch);
                if let Some(previous) = at.branch.checked_sub(1) {
                    let before = self.branches[previous].len();
                    if self.join_with_next(previous) {
                        at.branch = previous;
                        at.leaf += before;
                    }
                }
            }
        }
        match self.branches.get(at.branch) {
            Some(branch) if at.leaf < branch.len() => Some(at),
            Some(_) => (at.branch + 1 < self.branches.len()).then_some(Position {
                branch: at.branch + 1,
                leaf: 0,
            }),
            None => None,
        }
    }

    /// Joins a branch with the one after it where both together are half a branch; says whether it did.
    fn join_with_next(&mut self, at: usize) -> bool {
        let Some((left, [right, ..])) = self.branches[at..].split_first_mut() else {
            return false;
        };
        let room = left.len() + right.len() <= MAX_LEAVES / 2;
        // Without memory both stay as they are.
        let joined = room && left.reserve(right.len()).is_ok();
        if joined {
            right.hand_over(0, left);
            self.branches.remove(at + 1);
            self.firsts.remove(at + 1);
        }
        joined
    }

    /// Every leaf in order.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.branches.iter().flat_map(|branch| &branch.leaves)
    }

    /// Bytes of memory, those of the leaves included. O(leaves).
    pub fn allocated(&self) -> usize {
        let above = self.firsts.capacity() * size_of::<u128>()
            + self.branches.capacity() * size_of::<Branch>();
        let branches = self.branches.iter().map(|branch| {
            let bounds: usize = branch.bounds.iter().map(Vec::capacity).sum();
            branch.heads.capacity() * size_of::<u128>()
                + branch.bounds.capacity() * size_of::<Vec<u8>>()
                + branch.leaves.capacity() * size_of::<Leaf>()
                + bounds
        });
        let leaves: usize = self.leaves().map(Leaf::allocated).sum();
        above + branches.sum::<usize>() + leaves
    }
}

/// The last of some bounds that is not above `key`; `heads` are theirs, and `head` that of `key`.
fn last_not_above<'a>(
    heads: &[u128],
    head: u128,
    bound: impl Fn(usize) -> &'a [u8],
    key: &[u8],
) -> Option<usize> {
    let mut low = heads.partition_point(|&found| found < head);
    let same = heads[low..].partition_point(|&found| found == head);
    let mut high = low + same;
    while low < high {
        let middle = low.midpoint(high);
        if bound(middle) > key {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low.checked_sub(1)
}

/// The first 16 bytes as a number, zeros after the end. Numbers that differ are in the order of the bytes; equal ones say
/// nothing.
fn head_of(bytes: &[u8]) -> u128 {
    if let Some(head) = bytes.first_chunk::<16>() {
        return u128::from_be_bytes(*head);
    }
    let mut head = [0; 16];
    head[..bytes.len()].copy_from_slice(bytes);
    u128::from_be_bytes(head)
}
