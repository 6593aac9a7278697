//! What is remembered from run to run: small files in a folder, or objects under a prefix of S3.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::destination::Destination;
use crate::destination::error::S3Error;
use crate::key::RelativeKey;
use crate::location::{Location, LocationError};

mod folder;
mod prefix;

/// Where state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// A folder.
    Folder(PathBuf),
    /// A prefix.
    Prefix(Location),
}

/// The home of what is remembered.
#[derive(Debug)]
pub enum State {
    /// A folder.
    Folder(PathBuf),
    /// A prefix.
    Prefix(Box<Destination>),
}

/// Something that is remembered.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// What was written.
    pub content: Bytes,
    /// Which writing of it this is.
    pub version: Version,
    /// How long ago it was written, by the clock of where it is kept.
    pub age: Duration,
}

/// A writing: no two of a name are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// What a writing may replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// This writing.
    Is(Version),
    /// Whatever is there.
    Anything,
}

/// Why something cannot be remembered, or not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder fails.
    #[error("{path}: {source}")]
    Folder {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// S3 fails.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The server cannot keep two writers apart.
    #[error("this server has no conditional writes, so nothing keeps two runs apart there: keep the state in a folder")]
    NoConditions,
}

impl StateError {
    /// Of a file of this name.
    #[must_use]
    pub fn in_file(name: &str, source: io::Error) -> Self {
        Self::Folder { path: name.to_owned(), source }
    }
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
    /// Whether it lies in the destination or in the source: there it would be deleted, or copied.
    #[must_use]
    pub fn lies_in(&self, source: &Path, destination: &Location) -> bool {
        match self {
            Self::Prefix(location) => {
                location.bucket == destination.bucket
                    && location.prefix.as_str().starts_with(destination.prefix.as_str())
            }
            Self::Folder(folder) => {
                let (folder, source) = (folder::resolved(folder), folder::resolved(source));
                folder.starts_with(source)
            }
        }
    }
}

impl State {
    /// What is remembered under a name.
    ///
    /// # Errors
    /// Where it cannot be looked up.
    pub async fn look(&self, name: &str) -> Result<Option<Remembered>, StateError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.to_owned());
                blocking(move || folder::look(&folder, &name)).await
            }
            Self::Prefix(home) => prefix::look(home, &RelativeKey::new(name)).await,
        }
    }

    /// Remembers something under a name, whole or not at all; `None` where something else is there than was expected.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn replace(
        &self,
        name: &str,
        content: Bytes,
        expected: &Expected,
    ) -> Result<Option<Version>, StateError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name, expected) = (folder.clone(), name.to_owned(), expected.clone());
                blocking(move || folder::replace(&folder, &name, &content, &expected)).await
            }
            Self::Prefix(home) => prefix::replace(home, &RelativeKey::new(name), content, expected).await,
        }
    }
}

impl State {
    /// What is remembered under a name and may be too large for memory; it stays as it is while it is read.
    ///
    /// # Errors
    /// Where it cannot be looked up.
    pub async fn read_file(&self, name: &str) -> Result<Option<File>, StateError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || folder::read_file(&path)).await
            }
            Self::Prefix(home) => prefix::read_file(home, &RelativeKey::new(name)).await,
        }
    }

    /// A file to be written and published: nobody sees it until then.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub async fn new_file(&self) -> Result<NamedTempFile, StateError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder::new_file(&folder)).await
            }
            Self::Prefix(_) => NamedTempFile::new().map_err(|error| StateError::in_file("the temporary folder", error)),
        }
    }

    /// Remembers a file under a name, whole or not at all, whatever was there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn publish(&self, name: &str, file: NamedTempFile) -> Result<(), StateError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.to_owned());
                blocking(move || folder::publish(&folder, &name, file)).await
            }
            Self::Prefix(home) => prefix::publish(home, &RelativeKey::new(name), file.as_file()).await,
        }
    }

    /// Remembers something small under a name, whole or not at all, whatever was there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn write(&self, name: &str, content: Bytes) -> Result<(), StateError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.to_owned());
                blocking(move || folder::write(&folder, &name, &content)).await
            }
            Self::Prefix(home) => {
                prefix::replace(home, &RelativeKey::new(name), content, &Expected::Anything).await.map(|_| ())
            }
        }
    }

    /// Forgets what is remembered under a name.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub async fn remove(&self, name: &str) -> Result<(), StateError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || folder::remove(&path)).await
            }
            Self::Prefix(home) => Ok(home.delete_any(&RelativeKey::new(name)).await?),
        }
    }

    /// The names under which something is remembered, of those that begin like this, in order.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub async fn names(&self, beginning: &str) -> Result<Vec<String>, StateError> {
        match self {
            Self::Folder(folder) => {
                let (folder, beginning) = (folder.clone(), beginning.to_owned());
                blocking(move || folder::names(&folder, &beginning)).await
            }
            Self::Prefix(home) => Ok(home.keys(beginning).await?.into_iter().map(String::from).collect()),
        }
    }
}

/// A folder may be on a file system that takes its time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_inside_source_or_destination_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let destination: Location = "s3://site/www".parse().unwrap();
        let lies_in = |text: &str| text.parse::<StateLocation>().unwrap().lies_in(&source, &destination);
        assert!(lies_in("s3://site/www") && lies_in("s3://site/www/state"));
        assert!(!lies_in("s3://site/www-state") && !lies_in("s3://site") && !lies_in("s3://other/www/state"));
        assert!(lies_in(source.to_str().unwrap()));
        assert!(lies_in(source.join("not/there/yet").to_str().unwrap()));
        assert!(!lies_in(folder.path().join("source-state").to_str().unwrap()));
        std::os::unix::fs::symlink(&source, folder.path().join("link")).unwrap();
        assert!(lies_in(folder.path().join("link/state").to_str().unwrap()), "through a link");
        let whole: Location = "s3://site".parse().unwrap();
        assert!("s3://site/x".parse::<StateLocation>().unwrap().lies_in(&source, &whole));
    }

    #[tokio::test]
    async fn a_folder_keeps_two_writers_apart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::Folder(folder.path().join("new/state"));
        assert!(state.look("a").await.unwrap().is_none());
        let write = async |text: &'static str, expected: &Expected| {
            state.replace("a", Bytes::from_static(text.as_bytes()), expected).await.unwrap()
        };
        let first = write("1", &Expected::Absent).await.unwrap();
        assert_eq!(write("2", &Expected::Absent).await, None);
        let second = write("2", &Expected::Is(first.clone())).await.unwrap();
        assert_eq!(write("3", &Expected::Is(first)).await, None);
        let found = state.look("a").await.unwrap().unwrap();
        assert_eq!((&found.content[..], &found.version), (&b"2"[..], &second));
        assert!(found.age < Duration::from_secs(10));
        assert!(write("4", &Expected::Anything).await.is_some());
        let names: Vec<_> = std::fs::read_dir(folder.path().join("new/state")).unwrap().flatten().collect();
        assert_eq!(names.len(), 2, "it and its lock; nothing half written stays");
    }
}
