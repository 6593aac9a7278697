//! A range list: all keys, split into adjacent key ranges, so that each key is in exactly one range.
//!
//! `efs2s3 ranges` writes it as JSON, one range per line, and an engine starts a run for each range:
//!
//! ```text
//! [
//! {"index":0,"list":"20260101T000000000Z-5f1c09ab","after":"","to":"img/2019/b.png","entries":250000},
//! {"index":1,"list":"20260101T000000000Z-5f1c09ab","after":"img/2019/b.png","to":"","entries":249871}
//! ]
//! ```
//!
//! Each range repeats the ID of the list, because an engine passes single ranges on. The ID is new for each list, so the
//! report of a run shows to which round the run belongs.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::time::unique_id;

pub(crate) mod sample;

/// The ranges, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeList {
    /// `None` in a list that another program wrote.
    id: Option<String>,
    ranges: Vec<ListedRange>,
}

/// One range of the list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct ListedRange {
    /// Its number in the list, from 0.
    pub(crate) index: usize,
    /// The ID of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<String>,
    #[serde(flatten)]
    pub(crate) keys: KeyRange,
    /// About how many entries of the source had a key in this range.
    #[serde(default)]
    pub(crate) entries: u64,
}

/// A range of a list, as the report of its run names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct RangeOfList {
    /// The ID of the list, if it has one.
    pub(crate) list: Option<String>,
    pub(crate) index: usize,
    /// How many ranges the list has.
    pub(crate) count: usize,
}

/// Why a text is not a range list, or has no such range.
#[derive(Debug, thiserror::Error)]
pub enum RangeListError {
    #[error("it is not what `efs2s3 ranges` writes: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "range {index} does not start where the one before it ends, so some keys would be in two ranges or in none"
    )]
    Gap { index: usize },
    #[error("range {index} is of another list than range 0")]
    Mixed { index: usize },
    #[error("the last range ends at a key, so the keys after it would be in none")]
    Short,
    #[error("there is no range {index}: the list has {count}, counted from 0")]
    Index { index: usize, count: usize },
}

impl RangeList {
    /// Reads what [`RangeList::json`] wrote.
    ///
    /// # Errors
    /// Returns an error if the text has another shape, or if some key would be in two ranges or in none.
    pub(crate) fn read(text: &[u8]) -> Result<Self, RangeListError> {
        let ranges: Vec<ListedRange> = serde_json::from_slice(text)?;
        let id = ranges.first().and_then(|range| range.list.clone());
        let start = RelativeKey::default();
        let mut after = Some(&start);
        for (index, range) in ranges.iter().enumerate() {
            if range.index != index || after != Some(range.keys.after()) {
                return Err(RangeListError::Gap { index });
            }
            if range.list != id {
                return Err(RangeListError::Mixed { index });
            }
            after = range.keys.to();
        }
        if after.is_some() { Err(RangeListError::Short) } else { Ok(Self { id, ranges }) }
    }

    /// Splits all keys after each of `keys`, which ascend. With each key comes the number of entries up to it; `total`
    /// is the number of all entries.
    fn split_after(keys: Vec<(RelativeKey, u64)>, total: u64) -> Self {
        let id = unique_id(SystemTime::now());
        let mut ranges = Vec::with_capacity(keys.len() + 1);
        let (mut after, mut before) = (RelativeKey::default(), 0);
        for (to, up_to) in keys.into_iter().chain([(RelativeKey::default(), total)]) {
            if let Ok(keys) = KeyRange::new(std::mem::replace(&mut after, to.clone()), to) {
                ranges.push(ListedRange { index: ranges.len(), list: Some(id.clone()), keys, entries: up_to - before });
                before = up_to;
            }
        }
        Self { id: Some(id), ranges }
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(crate) fn ranges(&self) -> &[ListedRange] {
        &self.ranges
    }

    /// Returns the keys of the range with this number, and how the report names the range.
    pub(crate) fn range(&self, index: usize) -> Result<(KeyRange, RangeOfList), RangeListError> {
        let count = self.ranges.len();
        let range = self.ranges.get(index).ok_or(RangeListError::Index { index, count })?;
        Ok((range.keys.clone(), RangeOfList { list: self.id.clone(), index, count }))
    }

    pub(crate) fn json(&self) -> String {
        // Strings and numbers always serialize.
        let lines: Vec<String> =
            self.ranges.iter().map(|range| serde_json::to_string(range).unwrap_or_default()).collect();
        format!("[\n{}\n]\n", lines.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_list_is_read_as_it_was_written() {
        let list = RangeList::split_after(vec![(RelativeKey::new("a\"\n"), 3), (RelativeKey::new("b/ü"), 5)], 9);
        assert_eq!(RangeList::read(list.json().as_bytes()).unwrap(), list);
        assert_eq!(list.ranges().iter().map(|range| range.entries).collect::<Vec<_>>(), [3, 2, 4]);
        assert_eq!(
            list.range(1).unwrap().0,
            KeyRange::new(RelativeKey::new("a\"\n"), RelativeKey::new("b/ü")).unwrap()
        );
        assert!(matches!(list.range(3), Err(RangeListError::Index { index: 3, count: 3 })));
        assert!(RangeList::split_after(Vec::new(), 0).range(0).unwrap().0.is_all());
    }

    #[test]
    fn a_list_has_an_id_of_its_own() {
        let split = || RangeList::split_after(vec![(RelativeKey::new("m"), 1)], 2);
        let (one, other) = (split(), split());
        assert_ne!(one.id(), other.id());
        let named = RangeOfList { list: one.id().map(str::to_owned), index: 1, count: 2 };
        assert_eq!(one.range(1).unwrap().1, named);
        let mixed = [one.json().lines().nth(1).unwrap(), other.json().lines().nth(2).unwrap()].concat();
        assert!(matches!(RangeList::read(format!("[{mixed}]").as_bytes()), Err(RangeListError::Mixed { index: 1 })));
        let foreign = RangeList::read(br#"[{"index":0,"after":"","to":""}]"#).unwrap();
        assert_eq!(foreign.id(), None);
    }

    #[test]
    fn a_range_list_with_a_gap_or_an_overlap_is_refused() {
        let wrong = |text: &str| RangeList::read(text.as_bytes()).unwrap_err();
        assert!(matches!(wrong("[]"), RangeListError::Short));
        assert!(matches!(wrong(r#"[{"index":0,"after":"","to":"b"}]"#), RangeListError::Short));
        let two =
            |after: &str| format!(r#"[{{"index":0,"after":"","to":"b"}},{{"index":1,"after":"{after}","to":""}}]"#);
        assert!(RangeList::read(two("b").as_bytes()).is_ok());
        for after in ["a", "c", ""] {
            assert!(matches!(wrong(&two(after)), RangeListError::Gap { index: 1 }), "{after}");
        }
        assert!(matches!(wrong(r#"[{"index":0,"after":"a","to":""}]"#), RangeListError::Gap { index: 0 }));
        assert!(matches!(wrong(r#"[{"index":1,"after":"","to":""}]"#), RangeListError::Gap { index: 0 }));
        for text in ["", "{}", r#"[{"index":0,"after":"b","to":"a"}]"#, r#"[{"after":"","to":""}]"#] {
            assert!(matches!(wrong(text), RangeListError::Json(_)), "{text}");
        }
    }
}
