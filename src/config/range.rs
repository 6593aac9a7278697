//! The key range that the options choose: by its bounds, or by its number in a range list.

use super::error::ConfigError;
use super::read;
use crate::cli::RangeArgs;
use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::location::{FileLocation, Location};
use crate::range_list::{RangeList, RangeListError, RangeOfList};
use crate::sync::guard::LimitShare;

/// The keys of one of several runs.
#[derive(Debug)]
pub(super) enum ChosenRange {
    Keys(KeyRange),
    /// A range of a range list.
    Listed(KeyRange, RangeOfList),
    /// A range of a range list that the run fetches from S3.
    InList {
        folder: Location,
        name: RelativeKey,
        index: RangeIndex,
    },
    /// No keys, for this reason.
    Nothing(String),
}

/// The number of a range.
#[derive(Clone, Copy, Debug)]
pub(super) enum RangeIndex {
    /// From the user.
    Given(usize),
    /// From an array of jobs, which may have more jobs than there are ranges.
    OfJob(usize),
}

impl ChosenRange {
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
            (Some(FileLocation::Object(folder, name)), Some(index)) => Ok(Self::InList { folder, name, index }),
            (Some(FileLocation::Path(path)), Some(index)) => {
                let wrong = |source| ConfigError::RangeList { file: path.display().to_string(), source };
                Self::of(&read("ranges file", &path)?, index).map_err(wrong)
            }
        }
    }

    /// Chooses a range of a range list.
    pub(super) fn of(list: &[u8], index: RangeIndex) -> Result<Self, RangeListError> {
        let list = RangeList::read(list)?;
        match index {
            RangeIndex::Given(index) => list.range(index).map(|(keys, range)| Self::Listed(keys, range)),
            RangeIndex::OfJob(index) => match list.range(index) {
                Err(error @ RangeListError::Index { .. }) => Ok(Self::Nothing(error.to_string())),
                range => range.map(|(keys, range)| Self::Listed(keys, range)),
            },
        }
    }

    /// Returns which range of which range list it is.
    pub(super) const fn of_list(&self) -> Option<&RangeOfList> {
        match self {
            Self::Listed(_, range) => Some(range),
            Self::Keys(_) | Self::InList { .. } | Self::Nothing(_) => None,
        }
    }

    /// Returns which share of the default delete limit the run has.
    pub(super) fn limit_share(&self) -> LimitShare {
        match self {
            Self::Keys(keys) if keys.is_all() => LimitShare::Whole,
            Self::Listed(_, range) => LimitShare::OneOf(u64::try_from(range.count).unwrap_or(u64::MAX)),
            Self::Keys(_) | Self::InList { .. } | Self::Nothing(_) => LimitShare::Unknown,
        }
    }

    /// Returns the keys, or all keys if the run has not fetched the range list yet.
    pub(super) fn keys(&self) -> KeyRange {
        match self {
            Self::Keys(keys) | Self::Listed(keys, _) => keys.clone(),
            Self::InList { .. } | Self::Nothing(_) => KeyRange::default(),
        }
    }
}
