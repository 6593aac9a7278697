//! A cut: all keys divided into ranges that follow one another, so that each key is in exactly one of them.
//!
//! Written as JSON, a range a line, for the engines that start a run for each:
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

mod sample;

pub use sample::Sample;

/// The ranges, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    ranges: Vec<CutRange>,
}

/// One of the ranges.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CutRange {
    /// From 0, in order.
    pub index: usize,
    /// The keys.
    #[serde(flatten)]
    pub keys: KeyRange,
    /// About how many entries of the source had such a key.
    #[serde(default)]
    pub entries: u64,
}

/// Why a text is no cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// It is no JSON of this shape.
    #[error("it is not what `efs2s3 ranges` writes: {0}")]
    Json(#[from] serde_json::Error),
    /// Some key would be in two ranges, or in none.
    #[error(
        "range {index} does not begin where the one before it ends, so some keys would be in two ranges or in none"
    )]
    Gap {
        /// The range.
        index: usize,
    },
    /// It does not go on to the last key.
    #[error("the last range ends at a key, so the keys after it would be in none")]
    Short,
    /// There is no range of this number.
    #[error("there is no range {index}: it has {count}, counted from 0")]
    Index {
        /// The number.
        index: usize,
        /// How many there are.
        count: usize,
    },
}

impl Cut {
    /// Reads what [`Cut::json`] wrote.
    ///
    /// # Errors
    /// Where it is something else, or some key would be in two ranges or in none.
    pub fn read(text: &[u8]) -> Result<Self, CutError> {
        let ranges: Vec<CutRange> = serde_json::from_slice(text)?;
        let start = RelativeKey::default();
        let mut after = Some(&start);
        for (index, range) in ranges.iter().enumerate() {
            if range.index != index || after != Some(range.keys.after()) {
                return Err(CutError::Gap { index });
            }
            after = range.keys.to();
        }
        if after.is_some() { Err(CutError::Short) } else { Ok(Self { ranges }) }
    }

    /// Cuts behind each of these keys, which ascend; with each how many entries there are up to it, and at last in all.
    fn behind(keys: Vec<(RelativeKey, u64)>, total: u64) -> Self {
        let mut ranges = Vec::with_capacity(keys.len() + 1);
        let (mut after, mut before) = (RelativeKey::default(), 0);
        for (to, up_to) in keys.into_iter().chain([(RelativeKey::default(), total)]) {
            if let Ok(keys) = KeyRange::new(std::mem::replace(&mut after, to.clone()), to) {
                ranges.push(CutRange { index: ranges.len(), keys, entries: up_to - before });
                before = up_to;
            }
        }
        Self { ranges }
    }

    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &[CutRange] {
        &self.ranges
    }

    /// The keys of a range.
    ///
    /// # Errors
    /// Where there is none of this number.
    pub fn keys(&self, index: usize) -> Result<KeyRange, CutError> {
        let range = self.ranges.get(index).ok_or(CutError::Index { index, count: self.ranges.len() })?;
        Ok(range.keys.clone())
    }

    /// As it is written.
    #[must_use]
    pub fn json(&self) -> String {
        // Nothing in it can fail to be written: texts and numbers.
        let lines: Vec<String> =
            self.ranges.iter().map(|range| serde_json::to_string(range).unwrap_or_default()).collect();
        format!("[\n{}\n]\n", lines.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_read_as_it_was_written() {
        let cut = Cut::behind(vec![(RelativeKey::new("a\"\n"), 3), (RelativeKey::new("b/ü"), 5)], 9);
        assert_eq!(Cut::read(cut.json().as_bytes()).unwrap(), cut);
        assert_eq!(cut.ranges().iter().map(|range| range.entries).collect::<Vec<_>>(), [3, 2, 4]);
        assert_eq!(cut.keys(1).unwrap(), KeyRange::new(RelativeKey::new("a\"\n"), RelativeKey::new("b/ü")).unwrap());
        assert!(matches!(cut.keys(3), Err(CutError::Index { index: 3, count: 3 })));
        assert!(Cut::behind(Vec::new(), 0).keys(0).unwrap().is_all());
    }

    #[test]
    fn a_cut_with_a_key_in_two_ranges_or_in_none_is_refused() {
        let wrong = |text: &str| Cut::read(text.as_bytes()).unwrap_err();
        assert!(matches!(wrong("[]"), CutError::Short));
        assert!(matches!(wrong(r#"[{"index":0,"after":"","to":"b"}]"#), CutError::Short));
        let two =
            |after: &str| format!(r#"[{{"index":0,"after":"","to":"b"}},{{"index":1,"after":"{after}","to":""}}]"#);
        assert!(Cut::read(two("b").as_bytes()).is_ok());
        for after in ["a", "c", ""] {
            assert!(matches!(wrong(&two(after)), CutError::Gap { index: 1 }), "{after}");
        }
        assert!(matches!(wrong(r#"[{"index":0,"after":"a","to":""}]"#), CutError::Gap { index: 0 }));
        assert!(matches!(wrong(r#"[{"index":1,"after":"","to":""}]"#), CutError::Gap { index: 0 }));
        for text in ["", "{}", r#"[{"index":0,"after":"b","to":"a"}]"#, r#"[{"after":"","to":""}]"#] {
            assert!(matches!(wrong(text), CutError::Json(_)), "{text}");
        }
    }
}
