//! The context of a run: the two sides, the rules, the limits, and what earlier runs recorded. Each step works with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::ByteBudget;
use super::changes::ChangesWriter;
use super::clocks::{Clocks, KeptByTimes};
use super::dialect::DialectInUse;
use super::memory::Memory;
use super::rules::{DeleteRules, Rules};
use super::verdict::Stored;
use crate::destination::Destination;
use crate::destination::headers::{HeaderRules, ObjectHeaders};
use crate::filter::Filter;
use crate::index::row::{Row, RowMetadata};
use crate::key::{ObjectKey, RelativeKey};
use crate::metadata::{Dialect, is_attribute_key};
use crate::object::Object;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::source::Source;
use crate::source::entry::{EntryKind, Stat};
use crate::time::EpochNanos;

/// Past this many bytes read only to compare, the run logs a warning.
const MUCH_READ: u64 = 1 << 30;

/// What every step of a run works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) source: Source,
    pub(crate) destination: Destination,
    /// When an object is as it should be.
    pub(crate) rules: Rules,
    /// Which keys belong to the sync.
    pub(crate) filter: Arc<Filter>,
    /// What allows deletes.
    pub(crate) delete_rules: DeleteRules,
    /// What objects are stored with.
    pub(crate) headers: HeaderRules,
    /// How metadata is written, if the mode stores any.
    pub(crate) dialect: DialectInUse,
    /// The memory for file content in flight.
    pub(crate) budget: ByteBudget,
    pub(crate) part_size: u64,
    /// Files of at least this many bytes are sent in parts.
    pub(crate) multipart_threshold: u64,
    pub(crate) list_concurrency: usize,
    pub(crate) memory: Memory,
    /// Records each write and delete for readers outside.
    pub(crate) changes: ChangesWriter,
    pub(crate) shutdown: Shutdown,
    pub(crate) progress: Progress,
    pub(crate) read_for_compare: AtomicU64,
    pub(crate) kept_by_times: KeptByTimes,
}

impl Context {
    /// The object key of a relative key.
    pub(crate) fn key(&self, relative: &RelativeKey) -> ObjectKey {
        self.destination.prefix().object_key(relative)
    }

    /// Counts bytes that were read only to compare.
    pub(super) fn count_read_for_compare(&self, bytes: u64) {
        let before = self.read_for_compare.fetch_add(bytes, Ordering::Relaxed);
        if before < MUCH_READ && before + bytes >= MUCH_READ {
            tracing::warn!(
                "read more than 1 GiB only to compare: without --state, each run reads again every equal file that is newer \
                 than its object"
            );
        }
    }

    /// What is known of the clocks now.
    pub(crate) fn clocks(&self) -> Clocks {
        Clocks {
            difference: self.destination.clock_difference(),
            now: EpochNanos::now(),
            latest: self.destination.latest_time(),
        }
    }

    /// Whether this run may write to its state. Waits until an expired lease is renewed, but not after a stop request.
    pub(crate) async fn may_write(&self) -> bool {
        let fence = self.destination.fence();
        tokio::select! {
            biased;
            may_write = fence.opened() => may_write,
            () = self.shutdown.requested() => false,
        }
    }

    /// Records the mount points that this run has seen so far, and removes those that it forgets.
    pub(crate) async fn record_mounts(&self, forgotten: &BTreeSet<String>) {
        if let Some(mounts) = &self.memory.mounts
            && self.may_write().await
        {
            mounts.record(self.source.mount_points(), forgotten).await;
        }
    }

    /// Records that the object is equal to the file with this stat, and its metadata too if the run has seen it.
    pub(crate) fn record_equal(&self, object: &Object, stat: &Stat, metadata: RowMetadata) {
        if let Some(index) = &self.memory.index {
            index.record(Row::of(object, stat, metadata, self.clocks().margin()));
        }
    }

    /// Records that the dates show the object to be equal to the file with this stat. Where a row would show less than
    /// the dates do, it records nothing.
    pub(crate) fn record_older(&self, object: &Object, stat: &Stat) {
        let row = Row::of(object, stat, RowMetadata::Unseen, self.clocks().margin());
        if let Some(index) = self.memory.index.as_ref().filter(|_| row.file.is_some()) {
            index.record(row);
        }
    }

    /// Records that an object is about to be sent. Until its write is proven, nothing is known of the key.
    pub(crate) fn record_sending(&self, key: &RelativeKey) {
        if let Some(index) = &self.memory.index {
            index.record(Row::unproven(key));
        }
    }

    /// Records an object that this run has just written: its content and metadata, or its metadata alone.
    pub(crate) fn record_written(&self, key: &RelativeKey, stored: &Stored, metadata: RowMetadata) {
        let Stored { proof, dated, stat } = stored;
        if let Some(index) = &self.memory.index {
            index.record(Row::of_written(key, proof.etag(), *dated, stat, metadata, self.clocks().margin()));
        }
    }

    /// Removes the row of an object that this run has just deleted.
    pub(crate) fn record_deleted(&self, key: &RelativeKey) {
        if let Some(index) = &self.memory.index {
            index.remove(key);
        }
    }

    /// Records the time of a listed object whose row has only a long interval.
    pub(crate) fn record_time(&self, row: &Row, object: &Object) {
        if let Some(index) = &self.memory.index
            && let Some(row) = row.made_exact(object)
        {
            index.record(row);
        }
    }

    /// The headers of an upload, over `object` if there is one.
    pub(crate) async fn headers(&self, key: &RelativeKey, stat: &Stat, object: Option<&Object>) -> ObjectHeaders {
        let mut headers = if stat.kind == EntryKind::File {
            self.headers.for_file(key.as_str())
        } else {
            self.headers.for_non_file()
        };
        if let Some(preserve) = self.rules.preserve {
            headers.metadata = self.dialect.get(&self.destination).await.write(stat, preserve);
            headers.storage_class = match object {
                // As DataSync does: an update keeps the class, and small new objects cost less in STANDARD.
                Some(object) => Some(object.storage_class.clone()),
                None => headers.storage_class.filter(|class| stat.size_bytes >= class.min_bytes()),
            };
        }
        headers
    }

    /// The headers of an object with the metadata of the file as it is now.
    pub(crate) async fn rewritten(&self, mut stored: ObjectHeaders, stat: &Stat) -> ObjectHeaders {
        if let Some(preserve) = self.rules.preserve {
            let dialect = match Dialect::of(&stored.metadata) {
                Some(its_own) => its_own,
                None => self.dialect.get(&self.destination).await,
            };
            stored.metadata.retain(|key, _| !is_attribute_key(key));
            stored.metadata.extend(dialect.write(stat, preserve));
        }
        stored
    }
}
