//! A scope: the destination and the key range of one run. It names what runs over the same keys share in the state.
//!
//! Each scope has its own lease, its own part of the index and its own reports. All scopes of a destination share the
//! records of its unfinished uploads.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::key_range::KeyRange;
use crate::location::Location;

/// What one run works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The bucket and the prefix.
    pub destination: Location,
    pub(crate) keys: KeyRange,
}

impl Scope {
    /// All keys of `destination`.
    #[must_use]
    pub fn whole(destination: Location) -> Self {
        Self { destination, keys: KeyRange::default() }
    }

    /// Returns the name of a file in the state: `site-www-1f2e3d4c.lease.json`, or for a key range
    /// `site-www-1f2e3d4c-ranges/0123456789abcdef.lease.json`. It is readable, and no two scopes share a name.
    #[must_use]
    pub fn file_name(&self, suffix: &str) -> String {
        if self.keys.is_all() {
            return format!("{}.{suffix}", self.destination_name());
        }
        let digest = hex(Sha256::digest(self.to_string().as_bytes()).iter().take(8));
        format!("{}{digest}.{suffix}", self.ranges_folder())
    }

    /// Returns the start of the names of all scopes with a key range of this destination.
    pub(crate) fn ranges_folder(&self) -> String {
        format!("{}-ranges/", self.destination_name())
    }

    fn destination_name(&self) -> String {
        let destination = self.destination.to_string();
        let digest = hex(Sha256::digest(destination.as_bytes()).iter().take(4));
        let path = destination.trim_start_matches("s3://").trim_end_matches('/');
        let shown: String = path.chars().take(60).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{shown}-{digest}")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)?;
        if self.keys.is_all() { Ok(()) } else { write!(f, " ({})", self.keys) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RelativeKey;

    fn name(url: &str, after: &str, to: &str) -> String {
        let keys = KeyRange::new(RelativeKey::new(after), RelativeKey::new(to)).unwrap();
        Scope { destination: url.parse().unwrap(), keys }.file_name("lease.json")
    }

    #[test]
    fn file_names_are_readable_and_differ_between_scopes() {
        let whole = |url| name(url, "", "");
        assert!(whole("s3://site/www").starts_with("site-www-") && whole("s3://site/www").ends_with(".lease.json"));
        assert_ne!(whole("s3://site/www"), whole("s3://site-www"));
        assert_eq!(whole("s3://site/www"), whole("s3://site/www/"));
        let range = |after, to| name("s3://site/www", after, to);
        assert_ne!(range("a", "b"), range("", "b"));
        assert_ne!(range("a", ""), range("", "a"));
        assert_ne!(range("a", "b"), name("s3://site", "a", "b"));
    }

    #[test]
    fn scopes_with_a_key_range_have_a_folder_of_their_own() {
        let scope = Scope::whole("s3://site/www".parse().unwrap());
        assert!(name("s3://site/www", "a", "b").starts_with(&scope.ranges_folder()));
        // Past reports are found by the start of their names: those of key ranges must not be among those of the whole.
        assert!(!scope.ranges_folder().starts_with(&scope.file_name("")));
    }
}
