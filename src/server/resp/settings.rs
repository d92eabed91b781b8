//! What CONFIG GET and SET know. No path is among it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

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

/// What a client may read, and what it may write as well.
const NUMBERS: [&str; 4] = [
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "latency-monitor-threshold",
    "timeout",
];

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
        let mut all = vec![
            ("appendonly", "no".to_owned()),
            ("databases", crate::engine::Databases::COUNT.to_string()),
            ("maxclients", config.limits.max_connections.to_string()),
            (
                "maxmemory",
                shared.databases.max_bytes().unwrap_or(0).to_string(),
            ),
            (
                "maxmemory-policy",
                super::commands::info::policy(shared).to_owned(),
            ),
            ("notify-keyspace-events", shared.resp.notifications.text()),
            ("port", config.resp.unwrap_or_default().to_string()),
            ("proto-max-bulk-len", config.limits.max_value.to_string()),
            ("save", String::new()),
            ("tcp-keepalive", "0".to_owned()),
        ];
        all.extend(NUMBERS.map(|name| (name, self.number(name).to_string())));
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

    /// Checks a new value. Err says why it is none; None where the name means nothing.
    pub(crate) fn check(
        &self,
        shared: &Shared,
        name: &str,
        value: &[u8],
    ) -> Option<Result<(), String>> {
        if NUMBERS.contains(&name) {
            let least = if name == "slowlog-log-slower-than" {
                -1
            } else {
                0
            };
            return Some(match super::number::parse_i64(value) {
                Some(number) if number >= least => Ok(()),
                Some(_) => Err(format!(
                    "argument must be between {least} and {} inclusive",
                    i64::MAX
                )),
                None => Err("argument couldn't be parsed into an integer".to_owned()),
            });
        }
        if name == "notify-keyspace-events" {
            return Some(Ok(()));
        }
        let is_known = self.all(shared).iter().any(|(known, _)| *known == name);
        is_known.then(|| Err("can't set immutable config".to_owned()))
    }

    /// Changes what [`Settings::check`] has passed.
    pub(crate) fn set(&self, shared: &Shared, name: &str, value: &[u8]) -> Result<(), String> {
        if name == "notify-keyspace-events" {
            return match shared.resp.notifications.configure(value, shared) {
                Ok(true) => Ok(()),
                Ok(false) => {
                    Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned())
                }
                Err(error) => Err(error.to_string()),
            };
        }
        let number = super::number::parse_i64(value).unwrap_or_default();
        match name {
            "slowlog-log-slower-than" => self.slowlog_slower_than.store(number, Ordering::Relaxed),
            "slowlog-max-len" => self.slowlog_max_len.store(number, Ordering::Relaxed),
            "latency-monitor-threshold" => self.latency_threshold.store(number, Ordering::Relaxed),
            _ => self.timeout.store(number as u64, Ordering::Relaxed),
        }
        Ok(())
    }
}
