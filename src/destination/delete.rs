//! Deletes: up to 1,000 in a request, each only if the object is still the one that was listed.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::operation::Operation;
use crate::key::{ObjectKey, RelativeKey};
use crate::object::ETag;

/// How many keys one `DeleteObjects` takes.
pub const MAX_BATCH: usize = 1000;

/// An object to be deleted, by its key below the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// The key.
    pub key: RelativeKey,
    /// What was listed there.
    pub etag: ETag,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// What became of one delete.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// Gone.
    Yes,
    /// Another object is there by now: kept.
    Changed,
    /// Refused, or not answered.
    Failed(S3Error),
}

/// Whether XML 1.0 carries a key unchanged, so that it can be named in a batch.
///
/// A control character makes S3 refuse the whole batch, and a raw carriage return would be read as a newline (XML 1.0, 2.2
/// and 2.11).
#[must_use]
pub fn fits_a_batch(key: &ObjectKey) -> bool {
    !key.as_str().chars().any(|c| (c < ' ' && c != '\t' && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

impl Destination {
    /// Deletes what can be named in one batch; one outcome for each, in their order.
    pub async fn delete_batch(&self, batch: &[Doomed]) -> Vec<Deleted> {
        match self.delete_objects(batch).await {
            Ok(outcomes) => outcomes,
            // Some servers have no DeleteObjects.
            Err(error) if error.kind == ErrorKind::NotImplemented => {
                let mut outcomes = Vec::with_capacity(batch.len());
                for doomed in batch {
                    outcomes.push(self.delete_one(doomed).await);
                }
                outcomes
            }
            Err(error) => batch.iter().map(|_| Deleted::Failed(error.clone())).collect(),
        }
    }

    async fn delete_objects(&self, batch: &[Doomed]) -> Result<Vec<Deleted>, S3Error> {
        let impossible = |error: aws_sdk_s3::error::BuildError| {
            S3Error::local(Operation::DeleteObjects, ErrorKind::Refused, error.to_string())
        };
        let identifiers = batch.iter().map(|doomed| {
            ObjectIdentifier::builder()
                .key(self.prefix.object_key(&doomed.key))
                .set_e_tag(condition(&doomed.etag))
                .build()
        });
        let identifiers = identifiers.collect::<Result<Vec<_>, _>>().map_err(impossible)?;
        let delete = Delete::builder().set_objects(Some(identifiers)).quiet(true).build().map_err(impossible)?;
        let request = self
            .client
            .delete_objects()
            .bucket(&self.bucket)
            .delete(delete)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let answer = self
            .sender
            .send(Operation::DeleteObjects, 0, |progress| request.clone().customize().interceptor(progress).send())
            .await?;
        let refused = |doomed: &Doomed| {
            let key = String::from(self.prefix.object_key(&doomed.key));
            answer.errors().iter().find(|error| error.key() == Some(&key))
        };
        Ok(batch
            .iter()
            .map(|doomed| match refused(doomed) {
                None => Deleted::Yes,
                Some(error) => outcome_of(error.code().unwrap_or("Unknown"), error.message().unwrap_or("no message")),
            })
            .collect())
    }

    /// Deletes one object by itself.
    pub async fn delete_one(&self, doomed: &Doomed) -> Deleted {
        let request = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.prefix.object_key(&doomed.key))
            .set_if_match(condition(&doomed.etag))
            .set_expected_bucket_owner(self.expected_owner.clone());
        match self.sender.send(Operation::Delete, 0, |_| request.clone().send()).await {
            Ok(_) => Deleted::Yes,
            Err(error) if error.kind == ErrorKind::Precondition => Deleted::Changed,
            Err(error) if error.code.as_deref() == Some("NoSuchKey") => Deleted::Yes,
            Err(error) => Deleted::Failed(error),
        }
    }
}

impl Destination {
    /// Deletes an object whatever it is; one that is not there is gone.
    ///
    /// # Errors
    /// Where S3 refuses or does not answer.
    pub async fn delete_any(&self, key: &RelativeKey) -> Result<(), S3Error> {
        match self.delete_one(&Doomed { key: key.clone(), etag: ETag::new(""), size_bytes: 0 }).await {
            Deleted::Yes | Deleted::Changed => Ok(()),
            Deleted::Failed(error) => Err(error),
        }
    }
}

fn condition(etag: &ETag) -> Option<String> {
    Some(etag.text()).filter(|etag| !etag.is_empty())
}

fn outcome_of(code: &str, message: &str) -> Deleted {
    match code {
        "PreconditionFailed" => Deleted::Changed,
        // Sent again after a lost answer, or deleted by somebody else: gone is gone.
        "NoSuchKey" => Deleted::Yes,
        _ => {
            let kind = if code == "AccessDenied" { ErrorKind::Denied } else { ErrorKind::Refused };
            let mut error = S3Error::local(Operation::DeleteObjects, kind, format!("{code}: {message}"));
            error.code = Some(code.to_owned());
            Deleted::Failed(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_xml_cannot_carry_stays_out_of_batches() {
        for key in ["a\u{1}b", "\u{1f}", "cr\rlf", "\u{fffe}"] {
            assert!(!fits_a_batch(&ObjectKey::new(key)), "{key:?}");
        }
        for key in ["plain", "tab\tnewline\n", "\u{7f}", "é😀", "<&>\"'"] {
            assert!(fits_a_batch(&ObjectKey::new(key)), "{key:?}");
        }
    }
}
