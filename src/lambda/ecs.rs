//! The ECS task that syncs directly as the fallback. The only home of the ECS SDK.

use std::time::Duration;

use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::DisplayErrorContext;
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, ContainerOverride, KeyValuePair, LaunchType, NetworkConfiguration,
    TaskOverride,
};
use lambda_runtime::Error;

use super::SettingsError;
use crate::aws::{self, ConnectError, Credentials, Service, Settings};

const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of the task and its network.
#[derive(Clone, Debug)]
pub(super) struct FallbackTaskSettings {
    pub(super) cluster: String,
    pub(super) task_definition: String,
    pub(super) subnets: Vec<String>,
    pub(super) security_groups: Vec<String>,
    /// The name of the container that runs this program.
    pub(super) container: String,
    pub(super) assign_public_ip: bool,
}

/// The task and a client that can start it.
#[derive(Debug)]
pub(super) struct FallbackTask {
    client: Client,
    credentials: Credentials,
    settings: FallbackTaskSettings,
}

impl FallbackTaskSettings {
    /// Returns `None` if no variable of the fallback is set.
    pub(super) fn from_environment(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SettingsError> {
        let names =
            ["EFS2S3_ECS_CLUSTER", "EFS2S3_ECS_TASK_DEFINITION", "EFS2S3_ECS_SUBNETS", "EFS2S3_ECS_SECURITY_GROUPS"];
        if names.iter().all(|name| variable(name).is_none()) {
            return Ok(None);
        }
        let required = |name: &'static str| {
            let what = "the fallback needs it, because other EFS2S3_ECS_… variables are set";
            variable(name).ok_or(SettingsError::Missing { name, what })
        };
        let list =
            |text: String| text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
        let [cluster, task_definition, subnets, security_groups] = names;
        let public = "EFS2S3_ECS_ASSIGN_PUBLIC_IP";
        Ok(Some(Self {
            cluster: required(cluster)?,
            task_definition: required(task_definition)?,
            subnets: list(required(subnets)?),
            security_groups: list(required(security_groups)?),
            container: variable("EFS2S3_ECS_CONTAINER").unwrap_or_else(|| "efs2s3".to_owned()),
            assign_public_ip: match variable(public).as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => {
                    let wrong = format!("'{other}' is neither true nor false");
                    return Err(SettingsError::Wrong { name: public, wrong });
                }
            },
        }))
    }
}

impl FallbackTask {
    pub(super) async fn connect(settings: FallbackTaskSettings, region: &str) -> Result<Self, ConnectError> {
        let Settings { shared, url, credentials } = aws::settings(Service::Ecs, None).await?;
        let mut config = aws_sdk_ecs::config::Builder::from(&shared)
            .region(Region::new(region.to_owned()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(aws::timeouts(Some(ATTEMPT_TIMEOUT)));
        config.set_endpoint_url(url);
        Ok(Self { client: Client::from_conf(config.build()), credentials, settings })
    }

    /// Starts the task for a failed execution and returns the task's ARN. A repeated call starts no second task.
    ///
    /// The task gets `EFS2S3_POLICY=direct-only`: with DataSync first, it could fail again and cause another event.
    pub(super) async fn start(&self, execution: &str) -> Result<String, Error> {
        let Self { client, credentials, settings } = self;
        let id = execution.rsplit('/').next().unwrap_or(execution);
        let public = if settings.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
        let network = AwsVpcConfiguration::builder()
            .set_subnets(Some(settings.subnets.clone()))
            .set_security_groups(Some(settings.security_groups.clone()))
            .assign_public_ip(public)
            .build()?;
        let directly = KeyValuePair::builder().name("EFS2S3_POLICY").value("direct-only").build();
        let container = ContainerOverride::builder().name(&settings.container).environment(directly).build();
        let request = client
            .run_task()
            .cluster(&settings.cluster)
            .task_definition(&settings.task_definition)
            .launch_type(LaunchType::Fargate)
            .network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build())
            .overrides(TaskOverride::builder().container_overrides(container).build())
            .started_by("efs2s3-lambda")
            .client_token(format!("efs2s3-{id}"));
        let response = Box::pin(credentials.send(Service::Ecs, || request.clone().send()))
            .await
            .map_err(|error| error.to_string())?;
        let response =
            response.map_err(|error| format!("cannot start the ECS task: {}", DisplayErrorContext(&error)))?;
        // RunTask responds with 200 even if there is no capacity, or no such revision.
        if let Some(failure) = response.failures().first() {
            let (reason, detail) = (failure.reason().unwrap_or("unknown"), failure.detail().unwrap_or_default());
            return Err(format!("ECS did not start the task: {reason} {detail}").trim_end().into());
        }
        let task = response.tasks().first().and_then(|task| task.task_arn());
        task.map(str::to_owned).ok_or_else(|| "ECS did not start the task: the response names no task".into())
    }
}
