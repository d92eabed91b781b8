use atbr::engine::{Change, Entry, Event, Ttl, Wait};

use super::{by_hand, get, set, set_until, told};

const YEAR: u64 = 365 * 24 * 3_600_000;

#[test]
fn a_deadline_of_any_size_is_told_as_it_was_set() {
    let (databases, _) = by_hand();
    let now = databases.unix_now();
    let large = vec![7; 5000];
    for (i, at) in [
        now + 1,
        now + 10 * YEAR,
        now + (1 << 40) - 1,
        now + (1 << 40),
        now + 1000 * YEAR,
        i64::MAX as u64,
    ]
    .into_iter()
    .enumerate()
    {
        for (value, key) in [(&b"small"[..], [b's', i as u8]), (&large, [b'l', i as u8])] {
            set_until(&databases, 0, &key, value, Ttl::At(at as i64));
            let read = |entry: Entry<'_>| (entry.value.len(), entry.expires_at);
            let expected = Some((value.len(), Some(at)));
            assert_eq!(databases.read(0, &key, read).unwrap(), expected);
            databases.get(0).unwrap().compact().unwrap();
            assert_eq!(databases.read(0, &key, read).unwrap(), expected);
        }
    }
}

#[test]
fn deadlines_change_between_near_far_and_none() {
    let (databases, clock) = by_hand();
    let now = databases.unix_now();
    let steps = [
        None,
        Some(5),
        Some(1 << 41),
        Some(1 << 45),
        None,
        Some(1 << 50),
        Some(7),
        Some(1 << 41),
    ];
    for len in [10, 5000] {
        let value = vec![1; len];
        set(&databases, 0, b"key", &value);
        for step in steps {
            let ttl = step.map_or(Ttl::Never, |after: u64| Ttl::At((now + after) as i64));
            databases
                .modify_up_to(0, b"key", len, None, |_| Ok((Change::Expire(ttl), ())))
                .unwrap();
            let read = |entry: Entry<'_>| (entry.value.len(), entry.expires_at);
            let at = step.map(|after| now + after);
            assert_eq!(databases.read(0, b"key", read).unwrap(), Some((len, at)));
        }
    }
    let store = databases.get(0).unwrap();
    assert_eq!(store.stats().expiring, 1);
    // Seventy years on.
    clock.advance((1 << 41) - 1);
    assert_eq!(store.expire().unwrap(), 0);
    clock.advance(1);
    assert_eq!(get(&databases, 0, b"key"), None);
    assert_eq!(store.expire().unwrap(), 1);
    assert_eq!(store.stats().expiring, 0);
}

#[test]
fn a_deadline_that_has_passed_takes_the_key_out_at_once() {
    let (databases, _) = by_hand();
    databases.set_notify(super::ALL).unwrap();
    let now = databases.unix_now() as i64;
    for at in [now, 0, -1, i64::MIN] {
        set(&databases, 0, b"key", b"1");
        set_until(&databases, 0, b"key", b"2", Ttl::At(at));
        assert_eq!(databases.get(0).unwrap().len(), 0);
        set(&databases, 0, b"key", b"1");
        databases
            .modify_up_to(0, b"key", 0, None, |_| {
                Ok((Change::Expire(Ttl::At(at)), ()))
            })
            .unwrap();
        assert_eq!(databases.get(0).unwrap().len(), 0);
        let first = ["0 new key", "0 set key"];
        let written = ["0 set key", "0 expire key", "0 expired key"];
        let rounds = [&first[..], &written, &first, &["0 del key"]].concat();
        assert_eq!(told(&databases), rounds);
    }
}

#[test]
fn one_step_has_one_time() {
    let (databases, clock) = by_hand();
    set_until(&databases, 0, b"a", b"1", Ttl::Millis(100));
    databases
        .with_locked(&[(0, b"a"), (9, b"b")], |locked| {
            locked.set(9, b"b", b"1", Ttl::Millis(50), Event::Set)?;
            clock.advance(1000);
            assert_eq!(locked.get(0, b"a")?.unwrap().time_left, Some(100));
            assert_eq!(locked.get(9, b"b")?.unwrap().time_left, Some(50));
            Ok(())
        })
        .unwrap();
    assert_eq!(get(&databases, 0, b"a"), None);
    assert_eq!(get(&databases, 9, b"b"), None);
    let store = databases.get(9).unwrap();
    store
        .set_with(b"c", b"1", Ttl::Millis(10), Wait::Block)
        .unwrap();
    assert_eq!(store.time_left(b"c", Wait::Block).unwrap(), Some(Some(10)));
}
