//! Sorts items by order hash: stably, and without allocating.

#[inline]
fn order(item: u64) -> u64 {
    item >> 32
}

/// Sorts by order hash, stably; `spare` is half as long as the run. Unlike the standard library's, allocates nothing.
#[inline]
pub(super) fn sort_run(run: &mut [u64], spare: &mut [u64]) {
    const SHORT: usize = 32;
    if run.len() > SHORT {
        return merge_sort(run, spare);
    }
    for i in 1..run.len() {
        let item = run[i];
        let mut at = i;
        while at > 0 && order(run[at - 1]) > order(item) {
            run[at] = run[at - 1];
            at -= 1;
        }
        run[at] = item;
    }
}

fn merge_sort(run: &mut [u64], spare: &mut [u64]) {
    let middle = run.len() / 2;
    sort_run(&mut run[..middle], spare);
    sort_run(&mut run[middle..], spare);
    if order(run[middle - 1]) <= order(run[middle]) {
        return;
    }
    let left = &mut spare[..middle];
    left.copy_from_slice(&run[..middle]);
    let (mut from_left, mut from_right) = (0, middle);
    for to in 0..run.len() {
        // What is left of the right half is in its place already.
        let Some(&item) = left.get(from_left) else {
            break;
        };
        if from_right < run.len() && order(run[from_right]) < order(item) {
            run[to] = run[from_right];
            from_right += 1;
        } else {
            run[to] = item;
            from_left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::sort_run;

    proptest! {
        #[test]
        fn runs_are_sorted_stably(orders in prop::collection::vec(0u64..9, 0..300)) {
            let mut run: Vec<u64> = (0..).zip(&orders).map(|(i, order)| order << 32 | i).collect();
            let mut sorted = run.clone();
            // By order and then by place, which is what a stable sort gives.
            sorted.sort_unstable();
            sort_run(&mut run, &mut vec![0; orders.len() / 2]);
            prop_assert_eq!(run, sorted);
        }
    }
}
