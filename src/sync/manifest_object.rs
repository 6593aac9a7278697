//! A manifest that is an object: the run reads it when it opens, and again after it has waited for DataSync.

use crate::destination::Destination;
use crate::key::RelativeKey;
use crate::manifest::{Manifest, ManifestError, VERSION_PARAMETER};

/// A manifest that is an object.
#[derive(Debug)]
pub(crate) struct ManifestObject {
    /// The prefix of its bucket that it lies under.
    home: Destination,
    name: RelativeKey,
    /// The version to read; the latest if `None`.
    version: Option<String>,
    url: String,
}

/// Why a manifest object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestObjectError {
    #[error("cannot read the manifest {url}: {error}: check the key, and allow s3:GetObject on it")]
    Fetch { url: String, error: String },
    #[error(transparent)]
    Wrong(#[from] ManifestError),
}

impl ManifestObject {
    /// `folder`: the URL of `home`.
    pub(crate) fn new(home: Destination, folder: &str, name: &RelativeKey, version: Option<&str>) -> Self {
        let shown = version.map(|version| format!("{VERSION_PARAMETER}{version}")).unwrap_or_default();
        let url = format!("{folder}{name}{shown}");
        Self { home, name: name.clone(), version: version.map(str::to_owned), url }
    }

    /// Reads the manifest.
    pub(crate) async fn read(&self) -> Result<Manifest, ManifestObjectError> {
        let fetched = self.home.get_version(&self.name, self.version.as_deref()).await;
        let unusable = |error: &dyn std::fmt::Display| ManifestObjectError::Fetch {
            url: self.url.clone(),
            error: error.to_string(),
        };
        Ok(Manifest::read(&fetched.map_err(|error| unusable(&error))?.content)?)
    }

    /// Checks that the manifest still names the same files.
    ///
    /// # Errors
    /// Returns an error, as a message, if it names other files, or cannot be read.
    pub(crate) async fn check_again(&self, read: &Manifest) -> Result<(), String> {
        match self.read().await {
            Ok(now) if now == *read => Ok(()),
            Ok(_) => Err(format!("the manifest {} changed while this run worked", self.url)),
            Err(error) => Err(error.to_string()),
        }
    }
}
