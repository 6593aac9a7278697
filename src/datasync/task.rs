//! A task as it is configured: where from, where to, and how.

use aws_sdk_datasync::operation::describe_location_efs::DescribeLocationEfsOutput;
use aws_sdk_datasync::operation::describe_location_s3::DescribeLocationS3Output;
use aws_sdk_datasync::operation::describe_task::DescribeTaskOutput;
use aws_sdk_datasync::types::{
    Atime, FilterRule, Gid, ManifestConfig, Mtime, ObjectTags, OverwriteMode, PosixPermissions, PreserveDeletedFiles,
    PreserveDevices, SmbSecurityDescriptorCopyFlags, TransferMode, Uid,
};

use super::error::ServiceError;

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its most recent execution, which may have ended.
    pub latest_execution: Option<String>,
    /// Where from.
    pub source: SourceOfTask,
    /// Where to: `s3://bucket/prefix/`; none for anything else than a general-purpose bucket on S3.
    pub destination_uri: Option<String>,
    /// How.
    pub settings: TaskSettings,
}

/// A task's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceOfTask {
    /// A folder on an EFS file system.
    Efs {
        /// `fs-…`
        file_system: String,
        /// The folder, beginning with `/`.
        folder: String,
        /// Whether it is seen through an access point, whose root the folder is counted from.
        access_point: bool,
    },
    /// Something else.
    Other,
}

/// What a task's options and filters say, as far as they matter to copying a file tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSettings {
    /// Include patterns, as DataSync writes them.
    pub include: Option<String>,
    /// Exclude patterns.
    pub exclude: Option<String>,
    /// `PreserveDeletedFiles=REMOVE`
    pub delete: bool,
    /// `OverwriteMode=NEVER`
    pub overwrite_never: bool,
    /// The attributes that are not kept, by the names of `--no-preserve`.
    pub not_preserved: Vec<&'static str>,
    /// The limit of bytes in a second.
    pub bytes_per_second: Option<u64>,
    /// The storage class of new objects, by S3's name; none for `STANDARD`.
    pub storage_class: Option<String>,
    /// Where the manifest is, as `s3://bucket/key`.
    pub manifest: Option<String>,
    /// Options that the direct sync does not know, in words.
    pub unsupported: Vec<String>,
}

impl Task {
    pub(super) fn new(
        task: &DescribeTaskOutput,
        source: SourceOfTask,
        destination: Option<&DescribeLocationS3Output>,
    ) -> Self {
        let uri = destination.and_then(DescribeLocationS3Output::location_uri);
        Self {
            latest_execution: task.current_task_execution_arn().filter(|arn| !arn.is_empty()).map(str::to_owned),
            source,
            destination_uri: uri.filter(|uri| uri.starts_with("s3://")).map(str::to_owned),
            settings: TaskSettings::new(task, destination),
        }
    }
}

impl SourceOfTask {
    pub(super) fn of_efs(location: &DescribeLocationEfsOutput) -> Self {
        location
            .location_uri()
            .and_then(|uri| Self::of_efs_uri(uri, location.access_point_arn().is_some()))
            .unwrap_or(Self::Other)
    }

    /// `efs://region.fs-0123/folder`
    fn of_efs_uri(uri: &str, access_point: bool) -> Option<Self> {
        let rest = uri.strip_prefix("efs://")?;
        let (host, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let file_system = host.split('.').find(|part| part.starts_with("fs-"))?;
        let folder = format!("/{}", folder.trim_end_matches('/'));
        Some(Self::Efs { file_system: file_system.to_owned(), folder, access_point })
    }

    pub(super) fn or_not_efs(error: ServiceError) -> Result<Self, ServiceError> {
        error.unless_refused::<Self>().map(|_| Self::Other)
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
        let not_kept = [
            ("mtime", options.mtime() == Some(&Mtime::None)),
            ("atime", options.atime() == Some(&Atime::None)),
            ("uid", options.uid() == Some(&Uid::None)),
            ("gid", options.gid() == Some(&Gid::None)),
            ("permissions", options.posix_permissions() == Some(&PosixPermissions::None)),
        ];
        settings.not_preserved = not_kept.into_iter().filter(|(_, not_kept)| *not_kept).map(|(name, _)| name).collect();
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

fn manifest_url(manifest: &ManifestConfig) -> Option<String> {
    let object = manifest.source()?.s3()?;
    let bucket = object.s3_bucket_arn().rsplit(':').next()?;
    Some(format!("s3://{bucket}/{}", object.manifest_object_path().trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_read_from_its_uri() {
        let efs = |folder: &str, access_point| {
            Some(SourceOfTask::Efs { file_system: "fs-0123".into(), folder: folder.into(), access_point })
        };
        assert_eq!(SourceOfTask::of_efs_uri("efs://us-gov-west-1.fs-0123/", false), efs("/", false));
        assert_eq!(SourceOfTask::of_efs_uri("efs://us-east-1.fs-0123/sub/dir/", true), efs("/sub/dir", true));
        assert_eq!(SourceOfTask::of_efs_uri("efs://us-east-1.fs-0123", false), efs("/", false));
        assert_eq!(SourceOfTask::of_efs_uri("nfs://host/export", false), None);
    }
}
