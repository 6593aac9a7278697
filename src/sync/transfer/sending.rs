//! A sending: an open file on its way to S3, in one request or in parts.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};

use super::sent_file::SentFile;
use crate::destination::WriteProof;
use crate::destination::checksum;
use crate::destination::multipart::{MultipartUpload, SEND_GRACE, StoredPart, UploadedPart, part_size};
use crate::destination::put::{ExpectedObject, NewObject};
use crate::destination::write_headers::WriteHeaders;
use crate::source::entry::SkipReason;
use crate::source::read::OpenFile;
use crate::sync::changes::Intent;
use crate::sync::context::Context;
use crate::sync::job::SourceFile;
use crate::sync::plan_file::Action;
use crate::sync::reason::Reason;
use crate::sync::verdict::StepError;
use crate::time::EpochNanos;
use crate::uploads::UploadFingerprint;

/// How many parts of one file are read ahead of their requests, at most.
const PARTS_AHEAD: usize = 64;

/// An open file on its way to S3.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending<'a> {
    pub(super) context: &'a Context,
    pub(super) file: &'a SourceFile,
    pub(super) open: &'a OpenFile,
    pub(super) headers: &'a WriteHeaders,
    pub(super) expected: &'a ExpectedObject,
    pub(super) reason: Reason,
}

/// What S3 has stored.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) proof: WriteProof,
    /// When the request was started, by the host's clock. S3 dates an object in parts at the start of its upload, which an
    /// earlier run may have made.
    pub(super) started: EpochNanos,
}

impl Sending<'_> {
    /// Sends the file: in parts, if it is large.
    pub(super) async fn send(&self) -> Result<Sent, StepError> {
        let is_small = self.open.stat().size_bytes < self.context.multipart_threshold;
        if is_small { send_whole(self).await } else { send_in_parts(self).await }
    }

    fn source(&self) -> SentFile<'_> {
        SentFile { context: self.context, file: self.file, stat: self.open.stat() }
    }

    /// Records that the object is about to be written.
    async fn intent(&self) -> Intent {
        let (key, size) = (self.context.key(&self.file.key), self.open.stat().size_bytes);
        self.context.changes.intend_write(key, Action::Upload, self.reason, Some(size)).await
    }
}

async fn send_whole(sending: &Sending<'_>) -> Result<Sent, StepError> {
    let Sending { context, file, open, headers, expected, .. } = sending;
    let size = open.stat().size_bytes;
    let _permit = context.budget.take(size).await;
    let body = open.read(0, usize::try_from(size).unwrap_or(usize::MAX)).await?;
    open.check_unchanged().await?;
    let digest = checksum::digest(body.clone(), context.destination.checksum()).await;
    let object =
        NewObject { key: &file.key, headers, content: &body, digest: &digest, expected, source: &sending.source() };
    let started = EpochNanos::now();
    let intent = sending.intent().await;
    Ok(Sent { proof: intent.end(context.destination.put(&object).await)?, started })
}

/// Uploads a file in parts, and resumes the upload of an earlier run if there is one.
async fn send_in_parts(sending: &Sending<'_>) -> Result<Sent, StepError> {
    let Sending { context, file, open, headers, .. } = sending;
    let part_bytes = part_size(open.stat().size_bytes, context.part_size);
    let Some(uploads) = &context.memory.uploads else {
        let started = EpochNanos::now();
        let upload = context.destination.create_upload(&file.key, headers).await?;
        let (published, _) = send_and_complete(sending, &upload, part_bytes, &BTreeMap::new()).await;
        return Ok(Sent { proof: published?, started });
    };
    let fingerprint = UploadFingerprint::new(open.stat(), part_bytes, headers);
    let started = uploads.start(&context.destination, &file.key, headers, fingerprint).await?;
    let (published, is_over) = send_and_complete(sending, &started.upload, part_bytes, &started.stored).await;
    if is_over {
        uploads.delete_record(&started).await;
    }
    Ok(Sent { proof: published?, started: started.since })
}

/// Sends the parts and publishes the object, or aborts the upload. Also returns whether the upload is finished or aborted.
async fn send_and_complete(
    sending: &Sending<'_>,
    upload: &MultipartUpload<'_>,
    part_bytes: u64,
    stored: &BTreeMap<i32, StoredPart>,
) -> (Result<WriteProof, StepError>, bool) {
    let published = async {
        let parts = send_parts(sending, upload, part_bytes, stored).await?;
        sending.open.check_unchanged().await?;
        let intent = sending.intent().await;
        Ok(intent.end(upload.complete(parts, sending.expected, &sending.source()).await)?)
    };
    let published = published.await;
    let is_over = published.is_ok() || upload.abort().await;
    (published, is_over)
}

/// Sends the parts, except those that S3 has and that are equal.
async fn send_parts(
    sending: &Sending<'_>,
    upload: &MultipartUpload<'_>,
    part_bytes: u64,
    stored: &BTreeMap<i32, StoredPart>,
) -> Result<Vec<UploadedPart>, StepError> {
    let Sending { context, open, .. } = sending;
    let size = open.stat().size_bytes;
    let ahead = context.destination.max_requests().min(PARTS_AHEAD);
    let numbers = 1..=i32::try_from(size.div_ceil(part_bytes).max(1)).unwrap_or(i32::MAX);
    let parts = futures::stream::iter(numbers.zip((0..).map(|index: u64| index * part_bytes)))
        .map(|(number, offset)| async move {
            if context.shutdown.is_requested() {
                return Err(StepError::Skipped(SkipReason::Interrupted));
            }
            let length = part_bytes.min(size - offset);
            let _permit = context.budget.take(length).await;
            let body = open.read(offset, usize::try_from(length).unwrap_or(usize::MAX)).await?;
            let digest = checksum::digest(body.clone(), context.destination.checksum()).await;
            match stored.get(&number).and_then(|part| part.accept(number, digest)) {
                Some(part) => Ok(part),
                None => Ok(upload.upload_part(number, body, digest).await?),
            }
        })
        .buffer_unordered(ahead)
        .try_collect();
    tokio::select! {
        parts = parts => parts,
        () = context.shutdown.overdue(SEND_GRACE) => Err(StepError::Skipped(SkipReason::Interrupted)),
    }
}
