//! Arguments as interpreted: what the command line, the environment and the config file say together, checked, with every
//! default in its place.
//!
//! Each group of options has its own type, which validates the group; [`SyncConfig`] composes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::aws::ConnectError;
use crate::cli::{HowArgs, LimitArgs, SyncArgs};
use crate::destination::headers::HeaderRule;
use crate::destination::operation::Requests;
use crate::destination::{Destination, Endpoint, SendOptions};
use crate::fence::Fence;
use crate::location::Location;
use crate::metadata::Preserve;
use crate::progress::Progress;
use crate::range_list::RangeOfList;
use crate::scope::Scope;
use crate::shutdown::Shutdown;
use crate::source::Source;
use crate::source::mount_points::MountPoints;
use crate::source::tree_range::TreeRange;
use crate::source::walk::WalkOptions;
use crate::sync::budget::ByteBudget;
use crate::sync::changes::ChangesWriter;
use crate::sync::clocks::KeptByTimes;
use crate::sync::context::Context;
use crate::sync::dialect::DialectInUse;
use crate::sync::manifest_object::ManifestObject;
use crate::sync::memory::Memory;
use crate::sync::rules::{CompareBy, DeleteRules, Rules, Suspect};
use crate::sync::setup::Setup;
use crate::sync::survey::Input;

mod comparing;
mod deleting;
mod error;
mod memory;
mod parallel;
mod range;
mod reading;
mod uploading;

use comparing::Comparing;
use deleting::Deleting;
pub(crate) use error::{ConfigError, OpenError};
use range::ChosenRange;
use reading::{NamedFiles, Reading};
use uploading::Uploading;

const LIST_CONCURRENCY: usize = 8;
/// Enough to keep all walkers busy in one flat directory, and few enough to stay small.
const LOOK_AHEAD_ENTRIES: usize = 5_000;
const BATCH_ENTRIES: usize = 1_000;
/// After this time a log line names what the run waits for.
const WARN_AFTER: Duration = Duration::from_secs(20);

/// What a sync does.
#[derive(Debug)]
pub struct SyncConfig {
    source: PathBuf,
    scope: Scope,
    range: ChosenRange,
    reading: Reading,
    comparing: Comparing,
    deleting: Deleting,
    uploading: Uploading,
    limits: LimitArgs,
    endpoint: Endpoint,
    /// The account that must own the bucket.
    expected_owner: Option<String>,
    requests: Arc<Requests>,
    fence: Fence,
    names_only: bool,
}

impl SyncConfig {
    /// Checks what the arguments say together.
    ///
    /// # Errors
    /// Returns an error if they contradict each other, or if a file that they name is not valid.
    pub fn new(args: SyncArgs, rules: Vec<HeaderRule>) -> Result<Self, ConfigError> {
        let SyncArgs { source, destination, report: _, how, range } = args;
        let HowArgs { delete, source_args, compare, upload, limits, s3 } = how;
        let range = ChosenRange::new(range)?;
        let comparing = Comparing::new(&compare, source_args.tree.symlinks)?;
        let uploading = Uploading::new(upload, rules)?;
        let reading = Reading::new(source_args, &range)?;
        Ok(Self {
            source,
            scope: Scope { destination, keys: range.keys() },
            deleting: Deleting::new(delete, reading.manifest.is_some()),
            limits,
            endpoint: Endpoint {
                url: s3.endpoint_url.map(|url| url.to_string()),
                path_style: s3.addressing.path_style(),
                region: None,
            },
            expected_owner: s3.expected_bucket_owner,
            requests: Arc::default(),
            fence: Fence::default(),
            names_only: false,
            range,
            reading,
            comparing,
            uploading,
        })
    }

    /// Returns the source directory.
    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    /// Returns the counter of the run's requests.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Returns the destination and the key range, which is known after [`Self::fetch_range`].
    pub(crate) const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether the run takes missing mounts for removed ones.
    pub(crate) const fn allows_missing_mounts(&self) -> bool {
        self.deleting.allow_missing_mounts
    }

    /// Returns why there is nothing to do, if an array of jobs has more jobs than there are ranges.
    pub(crate) fn idle(&self) -> Option<&str> {
        match &self.range {
            ChosenRange::Nothing(why) => Some(why),
            ChosenRange::Keys(_) | ChosenRange::Listed(..) | ChosenRange::InList { .. } => None,
        }
    }

    /// Returns which range of a range list the run works on, which is known after [`Self::fetch_range`].
    pub(crate) const fn range_of_list(&self) -> Option<&RangeOfList> {
        self.range.of_list()
    }

    /// Fetches the range list, if it is an object.
    pub(crate) async fn fetch_range(mut self, shutdown: &Shutdown) -> Result<Self, OpenError> {
        if let ChosenRange::InList { folder, name, index } = &self.range {
            let home = self.connect_to(folder, shutdown.clone()).await?;
            let fetched = home.get(name).await.map_err(|error| OpenError::FetchRanges(home.explain(&error)))?;
            let range = ChosenRange::of(&fetched.content, *index);
            self.range = range.map_err(|error| OpenError::FetchRanges(format!("{folder}{name}: {error}")))?;
            self.scope.keys = self.range.keys();
        }
        Ok(self)
    }

    /// Compares the content of every file.
    pub(crate) const fn verifying(mut self) -> Self {
        self.comparing.by = CompareBy::Content;
        self.comparing.overwrite = true;
        self
    }

    /// Walks without a stat of the files whose directory entry shows their kind.
    pub(crate) const fn of_names(mut self) -> Self {
        self.names_only = true;
        self
    }

    /// Returns the attributes that become metadata.
    pub(crate) const fn preserve(&self) -> Option<Preserve> {
        self.comparing.preserve
    }

    /// Returns how long no request may succeed until the run gives up.
    pub(crate) const fn outage_timeout(&self) -> Duration {
        self.limits.outage_timeout
    }

    /// Uses this region if the AWS settings name none.
    pub(crate) fn in_region(mut self, region: &str) -> Self {
        self.endpoint.region = Some(region.to_owned());
        self
    }

    /// Puts the writes to the destination behind the fence of the run's lease.
    pub(crate) fn behind(mut self, fence: Fence) -> Self {
        self.fence = fence;
        self
    }

    /// Returns a client for another place on the same server.
    ///
    /// # Errors
    /// Returns an error if the AWS settings are not valid.
    pub async fn connect_to(&self, location: &Location, shutdown: Shutdown) -> Result<Destination, ConnectError> {
        // Another account may own its bucket.
        let send = SendOptions { expected_owner: None, ..self.send_options() };
        Destination::connect(location, &self.endpoint, send, shutdown).await
    }

    fn send_options(&self) -> SendOptions {
        SendOptions {
            concurrency: parallel::requests(self.limits.concurrency),
            retries: self.limits.retries,
            outage_timeout: self.limits.outage_timeout,
            bandwidth: self.limits.bandwidth,
            expected_owner: self.expected_owner.clone(),
            checksum: self.uploading.checksum,
            encryption: self.uploading.encryption.clone(),
            requests: self.requests(),
            fence: self.fence.clone(),
        }
    }

    fn walk_options(&self) -> WalkOptions {
        WalkOptions {
            walkers: self.reading.walkers,
            look_ahead_entries: LOOK_AHEAD_ENTRIES,
            batch_entries: BATCH_ENTRIES,
            source_timeout: self.reading.source_timeout,
            warn_after: WARN_AFTER,
            links: self.comparing.links,
            skip_reserved: self.comparing.preserve.is_some(),
            max_key_bytes: self.scope.destination.prefix.room_bytes(),
            filter: Arc::clone(&self.reading.filter),
            tree_range: Arc::new(TreeRange::of(self.scope.keys.clone())),
            mount_points: Arc::new(MountPoints::new(self.deleting.allow_missing_mounts)),
            names_only: self.names_only,
        }
    }

    const fn rules(&self) -> Rules {
        Rules {
            compare_by: self.comparing.by,
            min_age: self.reading.min_age,
            delete: self.deleting.delete,
            overwrite: self.comparing.overwrite,
            preserve: self.comparing.preserve,
            suspect: Suspect::NONE,
            mode_changed: false,
        }
    }

    /// Opens the source and prepares the client. Nothing is sent to the destination yet.
    pub(crate) async fn open(self, shutdown: Shutdown, progress: Progress) -> Result<Setup, OpenError> {
        progress.follow(&self.requests.sent_bytes);
        let config = self.fetch_range(&shutdown).await?;
        let source = Source::open(&config.source, config.deleting.requirements.clone(), config.walk_options()).await?;
        let (endpoint, send) = (&config.endpoint, config.send_options());
        let destination = Destination::connect(&config.scope.destination, endpoint, send, shutdown.clone()).await?;
        // `run` needs the input only if it syncs directly.
        let (input, manifest_object) = match config.input(&shutdown).await {
            Ok((input, object)) => (Ok(input), object),
            Err(error) => (Err(error.to_string()), None),
        };
        let context = Context {
            source,
            destination,
            rules: config.rules(),
            filter: config.reading.filter,
            delete_rules: DeleteRules { limit_share: config.range.limit_share(), ..config.deleting.rules },
            headers: config.uploading.headers,
            dialect: config.comparing.dialect.map_or_else(DialectInUse::default, DialectInUse::fixed),
            budget: ByteBudget::new(config.limits.memory.unwrap_or_else(memory::default_budget_bytes)),
            part_size: config.uploading.part_size,
            multipart_threshold: config.uploading.multipart_threshold,
            list_concurrency: config.limits.list_concurrency.or(LIST_CONCURRENCY),
            memory: Memory::default(),
            changes: ChangesWriter::default(),
            shutdown,
            progress,
            read_for_compare: AtomicU64::new(0),
            kept_by_times: KeptByTimes::default(),
        };
        Ok(Setup { context, input, manifest_object })
    }

    /// Reads what the survey needs, with the manifest's object if there is one.
    async fn input(&self, shutdown: &Shutdown) -> Result<(Input, Option<ManifestObject>), OpenError> {
        let destination = &self.scope.destination;
        if let Some(why) = destination.bucket.why_foreign() {
            return Err(OpenError::Foreign(destination.clone(), why.to_owned()));
        }
        Ok(match &self.reading.manifest {
            None => (Input::Walk, None),
            Some(NamedFiles::Known(manifest)) => (Input::Manifest(manifest.clone()), None),
            Some(NamedFiles::In { folder, name, version }) => {
                let home = self.connect_to(folder, shutdown.clone()).await?;
                let object = ManifestObject::new(home, &folder.to_string(), name, version.as_deref());
                (Input::Manifest(object.read().await?), Some(object))
            }
        })
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    crate::device::read_input(path).map_err(|source| ConfigError::Read {
        what,
        path: path.display().to_string(),
        source,
    })
}
