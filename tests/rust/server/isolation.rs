//! Commands of several keys are one step for everybody, whatever door they come by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use atbr::engine::{Databases, Event, Ttl, Wait};
use atbr::server::{Secrets, Server};

use super::client::{Client, Reply};
use super::{config, databases};

/// Rounds of all writers together.
const ROUNDS: u64 = if cfg!(debug_assertions) {
    6_000
} else {
    60_000
};
const CLIENTS: u64 = 4;
const OTHERS: u64 = 2;

#[test]
fn keys_that_are_written_together_are_read_together() {
    write_by_all_doors(ROUNDS);
}

#[test]
#[ignore = "takes minutes"]
fn keys_that_are_written_together_are_read_together_for_long() {
    write_by_all_doors(1_000_000);
}

/// `left` and `right` have the same value, and so have `near` and `far`, which is in database 1.
fn write_by_all_doors(rounds: u64) {
    let databases = databases();
    let server = Server::start(config(), Secrets::default(), Arc::clone(&databases)).unwrap();
    let client = || Client::connect(server.resp_addr().unwrap());
    let rounds = rounds / (CLIENTS + OTHERS);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut writers = Vec::new();
        for writer in 0..CLIENTS {
            let mut client = client();
            writers.push(scope.spawn(move || {
                for round in 0..rounds {
                    write(&mut client, writer, round);
                }
            }));
        }
        for writer in 0..OTHERS {
            let databases = &databases;
            writers.push(scope.spawn(move || {
                for round in 0..rounds {
                    write_inside(databases, writer, round);
                }
            }));
        }
        let (mut reader, done, databases) = (client(), &done, &databases);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                look(&mut reader);
                look_inside(databases);
            }
        });
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    look(&mut client());
    assert!(server.join(std::time::Duration::from_secs(30)));
}

/// One of the ways to write a pair.
fn write(client: &mut Client, writer: u64, round: u64) {
    let value = format!("{writer}-{round}");
    let own = format!("own-{writer}");
    let (value, own) = (value.as_str(), own.as_str());
    let ok = Reply::Simple("OK".into());
    match round % 6 {
        0 => assert_eq!(client.call(&["MSET", "left", value, "right", value]), ok),
        1 => client.exec(&[&["SET", "left", value], &["SET", "right", value]]),
        2 => client.exec(&[&["SET", "left", value], &["BITOP", "OR", "right", "left"]]),
        3 => client.exec(&[
            &["SET", own, value],
            &["COPY", own, "left", "REPLACE"],
            &["RENAME", own, "right"],
        ]),
        4 => client.exec(&[
            &["DEL", "left", "right"],
            &["MSETNX", "left", value, "right", value],
        ]),
        _ => client.exec(&[
            &["SET", "near", value],
            &["COPY", "near", "far", "DB", "1", "REPLACE"],
        ]),
    }
}

/// What Python does: single keys, and several under their locks.
fn write_inside(databases: &Databases, writer: u64, round: u64) {
    let value = format!("{writer}+{round}");
    let value = value.as_bytes();
    let zero = databases.get(0).unwrap();
    zero.set(b"single", value, Wait::Block).unwrap();
    databases
        .with_locked(
            &[(0, "left"), (0, "right"), (0, "near"), (1, "far")],
            |locked| {
                for (db, key) in [(0, "left"), (0, "right"), (0, "near"), (1, "far")] {
                    locked.set(db, key.as_bytes(), value, Ttl::Never, Event::Set)?;
                }
                Ok(())
            },
        )
        .unwrap();
}

fn look(client: &mut Client) {
    let Reply::Array(pair) = client.call(&["MGET", "left", "right"]) else {
        panic!("MGET answers with an array");
    };
    assert_eq!(pair[0], pair[1]);
    for args in [
        &["MULTI"][..],
        &["GET", "near"],
        &["SELECT", "1"],
        &["GET", "far"],
        &["SELECT", "0"],
    ] {
        client.call(args);
    }
    let Reply::Array(replies) = client.call(&["EXEC"]) else {
        panic!("EXEC answers with an array");
    };
    assert_eq!(replies[0], replies[2]);
}

fn look_inside(databases: &Databases) {
    databases
        .with_locked(&[(0, "near"), (1, "far")], |locked| {
            let near = locked.get(0, b"near")?.map(|e| e.value.as_slice().to_vec());
            let far = locked.get(1, b"far")?.map(|e| e.value.as_slice().to_vec());
            assert_eq!(near, far);
            Ok(())
        })
        .unwrap();
}
