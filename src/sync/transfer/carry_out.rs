//! Carrying out one job: comparing as it asks, and writing what differs.

use super::compare::compare;
use super::rewrite::{Rewritten, rewrite};
use super::upload::{Upload, upload};
use crate::sync::context::Context;
use crate::sync::job::Job;
use crate::sync::verdict::{Outcome, Verdict};

/// Carries out a job.
pub(super) async fn carry_out(context: &Context, job: &Job) -> Outcome {
    let to_upload = match compare(context, job).await {
        Verdict::Equal(_, stat) => return Outcome::Unchanged(stat),
        Verdict::Skip(reason) => return Outcome::Skipped(reason),
        Verdict::Failed(error) => return Outcome::Failed(error, None),
        Verdict::Upload(reason) => Upload { expected: job.expected(), reason, headers: None, written: None },
        Verdict::Rewrite(to_rewrite) => match rewrite(context, job, *to_rewrite).await {
            Rewritten::Done(outcome) => return outcome,
            Rewritten::UploadInstead(to_upload) => *to_upload,
        },
    };
    upload(context, job, to_upload).await
}
