//! State: what one run stores for the next, as small files in a folder or as objects under a prefix of S3.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::boundary::Boundary;
use crate::destination::Destination;
use crate::key::RelativeKey;
use crate::location::{Location, LocationError};
use crate::store::Store;

mod error;
mod folder;
mod prefix;
mod record;

pub use error::StateError;
pub(crate) use record::{ExpectedVersion, StateRecord, Version};

/// Where the state is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// A folder.
    Folder(PathBuf),
    /// A prefix of S3.
    Prefix(Location),
}

/// The state of one run. A name may start with a folder: `runs/x.json`.
#[derive(Debug)]
pub enum State {
    /// In a folder.
    Folder(PathBuf),
    /// Under a prefix of S3.
    Prefix(Box<Destination>),
}

impl FromStr for StateLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.starts_with("s3://") { Ok(Self::Prefix(text.parse()?)) } else { Ok(Self::Folder(PathBuf::from(text))) }
    }
}

impl fmt::Display for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Prefix(location) => location.fmt(f),
        }
    }
}

impl StateLocation {
    /// The place with a path that does not depend on the working directory.
    pub(crate) fn absolute(&self) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            Self::Prefix(location) => Self::Prefix(location.clone()),
        }
    }

    /// Returns what the state overlaps, the source or the destination: files in the source are copied, orphans in the
    /// destination are deleted, and objects of a destination inside the state look like records of the state.
    pub(crate) fn overlaps(&self, source: &Path, destination: &Location) -> Option<&'static str> {
        match self {
            Self::Prefix(location) => location.overlaps(destination).then_some("destination"),
            Self::Folder(folder) => Boundary::of(source).contains(folder).then_some("source"),
        }
    }
}

impl State {
    /// The servers that hold the state; `None` if it is in a folder.
    pub(crate) fn store(&self) -> Option<&Store> {
        match self {
            Self::Folder(_) => None,
            Self::Prefix(home) => Some(home.store()),
        }
    }

    /// Whether a conditional write to a name that exists is refused, as a lease needs it. `content` must differ from
    /// the stored content: an ignored condition replaces it.
    pub(crate) async fn check_conditions(&self, name: &str, content: &Bytes) -> Result<(), StateError> {
        let Self::Prefix(home) = self else {
            return Ok(());
        };
        for (expected, header) in
            [(ExpectedVersion::Absent, "If-None-Match"), (ExpectedVersion::Is(Version::of_nothing()), "If-Match")]
        {
            if prefix::replace(home, &RelativeKey::new(name), content.clone(), &expected).await?.is_some() {
                return Err(StateError::NoConditions { bucket: home.bucket().to_owned(), header });
            }
        }
        Ok(())
    }

    /// Reads the record under a name.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<StateRecord>, StateError> {
        match self {
            Self::Folder(folder) => blocking(folder.join(name), folder::read).await,
            Self::Prefix(home) => prefix::read(home, &RelativeKey::new(name)).await,
        }
    }

    /// Atomically writes `content` under `name`. Returns `None` if the stored version is not the expected one.
    pub(crate) async fn replace(
        &self,
        name: &str,
        content: Bytes,
        expected: &ExpectedVersion,
    ) -> Result<Option<Version>, StateError> {
        match self {
            Self::Folder(folder) => {
                let expected = expected.clone();
                blocking(folder.join(name), move |path| folder::replace(path, &content, &expected)).await
            }
            Self::Prefix(home) => prefix::replace(home, &RelativeKey::new(name), content, expected).await,
        }
    }

    /// Atomically writes `content` under `name`, regardless of what is stored there.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    pub async fn write(&self, name: &str, content: Bytes) -> Result<(), StateError> {
        match self {
            Self::Folder(folder) => blocking(folder.join(name), move |path| folder::write(path, &content)).await,
            Self::Prefix(home) => {
                prefix::replace(home, &RelativeKey::new(name), content, &ExpectedVersion::Any).await.map(|_| ())
            }
        }
    }

    /// Opens a file of any size. Writes under its name do not change what is read from it.
    ///
    /// # Errors
    /// Returns an error if the state, or a temporary file for an object, cannot be read or written.
    pub async fn open_file(&self, name: &str) -> Result<Option<File>, StateError> {
        match self {
            Self::Folder(folder) => blocking(folder.join(name), folder::open_file).await,
            Self::Prefix(home) => prefix::open_file(home, &RelativeKey::new(name)).await,
        }
    }

    /// Creates a file for [`Self::publish`]. It has no name in the state until then.
    ///
    /// # Errors
    /// Returns an error if the folder of the state, or the temporary folder, cannot be written.
    pub async fn new_file(&self) -> Result<NamedTempFile, StateError> {
        match self {
            Self::Folder(folder) => blocking(folder.clone(), folder::new_file).await,
            Self::Prefix(_) => NamedTempFile::new().map_err(prefix::in_temporary_folder),
        }
    }

    /// Atomically stores the file under `name`, regardless of what is stored there.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    pub async fn publish(&self, name: &str, file: NamedTempFile) -> Result<(), StateError> {
        match self {
            Self::Folder(folder) => blocking(folder.join(name), move |path| folder::publish(path, file)).await,
            Self::Prefix(home) => prefix::publish(home, &RelativeKey::new(name), file.as_file()).await,
        }
    }

    /// Removes the record under a name from a folder, if it is this version. Returns whether it is gone.
    pub(crate) async fn remove_version(&self, name: &str, version: Version) -> Result<bool, StateError> {
        match self {
            Self::Folder(folder) => {
                blocking(folder.join(name), move |path| folder::remove_version(path, &version)).await
            }
            Self::Prefix(_) => Ok(false),
        }
    }

    /// Removes the record under a name, if there is one.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), StateError> {
        match self {
            Self::Folder(folder) => blocking(folder.join(name), folder::remove).await,
            Self::Prefix(home) => {
                let removed = home.delete_any(&RelativeKey::new(name)).await;
                removed.map_err(|error| StateError::in_bucket(home, &error))
            }
        }
    }

    /// Lists the names that start with `beginning`, in order.
    pub(crate) async fn names(&self, beginning: &str) -> Result<Vec<String>, StateError> {
        match self {
            Self::Folder(folder) => {
                let beginning = beginning.to_owned();
                blocking(folder.clone(), move |folder| folder::names(folder, &beginning)).await
            }
            Self::Prefix(home) => {
                let keys = home.keys(beginning).await.map_err(|error| StateError::in_bucket(home, &error))?;
                Ok(keys.into_iter().map(String::from).collect())
            }
        }
    }
}

/// Runs `work` on a thread of its own, because the folder may be on a slow file system. Its error names `path`.
async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, StateError> {
    let done = tokio::task::spawn_blocking(move || work(&path).map_err(|source| StateError::in_file(path, source)));
    done.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn state_inside_source_or_destination_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let destination: Location = "s3://site/www".parse().unwrap();
        let lies_in = |text: &str| text.parse::<StateLocation>().unwrap().overlaps(&source, &destination).is_some();
        assert!(lies_in("s3://site/www") && lies_in("s3://site/www/state"));
        assert!(lies_in("s3://site"), "the destination is inside the state");
        assert!(!lies_in("s3://site/www-state") && !lies_in("s3://site/ww") && !lies_in("s3://other/www/state"));
        assert!(lies_in(source.to_str().unwrap()));
        assert!(lies_in(source.join("not/there/yet").to_str().unwrap()));
        assert!(!lies_in(folder.path().join("source-state").to_str().unwrap()));
        std::os::unix::fs::symlink(&source, folder.path().join("link")).unwrap();
        assert!(lies_in(folder.path().join("link/state").to_str().unwrap()), "through a link");
        let whole: Location = "s3://site".parse().unwrap();
        assert!("s3://site/x".parse::<StateLocation>().unwrap().overlaps(&source, &whole).is_some());
    }

    #[tokio::test]
    async fn a_replace_in_a_folder_fails_unless_the_expected_version_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::Folder(folder.path().join("new/state"));
        assert!(state.read("a").await.unwrap().is_none());
        let write = async |text: &'static str, expected: &ExpectedVersion| {
            state.replace("a", Bytes::from_static(text.as_bytes()), expected).await.unwrap()
        };
        let first = write("1", &ExpectedVersion::Absent).await.unwrap();
        assert_eq!(write("2", &ExpectedVersion::Absent).await, None);
        let second = write("2", &ExpectedVersion::Is(first.clone())).await.unwrap();
        assert_eq!(write("3", &ExpectedVersion::Is(first)).await, None);
        let record = state.read("a").await.unwrap().unwrap();
        assert_eq!((&record.content[..], &record.version), (&b"2"[..], &second));
        assert!(record.age < Duration::from_secs(10));
        assert!(write("4", &ExpectedVersion::Any).await.is_some());
        let names: Vec<_> = std::fs::read_dir(folder.path().join("new/state")).unwrap().flatten().collect();
        assert_eq!(names.len(), 2, "the record and its lock, and no temporary file");
    }
}
