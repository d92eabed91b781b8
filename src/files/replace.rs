//! Puts a complete new file in the place of an old one, or leaves the old one alone. Knows no file format.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mapped::must_be_regular;
use super::os_error;

/// Symbolic links that are followed one after another; Linux follows as many.
const MAX_LINKS: usize = 40;
/// After this many bytes the disk is told to write them, and waited for with those before: so the fsync at the end, which
/// cannot be cancelled, waits for little.
const WRITE_BACK: u64 = 8 << 20;

/// A temporary file beside its target. It is removed when it is dropped before [`Replacement::commit`].
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
    written: u64,
    handed_over: u64,
}

impl Replacement {
    /// A new, empty file in the folder of the file that `path` names, with the permissions of that file if it exists.
    pub(crate) fn create(path: &Path) -> io::Result<Replacement> {
        let target = resolve(path)?;
        let permissions = match fs::metadata(&target) {
            Ok(metadata) => {
                must_be_regular(&metadata)?;
                Some(metadata.permissions())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mode = if permissions.is_some() { 0o600 } else { 0o666 };
        let (file, temporary) = create_beside(&target, mode)?;
        let new = Replacement {
            file,
            temporary,
            target,
            committed: false,
            written: 0,
            handed_over: 0,
        };
        if let Some(permissions) = permissions {
            new.file
                .set_permissions(Permissions::from_mode(permissions.mode() & 0o7777))?;
        }
        Ok(new)
    }

    /// Waits until what was written is on disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Takes the target's place. Call [`Replacement::sync`] before.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.committed = true;
        sync_folder(folder(&self.target))
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.written - self.handed_over >= WRITE_BACK {
            let before = self.handed_over.saturating_sub(WRITE_BACK);
            write_back(&self.file, before, self.handed_over, self.written);
            self.handed_over = self.written;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The file that `path` names after all symbolic links; it need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    if path.file_name().is_none() {
        // "", "/", ".." and the like: the system knows best what is wrong with them.
        must_be_regular(&fs::metadata(path)?)?;
    }
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = folder(&target).join(link),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(target);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file that did not exist before. Its name is short, as the target's may be the longest that the folder allows.
fn create_beside(target: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!(".atbr-{}-{number}.tmp", process::id());
        let temporary = folder(target).join(name);
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(libc::O_CLOEXEC)
            .open(&temporary);
        match created {
            Ok(file) => return Ok((file, temporary)),
            // Left behind by a process that was killed and had our number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes the rename last. Some file systems cannot and say EINVAL; there is nothing more to do then.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if os_error::errno(&error) == Some(libc::EINVAL) => Ok(()),
        outcome => outcome,
    }
}

/// Waits for the bytes between the first two positions to be written and starts writing those up to the third. A hint: what
/// fails here fails again in the fsync.
#[cfg(target_os = "linux")]
fn write_back(file: &File, from: u64, middle: u64, to: u64) {
    use std::os::fd::AsRawFd;
    let range = |from: u64, to: u64, flags| {
        let (offset, length) = (from as libc::off64_t, (to - from) as libc::off64_t);
        if length > 0 {
            // SAFETY: the descriptor is open, and the call touches no memory of this process.
            unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
        }
    };
    range(middle, to, libc::SYNC_FILE_RANGE_WRITE);
    range(from, middle, libc::SYNC_FILE_RANGE_WAIT_BEFORE);
}

#[cfg(not(target_os = "linux"))]
fn write_back(_: &File, _: u64, _: u64, _: u64) {}
