//! A range list: all keys, split into adjacent key ranges, so that each key is in exactly one range.
//!
//! `efs2s3 ranges` writes it as JSON, one range per line, and an engine starts a run for each range:
//!
//! ```text
//! [
//! {"index":0,"after":"","to":"img/2019/b.png","entries":250000},
//! {"index":1,"after":"img/2019/b.png","to":"","entries":249871}
//! ]
//! ```

use serde::{Deserialize, Serialize};

use crate::key::RelativeKey;
use crate::key_range::KeyRange;

pub(crate) mod sample;

/// The ranges, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeList {
    ranges: Vec<ListedRange>,
}

/// One range of the list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct ListedRange {
    /// Its number in the list, from 0.
    pub(crate) index: usize,
    #[serde(flatten)]
    pub(crate) keys: KeyRange,
    /// About how many entries of the source had a key in this range.
    #[serde(default)]
    pub(crate) entries: u64,
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
        let start = RelativeKey::default();
        let mut after = Some(&start);
        for (index, range) in ranges.iter().enumerate() {
            if range.index != index || after != Some(range.keys.after()) {
                return Err(RangeListError::Gap { index });
            }
            after = range.keys.to();
        }
        if after.is_some() { Err(RangeListError::Short) } else { Ok(Self { ranges }) }
    }

    /// Splits all keys after each of `keys`, which ascend. With each key comes the number of entries up to it; `total`
    /// is the number of all entries.
    fn split_after(keys: Vec<(RelativeKey, u64)>, total: u64) -> Self {
        let mut ranges = Vec::with_capacity(keys.len() + 1);
        let (mut after, mut before) = (RelativeKey::default(), 0);
        for (to, up_to) in keys.into_iter().chain([(RelativeKey::default(), total)]) {
            if let Ok(keys) = KeyRange::new(std::mem::replace(&mut after, to.clone()), to) {
                ranges.push(ListedRange { index: ranges.len(), keys, entries: up_to - before });
                before = up_to;
            }
        }
        Self { ranges }
    }

    pub(crate) fn ranges(&self) -> &[ListedRange] {
        &self.ranges
    }

    /// Returns the keys of the range with this number.
    pub(crate) fn keys(&self, index: usize) -> Result<KeyRange, RangeListError> {
        let range = self.ranges.get(index).ok_or(RangeListError::Index { index, count: self.ranges.len() })?;
        Ok(range.keys.clone())
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
        assert_eq!(list.keys(1).unwrap(), KeyRange::new(RelativeKey::new("a\"\n"), RelativeKey::new("b/ü")).unwrap());
        assert!(matches!(list.keys(3), Err(RangeListError::Index { index: 3, count: 3 })));
        assert!(RangeList::split_after(Vec::new(), 0).keys(0).unwrap().is_all());
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
