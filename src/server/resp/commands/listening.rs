//! Channels: SUBSCRIBE, PUBLISH, PUBSUB and their kin.

use std::sync::Arc;

use super::scan::{MOST_PATTERN, pattern};
use crate::server::resp::call::Call;
use crate::server::resp::dispatch::note_subscriptions;
use crate::server::resp::failure::{Failure, bad_subcommand, fixed};
use crate::server::resp::pubsub::Kind;
use crate::server::resp::session::{Names, Session};

type Done = Result<(), Failure>;

/// Channels and patterns that one connection may listen to.
const MOST: usize = 10_000;

fn names(session: &mut Session, kind: Kind) -> &mut Names {
    match kind {
        Kind::Channel => &mut session.channels,
        Kind::Pattern => &mut session.patterns,
        Kind::Shard => &mut session.shard_channels,
    }
}

/// What a connection is told that it listens to now.
fn count(session: &Session, kind: Kind) -> i64 {
    let count = if kind == Kind::Shard {
        session.shard_channels.len()
    } else {
        session.subscriptions()
    };
    count as i64
}

fn listen(call: &mut Call<'_, '_>, kind: Kind, reply: &str) -> Done {
    // Checked first: a refusal changes nothing.
    let new = call.args.len() - 1;
    if call.session.subscriptions() + call.session.shard_channels.len() + new > MOST {
        return Err(fixed("ERR too many subscriptions"));
    }
    if kind == Kind::Pattern
        && call
            .args
            .from(1)
            .iter()
            .any(|name| name.len() > MOST_PATTERN)
    {
        return Err(fixed("ERR pattern is too long"));
    }
    for name in call.args.from(1).iter() {
        let client = Arc::clone(&call.session.client);
        if names(call.session, kind).insert(name.into()) {
            call.shared.resp.pubsub.listen(kind, name, &client);
        }
        let count = count(call.session, kind);
        call.out.push(3);
        call.out.text(reply);
        call.out.bulk(name);
        call.out.integer(count);
    }
    note_subscriptions(call.session);
    Ok(())
}

fn ignore(call: &mut Call<'_, '_>, kind: Kind, reply: &str) -> Done {
    let args = call.args.from(1);
    let all: Vec<Box<[u8]>> = match args.len() {
        0 => names(call.session, kind).iter().cloned().collect(),
        _ => args.iter().map(Box::from).collect(),
    };
    if all.is_empty() {
        let count = count(call.session, kind);
        call.out.push(3);
        call.out.text(reply);
        call.out.null();
        call.out.integer(count);
    }
    for name in all {
        if names(call.session, kind).remove(&name) {
            call.shared
                .resp
                .pubsub
                .ignore(kind, &name, &call.session.client);
        }
        let count = count(call.session, kind);
        call.out.push(3);
        call.out.text(reply);
        call.out.bulk(&name);
        call.out.integer(count);
    }
    note_subscriptions(call.session);
    Ok(())
}

pub(crate) fn subscribe(call: &mut Call<'_, '_>) -> Done {
    listen(call, Kind::Channel, "subscribe")
}

pub(crate) fn psubscribe(call: &mut Call<'_, '_>) -> Done {
    listen(call, Kind::Pattern, "psubscribe")
}

pub(crate) fn ssubscribe(call: &mut Call<'_, '_>) -> Done {
    listen(call, Kind::Shard, "ssubscribe")
}

pub(crate) fn unsubscribe(call: &mut Call<'_, '_>) -> Done {
    ignore(call, Kind::Channel, "unsubscribe")
}

pub(crate) fn punsubscribe(call: &mut Call<'_, '_>) -> Done {
    ignore(call, Kind::Pattern, "punsubscribe")
}

pub(crate) fn sunsubscribe(call: &mut Call<'_, '_>) -> Done {
    ignore(call, Kind::Shard, "sunsubscribe")
}

pub(crate) fn publish(call: &mut Call<'_, '_>) -> Done {
    let sent = call
        .shared
        .resp
        .pubsub
        .publish(call.shared, call.args.at(1), call.args.at(2));
    call.out.integer(sent as i64);
    Ok(())
}

pub(crate) fn spublish(call: &mut Call<'_, '_>) -> Done {
    let sent =
        call.shared
            .resp
            .pubsub
            .publish_to_shard(call.shared, call.args.at(1), call.args.at(2));
    call.out.integer(sent as i64);
    Ok(())
}

fn list(call: &mut Call<'_, '_>, kind: Kind) -> Done {
    let glob = match call.args.len() {
        2 => None,
        4.. => return Err(bad_subcommand("PUBSUB", call.args.at(1))),
        _ => Some(pattern(call.args.at(2))?),
    };
    let found = call.shared.resp.pubsub.names(kind, glob.as_ref());
    call.out.array(found.len());
    found.iter().for_each(|name| call.out.bulk(name));
    Ok(())
}

fn numbers(call: &mut Call<'_, '_>, kind: Kind) -> Done {
    let names = call.args.from(2);
    call.out.array(2 * names.len());
    for name in names.iter() {
        call.out.bulk(name);
        call.out
            .integer(call.shared.resp.pubsub.count(kind, name) as i64);
    }
    Ok(())
}

pub(crate) fn channels(call: &mut Call<'_, '_>) -> Done {
    list(call, Kind::Channel)
}

pub(crate) fn shardchannels(call: &mut Call<'_, '_>) -> Done {
    list(call, Kind::Shard)
}

pub(crate) fn numsub(call: &mut Call<'_, '_>) -> Done {
    numbers(call, Kind::Channel)
}

pub(crate) fn shardnumsub(call: &mut Call<'_, '_>) -> Done {
    numbers(call, Kind::Shard)
}

pub(crate) fn numpat(call: &mut Call<'_, '_>) -> Done {
    call.out.integer(call.shared.resp.pubsub.totals().1 as i64);
    Ok(())
}
