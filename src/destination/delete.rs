//! Deletes: up to 1,000 in a request, each only if the object is still the one that was listed.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::operation::Operation;
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

impl Destination {
    /// Deletes up to [`MAX_BATCH`] objects whose keys fit a batch. Returns one outcome for each, in the same order.
    pub(crate) async fn delete_batch(&self, batch: &[DeleteTarget]) -> Vec<DeleteOutcome> {
        match self.delete_objects(batch).await {
            Ok(outcomes) => outcomes,
            // Some servers do not have DeleteObjects.
            Err(error) if error.kind == ErrorKind::NotImplemented => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for target in batch {
                    outcomes.push(self.delete_one(target).await);
                }
                outcomes
            }
            Err(error) => batch.iter().map(|_| DeleteOutcome::Failed(error.clone())).collect(),
        }
    }

    async fn delete_objects(&self, batch: &[DeleteTarget]) -> Result<Vec<DeleteOutcome>, S3Error> {
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
        let delete = Delete::builder().set_objects(Some(identifiers)).quiet(true).build().map_err(invalid)?;
        let request = self
            .client
            .delete_objects()
            .bucket(&self.bucket)
            .delete(delete)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let send = |activity| request.clone().customize().interceptor(activity).send();
        let response = self.sender.send(Operation::DeleteObjects, send).await?;
        let refused = |target: &DeleteTarget| {
            let key = String::from(self.prefix.object_key(&target.key));
            response.errors().iter().find(|error| error.key() == Some(&key))
        };
        Ok(batch
            .iter()
            .map(|target| match refused(target) {
                None => DeleteOutcome::Deleted,
                Some(error) => outcome_of(error.code().unwrap_or("Unknown"), error.message().unwrap_or("no message")),
            })
            .collect())
    }

    /// Deletes one object with a request of its own.
    pub(crate) async fn delete_one(&self, target: &DeleteTarget) -> DeleteOutcome {
        let request = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.prefix.object_key(&target.key))
            .set_if_match(condition(&target.etag))
            .set_expected_bucket_owner(self.expected_owner.clone());
        match self.sender.send(Operation::Delete, |_| request.clone().send()).await {
            Ok(_) => DeleteOutcome::Deleted,
            Err(error) if error.kind == ErrorKind::Precondition => DeleteOutcome::Changed,
            Err(error) if error.code.as_deref() == Some("NoSuchKey") => DeleteOutcome::Deleted,
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

fn condition(etag: &ETag) -> Option<String> {
    Some(etag.text()).filter(|etag| !etag.is_empty())
}

fn outcome_of(code: &str, message: &str) -> DeleteOutcome {
    match code {
        "PreconditionFailed" => DeleteOutcome::Changed,
        // A retry after a lost response, or another writer deleted the object.
        "NoSuchKey" => DeleteOutcome::Deleted,
        _ => {
            let kind = if code == "AccessDenied" { ErrorKind::Denied } else { ErrorKind::Refused };
            let mut error = S3Error::local(Operation::DeleteObjects, kind, format!("{code}: {message}"));
            error.code = Some(code.to_owned());
            DeleteOutcome::Failed(error)
        }
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
