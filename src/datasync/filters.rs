//! The filters of a task, an execution or a run, as the DataSync API has them: at most one include and one exclude rule.

use aws_sdk_datasync::types::{FilterRule, FilterType};

use crate::filter::may_admit_more;

/// The filters of a task, an execution or a run, in DataSync's syntax.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    pub(crate) include: Option<String>,
    pub(crate) exclude: Option<String>,
}

impl Filters {
    pub(super) fn new(includes: &[FilterRule], excludes: &[FilterRule]) -> Self {
        Self { include: patterns(includes), exclude: patterns(excludes) }
    }

    /// Whether an execution with these filters may publish what `other` excludes.
    pub(crate) fn may_admit_more_than(&self, other: &Self) -> bool {
        may_admit_more(self.texts(), other.texts())
    }

    /// Whether these filters and `other` admit the same files, as far as their patterns show it.
    pub(crate) fn are_equal_in_effect(&self, other: &Self) -> bool {
        !self.may_admit_more_than(other) && !other.may_admit_more_than(self)
    }

    /// The smallest of these two and of no filters that admits all that both admit, as far as the patterns show it.
    pub(super) fn widened_by(self, other: Self) -> Self {
        match (other.may_admit_more_than(&self), self.may_admit_more_than(&other)) {
            (false, _) => self,
            (true, false) => other,
            (true, true) => Self::default(),
        }
    }

    /// The include and the exclude filter.
    pub(crate) fn texts(&self) -> (Option<&str>, Option<&str>) {
        (self.include.as_deref(), self.exclude.as_deref())
    }

    /// Whether there is neither an include nor an exclude pattern.
    pub(crate) const fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

/// The one rule of a filter that a start may have.
pub(super) fn rules(filter: Option<&str>) -> Vec<FilterRule> {
    let rule = |value| FilterRule::builder().filter_type(FilterType::SimplePattern).value(value).build();
    filter.map(rule).into_iter().collect()
}

pub(super) fn patterns(rules: &[FilterRule]) -> Option<String> {
    let values: Vec<&str> = rules.iter().filter_map(FilterRule::value).filter(|value| !value.is_empty()).collect();
    (!values.is_empty()).then(|| values.join("|"))
}
