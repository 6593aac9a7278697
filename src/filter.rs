//! A filter says which keys belong to the sync: the include and exclude patterns of DataSync (`SIMPLE_PATTERN`).
//!
//! The model (AWS DataSync user guide, "Transferring specific files, objects, and folders by using filters"): the path of
//! the key `a/b/c` is `/a/b/c`, and a pattern matches if it matches that path or any folder above it, as a whole.
//!
//! - `|` separates patterns; `*` stands for any characters, `/` included; upper and lower case differ.
//! - `\*`, `\|` and `\\` stand for these characters; a `\` before anything else, or at the end, is ignored.
//! - `/dir` and `/dir/` are the same pattern: one `/` at the end is dropped. `/` alone is the source itself, and so all.
//! - A pattern that begins with neither `/` nor `*` matches nothing, since each path begins with `/`: the guide says that
//!   a folder under the source is written `/folder`, not `folder`. [`Filter::matching_nothing`] names such patterns.
//! - Nothing between two `|`, or before or after one, is no pattern and is passed over.
//! - An exclude wins over an include. Without includes all is included.
//! - An include may have a `*` only as its last character.
//!
//! What DataSync would refuse is refused here: no pattern at all, more than 102,400 characters, a NUL (`FilterRule` in the
//! DataSync API), a `*` elsewhere in an include.
//!
//! Matching costs a few look-ups a key, however many patterns without a star, or with one at the end, there are; each other
//! pattern costs one pass over the path, however many stars it has.

mod pattern;
pub mod reserved;

use pattern::{Pattern, Patterns};

/// The most characters that an include or exclude filter may have (`FilterRule` in the DataSync API).
pub const MAX_FILTER_CHARACTERS: usize = 102_400;

/// Which keys belong to the sync.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

/// Why DataSync would refuse a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// An include with a star that is not its last character.
    #[error(
        "the include pattern {pattern:?} has a * that is not its last character: DataSync takes a * in an include only \
         there (as in /folder*); write the folder out, or use an exclude"
    )]
    StarInsideInclude {
        /// The pattern.
        pattern: String,
    },
    /// Longer than DataSync takes.
    #[error(
        "the {which} filter has {characters} characters, and DataSync takes at most 102400: use fewer or shorter patterns"
    )]
    TooLong {
        /// `include` or `exclude`.
        which: &'static str,
        /// How many it has.
        characters: usize,
    },
    /// No pattern.
    #[error("the {which} filter has no pattern in it: leave it out, or write one such as /folder")]
    Empty {
        /// `include` or `exclude`.
        which: &'static str,
    },
    /// A NUL.
    #[error("the {which} filter has a NUL character in it: no path can have one, so take it out")]
    Nul {
        /// `include` or `exclude`.
        which: &'static str,
    },
}

impl Filter {
    /// Reads the two filters as DataSync writes them.
    ///
    /// # Errors
    ///
    /// When DataSync would refuse one of them.
    pub fn new(include: Option<&str>, exclude: Option<&str>) -> Result<Self, FilterError> {
        let include = include.map(|filter| read("include", filter)).transpose()?;
        let exclude = exclude.map(|filter| read("exclude", filter)).transpose()?;
        if let Some(pattern) = include.iter().flatten().find(|pattern| pattern.has_inner_star()) {
            return Err(FilterError::StarInsideInclude { pattern: pattern.written().to_owned() });
        }
        Ok(Self { include: include.map(Patterns::new), exclude: exclude.map(Patterns::new) })
    }

    /// Whether the file, directory or object of this key belongs to the sync. A `/` at the end makes no difference.
    #[must_use]
    pub fn admits(&self, key: &str) -> bool {
        let path = path_of(key);
        !self.exclude.as_ref().is_some_and(|patterns| patterns.match_path(&path))
            && self.include.as_ref().is_none_or(|patterns| patterns.match_path(&path))
    }

    /// Whether nothing in the directory of this key, which ends in `/`, can belong to the sync, nor the directory itself:
    /// it need not be looked into.
    #[must_use]
    pub fn excludes_directory(&self, key_with_slash: &str) -> bool {
        let path = path_of(key_with_slash);
        self.exclude.as_ref().is_some_and(|patterns| patterns.match_path(&path))
            || self.include.as_ref().is_some_and(|patterns| !patterns.match_path(&path) && !patterns.match_below(&path))
    }

    /// The patterns that can match nothing, because they begin with neither `/` nor `*`: worth a warning.
    pub fn matching_nothing(&self) -> impl Iterator<Item = &str> {
        [&self.include, &self.exclude].into_iter().flatten().flat_map(Patterns::matching_nothing)
    }
}

fn read(which: &'static str, filter: &str) -> Result<Vec<Pattern>, FilterError> {
    let characters = filter.chars().count();
    if characters > MAX_FILTER_CHARACTERS {
        return Err(FilterError::TooLong { which, characters });
    }
    if filter.contains('\0') {
        return Err(FilterError::Nul { which });
    }
    let patterns = Pattern::read_all(filter);
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
