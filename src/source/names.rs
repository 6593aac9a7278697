//! The names in one directory, held compactly: 8 bytes each besides the name itself.

use std::cmp::Ordering;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::entry::EntryKind;

/// The kind of a name, as the directory shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KindHint {
    File,
    Directory,
    Symlink,
    Special,
    Unknown,
}

impl From<FileType> for KindHint {
    fn from(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => Self::Special,
            FileType::Unknown => Self::Unknown,
        }
    }
}

impl KindHint {
    /// Whether a stat that shows `kind` agrees with the directory.
    pub(super) fn fits(self, kind: EntryKind) -> bool {
        match self {
            Self::Unknown => true,
            Self::File => kind == EntryKind::File,
            Self::Directory => kind == EntryKind::Directory,
            Self::Symlink => kind == EntryKind::Symlink,
            Self::Special => kind == EntryKind::Special,
        }
    }
}

/// A name, and the number that it keeps through each sort.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hint: KindHint,
    pub(super) number: u32,
    /// Whether its key is known to end in `/`.
    pub(super) slash: bool,
}

#[derive(Clone, Copy, Debug)]
struct NameSpan {
    start: u32,
    length: u16,
    hint: KindHint,
    slash: bool,
}

/// The names in one directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    spans: Vec<NameSpan>,
}

/// One directory has more than 4 GiB of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMany;

impl From<TooMany> for Errno {
    fn from(_: TooMany) -> Self {
        Self::OVERFLOW
    }
}

impl Names {
    pub(super) fn push(&mut self, name: &[u8], hint: KindHint) -> Result<(), TooMany> {
        let start = u32::try_from(self.bytes.len()).map_err(|_| TooMany)?;
        let length = u16::try_from(name.len()).map_err(|_| TooMany)?;
        self.bytes.extend_from_slice(name);
        self.spans.push(NameSpan { start, length, hint, slash: hint == KindHint::Directory });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<Name<'_>> {
        self.spans.get(index).map(|span| name_at(&self.bytes, *span))
    }

    /// Keeps only the wanted names.
    pub(super) fn retain(&mut self, wanted: impl Fn(Name<'_>) -> bool) {
        let bytes = &self.bytes;
        self.spans.retain(|span| wanted(name_at(bytes, *span)));
    }

    /// Sorts by the bare names, and drops duplicates (a directory that changes during the read may return a name twice).
    pub(super) fn sort_bare(&mut self) {
        self.bytes.shrink_to_fit();
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|a, b| bytes_at(bytes, *a).cmp(bytes_at(bytes, *b)));
        self.spans.dedup_by(|a, b| bytes_at(bytes, *a) == bytes_at(bytes, *b));
        self.spans.shrink_to_fit();
    }

    /// What the directory shows for a name, if it has the name. Only among names that are sorted bare.
    pub(super) fn find(&self, name: &[u8]) -> Option<KindHint> {
        let found = self.spans.binary_search_by(|span| bytes_at(&self.bytes, *span).cmp(name)).ok()?;
        self.spans.get(found).map(|span| span.hint)
    }

    /// Returns the indices of the names, sorted bare, whose place depends on their kind: the next name starts with the
    /// name, followed by a byte below `/`. Names for which `undecided` is false have a known kind.
    pub(super) fn ambiguous(&self, undecided: impl Fn(Name<'_>) -> bool) -> Vec<usize> {
        let follows =
            |name: &[u8], next: &[u8]| next.strip_prefix(name).and_then(<[u8]>::first).is_some_and(|byte| *byte < b'/');
        (0..self.len())
            .filter(|&index| {
                self.get(index)
                    .zip(self.get(index + 1))
                    .is_some_and(|(name, next)| follows(name.bytes, next.bytes) && undecided(name))
            })
            .collect()
    }

    /// Records whether the key of the name at `index` ends in `/`.
    pub(super) fn decide(&mut self, index: usize, slash: bool) {
        if let Some(span) = self.spans.get_mut(index) {
            span.slash = slash;
        }
    }

    /// Sorts by keys: by the names, with a `/` after those of directories.
    pub(super) fn sort_by_key(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_by(|a, b| compare_keys((bytes_at(bytes, *a), a.slash), (bytes_at(bytes, *b), b.slash)));
    }
}

fn name_at(bytes: &[u8], span: NameSpan) -> Name<'_> {
    Name { bytes: bytes_at(bytes, span), hint: span.hint, number: span.start, slash: span.slash }
}

fn bytes_at(bytes: &[u8], span: NameSpan) -> &[u8] {
    let range = usize::try_from(span.start).ok().map(|start| start..start + usize::from(span.length));
    range.and_then(|range| bytes.get(range)).unwrap_or_default()
}

/// Compares two names by their keys; `true` means a `/` at the end.
fn compare_keys(a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    let common = a.0.len().min(b.0.len());
    let next = |(name, slash): (&[u8], bool)| match name.get(common) {
        Some(byte) => Some(*byte),
        None => (slash && name.len() == common).then_some(b'/'),
    };
    a.0.get(..common).cmp(&b.0.get(..common)).then_with(|| next(a).cmp(&next(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[(&str, KindHint)]) -> Names {
        let mut names = Names::default();
        for (name, hint) in of {
            names.push(name.as_bytes(), *hint).unwrap();
        }
        names
    }

    fn shown(names: &Names) -> Vec<String> {
        (0..names.len())
            .filter_map(|index| names.get(index))
            .map(|name| String::from_utf8_lossy(name.bytes).into_owned() + if name.slash { "/" } else { "" })
            .collect()
    }

    #[test]
    fn a_directory_sorts_as_if_its_name_ended_in_a_slash() {
        let mut names = names(&[
            ("a0", KindHint::File),
            ("a", KindHint::Directory),
            ("a.txt", KindHint::File),
            ("a-b", KindHint::Directory),
            ("a!", KindHint::File),
            ("aa", KindHint::File),
        ]);
        names.sort_bare();
        names.sort_by_key();
        assert_eq!(shown(&names), ["a!", "a-b/", "a.txt", "a/", "a0", "aa"]);
    }

    #[test]
    fn only_a_name_with_another_between_its_two_places_is_ambiguous() {
        let mut names = names(&[
            ("a", KindHint::Unknown),
            ("a.txt", KindHint::Unknown),
            ("b", KindHint::Unknown),
            ("b0", KindHint::Unknown),
            ("c", KindHint::File),
            ("c-", KindHint::Unknown),
        ]);
        names.sort_bare();
        assert_eq!(names.ambiguous(|name| name.hint == KindHint::Unknown), [0]);
    }

    #[test]
    fn a_duplicate_name_counts_once() {
        let mut names = names(&[("b", KindHint::File), ("a", KindHint::File), ("b", KindHint::File)]);
        names.sort_bare();
        assert_eq!(shown(&names), ["a", "b"]);
    }
}
