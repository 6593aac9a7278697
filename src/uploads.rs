//! Uploads: the state's records of this program's unfinished multipart uploads. A run resumes or aborts the uploads of a
//! killed run, and touches no other upload.
//!
//! 1. A run records the key *before* it starts an upload, and the upload ID after the response
//!    (`DESIGN.md#upload-records`). A record without an ID matches the uploads of its key that started at that time.
//! 2. A run *resumes* an upload if the file (size, times, inode), the headers and the part size are equal. It compares
//!    each part that S3 has with the file.
//! 3. It *aborts* every other recorded upload, at the latest at its end.
//! 4. It *deletes the record* of an upload that it has published or aborted. If an abort fails, the next run tries again.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::destination::Destination;
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::multipart::{MultipartUpload, StoredPart};
use crate::destination::write_headers::WriteHeaders;
use crate::fence::Fence;
use crate::hex::hex;
use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::scope::Scope;
use crate::source::entry::Stat;
use crate::state::{State, StateError};
use crate::time::EpochNanos;

const SCHEMA: u32 = 1;
/// S3 starts an upload at most this long after the record was written: a request and its retries.
const STARTED_WITHIN: Duration = Duration::from_mins(10);

/// The uploads to a destination whose keys are those of one run.
///
/// All runs to a destination share the records: a key range differs from run to run, and the next run over a key must find
/// the upload of a killed one. Two runs over one key exclude each other by their leases.
#[derive(Debug)]
pub struct Uploads {
    state: Arc<State>,
    folder: String,
    destination: String,
    keys: KeyRange,
    fence: Fence,
    /// The records of earlier runs.
    unfinished: Mutex<HashMap<RelativeKey, Vec<UploadRecord>>>,
}

/// A started or resumed upload that has a record in the state.
#[derive(Debug)]
pub(crate) struct RecordedUpload<'a> {
    pub(crate) upload: MultipartUpload<'a>,
    /// The parts that S3 already has, by part number.
    pub(crate) stored: BTreeMap<i32, StoredPart>,
    /// When the upload was recorded, just before it was started.
    pub(crate) since: EpochNanos,
    record_name: String,
}

/// What an upload sends, and in which parts. An upload with an equal fingerprint can be resumed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct UploadFingerprint {
    size_bytes: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
    part_bytes: u64,
    headers: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct UploadRecord {
    /// The record's name in the state.
    #[serde(skip)]
    name: String,
    schema: u32,
    destination: String,
    key: RelativeKey,
    #[serde(rename = "begun")]
    started: String,
    upload_id: Option<String>,
    #[serde(rename = "sending")]
    fingerprint: UploadFingerprint,
}

impl UploadFingerprint {
    pub(crate) fn new(stat: &Stat, part_bytes: u64, headers: &WriteHeaders) -> Self {
        Self {
            size_bytes: stat.size_bytes,
            mtime_ns: stat.mtime.0,
            ctime_ns: stat.ctime.0,
            inode: stat.inode.1,
            part_bytes,
            headers: digest_of(&format!("{headers:?}")),
        }
    }
}

impl Uploads {
    /// Reads the records of earlier runs for the keys of `scope`. If that fails, their uploads stay for a later run.
    pub async fn open(state: Arc<State>, scope: &Scope, fence: Fence) -> Self {
        let whole = Scope::whole(scope.destination.clone());
        let uploads = Self {
            folder: whole.file_name("uploads/"),
            destination: whole.to_string(),
            keys: scope.keys.clone(),
            state,
            fence,
            unfinished: Mutex::default(),
        };
        match uploads.read().await {
            Ok(unfinished) => *uploads.unfinished() = unfinished,
            Err(error) => {
                tracing::warn!(%error, "cannot read the records of unfinished uploads: this run neither resumes nor aborts them");
            }
        }
        uploads
    }

    async fn read(&self) -> Result<HashMap<RelativeKey, Vec<UploadRecord>>, StateError> {
        let mut unfinished: HashMap<RelativeKey, Vec<UploadRecord>> = HashMap::new();
        for name in self.state.names(&self.folder).await? {
            let Some(record) = self.state.read(&name).await? else {
                continue;
            };
            match serde_json::from_slice::<UploadRecord>(&record.content) {
                Ok(record) if record.schema == SCHEMA && record.destination == self.destination => {
                    // The others may be those of a running run.
                    if !self.keys.contains(record.key.as_bytes()) {
                        continue;
                    }
                    unfinished.entry(record.key.clone()).or_default().push(UploadRecord { name, ..record });
                }
                Ok(_) => {
                    tracing::warn!(name, "the record of an upload belongs to another program or destination: kept it");
                }
                Err(error) => {
                    tracing::warn!(name, %error, "the record of an upload is damaged: deleting it");
                    self.state.remove(&name).await?;
                }
            }
        }
        Ok(unfinished)
    }

    /// Resumes an unfinished upload of the key, or starts one. Aborts the other unfinished uploads of the key.
    pub(crate) async fn start<'a>(
        &self,
        destination: &'a Destination,
        key: &'a RelativeKey,
        headers: &WriteHeaders,
        fingerprint: UploadFingerprint,
    ) -> Result<RecordedUpload<'a>, S3Error> {
        let unfinished = self.unfinished().remove(key).unwrap_or_default();
        let mut resumed = None;
        for record in unfinished.iter().filter(|record| record.fingerprint == fingerprint) {
            if let Some(id) = record.upload_id.as_ref().filter(|_| resumed.is_none()) {
                resumed = resume(destination.upload(key, id), record).await?;
            }
        }
        let resumed_name = resumed.as_ref().map(|resumed| resumed.record_name.as_str());
        for record in unfinished.iter().filter(|record| resumed_name != Some(&record.name)) {
            self.abort(destination, record, resumed.as_ref().map(|resumed| resumed.upload.id())).await;
        }
        match resumed {
            Some(resumed) => Ok(resumed),
            None => self.start_new(destination, key, headers, fingerprint).await,
        }
    }

    async fn start_new<'a>(
        &self,
        destination: &'a Destination,
        key: &'a RelativeKey,
        headers: &WriteHeaders,
        fingerprint: UploadFingerprint,
    ) -> Result<RecordedUpload<'a>, S3Error> {
        let started = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
        let mut record = UploadRecord {
            name: format!("{}{}.json", self.folder, digest_of(&format!("{key}\n{started}"))),
            schema: SCHEMA,
            destination: self.destination.clone(),
            key: key.clone(),
            started,
            upload_id: None,
            fingerprint,
        };
        self.write(&record).await;
        let upload = destination.create_upload(key, headers).await?;
        // The record without an ID stays until every duplicate is aborted.
        if upload.may_have_duplicates() && !self.abort_matching(destination, &record, Some(upload.id())).await {
            record.name = format!("{}{}.json", self.folder, digest_of(upload.id()));
        }
        record.upload_id = Some(upload.id().to_owned());
        self.write(&record).await;
        let since = record.since();
        Ok(RecordedUpload { upload, stored: BTreeMap::new(), since, record_name: record.name })
    }

    /// Deletes the record of an upload that was published or aborted.
    pub(crate) async fn delete_record(&self, upload: &RecordedUpload<'_>) {
        self.remove(&upload.record_name).await;
    }

    async fn remove(&self, name: &str) {
        // A run that took over the lease may be using the record.
        if !self.fence.may_write() {
            return;
        }
        if let Err(error) = self.state.remove(name).await {
            tracing::warn!(name, %error, "cannot delete the record of an upload: the next run looks for the upload");
        }
    }

    /// Aborts the uploads of earlier runs that this run has not resumed.
    pub(crate) async fn abort_unfinished(&self, destination: &Destination) {
        let unfinished = std::mem::take(&mut *self.unfinished());
        for record in unfinished.into_values().flatten() {
            self.abort(destination, &record, None).await;
        }
    }

    /// Aborts the uploads that a record matches, except a resumed one, and then deletes the record.
    async fn abort(&self, destination: &Destination, record: &UploadRecord, resumed_id: Option<&str>) {
        if self.abort_matching(destination, record, resumed_id).await {
            self.remove(&record.name).await;
        }
    }

    /// Aborts the uploads that a record matches, except one. Returns whether S3 has none of the others any longer.
    async fn abort_matching(&self, destination: &Destination, record: &UploadRecord, except: Option<&str>) -> bool {
        let key = &record.key;
        let ids = match &record.upload_id {
            Some(id) => Some(vec![id.clone()]),
            None => self.ids_matching(destination, record).await,
        };
        let Some(ids) = ids else {
            return false;
        };
        let mut all_aborted = true;
        for id in ids.into_iter().filter(|id| Some(id.as_str()) != except) {
            tracing::info!(%key, upload_id = id, "aborting an unfinished upload");
            all_aborted &= destination.upload(key, &id).abort().await;
        }
        all_aborted
    }

    /// Returns the IDs of the uploads that a record without an ID matches. `None` if S3 does not list them.
    async fn ids_matching(&self, destination: &Destination, record: &UploadRecord) -> Option<Vec<String>> {
        let between = record.started_between(destination.clock_difference());
        let ids = destination.unfinished_uploads(&record.key, between).await;
        ids.inspect_err(|error| {
            tracing::warn!(key = %record.key, %error, "cannot list the unfinished uploads of this key");
        })
        .ok()
    }

    async fn write(&self, record: &UploadRecord) {
        let content = serde_json::to_vec_pretty(record).unwrap_or_default();
        if let Err(error) = self.state.write(&record.name, Bytes::from(content)).await {
            tracing::warn!(key = %record.key, %error, "cannot record this upload in the state: if this run is killed, no later run can resume it");
        }
    }

    fn unfinished(&self) -> MutexGuard<'_, HashMap<RelativeKey, Vec<UploadRecord>>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UploadRecord {
    /// When the record was written, by the clock of its run.
    fn since(&self) -> EpochNanos {
        EpochNanos::from(humantime::parse_rfc3339(&self.started).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Returns the times, by S3's clock, at which the recorded upload can have started.
    fn started_between(&self, clock_difference: Duration) -> RangeInclusive<EpochNanos> {
        let started = self.since();
        // S3 truncates its times to the second.
        let margin = clock_difference.saturating_add(Duration::from_secs(1));
        started.minus(margin)..=started.plus(margin).plus(STARTED_WITHIN)
    }
}

/// Prepares an unfinished upload for its missing parts. Returns `None` if S3 no longer has it.
async fn resume<'a>(upload: MultipartUpload<'a>, record: &UploadRecord) -> Result<Option<RecordedUpload<'a>>, S3Error> {
    let key = &record.key;
    match upload.stored_parts().await {
        Ok(stored) => {
            tracing::info!(%key, parts = stored.len(), "resuming an unfinished upload of an earlier run");
            Ok(Some(RecordedUpload { upload, stored, since: record.since(), record_name: record.name.clone() }))
        }
        Err(error) if error.kind == ErrorKind::Interrupted => Err(error),
        Err(error) => {
            tracing::info!(%key, %error, "cannot resume an unfinished upload of an earlier run");
            Ok(None)
        }
    }
}

fn digest_of(text: &str) -> String {
    hex(Sha256::digest(text.as_bytes()).iter().take(12))
}
