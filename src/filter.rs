//! A filter: which keys belong to the sync, by the include and exclude patterns of DataSync (`SIMPLE_PATTERN`).
//!
//! The model (AWS DataSync user guide, "Transferring specific files, objects, and folders by using filters"): the path of
//! the key `a/b/c` is `/a/b/c`. A pattern applies if the whole of that path, or of any folder above it, matches the
//! pattern.
//!
//! - `|` separates patterns. `*` matches any characters, also `/` and none. Upper and lower case differ.
//! - `\*`, `\|` and `\\` match these characters. A `\` before any other character, or at the end, is ignored.
//! - `/dir` and `/dir/` are the same pattern: one `/` at the end is dropped. `/` alone matches the source itself, and so
//!   every key.
//! - A pattern that begins with neither `/` nor `*` matches nothing, since each path begins with `/`: the guide says that
//!   a folder under the source is written `/folder`, not `folder`.
//! - An empty pattern (between two `|`, or before or after one) is ignored.
//! - An exclude wins over an include. Without an include filter, every key is included.
//! - An include may have a `*` only as its last character.
//!
//! [`Filter::new`] refuses what DataSync would refuse: no pattern at all, more than 102,400 characters, a NUL (`FilterRule`
//! in the DataSync API), and a `*` elsewhere in an include.
//!
//! DataSync accepts patterns that a user cannot have meant: those that match nothing, and those with whitespace at an end.
//! [`check_written`] refuses them in options and in the config file. [`Filter::flawed`] names those of a task or a plan.
//!
//! All patterns without a star, or with a single one at the end, cost a few map lookups for each key. Each other pattern
//! costs one pass over the path, however many stars it has.

mod pattern;
pub(crate) mod reserved;

pub(crate) use pattern::Flaw;
use pattern::{Pattern, Patterns};

use crate::recorded_options::PATTERN_SEPARATOR;

/// The most characters that an include or exclude filter may have (`FilterRule` in the DataSync API).
const MAX_FILTER_CHARACTERS: usize = 102_400;

/// Which keys belong to the sync.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
    /// Both as they were written.
    texts: (Option<String>, Option<String>),
}

/// Why DataSync would refuse a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum FilterError {
    #[error(
        "the include pattern {pattern:?} has a * that is not its last character, and DataSync accepts no other * in an \
         include: write the folder's full name (as in /folder*), or use an exclude"
    )]
    StarInsideInclude { pattern: String },
    #[error(
        "the {which} filter has {characters} characters, and DataSync accepts at most 102400: use fewer or shorter patterns"
    )]
    TooLong { which: &'static str, characters: usize },
    #[error("the {which} filter has no pattern: omit the option, or write a pattern such as /folder")]
    Empty { which: &'static str },
    #[error(
        "the {which} filter {filter:?} ends in a single \\, which would join it with the next {which}: write \\\\ for a \\ at the end"
    )]
    Unfinished { which: &'static str, filter: String },
    #[error("the {which} filter has a NUL character, which no path can have: remove it")]
    Nul { which: &'static str },
    #[error("the {which} pattern {pattern:?} {flaw}")]
    Flawed { which: String, pattern: String, flaw: Flaw },
}

impl Filter {
    /// Parses the two filters in DataSync's form.
    ///
    /// # Errors
    /// Returns an error if DataSync would refuse one of them.
    pub fn new(include: Option<&str>, exclude: Option<&str>) -> Result<Self, FilterError> {
        let texts = (include.map(str::to_owned), exclude.map(str::to_owned));
        let include = include.map(|filter| parse("include", filter)).transpose()?;
        let exclude = exclude.map(|filter| parse("exclude", filter)).transpose()?;
        if let Some(pattern) = include.iter().flatten().find(|pattern| pattern.has_inner_star()) {
            return Err(FilterError::StarInsideInclude { pattern: pattern.written().to_owned() });
        }
        Ok(Self { include: include.map(Patterns::new), exclude: exclude.map(Patterns::new), texts })
    }

    /// Whether this key belongs to the sync, as a file, directory or object. A `/` at the end makes no difference.
    #[must_use]
    pub fn admits(&self, key: &str) -> bool {
        let path = path_of(key);
        !self.exclude.as_ref().is_some_and(|patterns| patterns.match_path(&path))
            && self.include.as_ref().is_none_or(|patterns| patterns.match_path(&path))
    }

    /// Whether filters may admit a key that this one does not, as [`may_admit_more`] sees it.
    pub(crate) fn may_miss(&self, filters: (Option<&str>, Option<&str>)) -> bool {
        may_admit_more(filters, (self.texts.0.as_deref(), self.texts.1.as_deref()))
    }

    /// Whether every key belongs to the sync.
    pub(crate) const fn admits_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether neither the directory of this key, which ends in `/`, nor any key below it can belong to the sync: the walk
    /// need not read the directory.
    #[must_use]
    pub fn excludes_directory(&self, key_with_slash: &str) -> bool {
        let path = path_of(key_with_slash);
        self.exclude.as_ref().is_some_and(|patterns| patterns.match_path(&path))
            || self.include.as_ref().is_some_and(|patterns| !patterns.match_path(&path) && !patterns.match_below(&path))
    }

    /// The patterns that a user cannot have meant.
    pub(crate) fn flawed(&self) -> impl Iterator<Item = (&str, Flaw)> {
        [&self.include, &self.exclude].into_iter().flatten().flat_map(Patterns::flawed)
    }
}

/// Checks a filter that a user wrote for this program. `which` names the option or table.
///
/// # Errors
/// Returns an error if the user cannot have meant a pattern.
pub(crate) fn check_written(which: &str, filter: &str) -> Result<(), FilterError> {
    match Pattern::parse_all(filter).iter().find_map(|pattern| Some((pattern.written(), pattern.flaw()?))) {
        None => Ok(()),
        Some((pattern, flaw)) => {
            Err(FilterError::Flawed { which: which.to_owned(), pattern: pattern.to_owned(), flaw })
        }
    }
}

/// Joins the filters of every use of an option. Each use has its own patterns.
///
/// # Errors
/// Returns an error if the end of a filter would change the beginning of the next one.
pub(crate) fn joined(which: &'static str, filters: &[String]) -> Result<Option<String>, FilterError> {
    let is_unfinished =
        |filter: &&String| filter.chars().rev().take_while(|character| *character == '\\').count() % 2 == 1;
    let before_another = filters.split_last().map_or(&[][..], |(_, others)| others);
    if let Some(filter) = before_another.iter().find(is_unfinished) {
        return Err(FilterError::Unfinished { which, filter: filter.clone() });
    }
    Ok((!filters.is_empty()).then(|| filters.join(PATTERN_SEPARATOR)))
}

/// Whether a filter pair admits a key that `other` excludes, as far as their patterns show it: it has an include that
/// `other` lacks, or lacks an exclude. Each pair is the include and the exclude filter.
pub(crate) fn may_admit_more(filters: (Option<&str>, Option<&str>), other: (Option<&str>, Option<&str>)) -> bool {
    let included = match (filters.0, other.0) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(filter), Some(other)) => pattern::all(filter).is_subset(&pattern::all(other)),
    };
    let excludes = |filter: Option<&str>| filter.map(pattern::all).unwrap_or_default();
    !included || !excludes(other.1).is_subset(&excludes(filters.1))
}

fn parse(which: &'static str, filter: &str) -> Result<Vec<Pattern>, FilterError> {
    let characters = filter.chars().count();
    if characters > MAX_FILTER_CHARACTERS {
        return Err(FilterError::TooLong { which, characters });
    }
    if filter.contains('\0') {
        return Err(FilterError::Nul { which });
    }
    let patterns = Pattern::parse_all(filter);
    if patterns.is_empty() {
        return Err(FilterError::Empty { which });
    }
    Ok(patterns)
}

/// `/a/b` for the keys `a/b` and `a/b/`; empty for the root.
fn path_of(key: &str) -> String {
    let key = key.strip_suffix('/').unwrap_or(key);
    if key.is_empty() { String::new() } else { format!("/{key}") }
}

#[cfg(test)]
mod tests;
