//! The problems: what a system error on the source means, and what to do about it.

use std::time::Duration;

use rustix::io::Errno;

use super::entry::Problem;
use super::requirements::Unmet;
use crate::key::NotAPath;

impl Problem {
    /// What `errno` means for `operation` on the source.
    pub(crate) fn of(operation: &'static str, errno: Errno) -> Self {
        let (kind, message) = match errno {
            Errno::ACCESS | Errno::PERM => (
                "permission_denied",
                "permission denied: give the user of this program read permission (and, for a directory, execute \
                 permission), or run it as a user who has it"
                    .to_owned(),
            ),
            Errno::IO => (
                "io_error",
                "the file system failed (input/output error): check the kernel log and the state of the file system, \
                 then run again"
                    .to_owned(),
            ),
            Errno::STALE => (
                "stale",
                "the file server no longer has what it named at this path (stale file handle), as after another client \
                 replaced or removed it: run again; if that fails, remount the file system"
                    .to_owned(),
            ),
            Errno::NAMETOOLONG => (
                "name_too_long",
                "the path is longer than the system allows, and a key cannot be that long either: shorten the path"
                    .to_owned(),
            ),
            Errno::MFILE | Errno::NFILE => (
                "too_many_open_files",
                "too many files were open for a minute: raise the hard limit on open files (ulimit -Hn), or pass a smaller \
                 --concurrency and --walkers"
                    .to_owned(),
            ),
            Errno::TIMEDOUT => {
                ("timed_out", "the file server did not respond: check the mount, then run again".to_owned())
            }
            Errno::NOENT | Errno::NOTDIR => (
                "not_found",
                "the path no longer exists: check that the file system is still mounted, then run again".to_owned(),
            ),
            _ => (
                "other",
                format!(
                    "the system refused the {operation} ({}): fix the cause, then run again",
                    std::io::Error::from(errno)
                ),
            ),
        };
        Self { operation, kind, message }
    }

    /// The directory still has the name, but a call on it fails as if it were gone.
    pub(super) fn listed_and_not_found(operation: &'static str, errno: Errno) -> Self {
        let message = format!(
            "the directory has this name, but the system cannot {operation} it ({}): check the file system that belongs \
             there (an automount whose server is down shows this), then run again",
            std::io::Error::from(errno)
        );
        Self { message, ..Self::of(operation, errno) }
    }

    /// The directory lists the name as of one kind, and the system shows another.
    pub(super) fn listed_as_another_kind(operation: &'static str) -> Self {
        let message = "the directory lists this name as of another kind than the system shows: check the file system, \
                       then run again"
            .to_owned();
        Self { operation, kind: "other", message }
    }

    /// The source does not meet a requirement any more.
    pub(super) fn unmet(unmet: &Unmet) -> Self {
        Self { message: unmet.to_string(), ..Self::source_replaced() }
    }

    /// A manifest names a file that does not exist.
    pub(super) fn named_and_missing() -> Self {
        let message =
            "the manifest names this file, which does not exist: remove it from the manifest, or restore it".to_owned();
        Self { operation: "stat", kind: "not_found", message }
    }

    /// A manifest names a directory.
    pub(super) fn named_and_directory() -> Self {
        let message = "the manifest names this directory: name the files in it one by one instead".to_owned();
        Self { operation: "stat", kind: "is_a_directory", message }
    }

    /// The file system did not respond for `waited`.
    pub(super) fn timed_out(operation: &'static str, waited: Duration) -> Self {
        Self {
            operation,
            kind: "timed_out",
            message: format!(
                "the file system did not respond for {} s: check that its server can be reached, then run again \
                 (--source-timeout sets how long to wait)",
                waited.as_secs_f64().ceil()
            ),
        }
    }

    /// The file changed during each of `tries` reads.
    pub(crate) fn never_settled(tries: usize) -> Self {
        Self {
            operation: "read",
            kind: "changing",
            message: format!(
                "the file changed during each of {tries} reads: kept its object, if there is one; the next run retries"
            ),
        }
    }

    /// The file was replaced during each of `reads` reads.
    pub(crate) fn replaced_in_each_read(reads: usize) -> Self {
        let message = format!(
            "the run opened this path {reads} times, and each time the file server dropped the file before the run had read \
             it (stale file handle), as after another client replaced it: kept its object, if there is one; the next run \
             retries. If it persists, remount the file system"
        );
        Self { message, ..Self::of("read", Errno::STALE) }
    }

    /// No file can have the key.
    pub(super) fn not_a_path() -> Self {
        Self { operation: "stat", kind: "other", message: format!("the key {NotAPath}") }
    }

    /// The name is not UTF-8.
    pub(super) fn not_utf8() -> Self {
        Self {
            operation: "name",
            kind: "not_utf8",
            message:
                "the name is not UTF-8, as a key must be: rename it, or exclude it with * in place of \\xNN, which \
                      stands here for each byte that is not UTF-8 (a pattern with \\xNN does not match it)"
                    .to_owned(),
        }
    }

    /// The key would have `length` bytes, more than `limit`.
    pub(super) fn key_too_long(length: usize, limit: usize) -> Self {
        Self {
            operation: "name",
            kind: "key_too_long",
            message: format!(
                "the path has {length} bytes, and only {limit} fit (a key has at most 1,024 bytes, the prefix included): \
                 shorten the path or the prefix"
            ),
        }
    }

    /// The path has more links than the system follows.
    pub(crate) fn too_many_links() -> Self {
        let message = "the path leads over more than 40 symbolic links, which is all that the system follows: kept the \
                       objects at and below this key; shorten the chain of links";
        Self { operation: "stat", kind: "too_many_links", message: message.to_owned() }
    }

    /// No file system is mounted where an earlier run found one.
    pub(crate) fn missing_mount() -> Self {
        let message = "no file system is mounted here, where an earlier run found one: copied nothing at or below this \
                       path, and kept the objects. Mount it, or pass --allow-missing-mounts if it will not be mounted \
                       there again";
        Self { operation: "stat", kind: "missing_mount", message: message.to_owned() }
    }

    /// The path of the source leads to another directory than at the start of the run.
    pub(super) fn source_replaced() -> Self {
        let message = "the path of the source leads to another directory since this run started: run again".to_owned();
        Self { operation: "stat", kind: "source_replaced", message }
    }

    /// The walk ended early.
    pub(super) fn broken_off() -> Self {
        let message = "the walk ended before it had seen everything: run again".to_owned();
        Self { operation: "readdir", kind: "broken_off", message }
    }
}
