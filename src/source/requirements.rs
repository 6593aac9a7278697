//! The requirements: what a source must be before the run uses it, and still must be when the run deletes.

use super::Source;
use super::mount::{FileSystemType, RequiredMount};
use super::root::Root;
use crate::key::SourcePath;

/// What a source must be before the run uses it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requirements {
    /// It is a mount point, of a file system of this type.
    pub(crate) mount: RequiredMount,
    /// It contains this file.
    pub(crate) sentinel: Option<SourcePath>,
}

/// A requirement that a source does not meet.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    #[error("the source {path} is not a mount point, and --require-mount asks for one")]
    NotMounted { path: String },
    #[error(
        "the source {path} {found}, and --require-mount={required} asks for a mount point of type {required}: mount the file \
         system there"
    )]
    NotMountedAs { path: String, found: String, required: FileSystemType },
    #[error("the sentinel {sentinel} is not in the source {path}: mount the right file system, or restore this file")]
    NoSentinel { path: String, sentinel: String },
}

impl Requirements {
    /// Checks an opened source. This call hangs if the server of its mount is down.
    pub(super) fn check(&self, root: &Root) -> Result<(), Unmet> {
        let path = || root.path().display().to_string();
        self.check_mount(root)?;
        match &self.sentinel {
            Some(sentinel) if !root.holds(sentinel) => {
                Err(Unmet::NoSentinel { path: path(), sentinel: sentinel.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn check_mount(&self, root: &Root) -> Result<(), Unmet> {
        let path = root.path().display().to_string();
        match &self.mount {
            RequiredMount::None => Ok(()),
            RequiredMount::Any if root.is_mount_point() => Ok(()),
            RequiredMount::Any => Err(Unmet::NotMounted { path }),
            RequiredMount::OfType(required) => {
                let found = match (root.file_system_type(), root.is_mount_point()) {
                    (Some(found), true) if found == *required => return Ok(()),
                    (Some(found), true) => format!("is a mount point of type {found}"),
                    (Some(found), false) => format!("is not a mount point, and lies on a file system of type {found}"),
                    (None, _) => "lies on a file system whose type the kernel does not show".to_owned(),
                };
                Err(Unmet::NotMountedAs { path, found, required: required.clone() })
            }
        }
    }
}

impl Source {
    /// Checks the requirements again, after the run has waited for DataSync.
    ///
    /// # Errors
    /// Returns an error, as a message, if the source does not meet a requirement any more, or does not respond.
    pub(crate) async fn check_again(&self) -> Result<(), String> {
        let (root, requirements) = (self.root.clone(), self.requirements.clone());
        let shown = root.path().display().to_string();
        let check = move || requirements.check(&root).map_err(|unmet| unmet.to_string());
        self.call_timeout().run("stat", &shown, check).await.unwrap_or_else(|problem| Err(problem.message))
    }
}
