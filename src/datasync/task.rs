//! The configuration of a task: its source, its destination and its settings.

use aws_sdk_datasync::operation::describe_location_efs::DescribeLocationEfsOutput;
use aws_sdk_datasync::operation::describe_location_s3::DescribeLocationS3Output;
use aws_sdk_datasync::operation::describe_task::DescribeTaskOutput;
use aws_sdk_datasync::types::{
    Atime, FilterRule, Gid, ManifestConfig, Mtime, ObjectTags, OverwriteMode, PosixPermissions, PreserveDeletedFiles,
    PreserveDevices, SmbSecurityDescriptorCopyFlags, TransferMode, Uid,
};

use super::options::ExecutionOptions;

/// The configuration of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    /// The ARN of the most recent execution, which may have ended.
    pub(crate) latest_execution: Option<String>,
    pub(crate) source: TaskSource,
    /// `s3://bucket/prefix/`. `None` if the destination is not a general-purpose bucket on S3.
    pub(crate) destination_uri: Option<String>,
    pub(crate) settings: TaskSettings,
    /// The options of its executions, unless a start overrides them.
    pub(crate) options: Option<ExecutionOptions>,
}

/// The source location of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub(crate) not_preserved: Vec<&'static str>,
    /// The bandwidth limit.
    pub(crate) bytes_per_second: Option<u64>,
    /// The storage class of new objects, by the S3 API's name. `None` for `STANDARD`.
    pub(crate) storage_class: Option<String>,
    /// The manifest as `s3://bucket/key`.
    pub(crate) manifest: Option<String>,
    /// The options that the direct sync does not support, as `NAME=VALUE`.
    pub(crate) unsupported: Vec<String>,
}

impl Task {
    pub(super) fn new(
        task: &DescribeTaskOutput,
        source: Option<&DescribeLocationEfsOutput>,
        destination: Option<&DescribeLocationS3Output>,
    ) -> Self {
        let uri = destination.and_then(DescribeLocationS3Output::location_uri);
        Self {
            latest_execution: task.current_task_execution_arn().filter(|arn| !arn.is_empty()).map(str::to_owned),
            source: source.and_then(TaskSource::of_efs).unwrap_or(TaskSource::Other),
            destination_uri: uri.filter(|uri| uri.starts_with("s3://")).map(str::to_owned),
            settings: TaskSettings::new(task, destination),
            options: task.options().map(ExecutionOptions::new),
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
    fn new(task: &DescribeTaskOutput, destination: Option<&DescribeLocationS3Output>) -> Self {
        let mut settings = Self {
            include: patterns(task.includes()),
            exclude: patterns(task.excludes()),
            storage_class: destination.and_then(storage_class),
            ..Self::default()
        };
        if let Some(manifest) = task.manifest_config() {
            match manifest_url(manifest) {
                Some(url) => settings.manifest = Some(url),
                None => settings.unsupported.push("ManifestConfig without an S3 object".to_owned()),
            }
        }
        let Some(options) = task.options() else {
            return settings;
        };
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
        settings.not_preserved = attributes.into_iter().filter(|(_, is_none)| *is_none).map(|(name, _)| name).collect();
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
        settings
    }
}

pub(super) fn patterns(rules: &[FilterRule]) -> Option<String> {
    let values: Vec<&str> = rules.iter().filter_map(FilterRule::value).filter(|value| !value.is_empty()).collect();
    (!values.is_empty()).then(|| values.join("|"))
}

fn storage_class(location: &DescribeLocationS3Output) -> Option<String> {
    match location.s3_storage_class()?.as_str() {
        "STANDARD" => None,
        "GLACIER_INSTANT_RETRIEVAL" => Some("GLACIER_IR".to_owned()),
        other => Some(other.to_owned()),
    }
}

pub(super) fn manifest_url(manifest: &ManifestConfig) -> Option<String> {
    let object = manifest.source()?.s3()?;
    let bucket = object.s3_bucket_arn().rsplit(':').next()?;
    Some(format!("s3://{bucket}/{}", object.manifest_object_path().trim_start_matches('/')))
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
