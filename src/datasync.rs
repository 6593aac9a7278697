//! AWS DataSync: a client for one task, its configuration and its executions; an attempt to let it do the work.
//!
//! The only home of DataSync's SDK: the rest of the program sees this module's types.

mod arn;
pub mod attempt;
pub mod breaker;
mod counters;
pub(crate) mod defaults;
pub mod error;
mod execution;
mod filters;
pub(crate) mod late_writes;
mod latest;
pub(crate) mod mount;
mod options;
mod other_executions;
pub(crate) mod own_cancel;
mod patience;
pub(crate) mod remembered;
mod request;
mod still_running;
mod task;
mod verification;

use std::collections::HashSet;
use std::time::Duration;

use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_sdk_datasync::Client;
use aws_sdk_datasync::error::SdkError;
use aws_sdk_datasync::operation::describe_task::DescribeTaskOutput;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::time::Instant;

use crate::aws::{self, ConnectError, Credentials, Service, Settings};
use crate::fence::Fence;
use crate::shutdown::{STOP_GRACE, Shutdown};

pub use arn::{ExecutionArn, TaskArn};
pub use attempt::DataSyncSection;
pub use execution::{Execution, Status};
pub(crate) use filters::Filters;
pub(crate) use latest::Latest;
pub use options::ExecutionOptions;
pub(crate) use other_executions::OtherExecutions;
pub use patience::Patience;
pub(crate) use request::{OwnDeletes, Request};
pub(crate) use still_running::{Beside, StillRunning};
use task::{LocationArns, OtherKind, TaskAlone, is_busy, latest_execution_in};
pub(crate) use task::{NotDescribed, Task, TaskSource};

use error::{ServiceError, ServiceErrorKind};

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a task is described that shows a running execution, and no execution that runs.
const DESCRIPTIONS: u32 = 3;
const DESCRIPTION_PAUSE: Duration = Duration::from_secs(1);

/// A client for one DataSync task.
///
/// What it returns is about this task: a response that names another task or execution is an error. After a stop request
/// it waits for no response longer than [`STOP_GRACE`].
#[derive(Clone, Debug)]
pub struct DataSync {
    client: Client,
    credentials: Credentials,
    task: TaskArn,
    patience: Patience,
    shutdown: Shutdown,
    /// Closed while this run must start no execution.
    fence: Fence,
}

impl DataSync {
    /// Loads the AWS settings and prepares a client for the task's region. Sends nothing.
    ///
    /// # Errors
    /// Returns an error if the settings cannot be used.
    pub async fn connect(task: TaskArn, patience: Patience, shutdown: Shutdown) -> Result<Self, ConnectError> {
        let Settings { shared, url, credentials } = aws::settings(Service::DataSync, None).await?;
        let mut config = aws_sdk_datasync::config::Builder::from(&shared)
            .region(Region::new(task.region().to_owned()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(aws::timeouts(Some(ATTEMPT_TIMEOUT)));
        config.set_endpoint_url(url);
        Ok(Self {
            client: Client::from_conf(config.build()),
            credentials,
            task,
            patience,
            shutdown,
            fence: Fence::default(),
        })
    }

    /// A client that starts an execution only while this fence is open.
    pub(crate) fn behind(&self, fence: &Fence) -> Self {
        Self { fence: fence.clone(), ..self.clone() }
    }

    /// A client that retries for longer, for a run that can do nothing without the response.
    pub(crate) fn patiently(&self) -> Self {
        Self { patience: self.patience.long(), ..self.clone() }
    }

    /// A client for requests that the caller repeats.
    pub(crate) fn briefly(&self) -> Self {
        Self { patience: self.patience.brief(), ..self.clone() }
    }

    pub(crate) const fn task_arn(&self) -> &TaskArn {
        &self.task
    }

    /// Returns the present configuration of the task and its locations.
    pub(crate) async fn describe_task(&self) -> Result<Task, NotDescribed> {
        let described = self.describe_task_alone().await;
        let alone = described.and_then(|task| TaskAlone::new(&task, &self.task)).map_err(NotDescribed::task)?;
        let LocationArns { source, destination } = alone.locations.clone();
        let source = self.client.describe_location_efs().location_arn(source);
        let source = match self.send(|| source.clone().send()).await {
            Ok(location) => location,
            Err(error) => return Err(NotDescribed::location(error, alone, OtherKind::Source)),
        };
        let destination = self.client.describe_location_s3().location_arn(destination);
        let destination = match self.send(|| destination.clone().send()).await {
            Ok(location) => location,
            Err(error) => return Err(NotDescribed::location(error, alone, OtherKind::Destination)),
        };
        alone.with_locations(&source, &destination)
    }

    /// Returns the ARN of the task's most recent execution, which may have ended.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, or has no such task.
    pub async fn latest_execution(&self) -> Result<Option<ExecutionArn>, ServiceError> {
        latest_execution_in(&self.describe_task_alone().await?, &self.task)
    }

    async fn describe_task_alone(&self) -> Result<DescribeTaskOutput, ServiceError> {
        let request = self.client.describe_task().task_arn(self.task.as_str());
        let task = self.send(|| request.clone().send()).await?;
        if task.task_arn() == Some(self.task.as_str()) {
            Ok(task)
        } else {
            Err(ServiceError::incomplete("DescribeTask", "this TaskArn"))
        }
    }

    /// Returns the state of an execution.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, has no such execution, or describes another one.
    pub async fn describe_execution(&self, arn: &ExecutionArn) -> Result<Execution, ServiceError> {
        let request = self.client.describe_task_execution().task_execution_arn(arn.as_str());
        Execution::new(&self.send(|| request.clone().send()).await.map_err(ServiceError::of_execution)?, arn)
    }

    /// Describes the task's latest execution.
    pub(crate) async fn describe_latest(&self, arn: Option<&ExecutionArn>) -> Latest {
        let Some(arn) = arn else {
            return Latest::None;
        };
        match self.describe_execution(arn).await {
            Ok(execution) if execution.status.is_terminal() => Latest::Ended(execution),
            Ok(execution) => Latest::Running(execution),
            Err(error) => Latest::Unknown(arn.clone(), error),
        }
    }

    /// Describes the execution of the task that writes now, or else its latest one. `latest` is the most recent one, which
    /// may be queued behind another.
    pub(crate) async fn writing_now(&self, latest: Option<&ExecutionArn>) -> Latest {
        match self.describe_latest(latest).await {
            Latest::Running(execution) => {
                let arn = execution.arn.clone();
                self.first_in_queue(execution).await.map_or_else(|error| Latest::Unknown(arn, error), Latest::Running)
            }
            described @ (Latest::None | Latest::Ended(_) | Latest::CancelledByRun(_) | Latest::Unknown(..)) => {
                described
            }
        }
    }

    /// Returns the execution that a queued one waits for. The executions of a task run one after the other, and the
    /// description of the task names only the most recent one. Returns any other execution as it is.
    ///
    /// # Errors
    /// Returns an error if DataSync does not list the executions, or does not describe the one that is running.
    pub(crate) async fn first_in_queue(&self, execution: Execution) -> Result<Execution, ServiceError> {
        if !execution.is_queued() {
            return Ok(execution);
        }
        let mut page_token = None;
        let mut seen = HashSet::new();
        loop {
            let request = self.client.list_task_executions().task_arn(self.task.as_str()).set_next_token(page_token);
            let page = self.send(|| request.clone().send()).await?;
            let unfinished = page
                .task_executions()
                .iter()
                .filter(|listed| listed.status().is_none_or(|status| !Status::named(status.as_str()).is_terminal()));
            for listed in unfinished.filter_map(|listed| self.task.execution(listed.task_execution_arn()?)) {
                if listed != execution.arn {
                    let other = match self.describe_execution(&listed).await {
                        Ok(other) => other,
                        // DataSync may list an execution a moment before it describes it.
                        Err(error) if error.kind == ServiceErrorKind::UnknownExecution => continue,
                        Err(error) => return Err(error),
                    };
                    if !other.status.is_terminal() && !other.is_queued() {
                        return Ok(other);
                    }
                }
            }
            let Some(next) = page.next_token().filter(|token| !token.is_empty()).map(str::to_owned) else {
                return Ok(execution);
            };
            if !seen.insert(next.clone()) {
                return Err(ServiceError::incomplete("ListTaskExecutions", "a new token of the next page"));
            }
            page_token = Some(next);
        }
    }

    /// Describes the task once more before a direct sync, or before its deletes. `ended` is known to have ended.
    pub(crate) async fn beside(&self, task: &Task, ended: Option<&ExecutionArn>) -> Beside {
        let unseen = |deletes| Beside::Execution(StillRunning::unseen(None, deletes));
        for _ in 0..DESCRIPTIONS {
            let described = self.describe_task_alone().await;
            let Ok((is_busy, now)) = described.and_then(|now| Ok((is_busy(&now), TaskAlone::new(&now, &self.task)?)))
            else {
                return unseen(false);
            };
            if !now.has_settings_of(task) {
                return Beside::OtherSettings;
            }
            if now.latest_execution.as_ref() != ended
                && let Some(running) = self.writing_now(now.latest_execution.as_ref()).await.still_running(task)
            {
                return Beside::Execution(running);
            }
            if !is_busy {
                return Beside::Nothing;
            }
            // The task may show the end of its execution a moment later.
            tokio::select! {
                () = tokio::time::sleep(DESCRIPTION_PAUSE) => {}
                () = self.shutdown.requested() => break,
            }
        }
        unseen(task.settings.delete)
    }

    /// Whether this run may start an execution. Waits until an expired lease is renewed, but not after a stop request.
    pub(crate) async fn may_start(&self) -> bool {
        tokio::select! {
            biased;
            may_start = self.fence.opened() => may_start,
            () = self.shutdown.requested() => false,
        }
    }

    /// Starts an execution with the filters of the task, and returns its ARN; with the options of the task, or with these.
    /// Retries what started none.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, or refuses: it does so while another execution is running. If the
    /// response does not name an execution of the task, one may have started nevertheless.
    pub async fn start(&self, options: Option<&ExecutionOptions>) -> Result<ExecutionArn, ServiceError> {
        let (since, mut retries) = (Instant::now(), 0);
        loop {
            match self.start_with(options, None).await {
                Err(error) if !error.may_have_started() && self.retries(&error, since, retries).await => retries += 1,
                started => return started,
            }
        }
    }

    /// Starts an execution and returns its ARN; with the options and filters of the task, or with these. Sends the request
    /// once: a second one could start a second execution.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub(crate) async fn start_with(
        &self,
        options: Option<&ExecutionOptions>,
        filters: Option<&Filters>,
    ) -> Result<ExecutionArn, ServiceError> {
        let options = options.map(ExecutionOptions::to_override);
        let request = self
            .client
            .start_task_execution()
            .task_arn(self.task.as_str())
            .set_override_options(options)
            .set_includes(filters.map(|filters| filters::rules(filters.include.as_deref())))
            .set_excludes(filters.map(|filters| filters::rules(filters.exclude.as_deref())));
        let once = Self { patience: self.patience.once(), ..self.clone() };
        let started = Box::pin(once.send(|| request.clone().send())).await?;
        let arn = started.task_execution_arn().and_then(|arn| self.task.execution(arn));
        arn.ok_or_else(|| ServiceError::incomplete("StartTaskExecution", "the ARN of an execution of this task"))
    }

    /// Waits before the next attempt of a request that has failed since `since`. Returns whether there is one.
    pub(crate) async fn retries(&self, error: &ServiceError, since: Instant, retries: u32) -> bool {
        let Some(pause) = self.patience.pause(error.kind, since.elapsed(), retries) else {
            return false;
        };
        tracing::debug!(%error, attempt = retries + 1, "retrying this request to DataSync");
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.shutdown.requested() => false,
        }
    }

    /// Requests the cancellation of an execution.
    ///
    /// # Errors
    /// Returns an error if DataSync does not respond, or refuses.
    pub async fn cancel(&self, arn: &ExecutionArn) -> Result<(), ServiceError> {
        let request = self.client.cancel_task_execution().task_execution_arn(arn.as_str());
        self.send(|| request.clone().send()).await.map(drop).map_err(ServiceError::of_execution)
    }

    /// Sends a request until it succeeds or the run gives it up; after a stop request it waits only for a moment.
    async fn send<T, E, F>(&self, request: impl Fn() -> F) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, SdkError<E, Response>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
        ServiceError: From<SdkError<E, Response>>,
    {
        let (since, mut retries) = (Instant::now(), 0);
        loop {
            let response = tokio::select! {
                response = Box::pin(self.credentials.send(Service::DataSync, &request)) => response,
                () = self.shutdown.overdue(STOP_GRACE) => return Err(ServiceError::stopped()),
            };
            let error = match response.map_err(ServiceError::without_credentials)? {
                Ok(response) => return Ok(response),
                Err(error) => ServiceError::from(error),
            };
            if !self.retries(&error, since, retries).await {
                return Err(error);
            }
            retries += 1;
        }
    }
}
