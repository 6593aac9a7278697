//! Comparing: when an object is up to date, and what its metadata holds.

use super::error::ConfigError;
use crate::cli::{Attribute, Compare, CompareArgs, MetadataDialect, Mode, Overwrite, Symlinks};
use crate::metadata::{Dialect, ModeForm, Preserve, TimeForm};
use crate::source::walk::Links;
use crate::sync::rules::CompareBy;

#[derive(Debug)]
pub(super) struct Comparing {
    pub(super) by: CompareBy,
    pub(super) overwrite: bool,
    /// The attributes that become metadata; `None` with `--mode plain`.
    pub(super) preserve: Option<Preserve>,
    /// The form of metadata; `None` is the form in the bucket.
    pub(super) dialect: Option<Dialect>,
    pub(super) links: Links,
}

impl Comparing {
    pub(super) fn new(args: &CompareArgs, symlinks: Option<Symlinks>) -> Result<Self, ConfigError> {
        let time = match args.metadata_dialect {
            MetadataDialect::Auto => None,
            MetadataDialect::Nanoseconds => Some(TimeForm::Nanoseconds),
            MetadataDialect::Milliseconds => Some(TimeForm::Milliseconds),
        };
        Ok(Self {
            by: match args.compare {
                Compare::Auto => CompareBy::TimesOrContent,
                Compare::SizeOnly => CompareBy::Size,
                Compare::Mtime => CompareBy::Mtime,
                Compare::Checksum => CompareBy::Content,
                Compare::Metadata => CompareBy::Metadata,
            },
            overwrite: args.overwrite == Overwrite::Always,
            preserve: preserve(args)?,
            dialect: time.map(|time| Dialect { time, mode: ModeForm::SevenDigits }),
            links: match (args.mode, symlinks) {
                (Mode::Datasync, None) => Links::Keep,
                (Mode::Datasync, Some(_)) => return Err(ConfigError::SymlinksWithoutPlain),
                (Mode::Plain, None | Some(Symlinks::Follow)) => Links::Follow,
                (Mode::Plain, Some(Symlinks::Skip)) => Links::Skip,
            },
        })
    }
}

fn preserve(args: &CompareArgs) -> Result<Option<Preserve>, ConfigError> {
    if args.mode == Mode::Plain {
        return if args.compare == Compare::Metadata {
            Err(ConfigError::MetadataInPlain("--compare metadata"))
        } else if !args.no_preserve.is_empty() {
            Err(ConfigError::MetadataInPlain("--no-preserve"))
        } else if args.metadata_dialect != MetadataDialect::Auto {
            Err(ConfigError::MetadataInPlain("--metadata-dialect"))
        } else {
            Ok(None)
        };
    }
    let kept = |attribute| !args.no_preserve.contains(&attribute);
    Ok(Some(Preserve {
        mtime: kept(Attribute::Mtime),
        atime: kept(Attribute::Atime),
        uid: kept(Attribute::Uid),
        gid: kept(Attribute::Gid),
        permissions: kept(Attribute::Permissions),
    }))
}
