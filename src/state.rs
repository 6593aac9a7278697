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
use crate::open_files::when_one_is_free;
use crate::shutdown::Shutdown;
use crate::store::Store;

mod destination_record;
mod error;
mod folder;
mod prefix;
mod record;
mod stop_limit;

pub(crate) use destination_record::DestinationRecord;
pub use error::StateError;
use folder::{FolderError, StateFolder};
pub(crate) use record::{ExpectedVersion, StateRecord, Version};
use stop_limit::StopLimit;

/// Where the state is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// A folder.
    Folder(PathBuf),
    /// A prefix of S3.
    Prefix(Location),
}

/// The state of one run. A name may start with a folder: `runs/x.json`.
///
/// After a stop request, all requests to the state together wait a few seconds: then it cannot be read or written.
#[derive(Debug)]
pub struct State {
    place: StatePlace,
    stop_limit: StopLimit,
}

#[derive(Debug)]
enum StatePlace {
    Folder(StateFolder),
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
    /// The state in a folder.
    #[must_use]
    pub fn in_folder(folder: PathBuf, shutdown: Shutdown) -> Self {
        Self { place: StatePlace::Folder(StateFolder::new(folder)), stop_limit: StopLimit::new(shutdown) }
    }

    /// The state under a prefix of S3. The run writes it until its very end, so a stop request must not end `home`.
    #[must_use]
    pub fn under(home: Destination, shutdown: Shutdown) -> Self {
        Self { place: StatePlace::Prefix(Box::new(home)), stop_limit: StopLimit::new(shutdown) }
    }

    /// The servers that hold the state; `None` if it is in a folder.
    pub(crate) fn store(&self) -> Option<&Store> {
        match &self.place {
            StatePlace::Folder(_) => None,
            StatePlace::Prefix(home) => Some(home.store()),
        }
    }

    /// Whether a conditional write to a name that exists is refused, as a lease needs it. `content` must differ from
    /// the stored content: an ignored condition replaces it.
    pub(crate) async fn check_conditions(&self, name: &str, content: &Bytes) -> Result<(), StateError> {
        let StatePlace::Prefix(home) = &self.place else {
            return Ok(());
        };
        for (expected, header) in
            [(ExpectedVersion::Absent, "If-None-Match"), (ExpectedVersion::Is(Version::of_nothing()), "If-Match")]
        {
            let name = RelativeKey::new(name);
            let replaced = prefix::replace(home, &name, content.clone(), &expected);
            if self.stop_limit.wait(replaced).await?.is_some() {
                return Err(StateError::NoConditions { bucket: home.bucket().to_owned(), header });
            }
        }
        Ok(())
    }

    /// Reads the record under a name.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<StateRecord>, StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => blocking(folder, name, StateFolder::read).await,
                StatePlace::Prefix(home) => prefix::read(home, &RelativeKey::new(name)).await,
            }
        };
        self.stop_limit.wait(request).await
    }

    /// Atomically writes `content` under `name`. Returns `None` if the stored version is not the expected one.
    pub(crate) async fn replace(
        &self,
        name: &str,
        content: Bytes,
        expected: &ExpectedVersion,
    ) -> Result<Option<Version>, StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => {
                    let expected = expected.clone();
                    blocking(folder, name, move |folder, name| folder.replace(name, &content, &expected)).await
                }
                StatePlace::Prefix(home) => prefix::replace(home, &RelativeKey::new(name), content, expected).await,
            }
        };
        self.stop_limit.wait(request).await
    }

    /// Atomically writes `content` under `name`, regardless of what is stored there.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    pub async fn write(&self, name: &str, content: Bytes) -> Result<(), StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => {
                    blocking(folder, name, move |folder, name| folder.write(name, &content)).await
                }
                StatePlace::Prefix(home) => {
                    prefix::replace(home, &RelativeKey::new(name), content, &ExpectedVersion::Any).await.map(|_| ())
                }
            }
        };
        self.stop_limit.wait(request).await
    }

    /// Opens a file of any size. Writes under its name do not change what is read from it.
    ///
    /// # Errors
    /// Returns an error if the state, or a temporary file for an object, cannot be read or written.
    pub async fn open_file(&self, name: &str) -> Result<Option<File>, StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => blocking(folder, name, StateFolder::open_file).await,
                StatePlace::Prefix(home) => prefix::open_file(home, &RelativeKey::new(name)).await,
            }
        };
        self.stop_limit.wait(request).await
    }

    /// Creates a file for [`Self::publish`]. It has no name in the state until then.
    ///
    /// # Errors
    /// Returns an error if the folder of the state, or the temporary folder, cannot be written.
    pub async fn new_file(&self) -> Result<NamedTempFile, StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => blocking(folder, "", |folder, _| folder.new_file()).await,
                StatePlace::Prefix(_) => when_one_is_free(NamedTempFile::new).map_err(StateError::in_temporary_folder),
            }
        };
        self.stop_limit.wait(request).await
    }

    /// The error of a write to a [`Self::new_file`].
    pub(crate) fn file_error(&self, name: &str, error: io::Error) -> StateError {
        match &self.place {
            StatePlace::Folder(folder) => StateError::in_file(folder.path().join(name), error),
            StatePlace::Prefix(_) => StateError::in_temporary_folder(error),
        }
    }

    /// Atomically stores the file under `name`, regardless of what is stored there.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    pub async fn publish(&self, name: &str, file: NamedTempFile) -> Result<(), StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => {
                    blocking(folder, name, move |folder, name| folder.publish(name, file)).await
                }
                StatePlace::Prefix(home) => prefix::publish(home, &RelativeKey::new(name), file.as_file()).await,
            }
        };
        self.stop_limit.wait(request).await
    }

    /// Removes the record under a name from a folder, if it is this version. Returns whether it is gone.
    pub(crate) async fn remove_version(&self, name: &str, version: Version) -> Result<bool, StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => {
                    blocking(folder, name, move |folder, name| folder.remove_version(name, &version)).await
                }
                StatePlace::Prefix(_) => Ok(false),
            }
        };
        self.stop_limit.wait(request).await
    }

    /// Removes the record under a name, if there is one.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => blocking(folder, name, StateFolder::remove).await,
                StatePlace::Prefix(home) => {
                    let removed = home.delete_any(&RelativeKey::new(name)).await;
                    removed.map_err(|error| StateError::in_bucket(home, &error))
                }
            }
        };
        self.stop_limit.wait(request).await
    }

    /// Lists the names that start with `beginning`, in order.
    pub(crate) async fn names(&self, beginning: &str) -> Result<Vec<String>, StateError> {
        let request = async {
            match &self.place {
                StatePlace::Folder(folder) => blocking(folder, beginning, StateFolder::names).await,
                StatePlace::Prefix(home) => {
                    let keys = home.keys(beginning).await.map_err(|error| StateError::in_bucket(home, &error))?;
                    Ok(keys.into_iter().map(String::from).collect())
                }
            }
        };
        self.stop_limit.wait(request).await
    }
}

/// Runs `work` on a thread of its own, because the folder may be on a slow file system. Its error names the path.
async fn blocking<T: Send + 'static>(
    folder: &StateFolder,
    name: &str,
    work: impl FnOnce(&StateFolder, &str) -> Result<T, FolderError> + Send + 'static,
) -> Result<T, StateError> {
    let (folder, name) = (folder.clone(), name.to_owned());
    let done = tokio::task::spawn_blocking(move || {
        work(&folder, &name).map_err(|error| match error {
            FolderError::Io(source) => StateError::in_file(folder.path().join(name), source),
            FolderError::Missing => StateError::FolderMissing { folder: folder.path().display().to_string() },
            FolderError::NotMounted => StateError::FolderNotMounted { folder: folder.path().display().to_string() },
        })
    });
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
        let state = State::in_folder(folder.path().join("new/state"), Shutdown::default());
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

    #[tokio::test]
    async fn a_folder_on_another_file_system_than_before_is_refused() {
        let above = tempfile::tempdir().unwrap();
        let (path, real) = (above.path().join("state"), above.path().join("real"));
        std::fs::create_dir(&real).unwrap();
        let turn_to = |target: &Path| {
            let _ = std::fs::remove_file(&path);
            std::os::unix::fs::symlink(target, &path).unwrap();
        };
        turn_to(&real);
        let state = State::in_folder(path.clone(), Shutdown::default());
        state.write("a", Bytes::from_static(b"1")).await.unwrap();
        turn_to(Path::new("/proc"));
        assert!(matches!(state.read("a").await, Err(StateError::FolderNotMounted { .. })));
        turn_to(&real);
        assert!(state.read("a").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_folder_that_disappears_is_neither_empty_nor_created_again() {
        let above = tempfile::tempdir().unwrap();
        let (path, moved) = (above.path().join("state"), above.path().join("moved"));
        for is_new in [true, false] {
            let state = State::in_folder(path.clone(), Shutdown::default());
            if is_new {
                assert_eq!(state.names("").await.unwrap(), [""; 0], "no run has used it");
                state.write("runs/a", Bytes::from_static(b"1")).await.unwrap();
            } else {
                state.read("runs/a").await.unwrap().unwrap();
            }
            let (file, version) = (state.new_file().await.unwrap(), Version::of_nothing());
            std::fs::rename(&path, &moved).unwrap();
            let content = Bytes::from_static(b"2");
            let errors = [
                state.read("runs/a").await.err(),
                state.open_file("runs/a").await.err(),
                state.names("runs/").await.err(),
                state.write("runs/a", content.clone()).await.err(),
                state.replace("runs/a", content.clone(), &ExpectedVersion::Absent).await.err(),
                state.replace("runs/a", content, &ExpectedVersion::Is(version.clone())).await.err(),
                state.new_file().await.err(),
                state.publish("runs/a", file).await.err(),
                state.remove_version("runs/a", version).await.err(),
                state.remove("runs/a").await.err(),
            ];
            for (number, error) in errors.into_iter().enumerate() {
                assert!(matches!(error, Some(StateError::FolderMissing { .. })), "{number}: {error:?}");
            }
            assert!(!path.exists());
            std::fs::rename(&moved, &path).unwrap();
            assert_eq!(state.names("runs/").await.unwrap(), ["runs/a"]);
        }
    }
}
