//! The share of the keys that one of several runs works on: between two bounds, or a range that is written down.

use super::{ConfigError, read};
use crate::cli::RangeArgs;
use crate::cut::{Cut, CutError};
use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::location::{FileLocation, Location};

/// A share of the keys.
#[derive(Debug)]
pub(super) enum Share {
    /// These.
    Keys(KeyRange),
    /// Those of a range of a cut, which is to be fetched.
    In { folder: Location, name: RelativeKey, index: RangeIndex },
    /// None, and why.
    Nothing(String),
}

/// The number of a range, and who says it.
#[derive(Clone, Copy, Debug)]
pub(super) enum RangeIndex {
    /// Whoever started the run.
    Given(usize),
    /// An array of jobs, which may have more of them than there are ranges.
    OfJob(usize),
}

impl Share {
    /// What the arguments mean together.
    pub(super) fn new(args: RangeArgs) -> Result<Self, ConfigError> {
        let of_job = args.batch_index.or(args.kubernetes_index).map(RangeIndex::OfJob);
        let index = args.range_index.map(RangeIndex::Given).or(of_job);
        match (args.ranges, index) {
            (None, Some(RangeIndex::Given(_))) => Err(ConfigError::NoRanges),
            (None, _) => {
                let key = |text: Option<String>| RelativeKey::new(text.unwrap_or_default());
                Ok(Self::Keys(KeyRange::new(key(args.range_after), key(args.range_to))?))
            }
            (Some(_), None) => Err(ConfigError::NoIndex),
            (Some(FileLocation::Object(folder, name)), Some(index)) => Ok(Self::In { folder, name, index }),
            (Some(FileLocation::Path(path)), Some(index)) => {
                let wrong = |source| ConfigError::Cut { file: path.display().to_string(), source };
                Self::of(&read("ranges file", &path)?, index).map_err(wrong)
            }
        }
    }

    /// A range of a cut.
    pub(super) fn of(cut: &[u8], index: RangeIndex) -> Result<Self, CutError> {
        let cut = Cut::read(cut)?;
        match index {
            RangeIndex::Given(index) => cut.keys(index).map(Self::Keys),
            RangeIndex::OfJob(index) => match cut.keys(index) {
                Err(error @ CutError::Index { .. }) => Ok(Self::Nothing(error.to_string())),
                keys => keys.map(Self::Keys),
            },
        }
    }

    /// The keys, as far as they are known; all where they are not.
    pub(super) fn keys(&self) -> KeyRange {
        match self {
            Self::Keys(keys) => keys.clone(),
            Self::In { .. } | Self::Nothing(_) => KeyRange::default(),
        }
    }
}
