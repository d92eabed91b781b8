//! INFO.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::server::Shared;
use crate::server::resp::call::Call;
use crate::server::resp::clients::State;
use crate::server::resp::failure::Failure;
use crate::server::resp::keyspace::Keyspace;
use crate::server::resp::lookup;

/// The version of Redis whose behaviour this is.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

/// What happens when a bound is reached.
pub(crate) fn policy(shared: &Shared) -> &'static str {
    let evicts = shared.databases.get(0).is_some_and(|store| {
        store.is_bounded() && store.limits().on_full == crate::engine::OnFull::Evict
    });
    if evicts { "allkeys-lru" } else { "noeviction" }
}

/// Sections by name, and whether they come without being asked for.
const SECTIONS: [(&str, bool); 12] = [
    ("server", true),
    ("clients", true),
    ("memory", true),
    ("persistence", true),
    ("stats", true),
    ("replication", true),
    ("cpu", true),
    ("modules", true),
    ("commandstats", false),
    ("errorstats", true),
    ("cluster", true),
    ("keyspace", true),
];

pub(crate) fn info(call: &mut Call<'_, '_>) -> Result<(), Failure> {
    let asked: Vec<String> = call
        .args
        .from(1)
        .iter()
        .map(|name| String::from_utf8_lossy(name).to_lowercase())
        .collect();
    let is_asked = |name: &str| asked.iter().any(|asked| asked == name);
    let all = is_asked("all") || is_asked("everything");
    let default = asked.is_empty() || is_asked("default");
    let mut text = String::new();
    for (name, by_default) in SECTIONS {
        if all || is_asked(name) || (default && by_default) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            write_section(&mut text, name, call.shared, &mut call.keys);
        }
    }
    call.out.verbatim(text.as_bytes());
    Ok(())
}

/// Bytes as people read them.
fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if size < 1024.0 {
            return if unit == "B" {
                format!("{bytes}B")
            } else {
                format!("{size:.2}{unit}")
            };
        }
        size /= 1024.0;
    }
    format!("{size:.2}T")
}

/// Bytes of the process that are in memory; 0 where the system does not say.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * page.max(0) as u64
}

fn write_section(text: &mut String, name: &str, shared: &Shared, keys: &mut Keyspace<'_, '_>) {
    let mut title = name.to_owned();
    title[..1].make_ascii_uppercase();
    match name {
        "cpu" => title = "CPU".into(),
        "errorstats" | "commandstats" => {}
        _ => {}
    }
    let _ = write!(text, "# {title}\r\n");
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = write!(text, "{name}:{value}\r\n");
    };
    let resp = &shared.resp;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    match name {
        "server" => {
            let uptime = shared.started.elapsed().as_secs();
            line("redis_version", &REDIS_VERSION);
            line("atbr_version", &env!("CARGO_PKG_VERSION"));
            line("redis_mode", &"standalone");
            line("os", &std::env::consts::OS);
            line("arch_bits", &usize::BITS);
            line("multiplexing_api", &"epoll");
            line("process_id", &std::process::id());
            line("run_id", &resp.run_id());
            line("tcp_port", &shared.config.resp.unwrap_or_default());
            line("uptime_in_seconds", &uptime);
            line("uptime_in_days", &(uptime / 86_400));
            line("io_threads_active", &u8::from(shared.config.threads() > 1));
        }
        "clients" => {
            let clients = resp.clients.list();
            let pubsub = clients
                .iter()
                .filter(|client| client.is(State::PUBSUB))
                .count();
            line("connected_clients", &clients.len());
            line("maxclients", &shared.config.limits.max_connections);
            line("client_buffers", &resp.buffers.used());
            line("pubsub_clients", &pubsub);
            line("blocked_clients", &0);
            line("tracking_clients", &0);
            line("clients_in_timeout_table", &0);
        }
        "memory" => {
            let (stats, _) = keys.stats();
            let used = stats.bytes_allocated + resp.buffers.used() as u64;
            let (resident, bound) = (resident(), shared.databases.max_bytes().unwrap_or(0));
            line("used_memory", &used);
            line("used_memory_human", &human(used));
            line("used_memory_rss", &resident);
            line("used_memory_rss_human", &human(resident));
            line(
                "used_memory_dataset",
                &(stats.key_bytes + stats.value_bytes),
            );
            line(
                "used_memory_overhead",
                &used.saturating_sub(stats.key_bytes + stats.value_bytes),
            );
            line("maxmemory", &bound);
            line("maxmemory_human", &human(bound));
            line("maxmemory_policy", &policy(shared));
            line("mem_allocator", &"libc");
        }
        "persistence" => {
            line("loading", &0);
            line(
                "rdb_bgsave_in_progress",
                &u8::from(resp.saving.load(Ordering::Relaxed)),
            );
            line(
                "rdb_last_save_time",
                &load(&resp.last_save).max(shared.started_unix / 1_000),
            );
            line("rdb_last_bgsave_status", &"ok");
            line("aof_enabled", &0);
        }
        "stats" => {
            let stats = &shared.stats;
            let (store, _) = keys.stats();
            let rates = resp.counts.rates();
            let (channels, patterns, shard_channels) = resp.pubsub.totals();
            line(
                "total_connections_received",
                &load(&stats.connections_received),
            );
            line("total_commands_processed", &load(&stats.commands));
            line("instantaneous_ops_per_sec", &rates.commands);
            line("total_net_input_bytes", &load(&stats.bytes_in));
            line("total_net_output_bytes", &load(&stats.bytes_out));
            line(
                "instantaneous_input_kbps",
                &format_args!("{:.2}", rates.bytes_in as f64 / 1024.0),
            );
            line(
                "instantaneous_output_kbps",
                &format_args!("{:.2}", rates.bytes_out as f64 / 1024.0),
            );
            line("rejected_connections", &load(&stats.connections_refused));
            line("expired_keys", &store.expirations);
            line("evicted_keys", &store.evictions);
            line("keyspace_hits", &load(&stats.hits));
            line("keyspace_misses", &load(&stats.misses));
            line("pubsub_channels", &channels);
            line("pubsub_patterns", &patterns);
            line("pubsubshard_channels", &shard_channels);
            line(
                "keyspace_events_dropped",
                &shared.databases.dropped_events(),
            );
            line(
                "total_error_replies",
                &resp.counts.errors().values().sum::<u64>(),
            );
            line("acl_access_denied_auth", &load(&stats.failed_auth));
        }
        "replication" => {
            line("role", &"master");
            line("connected_slaves", &0);
            line("master_failover_state", &"no-failover");
            line("master_replid", &resp.run_id());
            line("master_repl_offset", &0);
        }
        "cpu" => {
            // SAFETY: writes one record of this frame; it cannot fail for the process itself.
            let usage = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
                usage
            };
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
            line(
                "used_cpu_sys",
                &format_args!("{:.6}", seconds(usage.ru_stime)),
            );
            line(
                "used_cpu_user",
                &format_args!("{:.6}", seconds(usage.ru_utime)),
            );
        }
        "commandstats" => {
            for (row, calls, microseconds, rejected) in resp.counts.called() {
                let average = microseconds as f64 / calls.max(1) as f64;
                line(
                    &format!("cmdstat_{}", lookup::rows()[row].command.name),
                    &format_args!(
                        "calls={calls},usec={microseconds},usec_per_call={average:.2},rejected_calls={rejected},failed_calls=0"
                    ),
                );
            }
        }
        "errorstats" => {
            for (code, count) in resp.counts.errors() {
                line(
                    &format!("errorstat_{}", String::from_utf8_lossy(&code)),
                    &format_args!("count={count}"),
                );
            }
        }
        "cluster" => line("cluster_enabled", &0),
        "keyspace" => {
            for (db, stats) in keys.stats().1 {
                if stats.entries > 0 {
                    line(
                        &format!("db{db}"),
                        &format_args!(
                            "keys={},expires={},avg_ttl={}",
                            stats.entries, stats.expiring, stats.time_left
                        ),
                    );
                }
            }
        }
        _ => {}
    }
}
