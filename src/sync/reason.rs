//! A reason: why a run writes or deletes an object, or keeps it. Public names: plans, changes files and `verify` print
//! them.

use serde::{Deserialize, Serialize};

/// Why something is done, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no object.
    Absent,
    /// The sizes differ.
    Size,
    /// The file is newer than the object.
    Newer,
    /// The contents differ.
    Content,
    /// The ETag and the stored checksum cannot show whether the contents differ.
    Unverifiable,
    /// Only the metadata differs.
    Metadata,
    /// There is no file.
    Orphan,
    /// All times of the file are older than the object.
    Older,
    /// The contents are equal.
    SameContent,
    /// The metadata is equal, and the file is older than the object.
    SameMetadata,
    /// The sizes are equal, and `--compare size-only` compares nothing else.
    SameSize,
    /// The file is as the index recorded it when it was equal to the object.
    Remembered,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = serde_json::to_value(self).ok();
        f.write_str(name.as_ref().and_then(|name| name.as_str()).unwrap_or_default())
    }
}
