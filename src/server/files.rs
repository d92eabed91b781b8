//! The data folder: the one place that clients may load from and save to, by plain names. A name is opened below the
//! folder and nowhere else: no absolute path, no `..`, no symbolic link, and only regular files. Knows no protocol.

use std::ffi::{CString, OsStr};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files::mapped::must_be_regular;
use crate::files::replace::Replacement;

/// Longest name of a file, with its folders, in bytes.
const MAX_NAME: usize = 1024;

/// The folder, open.
#[derive(Debug)]
pub(crate) struct DataFolder {
    folder: OwnedFd,
    /// Files that are neither read nor replaced, wherever they are.
    secret: Vec<PathBuf>,
}

/// Why a name was refused.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It cannot be the name of a file below the folder. Says why.
    Name(&'static str),
    /// It is a secret or configuration file, not a regular one, or a symbolic link is in its way. Says which.
    Forbidden(&'static str),
    /// There is no such file.
    Missing,
    /// The system said so.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Refused::Missing,
            Some(libc::ELOOP) => Refused::Forbidden("a symbolic link is in the way"),
            Some(libc::EXDEV) => Refused::Forbidden("it is outside the data folder"),
            Some(libc::EACCES | libc::EPERM) => Refused::Forbidden("the server may not open it"),
            // A pipe that nobody reads, or a socket.
            Some(libc::ENXIO | libc::EISDIR) => Refused::Forbidden("it is not a regular file"),
            Some(libc::ENAMETOOLONG) => Refused::Name("it is too long"),
            _ => Refused::Io(error),
        }
    }
}

impl DataFolder {
    /// Opens the folder; `secret` are files that clients never reach.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open(path: &Path, secret: Vec<PathBuf>) -> io::Result<DataFolder> {
        let folder = open_at(libc::AT_FDCWD, path.as_os_str(), FOLDER, 0)?;
        Ok(DataFolder { folder, secret })
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn read(&self, name: &[u8]) -> Result<File, Refused> {
        let steps = steps(name)?;
        let file = self.open_below(&steps, READ)?;
        let metadata = file.metadata()?;
        self.check(&metadata)?;
        Ok(file)
    }

    /// Begins a file that takes the place of `name` when it is complete.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn replace(&self, name: &[u8]) -> Result<Replacement, Refused> {
        let steps = steps(name)?;
        // What is there must be a regular file that may be replaced.
        match self.open_below(&steps, READ) {
            Ok(there) => self.check(&there.metadata()?)?,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let [folders @ .., last] = &steps[..] else {
            return Err(Refused::Name("it is empty"));
        };
        let folder = match folders {
            [] => self.folder.try_clone()?,
            _ => self.open_below(folders, FOLDER)?.into(),
        };
        Ok(Replacement::create_in(folder, OsStr::from_bytes(last))?)
    }

    /// Names of the regular files of the folder itself, in order; at most `most` of them.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn names(&self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let again = open_at(self.folder.as_raw_fd(), OsStr::new("."), FOLDER, 0)?;
        let mut names = Vec::new();
        for name in entries(again)? {
            if names.len() == most {
                break;
            }
            if !name.starts_with(b".") && self.read(&name).is_ok() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn check(&self, metadata: &Metadata) -> Result<(), Refused> {
        if must_be_regular(metadata).is_err() {
            return Err(Refused::Forbidden("it is not a regular file"));
        }
        let is_it =
            |other: Metadata| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino());
        if self
            .secret
            .iter()
            .any(|secret| std::fs::metadata(secret).is_ok_and(is_it))
        {
            return Err(Refused::Forbidden(
                "it holds the server's secrets or settings",
            ));
        }
        Ok(())
    }

    /// Opens what is below the folder, following no symbolic link.
    fn open_below(&self, steps: &[&[u8]], flags: libc::c_int) -> io::Result<File> {
        let path = steps.join(&b'/');
        let path = CString::new(path)?;
        match open_beneath(&self.folder, &path, flags) {
            Some(opened) => opened,
            None => self.open_step_by_step(steps, flags),
        }
    }

    /// What [`open_beneath`] does, where the kernel does not have it.
    fn open_step_by_step(&self, steps: &[&[u8]], flags: libc::c_int) -> io::Result<File> {
        let mut folder = None;
        let [folders @ .., last] = steps else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        for step in folders {
            let at = folder.as_ref().unwrap_or(&self.folder).as_raw_fd();
            folder = Some(open_at(
                at,
                OsStr::from_bytes(step),
                FOLDER | libc::O_NOFOLLOW,
                0,
            )?);
        }
        let at = folder.as_ref().unwrap_or(&self.folder).as_raw_fd();
        open_at(at, OsStr::from_bytes(last), flags | libc::O_NOFOLLOW, 0).map(File::from)
    }
}

const FOLDER: libc::c_int = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
/// A pipe is opened without waiting for its other end, to be refused then.
const READ: libc::c_int = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;

/// The parts of a name.
fn steps(name: &[u8]) -> Result<Vec<&[u8]>, Refused> {
    if name.is_empty() {
        return Err(Refused::Name("it is empty"));
    }
    if name.len() > MAX_NAME {
        return Err(Refused::Name("it is too long"));
    }
    if name.contains(&0) {
        return Err(Refused::Name("it holds a NUL byte"));
    }
    if name[0] == b'/' {
        return Err(Refused::Name("it has to be relative to the data folder"));
    }
    let steps: Vec<_> = name.split(|&byte| byte == b'/').collect();
    if steps.iter().any(|step| matches!(*step, b"" | b"." | b"..")) {
        return Err(Refused::Name("'..', '.' and empty parts are not allowed"));
    }
    Ok(steps)
}

/// Opens by `openat2`; None where the kernel or a sandbox does not have it.
#[cfg(target_os = "linux")]
fn open_beneath(
    folder: &OwnedFd,
    path: &std::ffi::CStr,
    flags: libc::c_int,
) -> Option<io::Result<File>> {
    // SAFETY: the structure is plain integers, for which zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path ends in NUL and the structure's size is its own; both live during the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            folder.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    if fd >= 0 {
        // SAFETY: a descriptor that was just opened for us.
        return Some(Ok(unsafe { File::from_raw_fd(fd as libc::c_int) }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM | libc::EINVAL) => None,
        _ => Some(Err(error)),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(_: &OwnedFd, _: &std::ffi::CStr, _: libc::c_int) -> Option<io::Result<File>> {
    None
}

fn open_at(
    folder: libc::c_int,
    name: &OsStr,
    flags: libc::c_int,
    mode: libc::c_uint,
) -> io::Result<OwnedFd> {
    let name = CString::new(name.as_bytes())?;
    // SAFETY: the name ends in NUL and lives during the call.
    let fd = unsafe { libc::openat(folder, name.as_ptr(), flags, mode) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Names of all that a folder holds.
fn entries(folder: OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    use std::os::fd::IntoRawFd;
    let raw = folder.into_raw_fd();
    // SAFETY: the descriptor is a folder's, and ours to give away.
    let stream = unsafe { libc::fdopendir(raw) };
    if stream.is_null() {
        let error = io::Error::last_os_error();
        // SAFETY: fdopendir did not take it.
        drop(unsafe { OwnedFd::from_raw_fd(raw) });
        return Err(error);
    }
    let mut names = Vec::new();
    loop {
        // SAFETY: the stream is open, and used by this thread alone.
        let entry = unsafe { libc::readdir(stream) };
        if entry.is_null() {
            break;
        }
        // SAFETY: an entry's name ends in NUL, and stays until the next call.
        let name = unsafe { std::ffi::CStr::from_ptr((*entry).d_name.as_ptr()) };
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_bytes().to_vec());
        }
    }
    // SAFETY: closed once; it closes the descriptor, too.
    unsafe { libc::closedir(stream) };
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder of its own, gone when it is dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("atbr-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("data/sub")).unwrap();
            fs::write(path.join("outside"), "outside").unwrap();
            fs::write(path.join("data/a.tsv"), "a").unwrap();
            fs::write(path.join("data/sub/b.tsv"), "b").unwrap();
            Scratch(path)
        }

        fn data(&self) -> DataFolder {
            DataFolder::open(&self.0.join("data"), Vec::new()).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn both_ways(data: &DataFolder, name: &[u8]) -> [Result<File, Refused>; 2] {
        let by_step = steps(name).and_then(|steps| Ok(data.open_step_by_step(&steps, READ)?));
        [data.read(name), by_step]
    }

    #[test]
    fn files_of_the_folder_are_opened() {
        let scratch = Scratch::new("opened");
        let data = scratch.data();
        for name in [&b"a.tsv"[..], b"sub/b.tsv"] {
            for opened in both_ways(&data, name) {
                assert!(opened.is_ok(), "{opened:?}");
            }
        }
        assert_eq!(data.names(10).unwrap(), [b"a.tsv"]);
        for missing in [&b"no"[..], b"no/a.tsv", b"a.tsv/x"] {
            for opened in both_ways(&data, missing) {
                assert!(matches!(opened, Err(Refused::Missing)), "{opened:?}");
            }
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let scratch = Scratch::new("traversal");
        let data = scratch.data();
        let absolute = scratch.0.join("outside");
        for name in [
            absolute.as_os_str().as_bytes(),
            b"../outside",
            b"sub/../../outside",
            b"sub/../a.tsv",
            b"./a.tsv",
            b"sub//b.tsv",
            b"sub/",
            b"",
            b"..",
            b"a.tsv\0",
            &[b'a'; MAX_NAME + 1],
        ] {
            for opened in both_ways(&data, name) {
                assert!(matches!(opened, Err(Refused::Name(_))), "{opened:?}");
            }
            assert!(matches!(data.replace(name), Err(Refused::Name(_))));
        }
        let why = data.replace(absolute.as_os_str().as_bytes()).err();
        let relative = "it has to be relative to the data folder";
        assert!(matches!(why, Some(Refused::Name(why)) if why == relative));
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let scratch = Scratch::new("links");
        let data = scratch.data();
        let folder = scratch.0.join("data");
        symlink("../outside", folder.join("file")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink("sub", folder.join("inside")).unwrap();
        for name in [&b"file"[..], b"up/outside", b"inside/b.tsv"] {
            let [beneath, by_step] = both_ways(&data, name);
            assert!(matches!(beneath, Err(Refused::Forbidden(_))), "{beneath:?}");
            // A folder that is a link is no folder here.
            assert!(
                matches!(by_step, Err(Refused::Forbidden(_) | Refused::Missing)),
                "{by_step:?}"
            );
            let replaced = data.replace(name);
            assert!(
                matches!(replaced, Err(Refused::Forbidden(_))),
                "{replaced:?}"
            );
        }
        assert_eq!(fs::read(scratch.0.join("outside")).unwrap(), b"outside");
    }

    #[test]
    fn only_regular_files_are_opened_and_nobody_waits_for_a_pipe() {
        let scratch = Scratch::new("pipe");
        let data = scratch.data();
        let pipe = CString::new(scratch.0.join("data/pipe").as_os_str().as_bytes()).unwrap();
        // SAFETY: the path ends in NUL.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        for name in [&b"pipe"[..], b"sub"] {
            assert!(matches!(data.read(name), Err(Refused::Forbidden(_))));
            assert!(matches!(data.replace(name), Err(Refused::Forbidden(_))));
        }
    }

    #[test]
    fn secret_files_are_neither_read_nor_replaced_under_any_name() {
        let scratch = Scratch::new("secret");
        let folder = scratch.0.join("data");
        fs::write(folder.join("token"), "secret").unwrap();
        fs::hard_link(folder.join("token"), folder.join("other-name")).unwrap();
        let data = DataFolder::open(&folder, vec![folder.join("token")]).unwrap();
        for name in [&b"token"[..], b"other-name"] {
            assert!(matches!(data.read(name), Err(Refused::Forbidden(_))));
            assert!(matches!(data.replace(name), Err(Refused::Forbidden(_))));
        }
        assert_eq!(data.names(10).unwrap(), [b"a.tsv"]);
    }

    #[test]
    fn a_replacement_takes_the_place_when_it_is_complete() {
        let scratch = Scratch::new("replace");
        let data = scratch.data();
        for name in ["a.tsv", "sub/new.tsv"] {
            let path = scratch.0.join("data").join(name);
            let before = fs::read(&path).ok();
            let mut file = data.replace(name.as_bytes()).unwrap();
            file.write_all(b"new").unwrap();
            file.sync().unwrap();
            assert_eq!(fs::read(&path).ok(), before);
            file.commit().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
        }
        drop(data.replace(b"given-up").unwrap());
        let left: Vec<_> = fs::read_dir(scratch.0.join("data")).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
