//! The report's `datasync` section: the result of an attempt, under the report's public names.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Attempt, Execution, Followed};

/// The `datasync` section of a report.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DataSyncSection {
    /// `None` if no execution was known.
    execution_arn: Option<String>,
    attached: bool,
    /// The last status of the execution.
    status: Option<String>,
    /// DataSync's error code: of the execution, or of the failed request.
    error_code: Option<String>,
    error_detail: Option<String>,
    pub(crate) verdict: Cow<'static, str>,
    pub(crate) evidence: String,
    /// The duration of the attempt; the report has it among its own `seconds`.
    #[serde(skip)]
    pub(crate) seconds: f64,
}

impl From<&Attempt> for DataSyncSection {
    fn from(Attempt { verdict, execution, took, .. }: &Attempt) -> Self {
        let last = execution.as_ref().and_then(|followed| followed.last.as_ref());
        let text =
            |of: fn(&Execution) -> &Option<String>, or: Option<String>| last.and_then(|last| of(last).clone()).or(or);
        let error = verdict.error.as_ref();
        Self {
            execution_arn: execution.as_ref().map(|followed| followed.arn.to_string()),
            attached: execution.as_ref().is_some_and(Followed::is_attached),
            status: last.map(|last| last.status_name.clone()),
            error_code: text(|last| &last.error_code, error.and_then(|error| error.code.clone())),
            error_detail: text(|last| &last.error_detail, error.map(|error| error.message.clone())),
            verdict: verdict.kind.name().into(),
            evidence: verdict.evidence.clone(),
            seconds: took.as_secs_f64(),
        }
    }
}
