//! Deletes: up to 1,000 in a request, each only if the object is still the one that was listed.

use std::collections::{HashMap, HashSet};

use aws_sdk_s3::config::http::HttpRequest;
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
use super::send::interrupted;
use crate::key::{ObjectKey, RelativeKey};
use crate::object::ETag;

/// S3's limit for one `DeleteObjects`.
pub(crate) const MAX_BATCH: usize = 1000;

/// An object about to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeleteTarget {
    pub(crate) key: RelativeKey,
    /// The object is deleted only if it still has this ETag. Empty: in any case.
    pub(crate) etag: ETag,
    pub(crate) size_bytes: u64,
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

impl DeleteOutcome {
    /// Whether S3 named a transient error for this key.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Failed(error) if error.kind.is_retryable() && error.code.is_some())
    }
}

impl Destination {
    /// Deletes up to [`MAX_BATCH`] objects whose keys fit a batch. Returns one outcome for each, in the same order.
    pub(crate) async fn delete_batch(&self, batch: &[DeleteTarget]) -> Vec<DeleteOutcome> {
        match self.delete_objects(batch).await {
            Ok(outcomes) => outcomes,
            // Some servers do not have DeleteObjects.
            Err(error) if error.kind == ErrorKind::NotImplemented => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for target in batch {
                    outcomes.push(if self.sender.shutdown.is_requested() {
                        DeleteOutcome::Failed(interrupted(Operation::Delete))
                    } else {
                        self.delete_one(target).await
                    });
                }
                outcomes
            }
            Err(error) => batch.iter().map(|_| DeleteOutcome::Failed(error.clone())).collect(),
        }
    }

    /// Repeats the request for the keys that it failed for a transient reason.
    async fn delete_objects(&self, batch: &[DeleteTarget]) -> Result<Vec<DeleteOutcome>, S3Error> {
        let mut outcomes = self.delete_objects_once(&batch.iter().collect::<Vec<_>>()).await?;
        let mut attempts = Attempts::of(Operation::DeleteObjects);
        loop {
            let transient = |outcome: &&DeleteOutcome| outcome.is_transient();
            let Some(DeleteOutcome::Failed(error)) = outcomes.iter().find(transient) else {
                return Ok(outcomes);
            };
            if self.sender.retry_inside(&mut attempts, error).await.is_err() {
                return Ok(outcomes);
            }
            let left = batch.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_transient());
            let targets: Vec<_> = left.map(|(target, _)| target).collect();
            let again = match self.delete_objects_once(&targets).await {
                Ok(again) => again,
                Err(error) => targets.iter().map(|_| DeleteOutcome::Failed(error.clone())).collect(),
            };
            if again.iter().any(|outcome| !outcome.is_transient()) {
                attempts.progressed();
            }
            let left = outcomes.iter_mut().filter(|outcome| outcome.is_transient());
            for (outcome, new) in left.zip(again) {
                *outcome = new;
            }
        }
    }

    async fn delete_objects_once(&self, batch: &[&DeleteTarget]) -> Result<Vec<DeleteOutcome>, S3Error> {
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
        let request = self
            .client
            .delete_objects()
            .bucket(self.bucket.as_str())
            .delete(delete)
            .set_checksum_algorithm(self.checksum.map(Algorithm::sdk_name))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let digests = if self.checksum.is_some() { BatchDigests::Md5AndChecksum } else { BatchDigests::OnlyMd5 };
        let send = |activity| {
            let request = request.clone().customize().interceptor(activity);
            request.mutate_request(move |request| digests.set(request)).send()
        };
        let response = self.sender.send(Operation::DeleteObjects, send, Ok).await?;
        let deleted: HashSet<&str> = response.deleted().iter().filter_map(|deleted| deleted.key()).collect();
        let refused: HashMap<&str, &Error> =
            response.errors().iter().filter_map(|error| Some((error.key()?, error))).collect();
        let mut outcomes = Vec::with_capacity(batch.len());
        for target in batch {
            let key = self.prefix.object_key(&target.key);
            outcomes.push(match refused.get(key.as_str()) {
                Some(error) => outcome_of(error.code().unwrap_or("Unknown"), error.message().unwrap_or("no message")),
                None if deleted.contains(key.as_str()) || self.is_gone(&target.key).await => DeleteOutcome::Deleted,
                None => DeleteOutcome::Failed(S3Error::local(
                    Operation::DeleteObjects,
                    ErrorKind::Transient,
                    format!("the response does not name this key, and the object still exists: {IN_ITS_PLACE}"),
                )),
            });
        }
        Ok(outcomes)
    }

    /// Whether a HEAD shows that there is no object at the key.
    async fn is_gone(&self, key: &RelativeKey) -> bool {
        self.object(key).await.is_ok_and(|object| object.is_none())
    }

    /// Deletes one object with a request of its own.
    pub(crate) async fn delete_one(&self, target: &DeleteTarget) -> DeleteOutcome {
        let request = self
            .client
            .delete_object()
            .bucket(self.bucket.as_str())
            .key(self.prefix.object_key(&target.key))
            .set_if_match(condition(&target.etag))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let attempt = async |activity: Activity| {
            request.clone().customize().interceptor(activity.clone()).send().await.map(|_| activity.status())
        };
        let confirm = async || self.is_gone(&target.key).await.then_some(());
        match self.sender.send_or_confirm(Operation::Delete, 0, attempt, no_content, confirm).await {
            Ok(()) => DeleteOutcome::Deleted,
            Err(error) if error.kind == ErrorKind::Precondition => DeleteOutcome::Changed,
            Err(error) if error.code.as_deref() == Some("NoSuchKey") => DeleteOutcome::Deleted,
            // The 404 of something between this program and S3 proves nothing.
            Err(error) if error.is_without_object() && self.is_gone(&target.key).await => DeleteOutcome::Deleted,
            Err(error) => DeleteOutcome::Failed(error),
        }
    }

    /// Deletes whatever is at the key; succeeds if there is nothing.
    pub(crate) async fn delete_any(&self, key: &RelativeKey) -> Result<(), S3Error> {
        match self.delete_one(&DeleteTarget { key: key.clone(), etag: ETag::new(""), size_bytes: 0 }).await {
            DeleteOutcome::Deleted | DeleteOutcome::Changed => Ok(()),
            DeleteOutcome::Failed(error) => Err(error),
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

fn outcome_of(code: &str, message: &str) -> DeleteOutcome {
    match code {
        "PreconditionFailed" => DeleteOutcome::Changed,
        // A retry after a lost response, or another writer deleted the object.
        "NoSuchKey" => DeleteOutcome::Deleted,
        _ => DeleteOutcome::Failed(S3Error::of_code(Operation::DeleteObjects, code, message)),
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
