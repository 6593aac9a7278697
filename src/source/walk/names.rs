//! The names in one directory, held compactly: 8 bytes each besides the name itself.

use std::cmp::Ordering;

/// What a directory tells of the kind of a name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    File,
    Directory,
    Symlink,
    Special,
    Unknown,
}

/// A name, and the number that it keeps through all sorting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hint: Hint,
    pub(super) number: u32,
    /// Whether its key ends in `/`, as far as is known.
    pub(super) slash: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    length: u16,
    hint: Hint,
    slash: bool,
}

/// The names in one directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// There is no room for more than 4 GiB of names in one directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMany;

impl Names {
    pub(super) fn push(&mut self, name: &[u8], hint: Hint) -> Result<(), TooMany> {
        let start = u32::try_from(self.bytes.len()).map_err(|_| TooMany)?;
        let length = u16::try_from(name.len()).map_err(|_| TooMany)?;
        self.bytes.extend_from_slice(name);
        self.places.push(Place { start, length, hint, slash: hint == Hint::Directory });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<Name<'_>> {
        self.places.get(index).map(|place| name_at(&self.bytes, *place))
    }

    /// Drops the names that are not wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(Name<'_>) -> bool) {
        let bytes = &self.bytes;
        self.places.retain(|place| wanted(name_at(bytes, *place)));
    }

    /// Sorts by the bare names, and drops repetitions (a directory that changes while it is read may name an entry twice).
    pub(super) fn sort_bare(&mut self) {
        self.bytes.shrink_to_fit();
        let bytes = &self.bytes;
        self.places.sort_unstable_by(|a, b| bytes_at(bytes, *a).cmp(bytes_at(bytes, *b)));
        self.places.dedup_by(|a, b| bytes_at(bytes, *a) == bytes_at(bytes, *b));
        self.places.shrink_to_fit();
    }

    /// Of the names sorted bare, the indices of those whose place depends on whether they are directories, among those
    /// for which `undecided` says that this is not known: the next name begins with it and goes on with less than a `/`.
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

    /// Notes whether the key of the name at `index` ends in `/`.
    pub(super) fn decide(&mut self, index: usize, slash: bool) {
        if let Some(place) = self.places.get_mut(index) {
            place.slash = slash;
        }
    }

    /// Sorts by keys: by the names, with a `/` after those of directories.
    pub(super) fn sort_by_key(&mut self) {
        let bytes = &self.bytes;
        self.places.sort_by(|a, b| compare_keys((bytes_at(bytes, *a), a.slash), (bytes_at(bytes, *b), b.slash)));
    }
}

fn name_at(bytes: &[u8], place: Place) -> Name<'_> {
    Name { bytes: bytes_at(bytes, place), hint: place.hint, number: place.start, slash: place.slash }
}

fn bytes_at(bytes: &[u8], place: Place) -> &[u8] {
    let range = usize::try_from(place.start).ok().map(|start| start..start + usize::from(place.length));
    range.and_then(|range| bytes.get(range)).unwrap_or_default()
}

/// Compares two names as the keys that they make, `true` for a `/` at the end.
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

    fn names(of: &[(&str, Hint)]) -> Names {
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
            ("a0", Hint::File),
            ("a", Hint::Directory),
            ("a.txt", Hint::File),
            ("a-b", Hint::Directory),
            ("a!", Hint::File),
            ("aa", Hint::File),
        ]);
        names.sort_bare();
        names.sort_by_key();
        assert_eq!(shown(&names), ["a!", "a-b/", "a.txt", "a/", "a0", "aa"]);
    }

    #[test]
    fn only_a_name_with_another_between_its_two_places_is_ambiguous() {
        let mut names = names(&[
            ("a", Hint::Unknown),
            ("a.txt", Hint::Unknown),
            ("b", Hint::Unknown),
            ("b0", Hint::Unknown),
            ("c", Hint::File),
            ("c-", Hint::Unknown),
        ]);
        names.sort_bare();
        assert_eq!(names.ambiguous(|name| name.hint == Hint::Unknown), [0]);
    }

    #[test]
    fn a_name_that_is_given_twice_counts_once() {
        let mut names = names(&[("b", Hint::File), ("a", Hint::File), ("b", Hint::File)]);
        names.sort_bare();
        assert_eq!(shown(&names), ["a", "b"]);
    }
}
