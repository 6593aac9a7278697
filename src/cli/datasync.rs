//! The options of `run` that concern DataSync.

use std::time::Duration;

use clap::Args;

use super::choice::{Deletes, Policy};
use super::value;
use crate::datasync::TaskArn;

/// The DataSync task, and how long the run waits for it.
#[derive(Args, Debug)]
#[group(skip)]
#[command(next_help_heading = "DataSync")]
pub(crate) struct DataSyncArgs {
    /// Run this DataSync task
    ///
    /// The destination, filters and other settings of the task are the defaults of the options for the direct sync
    #[arg(long, value_name = "ARN")]
    pub(crate) task_arn: Option<TaskArn>,
    /// Choose between DataSync and the direct sync
    #[arg(long, value_name = "POLICY", default_value = "datasync-first")]
    pub(crate) policy: Policy,
    /// State that the task has no filters, for a run that cannot describe the task
    ///
    /// Without --include, --exclude, --from-manifest or this option, a run syncs directly only if DataSync describes the
    /// task, or if the state remembers an earlier description. The filters of a known task apply in any case
    #[arg(long)]
    pub(crate) no_filters: bool,
    /// Choose who deletes if DataSync succeeds and the task deletes
    ///
    /// `guarded` starts the execution with PreserveDeletedFiles=PRESERVE. After its success the run compares, repairs, and
    /// deletes orphans as `sync --delete` does
    #[arg(long, value_name = "DELETER", default_value = "guarded")]
    pub(crate) deletes: Deletes,
    /// Compare and repair even if DataSync succeeds
    #[arg(long)]
    pub(crate) audit: bool,
    /// Cancel an execution that takes longer than this
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = value::positive_duration)]
    pub(crate) timeout: Duration,
    /// Cancel an execution that is QUEUED or LAUNCHING for this long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = value::positive_duration)]
    pub(crate) queue_timeout: Duration,
    /// Cancel an execution that is PREPARING for this long
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = value::positive_duration)]
    pub(crate) prepare_timeout: Duration,
    /// Cancel an execution if no counter changes for this long while it transfers or verifies, or if DataSync does not
    /// respond for this long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = value::positive_duration)]
    pub(crate) stall_timeout: Duration,
    /// Wait this long for a cancelled execution to end; if it does not end, the direct sync deletes nothing
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = value::positive_duration)]
    pub(crate) cancel_timeout: Duration,
    /// Poll the execution this often; more often at first
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = value::positive_duration)]
    pub(crate) poll_interval: Duration,
    /// Sync directly, without DataSync, after N failed executions in a row; needs --state
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) breaker_failures: u32,
    /// Run DataSync again this long after the last failed execution; needs --state
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = value::positive_duration)]
    pub(crate) breaker_cooldown: Duration,
}
