//! AWS DataSync: a client for one task, its configuration and its executions; an attempt to let it do the work.
//!
//! The only home of DataSync's SDK: the rest of the program sees this module's types.

mod arn;
pub mod attempt;
pub mod breaker;
pub(crate) mod defaults;
pub mod error;
mod execution;
pub(crate) mod late_writes;
mod latest;
pub(crate) mod mount;
mod options;
pub(crate) mod remembered;
mod task;

use std::time::Duration;

use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_sdk_datasync::Client;

use crate::aws::{self, ConnectError};

pub use arn::TaskArn;
pub use attempt::DataSyncSection;
pub use execution::{Execution, Status};
pub(crate) use latest::Latest;
pub use options::ExecutionOptions;
use task::{LocationArns, OtherKind, TaskAlone};
pub(crate) use task::{NotDescribed, Task, TaskSource};

use error::ServiceError;

/// How often a request is sent, within some twenty seconds, before it counts as failed.
const ATTEMPTS: u32 = 5;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// A client for one DataSync task.
#[derive(Clone, Debug)]
pub struct DataSync {
    client: Client,
    task: TaskArn,
}

impl DataSync {
    /// Loads the AWS settings and prepares a client for the task's region. Sends nothing.
    ///
    /// # Errors
    /// Returns an error if the settings cannot be used.
    pub async fn connect(task: TaskArn) -> Result<Self, ConnectError> {
        let shared = aws::settings().await?;
        let endpoint = aws::endpoint(&shared, "AWS_ENDPOINT_URL_DATASYNC");
        let mut config = aws_sdk_datasync::config::Builder::from(&shared)
            .region(Region::new(task.region().to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(LONGEST_BACKOFF))
            .timeout_config(aws::timeouts(Some(ATTEMPT_TIMEOUT)));
        if endpoint.overrides {
            config.set_endpoint_url(endpoint.url);
        }
        Ok(Self { client: Client::from_conf(config.build()), task })
    }

    pub(crate) const fn task_arn(&self) -> &TaskArn {
        &self.task
    }

    /// Returns the present configuration of the task and its locations.
    pub(crate) async fn describe_task(&self) -> Result<Task, NotDescribed> {
        let described = self.client.describe_task().task_arn(self.task.as_str()).send().await;
        let alone = described.map_err(ServiceError::from).and_then(|task| TaskAlone::new(&task, self.task.as_str()));
        let alone = alone.map_err(NotDescribed::task)?;
        let LocationArns { source, destination } = alone.locations.clone();
        let source = match self.client.describe_location_efs().location_arn(source).send().await {
            Ok(location) => location,
            Err(error) => return Err(NotDescribed::location(error.into(), alone, OtherKind::Source)),
        };
        let destination = match self.client.describe_location_s3().location_arn(destination).send().await {
            Ok(location) => location,
            Err(error) => return Err(NotDescribed::location(error.into(), alone, OtherKind::Destination)),
        };
        alone.with_locations(&source, &destination)
    }

    /// Returns the ARN of the task's most recent execution, which may have ended.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, or has no such task.
    pub async fn latest_execution(&self) -> Result<Option<String>, ServiceError> {
        let described = self.client.describe_task().task_arn(self.task.as_str()).send().await?;
        Ok(described.current_task_execution_arn().filter(|arn| !arn.is_empty()).map(str::to_owned))
    }

    /// Returns the state of an execution.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, or has no such execution.
    pub async fn describe_execution(&self, arn: &str) -> Result<Execution, ServiceError> {
        Ok(Execution::new(&self.client.describe_task_execution().task_execution_arn(arn).send().await?))
    }

    /// Describes the task's latest execution.
    pub(crate) async fn describe_latest(&self, arn: Option<&str>) -> Latest {
        let Some(arn) = arn else {
            return Latest::None;
        };
        match self.describe_execution(arn).await {
            Ok(execution) if execution.status.is_terminal() => Latest::Ended(execution),
            Ok(execution) => Latest::Running(arn.to_owned(), execution),
            Err(error) => Latest::Unknown(error),
        }
    }

    /// Starts an execution and returns its ARN; with the options of the task, or with these.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, or refuses: it does so while another execution is running.
    pub async fn start(&self, options: Option<&ExecutionOptions>) -> Result<String, ServiceError> {
        let options = options.map(ExecutionOptions::to_override);
        let request = self.client.start_task_execution().task_arn(self.task.as_str()).set_override_options(options);
        let started = request.send().await?;
        started.task_execution_arn().map(str::to_owned).ok_or_else(ServiceError::nameless_execution)
    }

    /// Requests the cancellation of an execution.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, or refuses.
    pub async fn cancel(&self, arn: &str) -> Result<(), ServiceError> {
        self.client.cancel_task_execution().task_execution_arn(arn).send().await?;
        Ok(())
    }
}
