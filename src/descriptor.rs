//! A descriptor of this process that a path names: `/dev/stdout`, `/dev/fd/N`, `/proc/self/fd/N`, or a link to one.
//!
//! The file behind the descriptor belongs to the process that opened it, such as a shell with its log. Opening the path
//! gives a new file at offset 0, and a rename onto it takes the log away. So a result is written to the descriptor
//! itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// How many links a path may have on its way to a descriptor (Linux: `ELOOP`).
const MOST_LINKS: usize = 40;

/// The number of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor(i32);

impl Descriptor {
    /// Returns the descriptor that a path names, if it names one of this process.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let process = fs::canonicalize("/proc/self").ok()?;
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let parent = fs::canonicalize(parent).ok()?;
            let name = path.file_name()?;
            // A thread has the folder too.
            if parent.starts_with(&process) && parent.ends_with("fd") {
                return name.to_str()?.parse().ok().map(Self);
            }
            path = parent.join(fs::read_link(parent.join(name)).ok()?);
        }
        None
    }

    /// Returns the open file, with the offset that it shares with the process that opened it.
    ///
    /// # Errors
    /// Returns an error if the descriptor is not open for writing.
    pub(crate) fn duplicate(self) -> io::Result<File> {
        let file: OwnedFd = match self.0 {
            1 => io::stdout().as_fd().try_clone_to_owned()?,
            2 => io::stderr().as_fd().try_clone_to_owned()?,
            number => {
                let duplicate = pidfd_open(getpid(), PidfdFlags::empty())
                    .and_then(|process| pidfd_getfd(process, number, PidfdGetfdFlags::empty()));
                match duplicate {
                    Ok(duplicate) => duplicate,
                    // Some containers refuse the call.
                    Err(_) => File::options().append(true).open(format!("/proc/self/fd/{number}"))?.into(),
                }
            }
        };
        if fcntl_getfl(&file)? & OFlags::RWMODE == OFlags::RDONLY {
            return Err(rustix::io::Errno::BADF.into());
        }
        Ok(file.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_names_a_descriptor_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("/dev/stdout", at("link")).unwrap();
        symlink("link", at("second")).unwrap();
        symlink("round", at("round")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (path, number) in [("/dev/stdout", 1), ("/dev/stderr", 2), ("/dev/fd/7", 7), ("/proc/self/fd/1", 1)] {
            assert_eq!(Descriptor::of(Path::new(path)), Some(Descriptor(number)), "{path}");
        }
        let own = format!("/proc/{}/fd/2", std::process::id());
        assert_eq!(Descriptor::of(Path::new(&own)), Some(Descriptor(2)));
        assert_eq!(Descriptor::of(&at("second")), Some(Descriptor(1)));
        for name in ["file", "round", "none", "none/none"] {
            assert_eq!(Descriptor::of(&at(name)), None, "{name}");
        }
        assert_eq!(Descriptor::of(Path::new("/proc/1/fd/1")), None, "of another process");
    }

    #[test]
    fn a_duplicate_continues_where_the_descriptor_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"begin ").unwrap();
        Descriptor(file.as_raw_fd()).duplicate().unwrap().write_all(b"result ").unwrap();
        file.write_all(b"end").unwrap();
        file.rewind().unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "begin result end");
        let read_only = File::open("/dev/null").unwrap();
        assert!(Descriptor(read_only.as_raw_fd()).duplicate().is_err());
    }
}
