//! Passwords and tokens: read from files, compared in constant time. Any one of them opens every door.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

/// Failed attempts of one address in one second; what comes beyond is not looked at.
const MOST_FAILURES: u32 = 10;
/// Addresses whose failures are remembered.
const MOST_ADDRESSES: usize = 1 << 16;

/// What a secret is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Refused,
    /// The address has tried too often to be listened to now.
    TooMany,
}

/// Since when an address has failed, and how often.
type Failures = HashMap<IpAddr, (Instant, u32)>;

/// What clients have to know. Empty: no client is asked.
#[derive(Default)]
pub struct Secrets {
    fixed: Vec<Vec<u8>>,
    files: Vec<PathBuf>,
    known: RwLock<Arc<Vec<Vec<u8>>>>,
    failures: Mutex<Failures>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// Secrets given as such, and files that hold one each; a line end after it does not count.
    ///
    /// # Errors
    /// What the system said of a file; `InvalidData` where a secret is empty.
    pub fn new(fixed: Vec<Vec<u8>>, files: Vec<PathBuf>) -> io::Result<Secrets> {
        let secrets = Secrets {
            fixed,
            files,
            known: RwLock::default(),
            failures: Mutex::default(),
        };
        secrets.reload()?;
        Ok(secrets)
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As [`Secrets::new`]; the secrets are then as they were.
    pub fn reload(&self) -> io::Result<()> {
        let mut known = self.fixed.clone();
        for path in &self.files {
            let mut secret = fs::read(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            while matches!(secret.last(), Some(b'\n' | b'\r')) {
                secret.pop();
            }
            known.push(secret);
        }
        if known.iter().any(Vec::is_empty) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an empty secret protects nothing",
            ));
        }
        *self.known.write() = Arc::new(known);
        Ok(())
    }

    /// Whether clients have to know one.
    pub fn are_set(&self) -> bool {
        !self.known.read().is_empty()
    }

    /// Whether this is one of them. The time it takes says nothing but the lengths.
    pub fn accept(&self, given: &[u8]) -> bool {
        let known = Arc::clone(&self.known.read());
        known
            .iter()
            .fold(false, |accepted, secret| accepted | same(secret, given))
    }

    /// Judges what a client at an address says, unless it has failed too often within the last second.
    pub(crate) fn judge(&self, address: IpAddr, given: &[u8]) -> Verdict {
        if self.has_failed_too_often(address) {
            return Verdict::TooMany;
        }
        if self.accept(given) { Verdict::Accepted } else { self.refuse(address) }
    }

    /// Refuses what needs no comparison, and counts it.
    pub(crate) fn refuse(&self, address: IpAddr) -> Verdict {
        let mut failures = self.failures.lock();
        if failures.len() >= MOST_ADDRESSES {
            failures.retain(|_, (since, _)| is_recent(*since));
        }
        let (since, count) = failures.entry(address).or_insert_with(|| (Instant::now(), 0));
        if !is_recent(*since) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > MOST_FAILURES { Verdict::TooMany } else { Verdict::Refused }
    }

    fn has_failed_too_often(&self, address: IpAddr) -> bool {
        let failures = self.failures.lock();
        failures.get(&address).is_some_and(|(since, count)| is_recent(*since) && *count >= MOST_FAILURES)
    }

    /// The files that secrets are read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

fn is_recent(since: Instant) -> bool {
    since.elapsed() < Duration::from_secs(1)
}

/// Whether two texts are the same, in a time that depends on the length of `given` alone.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = secret.len() ^ given.len();
    for (i, byte) in given.iter().enumerate() {
        difference |= usize::from(byte ^ secret[i % secret.len()]);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_secret_is_accepted() {
        let secrets = Secrets::new(vec![b"ab".to_vec(), b"token".to_vec()], Vec::new()).unwrap();
        for given in [&b"ab"[..], b"token"] {
            assert!(secrets.accept(given));
        }
        for given in [&b""[..], b"a", b"abab", b"aba", b"toke", b"tokens"] {
            assert!(!secrets.accept(given), "{given:?}");
        }
    }

    #[test]
    fn who_fails_too_often_is_not_listened_to() {
        let secrets = Secrets::new(vec![b"right".to_vec()], Vec::new()).unwrap();
        let [here, there] = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap());
        let judged: Vec<_> = (0..12).map(|_| secrets.judge(here, b"wrong")).collect();
        assert_eq!(judged[0], Verdict::Refused);
        // Twelve attempts take no second.
        assert_eq!(judged[11], Verdict::TooMany);
        assert_eq!(secrets.judge(here, b"right"), Verdict::TooMany);
        assert_eq!(secrets.judge(there, b"right"), Verdict::Accepted);
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert!(Secrets::new(vec![Vec::new()], Vec::new()).is_err());
    }
}
