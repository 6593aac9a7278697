//! The configuration of a task: its source, its destination and its settings.
//!
//! A configuration is complete, or there is none: a filter, an option or a location that a response lacks must not look
//! like one that the task does not have.

use aws_sdk_datasync::operation::describe_location_efs::DescribeLocationEfsOutput;
use aws_sdk_datasync::operation::describe_location_s3::DescribeLocationS3Output;
use aws_sdk_datasync::operation::describe_task::DescribeTaskOutput;
use aws_sdk_datasync::types::{
    Atime, FilterRule, FilterType, Gid, ManifestConfig, Mtime, ObjectTags, OverwriteMode, PosixPermissions,
    PreserveDeletedFiles, PreserveDevices, SmbSecurityDescriptorCopyFlags, TransferMode, Uid,
};

use serde::{Deserialize, Serialize};

use super::arn::{ExecutionArn, TaskArn};
use super::error::ServiceError;
use super::filters::{Filters, patterns};
use super::options::ExecutionOptions;
use crate::manifest::VERSION_PARAMETER;

/// The configuration of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    /// The most recent execution, which may have ended.
    pub(crate) latest_execution: Option<ExecutionArn>,
    pub(crate) source: TaskSource,
    /// `s3://bucket/prefix/`. `None` if the destination is not a general-purpose bucket on S3.
    pub(crate) destination_uri: Option<String>,
    pub(crate) settings: TaskSettings,
    /// The options of its executions, unless a start overrides them.
    pub(crate) options: Option<ExecutionOptions>,
    pub(super) locations: LocationArns,
}

/// The ARNs of a task's source and destination. The kind of a location never changes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct LocationArns {
    pub(super) source: String,
    pub(super) destination: String,
}

/// What `DescribeTask` shows of a task, without its locations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TaskAlone {
    pub(super) latest_execution: Option<ExecutionArn>,
    settings: TaskSettings,
    options: Option<ExecutionOptions>,
    pub(super) locations: LocationArns,
}

/// Why a task has no configuration.
#[derive(Clone, Debug)]
pub(crate) struct NotDescribed {
    pub(crate) error: ServiceError,
    /// What `DescribeTask` showed, if it showed everything and a location is missing.
    pub(crate) alone: Option<Box<TaskAlone>>,
    /// The location that DataSync did not describe as the kind that this program copies, if that is the reason.
    pub(crate) other_kind: Option<OtherKind>,
}

/// A location of a kind that this program does not copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherKind {
    /// The source is not on EFS.
    Source,
    /// The destination is not on S3.
    Destination,
}

/// The source location of a task.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum TaskSource {
    /// A folder on an EFS file system.
    Efs {
        /// `fs-…`
        file_system: String,
        /// The folder, with a leading `/`.
        folder: String,
        /// Whether the folder is relative to the root of an access point.
        access_point: bool,
    },
    /// Not an EFS location.
    Other,
}

/// The task's filters and options that matter for the copy of a file tree.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct TaskSettings {
    /// The include patterns, in DataSync's syntax.
    pub(crate) include: Option<String>,
    /// The exclude patterns, in DataSync's syntax.
    pub(crate) exclude: Option<String>,
    /// `PreserveDeletedFiles=REMOVE`
    pub(crate) delete: bool,
    /// `OverwriteMode=NEVER`
    pub(crate) overwrite_never: bool,
    /// The attributes that DataSync does not preserve, as values of `--no-preserve`.
    pub(crate) not_preserved: Vec<String>,
    /// The bandwidth limit.
    pub(crate) bytes_per_second: Option<u64>,
    /// The storage class of new objects, by the S3 API's name. `None` for `STANDARD`.
    pub(crate) storage_class: Option<String>,
    /// The manifest as `s3://bucket/key`, and `?versionId=ID` if the task names a version.
    pub(crate) manifest: Option<String>,
    /// The options that the direct sync does not support, as `NAME=VALUE`.
    pub(crate) unsupported: Vec<String>,
}

impl TaskAlone {
    /// Reads the response to `DescribeTask` about the task `arn`.
    pub(super) fn new(task: &DescribeTaskOutput, arn: &TaskArn) -> Result<Self, ServiceError> {
        let present = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let missing = |what| ServiceError::incomplete("DescribeTask", what);
        let source = present(task.source_location_arn()).ok_or_else(|| missing("SourceLocationArn"))?;
        let destination = present(task.destination_location_arn()).ok_or_else(|| missing("DestinationLocationArn"))?;
        Ok(Self {
            latest_execution: latest_execution_in(task, arn)?,
            settings: TaskSettings::new(task).map_err(missing)?,
            options: task.options().map(ExecutionOptions::new),
            locations: LocationArns { source, destination },
        })
    }

    /// The whole configuration, with the locations that DataSync described.
    pub(super) fn with_locations(
        self,
        source: &DescribeLocationEfsOutput,
        destination: &DescribeLocationS3Output,
    ) -> Result<Task, NotDescribed> {
        if source.location_arn() != Some(&self.locations.source) {
            return Err(self.incomplete("DescribeLocationEfs", "this LocationArn"));
        }
        if destination.location_arn() != Some(&self.locations.destination) {
            return Err(self.incomplete("DescribeLocationS3", "this LocationArn"));
        }
        let Some(source) = TaskSource::of_efs(source) else {
            return Err(self.incomplete("DescribeLocationEfs", "an EFS LocationUri"));
        };
        let Some(uri) = destination.location_uri().filter(|uri| uri.starts_with("s3://")) else {
            return Err(self.incomplete("DescribeLocationS3", "an S3 LocationUri"));
        };
        let uri = uri.to_owned();
        Ok(self.with(source, uri, storage_class(destination)))
    }

    /// Whether the settings that a direct sync follows are still those of this description.
    pub(super) fn has_settings_of(&self, earlier: &Task) -> bool {
        let TaskSettings { bytes_per_second, storage_class, .. } = earlier.settings.clone();
        let settings = TaskSettings { bytes_per_second, storage_class, ..self.settings.clone() };
        settings == earlier.settings && self.locations == earlier.locations
    }

    /// The whole configuration, with the locations of an earlier description, if they are this task's.
    pub(super) fn with_locations_of(self, earlier: &Task) -> Option<Task> {
        let uri = earlier.destination_uri.clone()?;
        (self.locations == earlier.locations)
            .then(|| self.with(earlier.source.clone(), uri, earlier.settings.storage_class.clone()))
    }

    fn with(self, source: TaskSource, destination_uri: String, storage_class: Option<String>) -> Task {
        let Self { latest_execution, settings, options, locations } = self;
        let settings = TaskSettings { storage_class, ..settings };
        Task { latest_execution, source, destination_uri: Some(destination_uri), settings, options, locations }
    }

    fn incomplete(self, operation: &str, what: &str) -> NotDescribed {
        NotDescribed { error: ServiceError::incomplete(operation, what), alone: Some(Box::new(self)), other_kind: None }
    }
}

impl NotDescribed {
    /// `DescribeTask` failed, or showed only a part of the task.
    pub(super) fn task(error: ServiceError) -> Self {
        Self { error, alone: None, other_kind: None }
    }

    /// `DescribeTask` showed the task, and describing this location failed.
    pub(super) fn location(error: ServiceError, alone: TaskAlone, which: OtherKind) -> Self {
        let other_kind = error.is_refused().then_some(which);
        Self { error, alone: Some(Box::new(alone)), other_kind }
    }
}

impl OtherKind {
    /// What is wrong with the task.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Source => "the task's source is not an EFS location",
            Self::Destination => "the task's destination is not an S3 location",
        }
    }
}

impl TaskSource {
    fn of_efs(location: &DescribeLocationEfsOutput) -> Option<Self> {
        Self::of_efs_uri(location.location_uri()?, location.access_point_arn().is_some())
    }

    /// Parses `efs://region.fs-0123/folder`.
    fn of_efs_uri(uri: &str, access_point: bool) -> Option<Self> {
        let rest = uri.strip_prefix("efs://")?;
        let (host, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let file_system = host.split('.').find(|part| part.starts_with("fs-"))?;
        let folder = format!("/{}", folder.trim_end_matches('/'));
        Some(Self::Efs { file_system: file_system.to_owned(), folder, access_point })
    }
}

impl TaskSettings {
    pub(crate) fn filters(&self) -> Filters {
        Filters { include: self.include.clone(), exclude: self.exclude.clone() }
    }

    /// Whether executions store mtimes. Without stored mtimes, DataSync compares sizes alone.
    pub(super) fn stores_mtime(&self) -> bool {
        !self.not_preserved.iter().any(|attribute| attribute == "mtime")
    }

    /// Reads the settings that `DescribeTask` shows; the error names what it lacks. The storage class is that of the
    /// location.
    fn new(task: &DescribeTaskOutput) -> Result<Self, &'static str> {
        let has_unknown_rule = |rules: &[FilterRule]| rules.iter().any(|rule| !is_known(rule));
        if has_unknown_rule(task.includes()) || has_unknown_rule(task.excludes()) {
            return Err("a filter that this program can read");
        }
        let manifest = task.manifest_config().map(|manifest| manifest_url(manifest).ok_or("the manifest's S3 object"));
        let mut settings = Self {
            include: patterns(task.includes()),
            exclude: patterns(task.excludes()),
            manifest: manifest.transpose()?,
            ..Self::default()
        };
        let options = task.options().ok_or("Options")?;
        if options.preserve_deleted_files().is_none() || options.overwrite_mode().is_none() {
            return Err("PreserveDeletedFiles and OverwriteMode");
        }
        settings.delete = options.preserve_deleted_files() == Some(&PreserveDeletedFiles::Remove);
        settings.overwrite_never = options.overwrite_mode() == Some(&OverwriteMode::Never);
        settings.bytes_per_second =
            options.bytes_per_second().and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        let attributes = [
            ("mtime", options.mtime() == Some(&Mtime::None)),
            ("atime", options.atime() == Some(&Atime::None)),
            ("uid", options.uid() == Some(&Uid::None)),
            ("gid", options.gid() == Some(&Gid::None)),
            ("permissions", options.posix_permissions() == Some(&PosixPermissions::None)),
        ];
        let not_preserved = attributes.into_iter().filter(|(_, is_none)| *is_none);
        settings.not_preserved = not_preserved.map(|(name, _)| name.to_owned()).collect();
        let mut unsupported = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                settings.unsupported.push(format!("{name}={value}"));
            }
        };
        let tags = options.object_tags().filter(|tags| **tags != ObjectTags::None);
        unsupported("ObjectTags", tags.map(ObjectTags::as_str));
        let devices = options.preserve_devices().filter(|devices| **devices != PreserveDevices::None);
        unsupported("PreserveDevices", devices.map(PreserveDevices::as_str));
        let flags = options.security_descriptor_copy_flags();
        let flags = flags.filter(|flags| **flags != SmbSecurityDescriptorCopyFlags::None);
        unsupported("SecurityDescriptorCopyFlags", flags.map(SmbSecurityDescriptorCopyFlags::as_str));
        let mode = options.transfer_mode().filter(|mode| **mode == TransferMode::All);
        unsupported("TransferMode", mode.map(TransferMode::as_str));
        Ok(settings)
    }
}

/// The latest execution that `DescribeTask` shows of the task `arn`, if there is one.
pub(super) fn latest_execution_in(
    task: &DescribeTaskOutput,
    arn: &TaskArn,
) -> Result<Option<ExecutionArn>, ServiceError> {
    let Some(text) = task.current_task_execution_arn().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let missing = || ServiceError::incomplete("DescribeTask", "an execution of this task as CurrentTaskExecutionArn");
    arn.execution(text).map(Some).ok_or_else(missing)
}

/// Whether the task shows that an execution is running or queued.
pub(super) fn is_busy(task: &DescribeTaskOutput) -> bool {
    task.status().is_some_and(|status| matches!(status.as_str(), "RUNNING" | "QUEUED"))
}

/// Whether the rule is one that the direct sync applies as DataSync does.
fn is_known(rule: &FilterRule) -> bool {
    rule.filter_type().is_none_or(|kind| *kind == FilterType::SimplePattern) && rule.value().is_some()
}

fn storage_class(location: &DescribeLocationS3Output) -> Option<String> {
    match location.s3_storage_class()?.as_str() {
        "STANDARD" => None,
        "GLACIER_INSTANT_RETRIEVAL" => Some("GLACIER_IR".to_owned()),
        other => Some(other.to_owned()),
    }
}

/// The URL of a manifest, with the version if the configuration names one.
pub(super) fn manifest_url(manifest: &ManifestConfig) -> Option<String> {
    let object = manifest.source()?.s3()?;
    let arn = object.s3_bucket_arn();
    // The ARN of an access point has no shorter form.
    let bucket = if arn.contains(":accesspoint") { arn } else { arn.rsplit(':').next()? };
    let version = object.manifest_object_version_id().filter(|version| !version.is_empty());
    let version = version.map(|version| format!("{VERSION_PARAMETER}{version}")).unwrap_or_default();
    Some(format!("s3://{bucket}/{}{version}", object.manifest_object_path().trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_efs_uri_is_parsed() {
        let efs = |folder: &str, access_point| {
            Some(TaskSource::Efs { file_system: "fs-0123".into(), folder: folder.into(), access_point })
        };
        assert_eq!(TaskSource::of_efs_uri("efs://us-gov-west-1.fs-0123/", false), efs("/", false));
        assert_eq!(TaskSource::of_efs_uri("efs://us-east-1.fs-0123/sub/dir/", true), efs("/sub/dir", true));
        assert_eq!(TaskSource::of_efs_uri("efs://us-east-1.fs-0123", false), efs("/", false));
        assert_eq!(TaskSource::of_efs_uri("nfs://host/export", false), None);
    }
}
