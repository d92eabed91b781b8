//! The server: TIME, CONFIG, MEMORY, SLOWLOG, LATENCY, DEBUG, SHUTDOWN and their kin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::info;
use crate::server::resp::call::{Call, heavy};
use crate::server::resp::failure::{Failure, SYNTAX, bad_subcommand, failure, fixed};
use crate::server::resp::lookup;
use crate::server::resp::number::{Digits, parse_i64};

type Done = Result<(), Failure>;

pub(crate) fn time(call: &mut Call<'_, '_>) -> Done {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    call.out.array(2);
    call.out.bulk(Digits::of(now.as_secs() as i64).as_bytes());
    call.out
        .bulk(Digits::of(i64::from(now.subsec_micros())).as_bytes());
    Ok(())
}

pub(crate) fn lastsave(call: &mut Call<'_, '_>) -> Done {
    let saved = call.shared.resp.last_save.load(Ordering::Relaxed);
    let saved = if saved == 0 {
        call.shared.started_unix / 1_000
    } else {
        saved
    };
    call.out.integer(saved as i64);
    Ok(())
}

/// The file of the data folder that SAVE and BGSAVE write.
const FILE: &str = "dump.tsv";

fn save_now(shared: &crate::server::Shared) -> Done {
    let resp = &shared.resp;
    if resp.saving.swap(true, Ordering::SeqCst) {
        return Err(fixed("ERR Background save already in progress"));
    }
    let saved = shared.save_to_data_dir(FILE);
    resp.saving.store(false, Ordering::SeqCst);
    saved.map_err(|error| failure(format!("ERR {error}")))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    resp.last_save.store(now.as_secs(), Ordering::Relaxed);
    Ok(())
}

pub(crate) fn save(call: &mut Call<'_, '_>) -> Done {
    let _place = call.place(true)?;
    heavy(true, || save_now(call.shared))?;
    call.out.ok();
    Ok(())
}

pub(crate) fn bgsave(call: &mut Call<'_, '_>) -> Done {
    if call.args.len() > 2 || call.args.len() == 2 && call.word(1).as_str() != "schedule" {
        return Err(SYNTAX);
    }
    if call.shared.config.data_dir.is_none() {
        return Err(fixed("ERR no data folder was given: start with --data-dir"));
    }
    if call.shared.resp.saving.load(Ordering::SeqCst) {
        return Err(fixed("ERR Background save already in progress"));
    }
    let shared = Arc::clone(call.shared);
    tokio::task::spawn_blocking(move || {
        if let Err(failure) = save_now(&shared) {
            tracing::error!(error = %String::from_utf8_lossy(&failure.0), "a save in the background failed");
        }
    });
    call.out.simple("Background saving started");
    Ok(())
}

pub(crate) fn shutdown(call: &mut Call<'_, '_>) -> Done {
    let (mut saves, mut aborts) = (None, false);
    for at in 1..call.args.len() {
        match call.word(at).as_str() {
            "save" if saves.is_none() => saves = Some(true),
            "nosave" if saves.is_none() => saves = Some(false),
            "now" | "force" => {}
            "abort" if call.args.len() == 2 => aborts = true,
            _ => return Err(SYNTAX),
        }
    }
    if aborts {
        return Err(fixed("ERR No shutdown in progress."));
    }
    if saves == Some(true) {
        heavy(!call.in_exec, || save_now(call.shared))
            .map_err(|_| fixed("ERR Errors trying to SHUTDOWN. Check logs."))?;
    }
    if saves == Some(false) {
        call.shared.shutdown.save_nothing();
    }
    call.session.ends = true;
    call.shared.begin_shutdown();
    Ok(())
}

pub(crate) fn config_get(call: &mut Call<'_, '_>) -> Done {
    let patterns: Vec<_> = call.args.from(2).iter().collect();
    if patterns
        .iter()
        .any(|pattern| pattern.len() > super::scan::MOST_PATTERN)
    {
        return Err(fixed("ERR pattern is too long"));
    }
    let found = call.shared.resp.settings.matching(call.shared, &patterns);
    call.out.map(found.len());
    for (name, value) in found {
        call.out.text(name);
        call.out.text(&value);
    }
    Ok(())
}

pub(crate) fn config_set(call: &mut Call<'_, '_>) -> Done {
    let args = call.args.from(2);
    if args.len() % 2 == 1 {
        return Err(SYNTAX);
    }
    let settings = &call.shared.resp.settings;
    let failed = |name: &str, why: String| {
        failure(format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
        ))
    };
    let mut wanted: BTreeMap<String, &[u8]> = BTreeMap::new();
    for at in (0..args.len()).step_by(2) {
        let name = String::from_utf8_lossy(args.at(at)).to_lowercase();
        settings
            .check_name(call.shared, &name)
            .map_err(|why| match why {
                Some(why) => failed(&name, why),
                None => {
                    let given = String::from_utf8_lossy(args.at(at));
                    failure(format!(
                        "ERR Unknown option or number of arguments for CONFIG SET - '{given}'"
                    ))
                }
            })?;
        if wanted.insert(name.clone(), args.at(at + 1)).is_some() {
            return Err(failed(&name, "duplicate parameter".to_owned()));
        }
    }
    // All are checked before one is changed.
    for (name, value) in &wanted {
        settings
            .check(call.shared, name, value)
            .map_err(|why| failed(name, why))?;
    }
    for (name, value) in wanted {
        settings
            .set(call.shared, &mut call.keys, &name, value)
            .map_err(|why| failed(&name, why))?;
    }
    call.out.ok();
    Ok(())
}

pub(crate) fn config_resetstat(call: &mut Call<'_, '_>) -> Done {
    call.shared.resp.counts.reset();
    let stats = &call.shared.stats;
    for counter in [
        &stats.commands,
        &stats.hits,
        &stats.misses,
        &stats.bytes_in,
        &stats.bytes_out,
        &stats.errors,
        &stats.connections_received,
        &stats.connections_refused,
    ] {
        counter.store(0, Ordering::Relaxed);
    }
    call.out.ok();
    Ok(())
}

pub(crate) fn config_rewrite(_call: &mut Call<'_, '_>) -> Done {
    Err(fixed("ERR The server is running without a config file"))
}

/// Bytes of an entry beside its key and value, on average.
const OVERHEAD: usize = 9;

pub(crate) fn memory_usage(call: &mut Call<'_, '_>) -> Done {
    let args = call.args;
    if args.len() > 3 {
        let samples = (args.len() == 5 && call.word(3).as_str() == "samples").then(|| {
            parse_i64(args.at(4)).ok_or(fixed("ERR value is not an integer or out of range"))
        });
        if samples.ok_or(SYNTAX)?? < 0 {
            return Err(SYNTAX);
        }
    }
    let (db, key) = (call.keys.db, args.at(2));
    let bytes = call.keys.read(db, key, |entry| {
        let expiry = entry
            .as_ref()
            .map_or(0, |entry| if entry.time_left.is_some() { 11 } else { 0 });
        entry.map(|entry| key.len() + entry.value.len() + OVERHEAD + expiry)
    })?;
    match bytes {
        Some(bytes) => call.out.integer(bytes as i64),
        None => call.out.null(),
    }
    Ok(())
}

pub(crate) fn memory_stats(call: &mut Call<'_, '_>) -> Done {
    let (stats, _) = call.keys.stats();
    let buffers = call.shared.resp.buffers.used() as i64;
    let rows = [
        ("total.allocated", stats.bytes_allocated as i64 + buffers),
        ("clients.normal", buffers),
        ("keys.count", stats.entries as i64),
        (
            "keys.bytes-per-key",
            (stats.bytes_allocated / stats.entries.max(1)) as i64,
        ),
        (
            "dataset.bytes",
            (stats.key_bytes + stats.value_bytes) as i64,
        ),
        ("index.bytes", stats.index_bytes as i64),
        ("dead.bytes", stats.dead_bytes as i64),
        ("expiry.bytes", stats.expiry_bytes as i64),
    ];
    call.out.map(rows.len());
    for (name, number) in rows {
        call.out.text(name);
        call.out.integer(number);
    }
    Ok(())
}

pub(crate) fn memory_doctor(call: &mut Call<'_, '_>) -> Done {
    call.out
        .verbatim(b"Nothing is known to be wrong with the memory of this server.");
    Ok(())
}

pub(crate) fn memory_purge(call: &mut Call<'_, '_>) -> Done {
    if !call.in_exec {
        let _place = call.place(true)?;
        heavy(true, || -> Done {
            for db in call.shared.databases.written() {
                if let Some(store) = call.shared.databases.get(db) {
                    store.compact()?;
                }
            }
            Ok(())
        })?;
    }
    call.out.ok();
    Ok(())
}

pub(crate) fn memory_malloc_stats(call: &mut Call<'_, '_>) -> Done {
    call.out
        .verbatim(b"Stats not supported for the current allocator");
    Ok(())
}

pub(crate) fn slowlog_get(call: &mut Call<'_, '_>) -> Done {
    let most = match call.args.len() {
        2 => 10,
        3 => match parse_i64(call.args.at(2)) {
            Some(-1) => usize::MAX,
            Some(count) if count >= 0 => count as usize,
            _ => return Err(fixed("ERR count should be greater than or equal to -1")),
        },
        _ => return Err(bad_subcommand("SLOWLOG", call.args.at(1))),
    };
    let entries = call.shared.resp.slowlog.newest(most);
    let out = &mut *call.out;
    out.array(entries.len());
    for entry in entries {
        out.array(6);
        out.integer(entry.id as i64);
        out.integer(entry.at as i64);
        out.integer(entry.microseconds as i64);
        out.array(entry.args.len());
        entry.args.iter().for_each(|arg| out.bulk(arg));
        out.text(&entry.peer);
        out.bulk(&entry.name);
    }
    Ok(())
}

pub(crate) fn slowlog_len(call: &mut Call<'_, '_>) -> Done {
    call.out.integer(call.shared.resp.slowlog.len() as i64);
    Ok(())
}

pub(crate) fn slowlog_reset(call: &mut Call<'_, '_>) -> Done {
    call.shared.resp.slowlog.reset();
    call.out.ok();
    Ok(())
}

pub(crate) fn latency_history(call: &mut Call<'_, '_>) -> Done {
    let spikes = call.shared.resp.latency.history(call.word(2).as_str());
    call.out.array(spikes.len());
    for (at, took) in spikes {
        call.out.array(2);
        call.out.integer(at as i64);
        call.out.integer(took as i64);
    }
    Ok(())
}

pub(crate) fn latency_latest(call: &mut Call<'_, '_>) -> Done {
    let events = call.shared.resp.latency.latest();
    call.out.array(events.len());
    for (name, at, took, most) in events {
        call.out.array(4);
        call.out.text(name);
        [at, took, most]
            .iter()
            .for_each(|&number| call.out.integer(number as i64));
    }
    Ok(())
}

pub(crate) fn latency_reset(call: &mut Call<'_, '_>) -> Done {
    let names: Vec<_> = call.args.from(2).iter().collect();
    call.out
        .integer(call.shared.resp.latency.reset(&names) as i64);
    Ok(())
}

pub(crate) fn latency_doctor(call: &mut Call<'_, '_>) -> Done {
    let events = call.shared.resp.latency.latest();
    let mut text = String::from("Spikes of latency that were noted:\n");
    for (name, _, took, most) in &events {
        text.push_str(&format!(
            "{name}: the last one took {took} ms, the longest {most} ms\n"
        ));
    }
    if events.is_empty() {
        text = "No spike of latency was noted. CONFIG SET latency-monitor-threshold says from how many milliseconds on one is.\n".into();
    }
    call.out.verbatim(text.as_bytes());
    Ok(())
}

pub(crate) fn latency_graph(call: &mut Call<'_, '_>) -> Done {
    let name = call.word(2);
    let spikes = call.shared.resp.latency.history(name.as_str());
    if spikes.is_empty() {
        return Err(failure(format!(
            "ERR No samples available for event '{}'",
            name.as_str()
        )));
    }
    let most = spikes.iter().map(|spike| spike.1).max().unwrap_or(1).max(1);
    let mut text = format!("{} - high {most} ms\n", name.as_str());
    for (at, took) in spikes {
        text.push_str(&format!(
            "{at} {}\n",
            "#".repeat((took * 60 / most).max(1) as usize)
        ));
    }
    call.out.verbatim(text.as_bytes());
    Ok(())
}

/// Commands by name, with how often they ran and how long a call took on average.
pub(crate) fn latency_histogram(call: &mut Call<'_, '_>) -> Done {
    let wanted: Vec<_> = call.args.from(2).iter().collect();
    let mut called = call.shared.resp.counts.called();
    called.retain(|row| {
        let name = lookup::rows()[row.0].command.name.as_bytes();
        row.1 > 0
            && (wanted.is_empty()
                || wanted
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(name)))
    });
    call.out.map(called.len());
    for (row, calls, microseconds, _) in called {
        call.out.text(lookup::rows()[row].command.name);
        call.out.map(2);
        call.out.text("calls");
        call.out.integer(calls as i64);
        call.out.text("histogram_usec");
        call.out.map(1);
        let bound = (microseconds / calls).max(1).next_power_of_two();
        call.out.integer(bound as i64);
        call.out.integer(calls as i64);
    }
    Ok(())
}

pub(crate) fn debug(call: &mut Call<'_, '_>) -> Done {
    if !call.shared.config.debug_commands {
        return Err(fixed(
            "ERR DEBUG command not allowed. It is for tests, and was not switched on.",
        ));
    }
    match (call.word(1).as_str(), call.args.len()) {
        ("sleep", 3) => {
            let seconds = std::str::from_utf8(call.args.at(2))
                .ok()
                .and_then(|text| text.parse::<f64>().ok());
            let seconds = seconds
                .filter(|seconds| (0.0..60.0).contains(seconds))
                .ok_or(SYNTAX)?;
            let _place = call.place(true)?;
            heavy(!call.in_exec, || {
                std::thread::sleep(Duration::from_secs_f64(seconds))
            });
            call.out.ok();
            Ok(())
        }
        ("panic", 2) => panic!("DEBUG PANIC"),
        ("set-active-expire" | "jmap" | "reload" | "quicklist-packed-threshold", _) => {
            call.out.ok();
            Ok(())
        }
        (name, _) => Err(failure(format!(
            "ERR unknown subcommand '{name}'. Try DEBUG HELP."
        ))),
    }
}

pub(crate) fn role(call: &mut Call<'_, '_>) -> Done {
    call.out.array(3);
    call.out.text("master");
    call.out.integer(0);
    call.out.array(0);
    Ok(())
}

/// Nobody replicates from here.
pub(crate) fn wait(call: &mut Call<'_, '_>) -> Done {
    call.integer(1)?;
    let timeout =
        parse_i64(call.args.at(2)).ok_or(fixed("ERR timeout is not an integer or out of range"))?;
    if timeout < 0 {
        return Err(fixed("ERR timeout is negative"));
    }
    call.out.integer(0);
    Ok(())
}

pub(crate) fn lolwut(call: &mut Call<'_, '_>) -> Done {
    let text = format!(
        "atbr {}\nRedis ver. {}\n",
        env!("CARGO_PKG_VERSION"),
        info::REDIS_VERSION
    );
    call.out.verbatim(text.as_bytes());
    Ok(())
}
