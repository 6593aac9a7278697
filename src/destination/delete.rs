//! Deletes: up to 1,000 in a request, each only if the object is still the one that was listed.

use std::collections::{HashMap, HashSet};

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::operation::delete_objects::builders::DeleteObjectsFluentBuilder;
use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};
use aws_smithy_types::base64;
use md5::{Digest as _, Md5};

use super::Destination;
use super::checksum::Algorithm;
use super::error::{ErrorKind, S3Error};
use super::idle_timeout::Activity;
use super::operation::Operation;
use super::outage::Attempts;
use super::proof::{IN_ITS_PLACE, no_content};
use super::send::{Admission, Failed};
use crate::key::{ObjectKey, RelativeKey};
use crate::object::ETag;
use crate::time::EpochNanos;

/// S3's limit for one `DeleteObjects`.
pub(crate) const MAX_BATCH: usize = 1000;

/// An object about to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeleteTarget {
    pub(crate) key: RelativeKey,
    /// The object is deleted only if it still has this ETag. Empty: in any case.
    pub(crate) etag: ETag,
    pub(crate) size_bytes: u64,
    pub(crate) last_modified: EpochNanos,
}

/// The result of one delete.
#[derive(Clone, Debug)]
pub(crate) enum DeleteOutcome {
    /// The object no longer exists.
    Deleted,
    /// The object has another ETag: S3 kept it.
    Changed,
    Failed(S3Error),
}

/// Whether the XML of a batch can hold the key unchanged.
///
/// S3 refuses a whole batch for one control character, and reads a raw carriage return as a newline (XML 1.0, 2.2 and
/// 2.11).
pub(crate) fn fits_a_batch(key: &ObjectKey) -> bool {
    !key.as_str().chars().any(|c| (c < ' ' && c != '\t' && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// How many objects one request deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteForm {
    /// Up to [`MAX_BATCH`], whose keys fit a batch: `DeleteObjects`.
    Together,
    /// One: `DeleteObject`.
    Alone,
}

impl DeleteOutcome {
    /// Whether S3 may have deleted the object for this run.
    pub(crate) const fn may_have_effect(&self) -> bool {
        match self {
            Self::Deleted => true,
            Self::Changed => false,
            Self::Failed(error) => error.may_have_effect,
        }
    }
}

impl DeleteForm {
    /// The operation of its requests.
    pub(crate) const fn operation(self) -> Operation {
        match self {
            Self::Together => Operation::DeleteObjects,
            Self::Alone => Operation::Delete,
        }
    }
}

/// A delete request and its attempts. Each attempt is admitted before it is sent, so that the caller checks between the two
/// what it deletes: the wait for an admission and the wait before a retry can take long.
#[derive(Debug)]
pub(crate) struct DeleteRequest<'a> {
    destination: &'a Destination,
    form: DeleteForm,
    attempts: Attempts,
}

impl<'a> DeleteRequest<'a> {
    pub(crate) const fn form(&self) -> DeleteForm {
        self.form
    }

    /// Waits until an attempt can be sent.
    ///
    /// # Errors
    /// Returns an error if the run sends no more requests, or if this operation has failed for the outage timeout.
    pub(crate) async fn admit(&mut self) -> Result<Admission<'a>, S3Error> {
        self.destination.sender.admit(&mut self.attempts, 0).await.map_err(S3Error::unsent)
    }

    /// Sends one attempt. Returns one outcome for each target, in the same order.
    ///
    /// # Errors
    /// Returns an error if the whole attempt failed.
    pub(crate) async fn send(
        &mut self,
        admission: Admission<'a>,
        targets: &[DeleteTarget],
    ) -> Result<Vec<DeleteOutcome>, S3Error> {
        match (self.form, targets) {
            (DeleteForm::Alone, [target]) => self.send_one(admission, target).await.map(|outcome| vec![outcome]),
            (DeleteForm::Alone | DeleteForm::Together, _) => self.send_batch(admission, targets).await,
        }
    }

    /// Waits before the next attempt after the whole attempt failed.
    ///
    /// # Errors
    /// Returns the error if the run gives the request up.
    pub(crate) async fn retry(&mut self, error: S3Error) -> Result<(), S3Error> {
        self.destination.sender.retry(&mut self.attempts, error).await
    }

    /// Waits before the next attempt after some targets failed, of as many as had been sent.
    ///
    /// # Errors
    /// Returns the error if the run gives them up.
    pub(crate) async fn retry_some(&mut self, failed: usize, sent: usize, error: &S3Error) -> Result<(), S3Error> {
        if failed < sent {
            self.attempts.progressed();
        }
        self.destination.sender.retry_inside(&mut self.attempts, error).await
    }

    async fn send_batch(
        &mut self,
        admission: Admission<'a>,
        batch: &[DeleteTarget],
    ) -> Result<Vec<DeleteOutcome>, S3Error> {
        let Self { destination, attempts, .. } = self;
        let request = destination.batch_request(batch)?;
        let digests = if destination.checksum.is_some() { BatchDigests::Md5AndChecksum } else { BatchDigests::OnlyMd5 };
        let send = async |activity: Activity| {
            let request = request.customize().interceptor(activity);
            let response = request.mutate_request(move |request| digests.set(request)).send().await;
            response.map_err(|error| S3Error::from_sdk(Operation::DeleteObjects, &error))
        };
        let response = destination.sender.send_admitted(admission, attempts, 0, send, Ok).await;
        let response = response.map_err(|failed| failed.error)?;
        let deleted: HashSet<&str> = response.deleted().iter().filter_map(|deleted| deleted.key()).collect();
        let refused: HashMap<&str, &Error> =
            response.errors().iter().filter_map(|error| Some((error.key()?, error))).collect();
        let mut outcomes = Vec::with_capacity(batch.len());
        for target in batch {
            let key = destination.prefix.object_key(&target.key);
            outcomes.push(match refused.get(key.as_str()) {
                Some(error) => outcome_of(error, response.request_id()),
                None if deleted.contains(key.as_str()) || destination.has_no_object(&target.key).await => {
                    DeleteOutcome::Deleted
                }
                None => {
                    let message = "the response does not name this key, and the object still exists";
                    let message = format!("{message}: {IN_ITS_PLACE}");
                    let error = S3Error::local(Operation::DeleteObjects, ErrorKind::Transient, message);
                    DeleteOutcome::Failed(error.in_doubt())
                }
            });
        }
        Ok(outcomes)
    }

    async fn send_one(&mut self, admission: Admission<'a>, target: &DeleteTarget) -> Result<DeleteOutcome, S3Error> {
        let Self { destination, attempts, .. } = self;
        let request = destination
            .client
            .delete_object()
            .bucket(destination.bucket.as_str())
            .key(destination.prefix.object_key(&target.key))
            .set_if_match(condition(&target.etag))
            .set_expected_bucket_owner(destination.expected_owner.clone());
        let send = async |activity: Activity| {
            let response = request.customize().interceptor(activity.clone()).send().await;
            response.map(|_| activity.status()).map_err(|error| S3Error::from_sdk(Operation::Delete, &error))
        };
        let Failed { error, lacks_proof } =
            match destination.sender.send_admitted(admission, attempts, 0, send, no_content).await {
                Ok(()) => return Ok(DeleteOutcome::Deleted),
                Err(failed) => failed,
            };
        if error.kind == ErrorKind::Precondition {
            return Ok(DeleteOutcome::Changed);
        }
        // Neither a response without its proof nor the 404 of something between this program and S3 proves anything.
        let is_deleted = error.code.as_deref() == Some("NoSuchKey")
            || (lacks_proof || error.is_without_object()) && destination.has_no_object(&target.key).await;
        if is_deleted { Ok(DeleteOutcome::Deleted) } else { Err(error) }
    }
}

impl Destination {
    /// Starts a delete, before its first attempt.
    pub(crate) fn delete_request(&self, form: DeleteForm) -> DeleteRequest<'_> {
        DeleteRequest { destination: self, form, attempts: Attempts::of(form.operation()) }
    }

    fn batch_request(&self, batch: &[DeleteTarget]) -> Result<DeleteObjectsFluentBuilder, S3Error> {
        let invalid = |error: aws_sdk_s3::error::BuildError| {
            S3Error::local(Operation::DeleteObjects, ErrorKind::Refused, error.to_string())
        };
        let identifiers = batch.iter().map(|target| {
            ObjectIdentifier::builder()
                .key(self.prefix.object_key(&target.key))
                .set_e_tag(condition(&target.etag))
                .build()
        });
        let identifiers = identifiers.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        // Not quiet: the response names each object that S3 has deleted.
        let delete = Delete::builder().set_objects(Some(identifiers)).quiet(false).build().map_err(invalid)?;
        let request = self.client.delete_objects().bucket(self.bucket.as_str()).delete(delete);
        Ok(request
            .set_checksum_algorithm(self.checksum.map(Algorithm::sdk_name))
            .set_expected_bucket_owner(self.expected_owner.clone()))
    }

    /// Whether a HEAD shows that there is no object at the key.
    pub(crate) async fn has_no_object(&self, key: &RelativeKey) -> bool {
        self.object(key).await.is_ok_and(|object| object.is_none())
    }

    /// Deletes whatever is at the key; succeeds if there is nothing.
    pub(crate) async fn delete_any(&self, key: &RelativeKey) -> Result<(), S3Error> {
        let target =
            [DeleteTarget { key: key.clone(), etag: ETag::new(""), size_bytes: 0, last_modified: EpochNanos(0) }];
        let mut request = self.delete_request(DeleteForm::Alone);
        loop {
            let sent = match request.admit().await {
                Ok(admission) => request.send(admission, &target).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(_) => return Ok(()),
                Err(error) => request.retry(error).await?,
            }
        }
    }
}

/// Which digests of a batch S3 checks. S3 requires one.
#[derive(Clone, Copy, Debug)]
enum BatchDigests {
    Md5AndChecksum,
    /// For servers that know no checksum, or no other one than the SDK's.
    OnlyMd5,
}

impl BatchDigests {
    /// Sets the headers of a request in which the SDK has set its checksum.
    fn set(self, request: &mut HttpRequest) {
        let md5 = request.body().bytes().map(|body| base64::encode(Md5::digest(body)));
        let headers = request.headers_mut();
        if let Some(md5) = md5 {
            headers.insert("content-md5", md5);
        }
        if matches!(self, Self::OnlyMd5) {
            let names: Vec<_> = headers.iter().map(|(name, _)| name.to_owned()).collect();
            for name in names.iter().filter(|name| is_of_checksum(name)) {
                headers.remove(name);
            }
        }
    }
}

fn is_of_checksum(name: &str) -> bool {
    name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm"
}

fn condition(etag: &ETag) -> Option<String> {
    Some(etag.text()).filter(|etag| !etag.is_empty())
}

fn outcome_of(error: &Error, request_id: Option<&str>) -> DeleteOutcome {
    let (code, message) = (error.code().unwrap_or("Unknown"), error.message().unwrap_or("no message"));
    match code {
        "PreconditionFailed" => DeleteOutcome::Changed,
        // A retry after a lost response, or another writer deleted the object.
        "NoSuchKey" => DeleteOutcome::Deleted,
        _ => DeleteOutcome::Failed(S3Error::of_code(Operation::DeleteObjects, code, message, request_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_xml_cannot_hold_does_not_fit_a_batch() {
        for key in ["a\u{1}b", "\u{1f}", "cr\rlf", "\u{fffe}"] {
            assert!(!fits_a_batch(&ObjectKey::new(key)), "{key:?}");
        }
        for key in ["plain", "tab\tnewline\n", "\u{7f}", "é😀", "<&>\"'"] {
            assert!(fits_a_batch(&ObjectKey::new(key)), "{key:?}");
        }
    }
}
