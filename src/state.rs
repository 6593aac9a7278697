//! What is remembered from run to run: small files in a folder, or objects under a prefix of S3.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;

use crate::destination::checksum;
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::headers::ObjectHeaders;
use crate::destination::{Destination, Expected};
use crate::location::{Location, LocationError};

mod folder;

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
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>, StateError> {
        match self {
            Self::Folder(folder) => folder::read(folder, name),
            Self::Prefix(home) => match home.get(name).await {
                Ok(content) => Ok(Some(content)),
                Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Remembers something under a name, whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn write(&self, name: &str, content: Bytes) -> Result<(), StateError> {
        match self {
            Self::Folder(folder) => folder::write(folder, name, &content),
            Self::Prefix(home) => {
                let headers = ObjectHeaders { content_type: "application/json".to_owned(), ..ObjectHeaders::default() };
                let digest = checksum::digest(content.clone(), home.checksum()).await;
                home.put(name, &headers, &content, &digest, &Expected::Anything).await?;
                Ok(())
            }
        }
    }
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
    async fn what_is_written_to_a_folder_is_read_back_and_absent_before() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::Folder(folder.path().join("new/state"));
        assert_eq!(state.read("a").await.unwrap(), None);
        state.write("a", Bytes::from_static(b"1")).await.unwrap();
        state.write("a", Bytes::from_static(b"22")).await.unwrap();
        assert_eq!(state.read("a").await.unwrap().unwrap(), "22");
        let left: Vec<_> = std::fs::read_dir(folder.path().join("new/state")).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing half written stays");
    }
}
