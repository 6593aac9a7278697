//! From a system error to the [`Problem`] that a person reads.

use std::time::Duration;

use rustix::io::Errno;

use super::entry::Problem;

impl Problem {
    /// What `errno` means for `operation` on the source.
    pub(crate) fn of(operation: &'static str, errno: Errno) -> Self {
        let (kind, message) = match errno {
            Errno::ACCESS | Errno::PERM => (
                "permission_denied",
                "this user may not read it: give the user of this program read permission (and, for a directory, \
                 execute permission), or run it as one that has it"
                    .to_owned(),
            ),
            Errno::IO => (
                "io_error",
                "the file system could not read it (input/output error): look at the kernel log and the state of the \
                 file system, then run again"
                    .to_owned(),
            ),
            Errno::STALE => (
                "stale",
                "the file server does not know it any more (stale file handle), and looking it up again did not help: \
                 run again; if that does not help, mount the file system anew"
                    .to_owned(),
            ),
            Errno::NAMETOOLONG => (
                "name_too_long",
                "its path is longer than the system allows: no key can be that long either, so shorten the path"
                    .to_owned(),
            ),
            Errno::MFILE | Errno::NFILE => (
                "too_many_open_files",
                "too many files are open: raise the limit on open files (ulimit -n), or use fewer walkers".to_owned(),
            ),
            Errno::TIMEDOUT => {
                ("timed_out", "the file server did not answer: check the mount, then run again".to_owned())
            }
            Errno::NOENT | Errno::NOTDIR => {
                ("not_found", "it is gone: check that the file system is still mounted, then run again".to_owned())
            }
            _ => (
                "other",
                format!(
                    "the system refused to {operation} it ({}): see to the cause, then run again",
                    std::io::Error::from(errno)
                ),
            ),
        };
        Self { operation, kind, message }
    }

    /// A manifest names a file that is not there.
    pub(crate) fn named_and_missing() -> Self {
        let message =
            "the manifest names it, and it is not there: take it out of the manifest, or restore it".to_owned();
        Self { operation: "stat", kind: "not_found", message }
    }

    /// A manifest names a directory.
    pub(crate) fn named_and_directory() -> Self {
        let message = "the manifest names it, and it is a directory: name the files in it one by one".to_owned();
        Self { operation: "stat", kind: "is_a_directory", message }
    }

    /// The source gave no answer for `waited`.
    pub(crate) fn timed_out(operation: &'static str, waited: Duration) -> Self {
        Self {
            operation,
            kind: "timed_out",
            message: format!(
                "the file system gave no answer for {} s: check that its server can be reached, then run again \
                 (--source-timeout sets how long to wait)",
                waited.as_secs_f64().ceil()
            ),
        }
    }

    /// The file changed each time it was read.
    pub(crate) fn never_settled(tries: usize) -> Self {
        Self {
            operation: "read",
            kind: "changing",
            message: format!(
                "the file changed while it was read, {tries} times in a row: its object stays as it was; the next run tries again"
            ),
        }
    }

    /// The name is no text.
    pub(crate) fn not_utf8() -> Self {
        Self {
            operation: "name",
            kind: "not_utf8",
            message: "its name is not valid UTF-8, and keys must be: rename it (shown here with \\xNN for each byte \
                      that is not)"
                .to_owned(),
        }
    }

    /// The key would have `length` bytes, of which only `limit` are possible.
    pub(crate) fn key_too_long(length: usize, limit: usize) -> Self {
        Self {
            operation: "name",
            kind: "key_too_long",
            message: format!(
                "its path has {length} bytes, and only {limit} fit (a key has at most 1,024 bytes, the prefix included): \
                 shorten the path or the prefix"
            ),
        }
    }

    /// The walk broke off.
    pub(crate) fn broken_off(message: &str) -> Self {
        Self { operation: "readdir", kind: "broken_off", message: message.to_owned() }
    }
}
