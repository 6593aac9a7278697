//! Locations: a bucket and a prefix (`s3://bucket/prefix`), or a single file on a file system or on S3.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::bucket::{Bucket, BucketError};
use crate::key::{Prefix, PrefixError, RelativeKey};

/// A destination: `s3://bucket/prefix`, with or without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub(crate) bucket: Bucket,
    pub(crate) prefix: Prefix,
}

/// The location of a file that is read or written as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileLocation {
    /// On a file system.
    Path(PathBuf),
    /// An object: its bucket and prefix, and its key relative to the prefix.
    Object(Location, RelativeKey),
}

/// Why a text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum LocationError {
    #[error("write a destination as s3://bucket/prefix")]
    Scheme,
    #[error("it ends with a blank or a line break: remove that. If the prefix itself ends so, write a / behind it")]
    Blank,
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Prefix(#[from] PrefixError),
}

impl Location {
    /// The destination of a task that this program cannot write to, for this reason.
    pub(crate) fn foreign(uri: &str, why: &LocationError) -> Self {
        Self { bucket: Bucket::foreign(uri, why.to_string()), prefix: Prefix::default() }
    }

    /// Whether every key of `other` is one of these.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        // A prefix ends in `/` or is empty.
        self.bucket == other.bucket && other.prefix.as_str().starts_with(self.prefix.as_str())
    }

    /// Whether a key can be in both: they are equal, or one is inside the other.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let rest = text.strip_prefix("s3://").ok_or(LocationError::Scheme)?;
        // From a variable or a template. The objects would be at other keys than anybody reads.
        if rest.ends_with(char::is_whitespace) {
            return Err(LocationError::Blank);
        }
        let (bucket, prefix) = Bucket::split(rest)?;
        Ok(Self { bucket, prefix: Prefix::new(prefix)? })
    }
}

impl FromStr for FileLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let Some(path) = text.strip_prefix("s3://") else {
            return Ok(Self::Path(PathBuf::from(text)));
        };
        let (folder, name) = path.rsplit_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            return Err(LocationError::Scheme);
        }
        Ok(Self::Object(format!("s3://{folder}").parse()?, RelativeKey::new(name)))
    }
}

impl fmt::Display for FileLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Object(at, name) => write!(f, "{at}{name}"),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix_of(text: &str) -> Result<String, LocationError> {
        text.parse::<Location>().map(|location| location.prefix.as_str().to_owned())
    }

    #[test]
    fn a_trailing_slash_changes_nothing() {
        assert_eq!(prefix_of("s3://site/www"), Ok("www/".to_owned()));
        assert_eq!(prefix_of("s3://site/www/"), Ok("www/".to_owned()));
        assert_eq!(prefix_of("s3://site"), Ok(String::new()));
        assert_eq!(prefix_of("s3://site/"), Ok(String::new()));
        assert_eq!(prefix_of("s3://site/sp ace/ü"), Ok("sp ace/ü/".to_owned()));
        assert_eq!(prefix_of("s3://site/www /"), Ok("www /".to_owned()));
    }

    #[test]
    fn a_blank_or_a_line_break_at_the_end_is_refused() {
        for text in ["s3://site/www\n", "s3://site/www ", "s3://site/\n", "s3://site\r\n"] {
            assert_eq!(prefix_of(text), Err(LocationError::Blank), "{text:?}");
        }
    }

    #[test]
    fn a_prefix_that_no_path_can_lead_to_is_refused() {
        for text in ["s3://site//a", "s3://site/a//b", "s3://site/a//", "s3://site//"] {
            assert!(matches!(prefix_of(text), Err(LocationError::Prefix(PrefixError::EmptyPart(_)))), "{text}");
        }
        assert!(matches!(prefix_of("s3://site/a/../b"), Err(LocationError::Prefix(PrefixError::DotPart(_)))));
        let long = format!("s3://site/{}", "x".repeat(1023));
        assert_eq!(prefix_of(&long), Err(LocationError::Prefix(PrefixError::TooLong(1024))));
    }

    #[test]
    fn locations_overlap_if_a_key_can_be_in_both() {
        let overlap = |one: &str, other: &str| {
            let (one, other): (Location, Location) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.overlaps(&other), other.overlaps(&one));
            one.overlaps(&other)
        };
        assert!(overlap("s3://site/www", "s3://site/www/") && overlap("s3://site/www", "s3://site/www/assets"));
        assert!(overlap("s3://site", "s3://site/www"));
        assert!(!overlap("s3://site/www", "s3://site/www-old") && !overlap("s3://site/www", "s3://other/www"));
    }

    #[test]
    fn a_name_that_no_bucket_can_have_is_refused() {
        for text in ["s3://", "s3://ab", "s3://Bad_Bucket!/x", "s3://-abc", "s3://abc-", "s3://a..b"] {
            assert!(matches!(text.parse::<Location>(), Err(LocationError::Bucket(_))), "{text}");
        }
        assert_eq!("http://site/www".parse::<Location>(), Err(LocationError::Scheme));
    }

    #[test]
    fn a_file_is_on_a_file_system_or_an_object() {
        assert_eq!("m.csv".parse(), Ok(FileLocation::Path("m.csv".into())));
        let object: FileLocation = "s3://lists/a/m.csv".parse().unwrap();
        assert!(
            matches!(&object, FileLocation::Object(at, name) if name.as_str() == "m.csv" && at.prefix.as_str() == "a/")
        );
        assert_eq!(object.to_string(), "s3://lists/a/m.csv");
        assert!("s3://lists".parse::<FileLocation>().is_err());
        assert!("s3://lists/a/".parse::<FileLocation>().is_err());
    }
}
