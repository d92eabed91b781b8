//! What CONFIG GET and SET know. No path is among it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::keyspace::Keyspace;
use super::notifications::Notifications;
use crate::engine::Glob;
use crate::server::{Config, Shared};

/// What may change while the server runs.
pub(crate) struct Settings {
    /// Microseconds; negative: nothing is slow.
    pub(crate) slowlog_slower_than: AtomicI64,
    pub(crate) slowlog_max_len: AtomicI64,
    /// Milliseconds; 0: none is noted.
    pub(crate) latency_threshold: AtomicI64,
    /// Seconds; 0: none.
    timeout: AtomicU64,
}

/// Numbers that a client may change, with their least and their largest value.
const NUMBERS: [(&str, i64, i64); 4] = [
    ("slowlog-log-slower-than", -1, i64::MAX),
    ("slowlog-max-len", 0, i64::MAX),
    ("latency-monitor-threshold", 0, i64::MAX),
    ("timeout", 0, i32::MAX as i64),
];
const EVENTS: &str = "notify-keyspace-events";
/// Of those that a server of Redis cannot change either.
const IMMUTABLE: [&str; 2] = ["databases", "io-threads"];

/// What a server of Redis can be told, and this one has nothing of: names, and how families of names begin.
const ABSENT: &str = "acl-pubsub-default aclfile acllog-max-len active-expire-effort activedefrag activerehashing \
    always-show-logo appenddirname appendfilename appendfsync bgsave_cpulist bind bind-source-addr bio_cpulist \
    busy-reply-threshold client-query-buffer-limit crash-log-enabled crash-memcheck-enabled daemonize dbfilename dir \
    disable-thp dynamic-hz enable-debug-command enable-module-command enable-protected-configs hll-sparse-max-bytes hz \
    ignore-warnings io-threads-do-reads jemalloc-bg-thread latency-tracking latency-tracking-info-percentiles \
    lfu-decay-time lfu-log-factor logfile loglevel lua-time-limit masterauth masteruser maxmemory-eviction-tenacity \
    maxmemory-samples no-appendfsync-on-rewrite pidfile proc-title-template propagation-error-behavior protected-mode \
    requirepass sanitize-dump-payload server_cpulist shutdown-on-sigint shutdown-on-sigterm shutdown-timeout slaveof \
    socket-mark-id supervised tcp-backlog tracking-table-max-keys unixsocket unixsocketperm";
const ABSENT_FAMILIES: &str = "active-defrag- aof auto-aof- cluster- hash-max- lazyfree- list- min-replicas- min-slaves- \
    oom-score-adj rdb repl replica set-max- set-proc- slave- stream-node- syslog- tls- zset-max-";

fn is_absent(name: &str) -> bool {
    let mut families = ABSENT_FAMILIES.split_ascii_whitespace();
    ABSENT.split_ascii_whitespace().any(|absent| absent == name)
        || families.any(|family| name.starts_with(family))
}

/// A number of bytes, perhaps with a unit.
fn bytes(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number: u64 = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    let unit = match text[digits..].to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Settings {
        Settings {
            slowlog_slower_than: AtomicI64::new(10_000),
            slowlog_max_len: AtomicI64::new(128),
            latency_threshold: AtomicI64::new(0),
            timeout: AtomicU64::new(
                config
                    .limits
                    .idle_timeout
                    .map_or(0, |timeout| timeout.as_secs()),
            ),
        }
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        let seconds = self.timeout.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// Whether even a quick command may take long enough for the slow log, so that it has to be timed.
    #[inline]
    pub(crate) fn times_all(&self) -> bool {
        (0..1_000).contains(&self.slowlog_slower_than.load(Ordering::Relaxed))
    }

    fn number(&self, name: &str) -> i64 {
        match name {
            "slowlog-log-slower-than" => self.slowlog_slower_than.load(Ordering::Relaxed),
            "slowlog-max-len" => self.slowlog_max_len.load(Ordering::Relaxed),
            "latency-monitor-threshold" => self.latency_threshold.load(Ordering::Relaxed),
            _ => self.timeout.load(Ordering::Relaxed) as i64,
        }
    }

    /// All, with their values.
    pub(crate) fn all(&self, shared: &Shared) -> Vec<(&'static str, String)> {
        let config = &shared.config;
        let limits = &config.limits;
        let mut all = vec![
            ("appendonly", "no".to_owned()),
            (
                "client-output-buffer-limit",
                super::clients::output_limits(limits),
            ),
            ("databases", crate::engine::Databases::COUNT.to_string()),
            ("io-threads", config.threads().to_string()),
            ("maxclients", limits.max_connections.to_string()),
            ("maxmemory-clients", limits.max_buffers.to_string()),
            (
                "maxmemory",
                shared.databases.max_bytes().unwrap_or(0).to_string(),
            ),
            (
                "maxmemory-policy",
                super::commands::info::policy(shared).to_owned(),
            ),
            (EVENTS, shared.resp.notifications.text()),
            ("port", config.resp.unwrap_or_default().to_string()),
            ("proto-max-bulk-len", limits.max_value.to_string()),
            ("save", String::new()),
            ("stop-writes-on-bgsave-error", "no".to_owned()),
            ("tcp-keepalive", "0".to_owned()),
        ];
        all.extend(NUMBERS.map(|(name, ..)| (name, self.number(name).to_string())));
        all
    }

    /// Those that match one of the patterns.
    pub(crate) fn matching(
        &self,
        shared: &Shared,
        patterns: &[&[u8]],
    ) -> Vec<(&'static str, String)> {
        let mut all = self.all(shared);
        let globs: Vec<_> = patterns
            .iter()
            .map(|pattern| Glob::new(&pattern.to_ascii_lowercase()))
            .collect();
        all.retain(|(name, _)| globs.iter().any(|glob| glob.matches(name.as_bytes())));
        all.sort_unstable();
        all
    }

    /// Whether a name means something, to a server of Redis at least, and may change.
    ///
    /// # Errors
    /// Why not; None: the name means nothing.
    pub(crate) fn check_name(&self, shared: &Shared, name: &str) -> Result<(), Option<String>> {
        let is_known = self.all(shared).iter().any(|(known, _)| *known == name);
        match IMMUTABLE.contains(&name) {
            true => Err(Some("can't set immutable config".to_owned())),
            false if is_known || is_absent(name) => Ok(()),
            false => Err(None),
        }
    }

    /// Checks the new value of a name that [`Settings::check_name`] has passed.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn check(&self, shared: &Shared, name: &str, value: &[u8]) -> Result<(), String> {
        if let Some((_, least, most)) = NUMBERS.iter().find(|number| number.0 == name) {
            return match super::number::parse_i64(value) {
                Some(number) if (*least..=*most).contains(&number) => Ok(()),
                Some(_) => Err(format!(
                    "argument must be between {least} and {most} inclusive"
                )),
                None => Err("argument couldn't be parsed into an integer".to_owned()),
            };
        }
        if name == EVENTS {
            return match Notifications::knows(value) {
                true => Ok(()),
                false => Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned()),
            };
        }
        let all = self.all(shared);
        let Some((_, now)) = all.iter().find(|(known, _)| *known == name) else {
            return Err("this server has nothing that it would change".to_owned());
        };
        // Saying again what holds is no change.
        let is_same = now.as_bytes().eq_ignore_ascii_case(value)
            || bytes(now.as_bytes()).is_some_and(|now| bytes(value) == Some(now));
        match is_same {
            true => Ok(()),
            false => Err(format!("it stays '{now}' as long as this server runs")),
        }
    }

    /// Changes what [`Settings::check`] has passed.
    pub(crate) fn set(
        &self,
        shared: &Shared,
        keys: &mut Keyspace<'_, '_>,
        name: &str,
        value: &[u8],
    ) -> Result<(), String> {
        if name == EVENTS {
            let configured = shared.resp.notifications.configure(value, keys);
            return configured.map_err(|error| error.to_string());
        }
        let number = super::number::parse_i64(value).unwrap_or_default();
        match name {
            "slowlog-log-slower-than" => self.slowlog_slower_than.store(number, Ordering::Relaxed),
            "slowlog-max-len" => self.slowlog_max_len.store(number, Ordering::Relaxed),
            "latency-monitor-threshold" => self.latency_threshold.store(number, Ordering::Relaxed),
            "timeout" => self.timeout.store(number as u64, Ordering::Relaxed),
            _ => {}
        }
        Ok(())
    }
}
