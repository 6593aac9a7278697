//! Open files: how many this process may have, how the run divides them up, and what it does if none is free.
//!
//! The limit (`ulimit -n`) counts files, directories and connections. At its start the process raises its soft limit to the
//! hard limit. The limit in force bounds what the run has open at the same time ([`Shares`]), so a run usually stays below
//! it. If a call still finds no free descriptor (`EMFILE`, or `ENFILE` for the whole system), other calls are about to
//! close theirs, so the call is made again ([`when_one_is_free`]).

use std::io;
use std::sync::{LazyLock, Once};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How long a call waits for a free descriptor.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The wait between two calls.
const PAUSE: Duration = Duration::from_millis(10);

/// What is open besides the shares: standard streams, the runtime, the source, the state, results, temporary files.
const FIXED: usize = 32;
/// A walker has a directory open, and part of its path.
const OF_A_WALKER: usize = 2;
/// A request has a file open and its connection, and a name lookup or a connection that is being replaced.
const OF_A_REQUEST: usize = 3;
/// More directories than this need not be held open.
const MOST_DIRECTORIES: usize = 128;

/// How many there may be of what opens files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// The limit that they share.
    pub(crate) limit: usize,
    /// Requests in flight.
    pub(crate) requests: usize,
    /// Walkers.
    pub(crate) walkers: usize,
    /// Directories that the walk holds open for the stats of their entries.
    pub(crate) directories: usize,
}

impl Shares {
    /// The shares of a limit of `files` open files.
    fn of(files: usize) -> Self {
        let (walkers, directories) = ((files / 16).max(2), (files / 8).min(MOST_DIRECTORIES));
        let rest = files.saturating_sub(FIXED + walkers * OF_A_WALKER + directories);
        Self { limit: files, requests: (rest / OF_A_REQUEST).max(1), walkers, directories }
    }

    /// The shares of the limit in force.
    pub(crate) fn of_process() -> Self {
        static SHARES: LazyLock<Shares> = LazyLock::new(|| {
            let limit = getrlimit(Resource::Nofile).current;
            Shares::of(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
        });
        *SHARES
    }
}

/// Raises the soft limit as far as the system allows. If the system refuses, the limit in force stays.
pub fn allow_as_many_as_possible() {
    let limits = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
}

/// Makes a call that opens something, and makes it again while no descriptor is free. Blocks the thread.
///
/// # Errors
/// Returns the error of the call, also if no descriptor became free in time.
pub(crate) fn when_one_is_free<T, E: OpenError>(mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    static LOGGED: Once = Once::new();
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        match open() {
            Err(error) if error.is_shortage() && Instant::now() < deadline => {
                LOGGED.call_once(|| {
                    tracing::warn!(
                        "too many files are open: waiting until one is closed. Raise the hard limit on open files (ulimit -Hn)"
                    );
                });
                std::thread::sleep(PAUSE);
            }
            opened => return opened,
        }
    }
}

/// An error of a call that opens something.
pub(crate) trait OpenError {
    /// Whether no descriptor was free.
    fn is_shortage(&self) -> bool;
}

impl OpenError for Errno {
    fn is_shortage(&self) -> bool {
        matches!(*self, Self::MFILE | Self::NFILE)
    }
}

impl OpenError for io::Error {
    fn is_shortage(&self) -> bool {
        if let Some(errno) = Errno::from_io_error(self) {
            return errno.is_shortage();
        }
        // `tempfile` adds the path to an error, and hides its number.
        let text = self.to_string();
        let has = |errno: Errno| text.contains(&format!("(os error {})", errno.raw_os_error()));
        has(Errno::MFILE) || has(Errno::NFILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_at_the_same_time_fits_into_the_limit() {
        for files in [64, 100, 256, 1024, 4096, 65_536, usize::MAX / 2] {
            let Shares { requests, walkers, directories, .. } = Shares::of(files);
            let open = FIXED + requests * OF_A_REQUEST + walkers * OF_A_WALKER + directories;
            assert!(open <= files && requests > 0 && walkers > 1, "{files}: {requests} {walkers} {directories}");
        }
        assert_eq!(Shares::of(256), Shares { limit: 256, requests: 53, walkers: 16, directories: 32 });
        let usual = Shares::of(1024);
        assert!(usual.requests > 200 && usual.walkers == 64 && usual.directories == 128, "{usual:?}");
    }

    #[test]
    fn a_call_waits_while_no_descriptor_is_free() {
        let at_path = |errno: Errno| io::Error::other(format!("{} at path \"/tmp\"", io::Error::from(errno)));
        let mut calls = 0;
        let opened = when_one_is_free(|| {
            calls += 1;
            match calls {
                1 => Err(io::Error::from(Errno::MFILE)),
                2 => Err(io::Error::from(Errno::NFILE)),
                3 => Err(at_path(Errno::MFILE)),
                _ => Ok("opened"),
            }
        });
        assert_eq!((opened.unwrap(), calls), ("opened", 4));
        assert!(!at_path(Errno::ACCESS).is_shortage());
        assert_eq!(when_one_is_free(|| Err::<(), _>(Errno::ACCESS)), Err(Errno::ACCESS));
    }
}
