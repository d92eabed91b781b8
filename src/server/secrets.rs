//! Passwords and tokens: read from files, compared in constant time. Any one of them opens every door.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

/// What clients have to know. Empty: no client is asked.
#[derive(Default)]
pub struct Secrets {
    fixed: Vec<Vec<u8>>,
    files: Vec<PathBuf>,
    known: RwLock<Arc<Vec<Vec<u8>>>>,
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

    /// The files that secrets are read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
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
    fn an_empty_secret_is_refused() {
        assert!(Secrets::new(vec![Vec::new()], Vec::new()).is_err());
    }
}
