//! Keys: relative to the source and to the prefix, or as S3 sees them. Only a [`Prefix`] converts between the two.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest key that S3 accepts, in bytes (S3 user guide, "Naming Amazon S3 objects").
pub(crate) const MAX_KEY_BYTES: usize = 1024;

/// A key relative to the source and to the prefix: `img/a.png`, `img/` for a directory, empty for the source itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct RelativeKey(Box<str>);

/// A path of the source: a relative key without an empty part, `.`, `..` or NUL. A directory's ends in `/`.
///
/// Only such a key reaches the file system. Any other key, from a listing, a plan or a manifest, names nothing there.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SourcePath(RelativeKey);

/// The error for a text that is not a path of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a path below the source: write it as folder/file, without '.', '..' or an empty part")]
pub struct NotAPath;

/// A key as S3 sees it, prefix included: `www/img/a.png`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

/// What all keys of a destination start with: empty, or ending in `/`. So the prefix `img` never covers `img2/x`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum PrefixError {
    #[error(
        "the prefix '{0}' starts with '/' or contains '//': keys under it would have an empty part, which other tools read differently"
    )]
    EmptyPart(String),
    #[error("the prefix '{0}' contains '.' or '..' as a part: no path can lead there")]
    DotPart(String),
    #[error("the prefix is {0} bytes long, but a key has at most {MAX_KEY_BYTES} bytes")]
    TooLong(usize),
}

impl RelativeKey {
    /// A path relative to the source, or a key relative to the prefix.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes: S3 lists keys in their order.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns whether this is the source itself, or the object whose key is the prefix.
    pub(crate) const fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl SourcePath {
    /// The path that has this key; `None` if no file or directory can have it.
    pub(crate) fn of(key: &RelativeKey) -> Option<Self> {
        let path = key.as_str().strip_suffix('/').unwrap_or(key.as_str());
        let is_path = !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        is_path.then(|| Self(key.clone()))
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &RelativeKey {
        &self.0
    }

    /// The text, relative to the source; of a directory, with its `/`.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The path for a system call. With a `/` at its end, the system would follow a link there.
    pub(crate) fn without_slash(&self) -> &str {
        self.as_str().strip_suffix('/').unwrap_or(self.as_str())
    }
}

impl std::str::FromStr for SourcePath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        Self::of(&RelativeKey::new(text)).ok_or(NotAPath)
    }
}

impl ObjectKey {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Prefix {
    /// Accepts a text with or without a trailing slash.
    ///
    /// # Errors
    /// Returns an error if no path can lead to keys with this prefix.
    pub(crate) fn new(text: &str) -> Result<Self, PrefixError> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::default());
        }
        if trimmed.split('/').any(str::is_empty) {
            return Err(PrefixError::EmptyPart(text.to_owned()));
        }
        if trimmed.split('/').any(|part| part == "." || part == "..") {
            return Err(PrefixError::DotPart(text.to_owned()));
        }
        let prefix = format!("{trimmed}/");
        if prefix.len() >= MAX_KEY_BYTES {
            return Err(PrefixError::TooLong(prefix.len()));
        }
        Ok(Self(prefix))
    }

    /// The text: empty, or ending in `/`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn object_key(&self, relative: &RelativeKey) -> ObjectKey {
        ObjectKey(format!("{}{}", self.0, relative.0))
    }

    /// The relative key of an object key; `None` if the key does not start with this prefix.
    pub(crate) fn relative(&self, key: &ObjectKey) -> Option<RelativeKey> {
        key.0.strip_prefix(self.0.as_str()).map(RelativeKey::new)
    }

    /// Returns how many bytes a relative key can have.
    pub(crate) fn room_bytes(&self) -> usize {
        MAX_KEY_BYTES.saturating_sub(self.0.len())
    }
}

impl fmt::Display for RelativeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RelativeKey> for String {
    fn from(key: RelativeKey) -> Self {
        key.0.into_string()
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_its_own_boundary() {
        let prefix = Prefix::new("img").unwrap();
        let relative = |key| prefix.relative(&ObjectKey::new(key));
        assert_eq!(relative("img/a"), Some(RelativeKey::new("a")));
        assert_eq!(relative("img2/x"), None);
        assert_eq!(relative("img.txt"), None);
    }

    #[test]
    fn a_key_with_an_empty_part_a_dot_or_two_is_not_a_path_of_the_source() {
        for key in ["", "/", "a//b", "../x", "/abs", ".", "..", "a/./b", "a/..", "a/../", "a//", "a\0b", "./a"] {
            assert_eq!(SourcePath::of(&RelativeKey::new(key)), None, "{key:?}");
        }
        for (key, path) in [("a/", "a"), ("a/b", "a/b"), ("a/..b", "a/..b"), ("...", "..."), ("a\u{1}", "a\u{1}")] {
            assert_eq!(key.parse::<SourcePath>().unwrap().without_slash(), path);
        }
    }

    #[test]
    fn only_the_prefix_converts_between_the_two_keys() {
        let prefix = Prefix::new("www/").unwrap();
        let key = prefix.object_key(&RelativeKey::new("a/b"));
        assert_eq!(key.as_str(), "www/a/b");
        assert_eq!(prefix.relative(&key), Some(RelativeKey::new("a/b")));
        assert!(prefix.relative(&prefix.object_key(&RelativeKey::default())).unwrap().is_root());
    }
}
