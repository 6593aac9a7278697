//! A nameless entry: its name is not UTF-8, so it can have no key. It is a failure only if it would be part of the sync.
//!
//! The rules for keys are applied to its path, in which U+FFFD stands for each byte sequence that is not UTF-8. So a `*` of
//! a pattern matches such bytes, and no other character of a pattern does, except U+FFFD itself.

use super::options::{Links, WalkOptions};
use crate::filter::reserved::is_reserved_name;
use crate::source::entry::{EntryKind, Nameless, Problem, SkipReason};

/// Returns what an entry of this kind is to the sync. `path` is relative to the source.
pub(in crate::source) fn nameless(options: &WalkOptions, kind: EntryKind, path: &[u8]) -> Nameless {
    let shown = String::from_utf8_lossy(path);
    let is_link = kind == EntryKind::Symlink;
    let is_filtered = match kind {
        EntryKind::Special => return Nameless::Special,
        // The target of a followed link may be a directory with included keys.
        EntryKind::Symlink if options.links != Links::Keep => options.filter.excludes_directory(&format!("{shown}/")),
        EntryKind::Directory => options.filter.excludes_directory(&format!("{shown}/")),
        EntryKind::File | EntryKind::Symlink => !options.filter.admits(&shown),
    };
    if is_filtered {
        Nameless::Filtered
    } else if options.skip_reserved && is_reserved_name(shown.rsplit('/').next().unwrap_or(&shown)) {
        Nameless::Skipped(SkipReason::ReservedPath)
    } else if is_link && options.links == Links::Skip {
        Nameless::Skipped(SkipReason::LinkNotFollowed)
    } else {
        Nameless::Failed(Problem::not_utf8(), path.into())
    }
}
