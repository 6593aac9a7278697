//! The multipart uploads of a destination that are under way, as the state remembers them: what a run that was killed left
//! behind is gone on with by the next run, or aborted. Nobody else's upload is touched.
//!
//! 1. *Before* an upload is begun its key is written down, and the upload's id as soon as S3 has told it. A record without
//!    an id stands for the uploads of that key that were begun just then.
//! 2. *Gone on with* is an upload of the same file (size, times, inode), with the same headers, in parts of the same size.
//!    Each part that S3 has is compared with the file once more.
//! 3. *Aborted* is any other that is written down, at the latest at the end of the run.
//! 4. *Struck out* is what is published or aborted, and nothing else. An upload that cannot be aborted is tried again by
//!    the next run.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::destination::Destination;
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::headers::ObjectHeaders;
use crate::destination::multipart::{MultipartUpload, StoredPart};
use crate::fence::Fence;
use crate::key::RelativeKey;
use crate::scope::Scope;
use crate::source::entry::Stat;
use crate::state::{State, StateError};
use crate::time::EpochNanos;

const SCHEMA: u32 = 1;
/// An upload whose id was never written down was begun at most so long after its record: the request and its retries.
const BEGUN_WITHIN: Duration = Duration::from_mins(10);

/// The uploads of one destination.
#[derive(Debug)]
pub struct Uploads {
    state: Arc<State>,
    folder: String,
    destination: String,
    fence: Fence,
    /// What earlier runs left, by key.
    left: Mutex<HashMap<RelativeKey, Vec<Record>>>,
}

/// An upload that is written down.
#[derive(Debug)]
pub struct Begun<'a> {
    /// The upload.
    pub upload: MultipartUpload<'a>,
    /// The parts that S3 has of it, by their numbers.
    pub stored: BTreeMap<i32, StoredPart>,
    /// Where it is written down.
    name: String,
}

/// What an upload sends, and in which parts: two that agree in this may be gone on with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sending {
    size_bytes: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
    part_bytes: u64,
    headers: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Record {
    /// Under which it is kept.
    #[serde(skip)]
    name: String,
    schema: u32,
    destination: String,
    key: RelativeKey,
    begun: String,
    upload_id: Option<String>,
    sending: Sending,
}

impl Sending {
    /// Of a file with these headers, in parts of this size.
    #[must_use]
    pub fn new(stat: &Stat, part_bytes: u64, headers: &ObjectHeaders) -> Self {
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
    /// Reads what earlier runs left.
    pub async fn open(state: Arc<State>, scope: &Scope, fence: Fence) -> Self {
        let uploads = Self {
            folder: scope.file_name("uploads/"),
            destination: scope.to_string(),
            state,
            fence,
            left: Mutex::default(),
        };
        match uploads.read().await {
            Ok(left) => *uploads.left() = left,
            Err(error) => {
                tracing::warn!(%error, "the uploads that an earlier run may have left cannot be looked up: they stay as they are");
            }
        }
        uploads
    }

    async fn read(&self) -> Result<HashMap<RelativeKey, Vec<Record>>, StateError> {
        let mut left: HashMap<RelativeKey, Vec<Record>> = HashMap::new();
        for name in self.state.names(&self.folder).await? {
            let Some(found) = self.state.look(&name).await? else {
                continue;
            };
            match serde_json::from_slice::<Record>(&found.content) {
                Ok(record) if record.schema == SCHEMA && record.destination == self.destination => {
                    left.entry(record.key.clone()).or_default().push(Record { name, ..record });
                }
                Ok(_) => tracing::warn!(name, "the record of an upload is of another program or destination: it stays"),
                Err(error) => {
                    tracing::warn!(name, %error, "the record of an upload is damaged: it is struck out");
                    self.state.remove(&name).await?;
                }
            }
        }
        Ok(left)
    }

    /// Begins an upload, or goes on with one that is left.
    ///
    /// # Errors
    /// Where S3 refuses or does not answer.
    pub async fn begin<'a>(
        &self,
        destination: &'a Destination,
        key: &'a RelativeKey,
        headers: &ObjectHeaders,
        sending: Sending,
    ) -> Result<Begun<'a>, S3Error> {
        let left = self.left().remove(key).unwrap_or_default();
        let mut begun = None;
        for record in left.iter().filter(|record| record.sending == sending) {
            if let Some(id) = record.upload_id.as_ref().filter(|_| begun.is_none()) {
                begun = go_on(destination.upload(key, id), record).await?;
            }
        }
        for record in left.iter().filter(|record| begun.as_ref().is_none_or(|begun| begun.name != record.name)) {
            self.abort(destination, record, begun.as_ref().map(|begun| begun.upload.id())).await;
        }
        match begun {
            Some(begun) => Ok(begun),
            None => self.begin_anew(destination, key, headers, sending).await,
        }
    }

    async fn begin_anew<'a>(
        &self,
        destination: &'a Destination,
        key: &'a RelativeKey,
        headers: &ObjectHeaders,
        sending: Sending,
    ) -> Result<Begun<'a>, S3Error> {
        let begun = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
        let mut record = Record {
            name: format!("{}{}.json", self.folder, digest_of(&format!("{key}\n{begun}"))),
            schema: SCHEMA,
            destination: self.destination.clone(),
            key: key.clone(),
            begun,
            upload_id: None,
            sending,
        };
        self.write(&record).await;
        let upload = destination.begin_upload(key, headers).await?;
        if upload.may_have_twins() {
            let begun = self.begun(destination, &record).await.unwrap_or_default();
            for twin in begun.iter().filter(|id| *id != upload.id()) {
                destination.upload(key, twin).abort().await;
            }
        }
        record.upload_id = Some(upload.id().to_owned());
        self.write(&record).await;
        Ok(Begun { upload, stored: BTreeMap::new(), name: record.name })
    }

    /// The upload is published, or aborted.
    pub async fn strike_out(&self, begun: &Begun<'_>) {
        self.remove(&begun.name).await;
    }

    async fn remove(&self, name: &str) {
        // What belongs to the holder of the lease is not touched any more.
        if !self.fence.may_write() {
            return;
        }
        if let Err(error) = self.state.remove(name).await {
            tracing::warn!(name, %error, "the record of an upload cannot be removed: the next run looks for it in vain");
        }
    }

    /// Aborts what is left and was not gone on with.
    pub async fn abort_left(&self, destination: &Destination) {
        let left = std::mem::take(&mut *self.left());
        for record in left.into_values().flatten() {
            self.abort(destination, &record, None).await;
        }
    }

    /// Aborts what a record stands for, but for one that is gone on with.
    async fn abort(&self, destination: &Destination, record: &Record, but_for: Option<&str>) {
        let key = &record.key;
        let ids = match &record.upload_id {
            Some(id) => Some(vec![id.clone()]),
            None => self.begun(destination, record).await,
        };
        let Some(ids) = ids else {
            return;
        };
        let mut all_gone = true;
        for id in ids.into_iter().filter(|id| Some(id.as_str()) != but_for) {
            tracing::info!(%key, upload_id = id, "an upload that an earlier run left is aborted");
            all_gone &= destination.upload(key, &id).abort().await;
        }
        if all_gone {
            self.remove(&record.name).await;
        }
    }

    /// The uploads that a record without an id stands for; nothing where nobody can tell.
    async fn begun(&self, destination: &Destination, record: &Record) -> Option<Vec<String>> {
        let between = record.begun_between(destination.clock_difference());
        let begun = destination.uploads_begun(&record.key, between).await;
        begun
            .inspect_err(|error| {
                tracing::warn!(key = %record.key, %error, "an upload that may have been left cannot be looked for");
            })
            .ok()
    }

    async fn write(&self, record: &Record) {
        let content = serde_json::to_vec_pretty(record).unwrap_or_default();
        if let Err(error) = self.state.write(&record.name, Bytes::from(content)).await {
            tracing::warn!(key = %record.key, %error, "an upload cannot be written down: if this run is killed, nobody goes on with it");
        }
    }

    fn left(&self) -> std::sync::MutexGuard<'_, HashMap<RelativeKey, Vec<Record>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// Between which moments of S3's clock its upload was begun.
    fn begun_between(&self, clock_difference: Duration) -> std::ops::RangeInclusive<EpochNanos> {
        let begun = humantime::parse_rfc3339(&self.begun).ok();
        let begun = begun.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
        let begun = EpochNanos(0).plus(begun);
        // S3 cuts its times to the second.
        let margin = clock_difference.saturating_add(Duration::from_secs(1));
        begun.minus(margin)..=begun.plus(margin).plus(BEGUN_WITHIN)
    }
}

/// An upload that is left, if S3 still has it.
async fn go_on<'a>(upload: MultipartUpload<'a>, record: &Record) -> Result<Option<Begun<'a>>, S3Error> {
    let key = &record.key;
    match upload.stored_parts().await {
        Ok(stored) => {
            tracing::info!(%key, parts = stored.len(), "going on with an upload that an earlier run left");
            Ok(Some(Begun { upload, stored, name: record.name.clone() }))
        }
        Err(error) if error.kind == ErrorKind::Interrupted => Err(error),
        Err(error) => {
            tracing::info!(%key, %error, "an upload that an earlier run left cannot be gone on with");
            Ok(None)
        }
    }
}

fn digest_of(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(12).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
