//! A seed: how another writer wrote an object.

use std::collections::BTreeMap;
use std::time::Duration;

/// How another writer wrote an object. The default is one PUT, now and without headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seed {
    /// How long ago it wrote the object.
    pub age: Duration,
    /// The part size in bytes of its multipart upload, or `None` for a single PUT.
    pub part_size_bytes: Option<usize>,
    /// The headers of its request. Names are in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Seed {
    /// An object that was written this long ago.
    #[must_use]
    pub fn aged(age: Duration) -> Self {
        Self { age, ..Self::default() }
    }

    /// Sets the part size of a multipart upload.
    #[must_use]
    pub fn in_parts_of(mut self, part_size_bytes: usize) -> Self {
        self.part_size_bytes = Some(part_size_bytes);
        self
    }

    /// Adds a header such as `x-amz-meta-…`, `content-type` or `x-amz-storage-class`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }
}
