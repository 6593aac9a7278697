//! Deleting: whether the run deletes, and what stops it.

use crate::cli::DeleteArgs;
use crate::source::Requirements;
use crate::sync::guard::LimitShare;
use crate::sync::rules::DeleteRules;

#[derive(Debug)]
pub(super) struct Deleting {
    pub(super) delete: bool,
    pub(super) rules: DeleteRules,
    pub(super) requirements: Requirements,
    pub(super) allow_missing_mounts: bool,
}

impl Deleting {
    /// `has_manifest`: the run checks only the files of a manifest, and so cannot know which objects have no file.
    pub(super) fn new(args: DeleteArgs, has_manifest: bool) -> Self {
        if args.delete && has_manifest {
            tracing::warn!("with --from-manifest the run deletes nothing: it checks only the files of the manifest");
        }
        Self {
            delete: args.delete && !has_manifest,
            rules: DeleteRules {
                max_delete: args.max_delete,
                // Known once the run has its key range.
                limit_share: LimitShare::Unknown,
                allow_empty_source: args.allow_empty_source,
                ignore_errors: args.ignore_errors,
                of_plan: false,
                of_doubt: None,
                other_writer: None,
                already_deleted: 0,
            },
            allow_missing_mounts: args.allow_missing_mounts,
            requirements: Requirements { mount: args.require_mount, sentinel: args.sentinel },
        }
    }
}
