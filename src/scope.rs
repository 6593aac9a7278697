//! A scope: the keys of a destination that one run works on, all of them or those of a range.
//!
//! What is remembered belongs to a scope: each range has its own lease, its own part of the index, and its own reports.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::key_range::KeyRange;
use crate::location::Location;

/// What one run works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Where objects go.
    pub destination: Location,
    /// Which of them.
    pub keys: KeyRange,
}

impl Scope {
    /// All keys of a destination.
    #[must_use]
    pub fn whole(destination: Location) -> Self {
        Self { destination, keys: KeyRange::default() }
    }

    /// What something is called that is remembered of it: `site-www-1f2e3d4c.lease.json`, and of a range
    /// `site-www-1f2e3d4c-ranges/0123456789abcdef.lease.json`. For people, and no two scopes alike.
    #[must_use]
    pub fn file_name(&self, what: &str) -> String {
        if self.keys.is_all() {
            return format!("{}.{what}", self.destination_name());
        }
        let digest = Sha256::digest(self.to_string().as_bytes());
        let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{}{number:016x}.{what}", self.ranges_folder())
    }

    /// What the names begin with of all that is remembered of ranges of the same destination.
    #[must_use]
    pub fn ranges_folder(&self) -> String {
        format!("{}-ranges/", self.destination_name())
    }

    fn destination_name(&self) -> String {
        let destination = self.destination.to_string();
        let digest = Sha256::digest(destination.as_bytes());
        let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let path = destination.trim_start_matches("s3://").trim_end_matches('/');
        let shown: String = path.chars().take(60).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{shown}-{number:08x}")
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
    fn names_are_for_people_and_no_two_scopes_have_the_same() {
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
    fn what_belongs_to_ranges_is_in_a_folder_of_its_own() {
        let scope = Scope::whole("s3://site/www".parse().unwrap());
        assert!(name("s3://site/www", "a", "b").starts_with(&scope.ranges_folder()));
        // Past reports are found by how their names begin: those of ranges must not be among the whole's.
        assert!(!scope.ranges_folder().starts_with(&scope.file_name("")));
    }
}
