//! State record: what the state holds under one name.

use std::time::Duration;

use bytes::Bytes;

/// What the state holds under one name.
#[derive(Clone, Debug)]
pub(crate) struct StateRecord {
    pub(crate) content: Bytes,
    pub(crate) version: Version,
    /// The time since the record was written, by the clock of the place where it is stored.
    pub(crate) age: Duration,
}

/// Identifies what one write stored: the SHA-256 of the content in a folder, the ETag on S3. Two writes differ if their
/// contents do, and each lease contains the time of its write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(pub(super) String);

impl Version {
    /// A version that no content has: an ETag of zeros.
    pub(super) fn of_nothing() -> Self {
        Self("0".repeat(32))
    }
}

/// What a write may replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedVersion {
    /// Nothing: the name must be absent.
    Absent,
    /// Only this version.
    Is(Version),
    /// Any version, or nothing.
    Any,
}
