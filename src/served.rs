//! Served destinations: those that runs with the same state write to. One of them may lie inside another.
//!
//! 1. Each destination has a marker in the state, whose name is the destination. One LIST reads all of them. Two runs write
//!    different names, so a marker needs no lock.
//! 2. A run that writes has the marker of its destination once it has the lease, and before its first write.
//! 3. The keys of a destination inside this one are not this run's: it neither writes nor deletes them.
//! 4. A marker stays until the user removes it: that retires the destination.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::key::RelativeKey;
use crate::location::Location;
use crate::scope::Scope;
use crate::state::{State, StateError};

const FOLDER: &str = "destinations/";
const EXTENSION: &str = ".json";
/// A longer name does not fit every file system. Its marker is named by a digest, and the run reads its content.
const LONGEST_NAME: usize = 200;
/// Starts the name of such a marker. No bucket name starts like this.
const DIGEST: &str = "=";
const LEASE: &str = ".lease.json";

/// The destinations inside the run's own one.
#[derive(Clone, Debug, Default)]
pub(crate) struct InnerDestinations {
    /// The run's own destination, if there is a state.
    outer: Option<Location>,
    /// Whether the state had no marker of the run's own destination.
    outer_is_new: bool,
    inside: Vec<InnerDestination>,
}

/// A destination inside the run's own one.
#[derive(Clone, Debug)]
pub(crate) struct InnerDestination {
    /// What its keys start with, relative to the run's own destination; ends in `/`.
    keys: String,
    location: Location,
}

/// The content of a marker; a lease has the same field.
#[derive(Deserialize, Serialize)]
struct Marker {
    destination: String,
}

impl InnerDestinations {
    /// Marks the destination as served, and returns those inside it.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read or written.
    pub(crate) async fn register(state: &State, scope: &Scope) -> Result<Self, StateError> {
        let mut served = read(state).await?;
        if served.is_empty() {
            // The state is new, or an earlier version of this program wrote it.
            served = of_leases(state, scope).await?;
            for location in &served {
                mark(state, location).await?;
            }
        }
        if !served.contains(&scope.destination) {
            mark(state, &scope.destination).await?;
        }
        Ok(Self::of(served, scope.destination.clone()))
    }

    /// Returns the destinations inside this one.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub(crate) async fn read(state: &State, destination: Location) -> Result<Self, StateError> {
        Ok(Self::of(read(state).await?, destination))
    }

    /// Returns them as they are now.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub(crate) async fn read_again(&self, state: &State) -> Result<Self, StateError> {
        match &self.outer {
            Some(outer) => Self::read(state, outer.clone()).await,
            None => Ok(Self::default()),
        }
    }

    fn of(served: Vec<Location>, outer: Location) -> Self {
        let outer_is_new = !served.contains(&outer);
        let inside = served.into_iter().filter_map(|location| {
            let keys = location.prefix.as_str().strip_prefix(outer.prefix.as_str())?.to_owned();
            (location.bucket == outer.bucket && !keys.is_empty()).then_some(InnerDestination { keys, location })
        });
        Self { inside: inside.collect(), outer: Some(outer), outer_is_new }
    }

    /// Whether there is a state, and no earlier run has marked the run's own destination in it.
    pub(crate) const fn outer_is_new(&self) -> bool {
        self.outer_is_new
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.inside.is_empty()
    }

    /// Returns the destination that an object belongs to, if that is not the run's own one.
    pub(crate) fn of_object(&self, key: &RelativeKey) -> Option<&InnerDestination> {
        self.inside.iter().find(|inner| key.as_str().starts_with(&inner.keys))
    }

    /// Returns the destination that the object of an entry would belong to. The directory at whose place the destination
    /// is still belongs to the run's own one.
    pub(crate) fn of_entry(&self, key: &RelativeKey) -> Option<&InnerDestination> {
        self.of_object(key).filter(|inner| key.as_str() != inner.keys)
    }
}

impl InnerDestination {
    /// The name of its marker in the state.
    pub(crate) fn marker(&self) -> String {
        marker(&self.location)
    }
}

impl fmt::Display for InnerDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}

async fn mark(state: &State, location: &Location) -> Result<(), StateError> {
    let content = serde_json::to_vec(&Marker { destination: location.to_string() }).unwrap_or_default();
    state.write(&marker(location), content.into()).await
}

/// Reads the served destinations: one LIST, and a GET for each name that is too long.
async fn read(state: &State) -> Result<Vec<Location>, StateError> {
    let mut served = Vec::new();
    for name in state.names(FOLDER).await? {
        let shown = name.strip_prefix(FOLDER).and_then(|name| name.strip_suffix(EXTENSION)).unwrap_or_default();
        let location = if shown.starts_with(DIGEST) {
            destination_in(state, &name).await?
        } else {
            decoded(shown).and_then(|path| format!("s3://{path}").parse().ok())
        };
        if let Some(location) = location {
            served.push(location);
        } else {
            tracing::warn!(name, "this file in the state is not the marker of a destination: ignoring it");
        }
    }
    Ok(served)
}

/// Returns the destinations of all leases but the scope's own.
async fn of_leases(state: &State, scope: &Scope) -> Result<Vec<Location>, StateError> {
    let mut names = state.names("").await?;
    // A folder lists only its own names.
    let folders: Vec<String> = names.iter().filter(|name| name.ends_with("-ranges")).cloned().collect();
    for folder in folders {
        names.extend(state.names(&format!("{folder}/")).await?);
    }
    let mut served = Vec::new();
    let own = scope.file_name(LEASE.trim_start_matches('.'));
    for name in names.iter().filter(|name| name.ends_with(LEASE) && **name != own) {
        served.extend(destination_in(state, name).await?.filter(|location| !served.contains(location)));
    }
    Ok(served)
}

async fn destination_in(state: &State, name: &str) -> Result<Option<Location>, StateError> {
    let record = state.read(name).await?;
    let marker = record.and_then(|record| serde_json::from_slice::<Marker>(&record.content).ok());
    Ok(marker.and_then(|marker| marker.destination.parse().ok()))
}

/// The name of a destination's marker.
fn marker(location: &Location) -> String {
    let text = location.to_string();
    let path = text.trim_start_matches("s3://").trim_end_matches('/');
    let mut name = encoded(path);
    if name.len() > LONGEST_NAME {
        name = format!("{DIGEST}{}", hex(Sha256::digest(path.as_bytes()).iter().take(16)));
    }
    format!("{FOLDER}{name}{EXTENSION}")
}

/// Writes each byte but those of simple names as `=` and two digits, as in a quoted-printable text.
fn encoded(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            name.push(char::from(byte));
        } else {
            name.extend(["=", &hex([byte].iter())]);
        }
    }
    name
}

fn decoded(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok().filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;

    fn location(text: &str) -> Location {
        text.parse().unwrap()
    }

    fn scope(text: &str) -> Scope {
        Scope::whole(location(text))
    }

    async fn register(state: &State, text: &str) -> Vec<String> {
        let inner = InnerDestinations::register(state, &scope(text)).await.unwrap();
        inner.inside.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_destination_knows_those_inside_it_until_their_markers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::in_folder(folder.path().to_owned(), Shutdown::default());
        let long = format!("s3://site/www/{}/", "lé/ng dir=".repeat(40));
        for text in
            ["s3://site/www/docs", "s3://site/www/a.lock", &long, "s3://site/www-2/x", "s3://other/www/x", "s3://site"]
        {
            register(&state, text).await;
        }
        let mut inside = vec!["s3://site/www/a.lock/".to_owned(), "s3://site/www/docs/".to_owned(), long.clone()];
        inside.sort();
        let mut found = register(&state, "s3://site/www").await;
        found.sort();
        assert_eq!(found, inside);
        assert!(register(&state, "s3://site/www/docs").await.is_empty());
        assert_eq!(register(&state, "s3://site").await.len(), 5);

        let docs = InnerDestination { keys: "docs/".to_owned(), location: location("s3://site/www/docs") };
        assert_eq!(docs.marker(), "destinations/site=2fwww=2fdocs.json");
        state.remove(&docs.marker()).await.unwrap();
        assert_eq!(register(&state, "s3://site/www").await.len(), 2);
    }

    #[tokio::test]
    async fn a_state_without_markers_has_the_destinations_of_its_leases() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::in_folder(folder.path().to_owned(), Shutdown::default());
        let range = crate::key_range::KeyRange::new(RelativeKey::new("a"), RelativeKey::default()).unwrap();
        let in_ranges = Scope { keys: range, ..scope("s3://site/www/api") };
        for (scope, text) in [(scope("s3://site/www/docs"), "s3://site/www/docs/"), (in_ranges, "s3://site/www/api/")] {
            let lease = format!(r#"{{"destination": "{text}", "released": true}}"#);
            state.write(&scope.file_name("lease.json"), lease.into()).await.unwrap();
        }
        let mut found = register(&state, "s3://site/www").await;
        found.sort();
        assert_eq!(found, ["s3://site/www/api/", "s3://site/www/docs/"]);
        assert_eq!(state.names(FOLDER).await.unwrap().len(), 3);
    }

    #[test]
    fn keys_of_an_inner_destination_are_those_below_its_prefix() {
        let inner = InnerDestinations::of(vec![location("s3://site/www/docs")], location("s3://site/www"));
        let of_object = |key: &str| inner.of_object(&RelativeKey::new(key)).is_some();
        let of_entry = |key: &str| inner.of_entry(&RelativeKey::new(key)).is_some();
        assert!(of_object("docs/a") && of_object("docs/") && of_entry("docs/a") && of_entry("docs/d/"));
        assert!(!of_entry("docs/"), "the directory itself");
        assert!(!of_object("docs") && !of_object("docs2/a") && !of_object("a/docs/b"));
    }

    #[test]
    fn names_of_markers_are_decoded_as_they_were_encoded() {
        for path in ["site/www", "a.b-c/d=e/ü _\u{1}", "site"] {
            assert_eq!(decoded(&encoded(path)).as_deref(), Some(path));
        }
        for name in ["", "a=", "a=2", "a=zz", "=ff"] {
            assert_eq!(decoded(name), None, "{name}");
        }
    }
}
