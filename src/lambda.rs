//! The Lambda function: this program, if the Lambda runtime starts it to handle EventBridge events.
//!
//! - A scheduled event, or any event that is not DataSync's, starts the DataSync task, unless an execution is running.
//! - An execution of the task that ended in ERROR, or that succeeded with failed files, starts the ECS task that syncs
//!   directly. If the event arrives twice, ECS starts one task (`clientToken`). A cancelled execution also ends in ERROR,
//!   but starts nothing: its operator acts.
//! - An event of DataSync that the function cannot read starts nothing, and is an error.

mod ecs;
mod event;

use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

use crate::aws::{ConnectError, set_variable};
use crate::cli::check_variables;
use crate::datasync::error::{ServiceError, ServiceErrorKind};
use crate::datasync::{DataSync, ExecutionArn, Patience, Status, TaskArn};
use crate::exit_code::ExitCode;
use crate::shutdown::Shutdown;
use ecs::{FallbackTask, FallbackTaskSettings};
use event::Event;

/// The variable that the Lambda runtime sets.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// A request is retried for half of this. The function ends after 60 s, and Lambda delivers its event again.
const OUTAGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether this process is a Lambda function.
#[must_use]
pub fn is_here() -> bool {
    set_variable(RUNTIME_API).is_some() && std::env::args_os().len() <= 1
}

/// The settings of the function, from its environment.
#[derive(Clone, Debug)]
struct FunctionSettings {
    task: TaskArn,
    fallback: Option<FallbackTaskSettings>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
enum SettingsError {
    #[error("{name} is not set: {what}")]
    Missing { name: &'static str, what: &'static str },
    #[error("{name}: {wrong}")]
    Wrong { name: &'static str, wrong: String },
}

struct Function {
    datasync: DataSync,
    fallback: Option<FallbackTask>,
}

/// Handles events until Lambda ends the process.
pub async fn serve() -> ExitCode {
    if let Err(error) = check_variables(std::env::vars_os()) {
        tracing::error!("{error}");
        return ExitCode::Usage;
    }
    let settings = match FunctionSettings::from_environment(&set_variable) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::Usage;
        }
    };
    let function = match Function::connect(settings).await {
        Ok(function) => function,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::Usage;
        }
    };
    let handle = |event: LambdaEvent<Value>| function.handle(event.payload);
    match lambda_runtime::run(service_fn(handle)).await {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            tracing::error!("the Lambda runtime ended: {error}");
            ExitCode::Fatal
        }
    }
}

impl FunctionSettings {
    fn from_environment(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let name = "EFS2S3_TASK_ARN";
        let task =
            variable(name).ok_or(SettingsError::Missing { name, what: "the ARN of the DataSync task to start" })?;
        let task = task.parse().map_err(|wrong| SettingsError::Wrong { name, wrong })?;
        Ok(Self { task, fallback: FallbackTaskSettings::from_environment(variable)? })
    }
}

impl Function {
    async fn connect(settings: FunctionSettings) -> Result<Self, ConnectError> {
        let region = settings.task.region().to_owned();
        let fallback = match settings.fallback {
            Some(settings) => Some(FallbackTask::connect(settings, &region).await?),
            None => None,
        };
        Ok(Self {
            datasync: DataSync::connect(settings.task, Patience::new(OUTAGE_TIMEOUT, None), Shutdown::default())
                .await?,
            fallback,
        })
    }

    async fn handle(&self, payload: Value) -> Result<Value, Error> {
        let answer = match Event::read(&payload) {
            Event::Start => self.start().await,
            Event::Changed { execution_arn, state } => self.changed(&execution_arn, &state).await,
            Event::Unreadable(why) => {
                Err(format!("cannot read this event of DataSync, and started nothing: {why}").into())
            }
        };
        match &answer {
            Ok(answer) => tracing::info!(%answer, "answered"),
            Err(error) => tracing::error!("{error}"),
        }
        answer
    }

    /// Starts an execution of the DataSync task, unless one is running.
    async fn start(&self) -> Result<Value, Error> {
        if let Some(running) = self.running().await? {
            return Ok(json!({ "execution_arn": running.as_str(), "started": false }));
        }
        match self.datasync.start(None).await {
            Ok(arn) => Ok(json!({ "execution_arn": arn.as_str(), "started": true })),
            // The same event arrived twice, or another caller started the task.
            Err(refused) if refused.kind == ServiceErrorKind::Refused => match self.running().await? {
                Some(running) => Ok(json!({ "execution_arn": running.as_str(), "started": false })),
                None => Err(refused.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn running(&self) -> Result<Option<ExecutionArn>, ServiceError> {
        let latest = self.datasync.latest_execution().await?;
        Ok(self.datasync.describe_latest(latest.as_ref()).await.running()?.map(|running| running.arn))
    }

    /// Starts the ECS task that syncs directly, if an execution of this task failed as a whole or in part.
    async fn changed(&self, execution: &str, state: &str) -> Result<Value, Error> {
        let ignored = |why: &str| Ok(json!({ "execution_arn": execution, "ignored": why }));
        let Some(arn) = self.datasync.task_arn().execution(execution) else {
            return ignored("an execution of another task");
        };
        if !matches!(state, "SUCCESS" | "ERROR") {
            return Ok(json!({ "execution_arn": execution, "state": state }));
        }
        let ended = self.datasync.describe_execution(&arn).await?;
        if ended.was_cancelled() || ended.status == Status::Cancelling {
            return ignored("the execution was cancelled");
        }
        if !ended.status.is_terminal() {
            // Lambda delivers the event again: only the description shows a cancel, and the files that failed.
            let status = ended.status_name;
            return Err(format!("execution {execution} has ended, and its description still shows {status}").into());
        }
        if state == "SUCCESS" && ended.status == Status::Succeeded && !ended.is_partial() {
            return Ok(json!({ "execution_arn": execution, "state": state }));
        }
        let detail = ended.error_detail.or(ended.error_code).or(ended.counted.failed()).unwrap_or_default();
        let Some(fallback) = &self.fallback else {
            return Err(format!(
                "execution {execution} failed ({detail}), and no fallback is configured: set EFS2S3_ECS_CLUSTER, \
                 EFS2S3_ECS_TASK_DEFINITION, EFS2S3_ECS_SUBNETS and EFS2S3_ECS_SECURITY_GROUPS"
            )
            .into());
        };
        let task = fallback.start(execution).await?;
        Ok(json!({ "execution_arn": execution, "error": detail, "fallback_task_arn": task }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "arn:aws:datasync:us-east-1:123456789012:task/task-0123456789abcdef0";
    const ECS: [(&str, &str); 4] = [
        ("EFS2S3_ECS_CLUSTER", "c"),
        ("EFS2S3_ECS_TASK_DEFINITION", "d:7"),
        ("EFS2S3_ECS_SUBNETS", "subnet-1, subnet-2"),
        ("EFS2S3_ECS_SECURITY_GROUPS", "sg-1"),
    ];

    fn settings(variables: &[(&str, &str)]) -> Result<FunctionSettings, String> {
        let variable =
            |name: &str| variables.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned());
        FunctionSettings::from_environment(&variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_names_the_task_and_the_fallback() {
        assert!(settings(&[("EFS2S3_TASK_ARN", TASK)]).unwrap().fallback.is_none());
        let whole: Vec<_> = ECS.into_iter().chain([("EFS2S3_TASK_ARN", TASK)]).collect();
        let fallback = settings(&whole).unwrap().fallback.unwrap();
        assert_eq!(
            (fallback.subnets.as_slice(), fallback.container.as_str()),
            (&["subnet-1".to_owned(), "subnet-2".to_owned()][..], "efs2s3")
        );
    }

    #[test]
    fn errors_name_the_missing_or_wrong_variable() {
        assert!(settings(&[]).unwrap_err().contains("EFS2S3_TASK_ARN is not set"));
        assert!(
            settings(&[("EFS2S3_TASK_ARN", "task-1")]).unwrap_err().contains("EFS2S3_TASK_ARN: 'task-1' is not an ARN")
        );
        for (missing, _) in ECS {
            let rest: Vec<_> =
                ECS.into_iter().filter(|(name, _)| *name != missing).chain([("EFS2S3_TASK_ARN", TASK)]).collect();
            assert!(settings(&rest).unwrap_err().contains(missing), "{missing}");
        }
        let whole = [("EFS2S3_TASK_ARN", TASK), ("EFS2S3_ECS_ASSIGN_PUBLIC_IP", "perhaps")];
        let whole: Vec<_> = ECS.into_iter().chain(whole).collect();
        assert!(settings(&whole).unwrap_err().contains("EFS2S3_ECS_ASSIGN_PUBLIC_IP: 'perhaps'"));
    }
}
