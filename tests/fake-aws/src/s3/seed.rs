//! A seed: how an object that another tool left came to be.

use std::collections::BTreeMap;
use std::time::Duration;

/// How an object that another tool left came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// How long ago it was written.
    pub age: Duration,
    /// The part size in bytes of the multipart upload that wrote it; `None` for a single PUT.
    pub part_size_bytes: Option<usize>,
    /// The headers it was written with, names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Seed {
    /// Written this long ago.
    #[must_use]
    pub fn aged(age: Duration) -> Self {
        Self { age, ..Self::default() }
    }

    /// Written in parts of this many bytes.
    #[must_use]
    pub fn in_parts_of(mut self, part_size_bytes: usize) -> Self {
        self.part_size_bytes = Some(part_size_bytes);
        self
    }

    /// Written with this header, such as `x-amz-meta-…`, `content-type` or `x-amz-storage-class`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }
}
