//! Arguments as meant: what the command line, environment and config file say together, checked and with every default in
//! its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::aws::ConnectError;
use crate::cli::{
    Addressing, Attribute, Checksum, Compare, CompareArgs, HowArgs, MetadataDialect, Mode, Overwrite, S3Args, Symlinks,
    SyncArgs,
};
use crate::cut::CutError;
use crate::destination::checksum::Algorithm;
use crate::destination::error::S3Error;
use crate::destination::headers::{Encryption, HeaderRule, HeaderRules};
use crate::destination::operation::Requests;
use crate::destination::{Destination, Endpoint, SendOptions};
use crate::filter::{Filter, FilterError};
use crate::key::RelativeKey;
use crate::key_range::EmptyRange;
use crate::location::{FileLocation, Location};
use crate::manifest::{Manifest, ManifestError};
use crate::metadata::{Dialect, ModeForm, Preserve, TimeForm};
use crate::object::StorageClass;
use crate::progress::Progress;
use crate::scope::Scope;
use crate::shutdown::Shutdown;
use crate::source::section::Section;
use crate::source::walk::{Links, WalkOptions};
use crate::source::{Requirements, Source, SourceError};
use crate::sync::Setup;
use crate::sync::budget::ByteBudget;
use crate::sync::context::{Context, Memory};
use crate::sync::decide::{CompareBy, Rules};
use crate::sync::dialect::DialectInUse;
use crate::sync::guard::DeleteRules;

mod memory;
mod share;

use share::Share;

/// AWS advises at least 64 threads a client (EFS user guide, "Performance tips").
const WALKERS: usize = 64;
/// Enough for a bucket that bears 3,500 writes a second at some 50 ms each; the limit in force is learnt.
const CONCURRENCY: usize = 256;
const LIST_CONCURRENCY: usize = 8;
/// Enough to keep all walkers busy in one flat directory, and few enough to stay small.
const LOOK_AHEAD_ENTRIES: usize = 5_000;
const BATCH_ENTRIES: usize = 1_000;
/// A person waits no longer than this before hearing what is being waited for.
const WARN_AFTER: Duration = Duration::from_secs(20);

/// What a sync is to do.
#[derive(Debug)]
pub struct SyncConfig {
    source: PathBuf,
    requirements: Requirements,
    walk: WalkOptions,
    scope: Scope,
    share: Share,
    endpoint: Endpoint,
    send: SendOptions,
    headers: HeaderRules,
    filter: Arc<Filter>,
    manifest: Option<NamedFiles>,
    dialect: Option<Dialect>,
    rules: Rules,
    delete_rules: DeleteRules,
    list_concurrency: usize,
    memory_bytes: u64,
    part_size: u64,
    multipart_threshold: u64,
}

/// A manifest, read or to be fetched.
#[derive(Debug)]
enum NamedFiles {
    Known(Manifest),
    In(Location, RelativeKey),
}

/// Options that are each right and do not go together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A pattern that DataSync would refuse.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A manifest that DataSync would refuse.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file that is named cannot be read.
    #[error("the {what} {path} cannot be read: {source}")]
    Read {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No such range.
    #[error(transparent)]
    Range(#[from] EmptyRange),
    /// No ranges, or not this one.
    #[error("{file}: {source}")]
    Cut {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: CutError,
    },
    /// A cut without the number of a range.
    #[error(
        "--ranges names all ranges: say which with --range-index (a Batch array job or an indexed Kubernetes Job does)"
    )]
    NoIndex,
    /// A number without a cut.
    #[error("--range-index is the number of a range in a file: name it with --ranges")]
    NoRanges,
    /// Named files and a range.
    #[error("--from-manifest names the files one by one: leave out the range of keys")]
    RangeOfNamed,
    /// `--symlinks` where links are objects.
    #[error("--symlinks goes with --mode plain: with --mode datasync a link is an object that holds its target's name")]
    SymlinksWithoutPlain,
    /// An option of metadata where there is none.
    #[error("{0} goes with --mode datasync: with --mode plain no metadata is kept")]
    MetadataInPlain(&'static str),
    /// `--sse-kms-key-id` with another encryption.
    #[error("--sse-kms-key-id goes with --sse aws:kms or aws:kms:dsse")]
    KeyWithoutKms,
}

/// Why a sync cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The destination's client cannot be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The manifest cannot be had from S3.
    #[error("the manifest cannot be read: {0}")]
    FetchManifest(String),
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The ranges cannot be had.
    #[error("the ranges cannot be read: {0}")]
    FetchRanges(String),
}

impl SyncConfig {
    /// Checks what the arguments say together.
    ///
    /// # Errors
    /// Where they contradict one another.
    pub fn new(args: SyncArgs, rules: Vec<HeaderRule>) -> Result<Self, ConfigError> {
        let SyncArgs { source, destination, report: _, range, how } = args;
        let share = Share::new(range)?;
        let HowArgs { delete, source_args, compare, upload, limits, s3 } = how;
        if upload.sse_kms_key_id.is_some() && !upload.sse.as_ref().is_some_and(|sse| sse.starts_with("aws:kms")) {
            return Err(ConfigError::KeyWithoutKms);
        }
        let preserve = preserved(&compare)?;
        let links = links(compare.mode, source_args.tree.symlinks)?;
        let manifest = source_args.from_manifest.map(named_files).transpose()?;
        if manifest.is_some() && delete.delete {
            tracing::warn!("with --from-manifest nothing is deleted: only the files that it names are looked at");
        }
        let is_named = manifest.is_some();
        if is_named && !matches!(&share, Share::Keys(keys) if keys.is_all()) {
            return Err(ConfigError::RangeOfNamed);
        }
        let filter = Arc::new(Filter::new(source_args.tree.include.as_deref(), source_args.tree.exclude.as_deref())?);
        for pattern in filter.matching_nothing() {
            tracing::warn!(
                pattern,
                "this pattern matches nothing: a pattern begins with / (the source's own folder) or with *"
            );
        }
        Ok(Self {
            requirements: Requirements { mount: delete.require_mount, sentinel: delete.sentinel },
            walk: WalkOptions {
                walkers: source_args.tree.walkers.or(WALKERS),
                look_ahead_entries: LOOK_AHEAD_ENTRIES,
                batch_entries: BATCH_ENTRIES,
                source_timeout: source_args.tree.source_timeout,
                warn_after: WARN_AFTER,
                links,
                leave_reserved: preserve.is_some(),
                max_key_bytes: destination.prefix.room_bytes(),
                filter: Arc::clone(&filter),
                section: Arc::new(Section::of(share.keys())),
                names_only: false,
            },
            endpoint: endpoint(&s3),
            send: SendOptions {
                concurrency: limits.concurrency.or(CONCURRENCY),
                retries: limits.retries,
                bandwidth: limits.bandwidth,
                expected_owner: s3.expected_bucket_owner,
                checksum: match upload.checksum {
                    Checksum::Auto | Checksum::Crc64nvme => Some(Algorithm::Crc64Nvme),
                    Checksum::Crc32c => Some(Algorithm::Crc32C),
                    Checksum::Crc32 => Some(Algorithm::Crc32),
                    Checksum::Sha256 => Some(Algorithm::Sha256),
                    Checksum::None => None,
                },
                requests: Arc::default(),
            },
            headers: HeaderRules::new(
                rules,
                upload.content_type,
                upload.cache_control,
                upload.storage_class.as_deref().map(StorageClass::named),
                upload.sse.map(|algorithm| Encryption {
                    algorithm,
                    kms_key_id: upload.sse_kms_key_id,
                    bucket_key: None,
                }),
            )?,
            manifest,
            dialect: match compare.metadata_dialect {
                MetadataDialect::Auto => None,
                MetadataDialect::Nanoseconds => Some(TimeForm::Nanoseconds),
                MetadataDialect::Milliseconds => Some(TimeForm::Milliseconds),
            }
            .map(|time| Dialect { time, mode: ModeForm::SevenDigits }),
            rules: Rules {
                compare_by: compare_by(compare.compare),
                min_age: source_args.min_age,
                delete: delete.delete && !is_named,
                overwrite: compare.overwrite == Overwrite::Always,
                preserve,
                suspect: None,
            },
            delete_rules: DeleteRules {
                max_delete: delete.max_delete,
                allow_empty_source: delete.allow_empty_source,
                ignore_errors: delete.ignore_errors,
                objection: None,
            },
            list_concurrency: limits.list_concurrency.or(LIST_CONCURRENCY),
            memory_bytes: limits.memory.unwrap_or_else(memory::default_budget_bytes),
            part_size: upload.part_size,
            multipart_threshold: upload.multipart_threshold,
            source,
            scope: Scope { destination, keys: share.keys() },
            share,
            filter,
        })
    }

    /// Where the requests of the run are counted.
    #[must_use]
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.send.requests)
    }

    /// What the run works on; known once the range is ([`Self::settle`]).
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Why there is nothing to do, if so: more jobs were started than there are ranges.
    #[must_use]
    pub fn idle(&self) -> Option<&str> {
        match &self.share {
            Share::Nothing(why) => Some(why),
            Share::Keys(_) | Share::In { .. } => None,
        }
    }

    /// Fetches the range of keys, where it is written down in an object.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub async fn settle(mut self, shutdown: &Shutdown) -> Result<Self, OpenError> {
        if let Share::In { folder, name, index } = &self.share {
            let home = self.connect_to(folder, shutdown.clone()).await?;
            let fetched = home.get(name).await.map_err(|error| OpenError::FetchRanges(home.explain(&error)))?;
            let share = Share::of(&fetched.content, *index);
            self.share = share.map_err(|error| OpenError::FetchRanges(format!("{folder}{name}: {error}")))?;
            self.scope.keys = self.share.keys();
            self.walk.section = Arc::new(Section::of(self.share.keys()));
        }
        Ok(self)
    }

    /// The same, comparing the content of everything.
    #[must_use]
    pub fn verifying(mut self) -> Self {
        self.rules.compare_by = CompareBy::Content;
        self.rules.overwrite = true;
        self
    }

    /// The same, looking at no file whose name tells enough.
    #[must_use]
    pub const fn of_names(mut self) -> Self {
        self.walk.names_only = true;
        self
    }

    /// What the mode keeps as metadata.
    #[must_use]
    pub const fn preserve(&self) -> Option<Preserve> {
        self.rules.preserve
    }

    /// The same in a region, where the AWS settings name none.
    #[must_use]
    pub fn in_region(mut self, region: &str) -> Self {
        self.endpoint.region = Some(region.to_owned());
        self
    }

    /// Prepares a client for another place on the same server, as for the destination.
    ///
    /// # Errors
    /// Where the AWS settings name what cannot be used.
    pub async fn connect_to(&self, location: &Location, shutdown: Shutdown) -> Result<Destination, ConnectError> {
        // Its bucket may be another's.
        let send = SendOptions { expected_owner: None, ..self.send.clone() };
        Destination::connect(location, &self.endpoint, send, shutdown).await
    }

    /// Opens the source and prepares the client.
    ///
    /// # Errors
    /// Where the source is not there, or not as required, or no client can be had.
    pub async fn open(self, show_kept: bool, shutdown: Shutdown, progress: Progress) -> Result<Setup, OpenError> {
        let config = self.settle(&shutdown).await?;
        Box::pin(config.open_settled(show_kept, shutdown, progress)).await
    }

    async fn open_settled(self, show_kept: bool, shutdown: Shutdown, progress: Progress) -> Result<Setup, OpenError> {
        let source = Source::open(&self.source, self.requirements.clone(), self.walk.clone()).await?;
        let destination =
            Destination::connect(&self.scope.destination, &self.endpoint, self.send.clone(), shutdown.clone()).await?;
        let manifest = match &self.manifest {
            Some(NamedFiles::Known(manifest)) => Some(manifest.clone()),
            Some(NamedFiles::In(location, name)) => {
                let home = self.connect_to(location, shutdown.clone()).await?;
                let fetched = home.get(name).await;
                let unusable = |error: S3Error| OpenError::FetchManifest(home.explain(&error));
                Some(Manifest::read(&fetched.map_err(unusable)?.content)?)
            }
            None => None,
        };
        let context = Context {
            source,
            destination,
            preserve: self.rules.preserve,
            headers: self.headers,
            dialect: self.dialect.map_or_else(DialectInUse::default, DialectInUse::fixed),
            memory: Memory::default(),
            budget: ByteBudget::new(self.memory_bytes),
            part_size: self.part_size,
            multipart_threshold: self.multipart_threshold,
            shutdown,
            progress,
        };
        Ok(Setup {
            context: Arc::new(context),
            rules: self.rules,
            filter: self.filter,
            manifest,
            planned: None,
            delete_rules: self.delete_rules,
            list_concurrency: self.list_concurrency,
            show_kept,
        })
    }
}

const fn links(mode: Mode, symlinks: Option<Symlinks>) -> Result<Links, ConfigError> {
    match (mode, symlinks) {
        (Mode::Datasync, None) => Ok(Links::Keep),
        (Mode::Datasync, Some(_)) => Err(ConfigError::SymlinksWithoutPlain),
        (Mode::Plain, None | Some(Symlinks::Follow)) => Ok(Links::Follow),
        (Mode::Plain, Some(Symlinks::Skip)) => Ok(Links::Skip),
    }
}

fn endpoint(s3: &S3Args) -> Endpoint {
    let path_style = match s3.addressing {
        Addressing::Auto => None,
        Addressing::Path => Some(true),
        Addressing::Virtual => Some(false),
    };
    Endpoint { url: s3.endpoint_url.clone(), path_style, region: None }
}

/// What the mode keeps as metadata.
fn preserved(compare: &CompareArgs) -> Result<Option<Preserve>, ConfigError> {
    if compare.mode == Mode::Plain {
        return if compare.compare == Compare::Metadata {
            Err(ConfigError::MetadataInPlain("--compare metadata"))
        } else if !compare.no_preserve.is_empty() {
            Err(ConfigError::MetadataInPlain("--no-preserve"))
        } else if compare.metadata_dialect != MetadataDialect::Auto {
            Err(ConfigError::MetadataInPlain("--metadata-dialect"))
        } else {
            Ok(None)
        };
    }
    let kept = |attribute| !compare.no_preserve.contains(&attribute);
    Ok(Some(Preserve {
        mtime: kept(Attribute::Mtime),
        atime: kept(Attribute::Atime),
        uid: kept(Attribute::Uid),
        gid: kept(Attribute::Gid),
        permissions: kept(Attribute::Permissions),
    }))
}

fn named_files(location: FileLocation) -> Result<NamedFiles, ConfigError> {
    match location {
        FileLocation::Object(location, name) => Ok(NamedFiles::In(location, name)),
        FileLocation::Path(path) => Ok(NamedFiles::Known(Manifest::read(&read("manifest", &path)?)?)),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { what, path: path.display().to_string(), source })
}

const fn compare_by(compare: Compare) -> CompareBy {
    match compare {
        Compare::Auto => CompareBy::TimesOrContent,
        Compare::SizeOnly => CompareBy::Size,
        Compare::Mtime => CompareBy::Mtime,
        Compare::Checksum => CompareBy::Content,
        Compare::Metadata => CompareBy::Metadata,
    }
}
