//! AWS DataSync: a task as it is configured, its executions, and how they stand.
//!
//! The only home of DataSync's SDK. What leaves this module are this program's own types.

mod arn;
pub mod attempt;
pub mod breaker;
pub mod defaults;
pub mod error;
mod execution;
pub mod mount;
mod task;

use std::time::Duration;

use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_sdk_datasync::Client;

use crate::aws::{self, ConnectError};

pub use arn::TaskArn;
pub use execution::{Execution, Status};
pub use task::{SourceOfTask, Task, TaskSettings};

use error::ServiceError;

/// A question to DataSync is asked so often, over some twenty seconds, before it counts as not answered.
const ATTEMPTS: u32 = 5;
const ATTEMPT: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// One task of DataSync.
#[derive(Clone, Debug)]
pub struct DataSync {
    client: Client,
    task: TaskArn,
}

impl DataSync {
    /// Loads the AWS settings and prepares a client for the task's region; nothing is sent yet.
    ///
    /// # Errors
    /// Where the settings name what cannot be used.
    pub async fn connect(task: TaskArn) -> Result<Self, ConnectError> {
        let shared = aws::settings().await?;
        let endpoint = aws::endpoint(&shared, "AWS_ENDPOINT_URL_DATASYNC");
        let mut config = aws_sdk_datasync::config::Builder::from(&shared)
            .region(Region::new(task.region().to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(LONGEST_BACKOFF))
            .timeout_config(aws::timeouts(Some(ATTEMPT)));
        if endpoint.overrides {
            config.set_endpoint_url(endpoint.url);
        }
        Ok(Self { client: Client::from_conf(config.build()), task })
    }

    /// The task.
    #[must_use]
    pub const fn task_arn(&self) -> &TaskArn {
        &self.task
    }

    /// The task and its locations as they are configured now.
    ///
    /// # Errors
    /// Where DataSync does not answer, or has no such task.
    pub async fn describe_task(&self) -> Result<Task, ServiceError> {
        let described = self.client.describe_task().task_arn(self.task.as_str()).send().await?;
        let source = described.source_location_arn().unwrap_or_default();
        let source = match self.client.describe_location_efs().location_arn(source).send().await {
            Ok(location) => SourceOfTask::of_efs(&location),
            Err(error) => SourceOfTask::or_not_efs(error.into())?,
        };
        let destination = described.destination_location_arn().unwrap_or_default();
        let destination = match self.client.describe_location_s3().location_arn(destination).send().await {
            Ok(location) => Some(location),
            Err(error) => ServiceError::from(error).unless_refused()?,
        };
        Ok(Task::new(&described, source, destination.as_ref()))
    }

    /// The task's most recent execution, which may have ended.
    ///
    /// # Errors
    /// Where DataSync does not answer, or has no such task.
    pub async fn latest_execution(&self) -> Result<Option<String>, ServiceError> {
        let described = self.client.describe_task().task_arn(self.task.as_str()).send().await?;
        Ok(described.current_task_execution_arn().filter(|arn| !arn.is_empty()).map(str::to_owned))
    }

    /// How an execution stands.
    ///
    /// # Errors
    /// Where DataSync does not answer, or has no such execution.
    pub async fn describe_execution(&self, arn: &str) -> Result<Execution, ServiceError> {
        Ok(Execution::new(&self.client.describe_task_execution().task_execution_arn(arn).send().await?))
    }

    /// Starts an execution; returns its ARN.
    ///
    /// # Errors
    /// Where DataSync refuses, which it does while another one runs, or does not answer.
    pub async fn start(&self) -> Result<String, ServiceError> {
        let started = self.client.start_task_execution().task_arn(self.task.as_str()).send().await?;
        started.task_execution_arn().map(str::to_owned).ok_or_else(ServiceError::nameless_execution)
    }

    /// Asks for an execution to be cancelled.
    ///
    /// # Errors
    /// Where DataSync refuses or does not answer.
    pub async fn cancel(&self, arn: &str) -> Result<(), ServiceError> {
        self.client.cancel_task_execution().task_execution_arn(arn).send().await?;
        Ok(())
    }
}
