//! A key range: the keys of one run, if several runs share a destination.
//!
//! A range has the bounds of a listing: it starts after one key, and ends with another, which it includes. Ranges that
//! follow one another hold each key exactly once, whatever its bytes. A bound need not be the key of anything. A name
//! that is not UTF-8 is in the range that its bytes are in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::RelativeKey;

/// The keys below the prefix that lie behind one key, up to another.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Bounds")]
pub struct KeyRange {
    /// Empty where the range begins with the first key.
    after: RelativeKey,
    /// Empty where it ends with the last.
    to: RelativeKey,
}

#[derive(Deserialize)]
struct Bounds {
    #[serde(default)]
    after: RelativeKey,
    #[serde(default)]
    to: RelativeKey,
}

/// No key lies in such a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key lies after '{after}' and up to '{to}': the upper bound of a range must come after the lower one")]
pub struct EmptyRange {
    after: RelativeKey,
    to: RelativeKey,
}

impl KeyRange {
    /// The keys after one, up to another and with it; an empty text is no bound.
    ///
    /// # Errors
    /// Where no key can lie between them.
    pub fn new(after: RelativeKey, to: RelativeKey) -> Result<Self, EmptyRange> {
        if !to.is_root() && after >= to { Err(EmptyRange { after, to }) } else { Ok(Self { after, to }) }
    }

    /// Whether it has no bounds.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.after.is_root() && self.to.is_root()
    }

    /// Every key is after this one; empty where there is no such bound.
    #[must_use]
    pub const fn after(&self) -> &RelativeKey {
        &self.after
    }

    /// The last key, if there is such a bound.
    #[must_use]
    pub fn to(&self) -> Option<&RelativeKey> {
        Some(&self.to).filter(|to| !to.is_root())
    }

    /// Whether the key lies within.
    #[must_use]
    pub fn holds(&self, key: &[u8]) -> bool {
        (self.after.is_root() || key > self.after.as_bytes()) && self.to().is_none_or(|to| key <= to.as_bytes())
    }

    /// Whether a key that begins like this may lie within.
    #[must_use]
    pub fn reaches(&self, beginning: &[u8]) -> bool {
        let goes_beyond = beginning > self.after.as_bytes() || self.after.as_bytes().starts_with(beginning);
        goes_beyond && self.to().is_none_or(|to| beginning <= to.as_bytes())
    }

    /// Whether a key may lie within both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let ends_after = |one: &Self, other: &Self| one.to().is_none_or(|to| *to > other.after);
        ends_after(self, other) && ends_after(other, self)
    }
}

impl TryFrom<Bounds> for KeyRange {
    type Error = EmptyRange;

    fn try_from(Bounds { after, to }: Bounds) -> Result<Self, EmptyRange> {
        Self::new(after, to)
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.after.as_str(), self.to()) {
            ("", None) => write!(f, "all keys"),
            ("", Some(to)) => write!(f, "keys up to {:?}", to.as_str()),
            (after, None) => write!(f, "keys after {after:?}"),
            (after, Some(to)) => write!(f, "keys after {after:?} up to {:?}", to.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(after: &str, to: &str) -> KeyRange {
        KeyRange::new(RelativeKey::new(after), RelativeKey::new(to)).unwrap()
    }

    #[test]
    fn the_upper_bound_belongs_to_a_range_and_the_lower_one_does_not() {
        let some = range("b", "d");
        assert!(!some.holds(b"b") && some.holds(b"b\0") && some.holds(b"d") && !some.holds(b"d\0"));
        let all = range("", "");
        assert!(all.is_all() && all.holds(b"") && all.holds(b"\xff"));
        assert!(range("", "a").holds(b""), "the prefix's own key");
    }

    #[test]
    fn a_range_without_keys_cannot_be_had() {
        assert!(KeyRange::new(RelativeKey::new("b"), RelativeKey::new("a")).is_err());
        assert!(KeyRange::new(RelativeKey::new("a"), RelativeKey::new("a")).is_err());
        assert!(KeyRange::new(RelativeKey::new("a"), RelativeKey::default()).is_ok());
        assert!(serde_json::from_str::<KeyRange>(r#"{"after": "b", "to": "a"}"#).is_err());
        assert_eq!(serde_json::from_str::<KeyRange>("{}").unwrap(), range("", ""));
    }

    #[test]
    fn a_directory_is_looked_into_if_any_key_below_it_may_be_within() {
        let some = range("d/m", "d/p");
        assert!(some.reaches(b"d/") && some.reaches(b"d/m/") && some.reaches(b"d/n/"));
        assert!(!some.reaches(b"c/") && !some.reaches(b"d/a/") && !some.reaches(b"d/p/") && !some.reaches(b"e/"));
        assert!(range("", "a").reaches(b"a") && !range("", "a").reaches(b"a/"));
    }

    #[test]
    fn ranges_overlap_where_a_key_may_be_in_both() {
        assert!(!range("", "b").overlaps(&range("b", "")));
        assert!(range("", "c").overlaps(&range("b", "")));
        assert!(range("", "").overlaps(&range("x", "y")));
        assert!(!range("x", "y").overlaps(&range("a", "b")));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_key_is_in_exactly_one_of_the_ranges_that_follow_one_another(
            key in "[a-c/.]{0,4}", mut cuts in proptest::collection::btree_set("[a-c/.]{1,4}", 0..5),
        ) {
            let mut after = String::new();
            let mut held = 0;
            cuts.insert(String::new());
            for to in cuts.iter().skip(1).chain([&String::new()]) {
                let one = range(&after, to);
                held += usize::from(one.holds(key.as_bytes()));
                for end in 0..key.len() {
                    let beginning = &key.as_bytes()[..end];
                    prop_assert!(!one.holds(key.as_bytes()) || one.reaches(beginning));
                }
                after.clone_from(to);
            }
            prop_assert_eq!(held, 1);
        }
    }
}
