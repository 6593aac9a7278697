//! A failure: one entry or object that the run could not settle, as the report lists it.

use serde::{Deserialize, Serialize};

use crate::destination::error::S3Error;
use crate::key::ObjectKey;
use crate::served::InnerDestination;
use crate::source::entry::Problem;
use crate::sync::verdict::FileError;

/// One failure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Failure {
    pub(crate) key: ObjectKey,
    /// The system call or S3 request that failed.
    pub(crate) operation: String,
    /// The kind of failure, a public name.
    pub(crate) kind: String,
    /// What happened and what to do.
    pub(crate) message: String,
    /// S3's ID of the request.
    pub(crate) request_id: Option<String>,
}

impl Failure {
    /// Of a place in the source.
    pub(crate) fn of_source(key: ObjectKey, problem: Problem) -> Self {
        Self {
            key,
            operation: problem.operation.to_owned(),
            kind: problem.kind.to_owned(),
            message: problem.message,
            request_id: None,
        }
    }

    pub(super) fn of_file(key: ObjectKey, error: FileError) -> Self {
        match error {
            FileError::Source(problem) => Self::of_source(key, problem),
            FileError::Destination(error) => Self::of_request(key, &error),
        }
    }

    /// Of a file that could not be verified.
    pub(crate) fn unverifiable(key: ObjectKey) -> Self {
        let message = "the ETag and the stored checksum of this object cannot show whether its content is the file's: pass --read to download the object";
        Self {
            key,
            operation: "compare".to_owned(),
            kind: "unverifiable".to_owned(),
            message: message.to_owned(),
            request_id: None,
        }
    }

    /// Of an entry whose key belongs to a destination inside this one.
    pub(crate) fn of_other_destination(key: ObjectKey, inner: &InnerDestination) -> Self {
        let marker = inner.marker();
        let message = format!(
            "this key belongs to {inner}, which runs with the same state write to: exclude it here (--exclude), or remove \
             {marker} from the state if that destination is retired"
        );
        Self { key, operation: "state".to_owned(), kind: "other_destination".to_owned(), message, request_id: None }
    }

    /// Of a plan line whose file or object has changed.
    pub(crate) fn changed_since_plan(key: ObjectKey, what: &str) -> Self {
        Self {
            key,
            operation: "apply".to_owned(),
            kind: "changed_since_plan".to_owned(),
            message: format!("{what} since the plan was made: kept the object, make a new plan"),
            request_id: None,
        }
    }

    /// Of a plan line that `plan` did not write. `why` continues the sentence.
    pub(crate) fn not_of_the_plan(key: ObjectKey, why: &str) -> Self {
        Self {
            key,
            operation: "apply".to_owned(),
            kind: "changed_since_plan".to_owned(),
            message: format!("the key of this plan line {why}. Refused the line: make a new plan"),
            request_id: None,
        }
    }

    /// Of a request.
    pub(crate) fn of_request(key: ObjectKey, error: &S3Error) -> Self {
        Self {
            key,
            operation: error.operation.name().to_owned(),
            kind: error.kind.name().to_owned(),
            message: error.advice(),
            request_id: error.request_id.clone(),
        }
    }
}
