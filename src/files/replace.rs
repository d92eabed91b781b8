//! Puts a complete new file in the place of an old one, or leaves the old one alone. Knows no file format.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mapped::{must_be_regular, must_be_regular_mode};
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
    /// The folder of both.
    folder: File,
    temporary: CString,
    target: CString,
    committed: bool,
    written: u64,
    handed_over: u64,
}

impl Replacement {
    /// A new, empty file in the folder of the file that `path` names, with the permissions of that file if it exists.
    pub(crate) fn create(path: &Path) -> io::Result<Replacement> {
        let target = resolve(path)?;
        let name = target.file_name().unwrap_or_default();
        let folder = File::open(folder(&target))?;
        Self::create_in(folder.into(), name)
    }

    /// As [`Replacement::create`], for the file of this name in an open folder. A symbolic link of the name is an error.
    pub(crate) fn create_in(folder: OwnedFd, name: &OsStr) -> io::Result<Replacement> {
        let folder = File::from(folder);
        let target = CString::new(name.as_bytes())?;
        // Not opened for its content: a pipe is not waited for, and what may not be read may be replaced.
        let there = mode_of(&folder, &target)?;
        let mode = if there.is_some() { 0o600 } else { 0o666 };
        let (file, temporary) = create_beside(&folder, mode)?;
        let new = Replacement {
            file,
            folder,
            temporary,
            target,
            committed: false,
            written: 0,
            handed_over: 0,
        };
        if let Some(mode) = there {
            new.file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(new)
    }

    /// Waits until what was written is on disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Takes the target's place. Call [`Replacement::sync`] before.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        let folder = self.folder.as_raw_fd();
        // SAFETY: the folder is open, and both names end in NUL and live during the call.
        let renamed = unsafe {
            libc::renameat(
                folder,
                self.temporary.as_ptr(),
                folder,
                self.target.as_ptr(),
            )
        };
        if renamed != 0 {
            return Err(io::Error::last_os_error());
        }
        self.committed = true;
        sync_folder(&self.folder)
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
            // SAFETY: the folder is open, and the name ends in NUL and lives during the call.
            unsafe { libc::unlinkat(self.folder.as_raw_fd(), self.temporary.as_ptr(), 0) };
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

/// The permissions of a regular file; None where there is none of this name.
fn mode_of(folder: &File, name: &CStr) -> io::Result<Option<u32>> {
    // SAFETY: the structure is plain integers, for which zero is a value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the folder is open, the name ends in NUL, and the structure is this frame's.
    let found = unsafe { libc::fstatat(folder.as_raw_fd(), name.as_ptr(), &raw mut status, flags) };
    if found != 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        };
    }
    must_be_regular_mode(status.st_mode)?;
    // Fewer bits than 32 on some systems.
    #[allow(clippy::unnecessary_cast)]
    Ok(Some(status.st_mode as u32 & 0o7777))
}

/// A file that did not exist before. Its name is short, as the target's may be the longest that the folder allows.
fn create_beside(folder: &File, mode: libc::c_uint) -> io::Result<(File, CString)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!(".atbr-{}-{number}.tmp", process::id()))?;
        // SAFETY: the folder is open, and the name ends in NUL and lives during the call.
        let fd = unsafe { libc::openat(folder.as_raw_fd(), name.as_ptr(), flags, mode) };
        if fd >= 0 {
            // SAFETY: a descriptor that was just opened for us.
            return Ok((unsafe { File::from_raw_fd(fd) }, name));
        }
        let error = io::Error::last_os_error();
        // Left behind by a process that was killed and had our number.
        if error.kind() != ErrorKind::AlreadyExists {
            return Err(error);
        }
    }
}

/// Makes the rename last. Some file systems cannot and say EINVAL; there is nothing more to do then.
fn sync_folder(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
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
