//! What every step of a sync works with: the two sides, the limits, and the wish to stop.

use std::sync::Arc;

use super::budget::ByteBudget;
use super::decide::Clocks;
use super::dialect::DialectInUse;
use crate::destination::Destination;
use crate::destination::headers::{HeaderRules, ObjectHeaders};
use crate::index::Index;
use crate::index::row::Row;
use crate::key::{ObjectKey, RelativeKey};
use crate::metadata::{Dialect, Preserve, is_ours};
use crate::object::{ETag, Object};
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::source::Source;
use crate::source::entry::{EntryKind, Stat};
use crate::state::State;
use crate::time::EpochNanos;
use crate::uploads::Uploads;

/// The two sides of a sync and what limits it.
#[derive(Debug)]
pub struct Context {
    /// The tree.
    pub source: Source,
    /// The prefix.
    pub destination: Destination,
    /// Which attributes of files the mode keeps as metadata; none in plain mode.
    pub preserve: Option<Preserve>,
    /// What objects are stored with.
    pub headers: HeaderRules,
    /// How metadata is written, where the mode has any.
    pub dialect: DialectInUse,
    /// What is remembered of earlier runs.
    pub memory: Memory,
    /// The memory for file content in flight.
    pub budget: ByteBudget,
    /// The size of a part.
    pub part_size: u64,
    /// Files of at least this size are sent in parts.
    pub multipart_threshold: u64,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// The line that shows how far the run is.
    pub progress: Progress,
}

/// What is remembered of earlier runs, where there is a state.
#[derive(Debug, Default)]
pub struct Memory {
    /// Where it is kept.
    pub state: Option<Arc<State>>,
    /// What each object held.
    pub index: Option<Index>,
    /// The uploads under way.
    pub uploads: Option<Uploads>,
}

impl Context {
    /// The whole key of a path below the source.
    #[must_use]
    pub fn key(&self, relative: &RelativeKey) -> ObjectKey {
        self.destination.prefix().object_key(relative)
    }

    /// What is known of the clocks by now.
    #[must_use]
    pub fn clocks(&self) -> Clocks {
        Clocks { difference: self.destination.clock_difference(), now: EpochNanos::now() }
    }

    /// Remembers that the object is equal to the file that was looked at like this; in its metadata too, if that was seen.
    pub fn remember(&self, object: &Object, stat: &Stat, metadata_seen: bool) {
        if let Some(index) = &self.memory.index
            && let Some(row) = Row::of(object, stat, metadata_seen, self.clocks().margin())
        {
            index.remember(row);
        }
    }

    /// Remembers an object that was written a moment ago.
    pub fn remember_written(&self, key: &RelativeKey, etag: &ETag, stat: &Stat) {
        if let Some(index) = &self.memory.index
            && let Some(row) = Row::of_written(key, etag, stat, self.clocks().margin())
        {
            index.remember(row);
        }
    }

    /// What a file is uploaded with, in the place of `object` if there is one.
    pub async fn headers(&self, key: &RelativeKey, stat: &Stat, object: Option<&Object>) -> ObjectHeaders {
        let mut headers =
            if stat.kind == EntryKind::File { self.headers.of(key.as_str()) } else { self.headers.of_no_file() };
        if let Some(preserve) = self.preserve {
            headers.metadata = self.dialect.get(&self.destination).await.write(stat, preserve);
            headers.storage_class = match object {
                // As DataSync does: an update keeps the class, and small new objects are cheaper in STANDARD.
                Some(object) => Some(object.storage_class.clone()),
                None => headers.storage_class.filter(|class| stat.size_bytes >= class.least_bytes()),
            };
        }
        headers
    }

    /// What an object is stored with, with the metadata of the file as it is now.
    pub async fn rewritten(&self, mut stored: ObjectHeaders, stat: &Stat) -> ObjectHeaders {
        if let Some(preserve) = self.preserve {
            let dialect = match Dialect::of(&stored.metadata) {
                Some(its_own) => its_own,
                None => self.dialect.get(&self.destination).await,
            };
            stored.metadata.retain(|key, _| !is_ours(key));
            stored.metadata.extend(dialect.write(stat, preserve));
        }
        stored
    }
}
