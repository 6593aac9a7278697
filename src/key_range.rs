//! A key range: the keys of one run, if several runs share a destination.
//!
//! A range has the bounds of a listing: it starts after one key, and ends with another, which it includes. Ranges that
//! follow one another hold each key exactly once, whatever its bytes. A bound need not be the key of anything. A name
//! that is not UTF-8 is in the range that its bytes are in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::RelativeKey;

/// The keys after one key (exclusive), up to another (inclusive).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "UncheckedRange")]
pub(crate) struct KeyRange {
    /// Empty if the range has no lower bound.
    after: RelativeKey,
    /// Empty if the range has no upper bound.
    to: RelativeKey,
}

#[derive(Deserialize)]
struct UncheckedRange {
    #[serde(default)]
    after: RelativeKey,
    #[serde(default)]
    to: RelativeKey,
}

/// The error for bounds between which no key can be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key range after '{after}' up to '{to}' contains no key: its upper bound must come after its lower one")]
pub struct EmptyRange {
    after: RelativeKey,
    to: RelativeKey,
}

impl KeyRange {
    /// The keys after `after`, up to `to` and `to` itself. An empty key sets no bound.
    ///
    /// # Errors
    /// Returns an error if `to` does not come after `after`.
    pub(crate) fn new(after: RelativeKey, to: RelativeKey) -> Result<Self, EmptyRange> {
        if !to.is_root() && after >= to { Err(EmptyRange { after, to }) } else { Ok(Self { after, to }) }
    }

    pub(crate) const fn is_all(&self) -> bool {
        self.after.is_root() && self.to.is_root()
    }

    /// The lower bound, which is not in the range; empty if there is none.
    pub(crate) const fn after(&self) -> &RelativeKey {
        &self.after
    }

    /// The upper bound, which is in the range.
    pub(crate) fn to(&self) -> Option<&RelativeKey> {
        Some(&self.to).filter(|to| !to.is_root())
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        (self.after.is_root() || key > self.after.as_bytes()) && self.to().is_none_or(|to| key <= to.as_bytes())
    }

    /// Returns whether a key that starts with `beginning` can be in the range.
    pub(crate) fn may_contain_below(&self, beginning: &[u8]) -> bool {
        let reaches_range = beginning > self.after.as_bytes() || self.after.as_bytes().starts_with(beginning);
        reaches_range && self.to().is_none_or(|to| beginning <= to.as_bytes())
    }

    /// Returns whether every key that starts with `beginning` is in the range.
    pub(crate) fn contains_all_below(&self, beginning: &[u8]) -> bool {
        let ends_later = |to: &RelativeKey| to.as_bytes() > beginning && !to.as_bytes().starts_with(beginning);
        (self.after.is_root() || beginning > self.after.as_bytes()) && self.to().is_none_or(ends_later)
    }

    /// Returns whether a key can be in both ranges.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let ends_after = |one: &Self, other: &Self| one.to().is_none_or(|to| *to > other.after);
        ends_after(self, other) && ends_after(other, self)
    }
}

impl TryFrom<UncheckedRange> for KeyRange {
    type Error = EmptyRange;

    fn try_from(UncheckedRange { after, to }: UncheckedRange) -> Result<Self, EmptyRange> {
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
        assert!(!some.contains(b"b") && some.contains(b"b\0") && some.contains(b"d") && !some.contains(b"d\0"));
        let all = range("", "");
        assert!(all.is_all() && all.contains(b"") && all.contains(b"\xff"));
        assert!(range("", "a").contains(b""), "the prefix's own key");
    }

    #[test]
    fn a_range_without_keys_is_an_error() {
        assert!(KeyRange::new(RelativeKey::new("b"), RelativeKey::new("a")).is_err());
        assert!(KeyRange::new(RelativeKey::new("a"), RelativeKey::new("a")).is_err());
        assert!(KeyRange::new(RelativeKey::new("a"), RelativeKey::default()).is_ok());
        assert!(serde_json::from_str::<KeyRange>(r#"{"after": "b", "to": "a"}"#).is_err());
        assert_eq!(serde_json::from_str::<KeyRange>("{}").unwrap(), range("", ""));
    }

    #[test]
    fn a_directory_may_contain_keys_of_a_range() {
        let some = range("d/m", "d/p");
        assert!(some.may_contain_below(b"d/") && some.may_contain_below(b"d/m/") && some.may_contain_below(b"d/n/"));
        assert!(
            !some.may_contain_below(b"c/")
                && !some.may_contain_below(b"d/a/")
                && !some.may_contain_below(b"d/p/")
                && !some.may_contain_below(b"e/")
        );
        assert!(range("", "a").may_contain_below(b"a") && !range("", "a").may_contain_below(b"a/"));
    }

    #[test]
    fn only_a_range_that_ends_after_a_directory_contains_all_below_it() {
        for (after, to) in [("", ""), ("c", ""), ("c/z", "d0"), ("", "e")] {
            assert!(range(after, to).contains_all_below(b"d/"), "{after:?} {to:?}");
        }
        for (after, to) in [("d/", ""), ("d/a", ""), ("e", ""), ("", "d"), ("", "d/"), ("", "d/z"), ("a", "b")] {
            assert!(!range(after, to).contains_all_below(b"d/"), "{after:?} {to:?}");
        }
    }

    #[test]
    fn ranges_overlap_if_a_key_can_be_in_both() {
        assert!(!range("", "b").overlaps(&range("b", "")));
        assert!(range("", "c").overlaps(&range("b", "")));
        assert!(range("", "").overlaps(&range("x", "y")));
        assert!(!range("x", "y").overlaps(&range("a", "b")));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_key_is_in_exactly_one_of_adjacent_ranges(
            key in "[a-c/.]{0,4}", mut bounds in proptest::collection::btree_set("[a-c/.]{1,4}", 0..5),
        ) {
            let mut after = String::new();
            let mut count = 0;
            bounds.insert(String::new());
            for to in bounds.iter().skip(1).chain([&String::new()]) {
                let one = range(&after, to);
                count += usize::from(one.contains(key.as_bytes()));
                for end in 0..key.len() {
                    let beginning = &key.as_bytes()[..end];
                    prop_assert!(!one.contains(key.as_bytes()) || one.may_contain_below(beginning));
                }
                after.clone_from(to);
            }
            prop_assert_eq!(count, 1);
        }
    }
}
