//! The options of a task or of an execution, as DataSync describes them.

use aws_sdk_datasync::types::{
    Atime, Gid, Mtime, ObjectTags, Options, OverwriteMode, PosixPermissions, PreserveDeletedFiles, TransferMode, Uid,
    VerifyMode,
};

/// The options that DataSync described.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionOptions(Box<Options>);

/// A name of the DataSync API and its value.
type Named<'a> = (&'static str, Option<&'a str>);

impl ExecutionOptions {
    pub(super) fn new(described: &Options) -> Self {
        Self(Box::new(described.clone()))
    }

    /// The options for `OverrideOptions`. The API documents no rule for options that a request leaves out, so a request
    /// names all of them.
    pub(super) fn to_override(&self) -> Options {
        (*self.0).clone()
    }

    /// The same options with `PreserveDeletedFiles=PRESERVE`.
    pub(super) fn preserving(&self) -> Self {
        let mut options = self.0.clone();
        options.preserve_deleted_files = Some(PreserveDeletedFiles::Preserve);
        Self(options)
    }

    /// The same options with `OverwriteMode=NEVER`, or with `ALWAYS`.
    pub(super) fn overwriting(&self, never: bool) -> Self {
        let mut options = self.0.clone();
        options.overwrite_mode = Some(if never { OverwriteMode::Never } else { OverwriteMode::Always });
        Self(options)
    }

    /// Whether an execution with these options keeps existing objects: `OverwriteMode=NEVER`.
    pub(super) fn overwrites_never(&self) -> bool {
        self.0.overwrite_mode() == Some(&OverwriteMode::Never)
    }

    /// Whether an execution with these options verifies everything, and not only what it transferred.
    pub(super) fn verifies_all(&self) -> bool {
        self.0.verify_mode() == Some(&VerifyMode::PointInTimeConsistent)
    }

    /// Whether an execution with these options verifies nothing but what it transferred.
    pub(super) fn verifies_only_transferred(&self) -> bool {
        self.0.verify_mode() == Some(&VerifyMode::OnlyFilesTransferred)
    }

    /// The same options with the `PreserveDeletedFiles` of others.
    pub(super) fn with_deletes_of(&self, others: &Self) -> Self {
        let mut options = self.0.clone();
        options.preserve_deleted_files.clone_from(&others.0.preserve_deleted_files);
        Self(options)
    }

    /// Whether an execution with these options deletes: `PreserveDeletedFiles=REMOVE`.
    pub(crate) fn delete(&self) -> bool {
        self.0.preserve_deleted_files() == Some(&PreserveDeletedFiles::Remove)
    }

    /// The options that decide what the destination holds and whose value differs from `expected`, as `NAME=VALUE`. An
    /// option that DataSync does not show differs.
    pub(super) fn differences(&self, expected: &Self) -> Vec<String> {
        let pairs = self.named().into_iter().zip(expected.named());
        let differing = pairs.filter(|((_, value), (_, expected))| value != expected);
        differing.map(|((name, value), _)| format!("{name}={}", value.unwrap_or("unknown"))).collect()
    }

    fn named(&self) -> [Named<'_>; 9] {
        let options = &self.0;
        [
            ("OverwriteMode", options.overwrite_mode().map(OverwriteMode::as_str)),
            ("PreserveDeletedFiles", options.preserve_deleted_files().map(PreserveDeletedFiles::as_str)),
            ("TransferMode", options.transfer_mode().map(TransferMode::as_str)),
            ("Mtime", options.mtime().map(Mtime::as_str)),
            ("Atime", options.atime().map(Atime::as_str)),
            ("Uid", options.uid().map(Uid::as_str)),
            ("Gid", options.gid().map(Gid::as_str)),
            ("PosixPermissions", options.posix_permissions().map(PosixPermissions::as_str)),
            ("ObjectTags", options.object_tags().map(ObjectTags::as_str)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_differ_are_named_with_their_value() {
        let options = |mode, deleted| {
            let options = Options::builder().overwrite_mode(mode).preserve_deleted_files(deleted);
            ExecutionOptions::new(&options.bytes_per_second(7).build())
        };
        let task = options(OverwriteMode::Always, PreserveDeletedFiles::Remove);
        let other = options(OverwriteMode::Never, PreserveDeletedFiles::Remove);
        assert_eq!(other.differences(&task), ["OverwriteMode=NEVER"]);
        assert_eq!(task.preserving().differences(&task), ["PreserveDeletedFiles=PRESERVE"]);
        let nothing = ExecutionOptions::new(&Options::builder().build());
        assert_eq!(nothing.differences(&task), ["OverwriteMode=unknown", "PreserveDeletedFiles=unknown"]);
        assert!(task.delete() && !task.preserving().delete());
        assert_eq!(task.preserving().to_override().bytes_per_second(), Some(7), "the other options stay");
    }
}
