//! `efs2s3 ranges`: splits the keys into ranges of about the same size.
//!
//! It counts the keys in the index of earlier runs, or else in the tree. It stats no file whose directory shows its kind.

use super::error::CommandError;
use super::{Inputs, cannot_write, config_of, places, write_result};
use crate::cli::RangesCommand;
use crate::config::SyncConfig;
use crate::counted::counted;
use crate::destination::error::ErrorKind;
use crate::device::read_input_aside;
use crate::exit_code::ExitCode;
use crate::index::Index;
use crate::location::FileLocation;
use crate::progress::Progress;
use crate::range_list::RangeList;
use crate::range_list::sample::Sample;
use crate::result_file::ResultFile;
use crate::result_place::ResultPlaces;
use crate::scope::Scope;
use crate::session::{Control, open_state};
use crate::shutdown::{STOP_GRACE, Shutdown};
use crate::source::entry::{EntryKind, Found};
use crate::state::State;

pub(super) async fn run(command: RangesCommand, inputs: Inputs, control: Control) -> Result<ExitCode, CommandError> {
    let stopped = control.clone();
    tokio::select! {
        done = Box::pin(split(command, inputs, control)) => done,
        () = stopped.shutdown.overdue(STOP_GRACE) => Err(CommandError::stopped(stopped.exit_code_of_stop())),
    }
}

async fn split(command: RangesCommand, inputs: Inputs, control: Control) -> Result<ExitCode, CommandError> {
    let source = command.source.display().to_string();
    let args = inputs.options.sync_args(&source, &command.destination.to_string());
    let args = args.map_err(|error| CommandError::usage(error.to_string().trim_end()))?;
    // The list may replace --previous.
    let mut places = places::outside(&command.source, inputs.config.as_deref());
    let config = config_of(args, Vec::new(), &control).await?.of_names();
    let Control { shutdown, progress } = control.clone();

    // An output that cannot be written is an error before the work, not after it.
    let sink = RangeListSink::open(command.output.as_ref(), &mut places, &config).await?;
    let state = match &command.state {
        Some(place) => Some(open_state(place, &command.source, &config, shutdown.clone()).await?),
        None => None,
    };
    let indexed = match &state {
        Some(state) => sample_index(state, &config, command.previous.as_ref(), command.count).await?,
        None => None,
    };
    let sample = match indexed {
        Some(sample) => sample,
        None => Box::pin(sample_tree(config, command.count, &shutdown, &progress)).await?,
    };
    progress.finish();

    let list = sample.split();
    if list.ranges().len() < command.count {
        let entries = counted(sample.count(), "entry gives", "entries give");
        let ranges = u64::try_from(list.ranges().len()).unwrap_or(u64::MAX);
        tracing::warn!("{entries} no more than {}", counted(ranges, "range", "ranges"));
    }
    sink.write(list.json(), &control).await?;
    Ok(ExitCode::Success)
}

/// Samples the index of runs over all keys, or else the indexes of runs over the ranges of an earlier range list. Returns
/// `None` if an index is missing.
async fn sample_index(
    state: &State,
    config: &SyncConfig,
    previous: Option<&FileLocation>,
    count: usize,
) -> Result<Option<Sample>, CommandError> {
    let mut sample = Sample::new(count);
    let (whole, preserve) = (config.scope(), config.preserve());
    let home = config.connect_to(&whole.destination, Shutdown::default()).await?;
    let store = home.store();
    if Index::open(state, whole, store, preserve).await.for_each_key(|key| sample.push(key)).await {
        return Ok(Some(sample));
    }
    let Some(previous) = previous else {
        tracing::info!("no run over all keys has written an index: walking the tree");
        return Ok(None);
    };
    let Some(list) = read_list(previous, config).await? else {
        tracing::info!("there is no range list at {previous} yet: walking the tree");
        return Ok(None);
    };
    let mut sample = Sample::new(count);
    for range in list.ranges() {
        let scope = Scope { keys: range.keys.clone(), ..whole.clone() };
        if !Index::open(state, &scope, store, preserve).await.for_each_key(|key| sample.push(key)).await {
            tracing::info!("no run over the {} has written an index: walking the tree", range.keys);
            return Ok(None);
        }
    }
    Ok(Some(sample))
}

/// Reads a range list, if there is one.
pub(super) async fn read_list(location: &FileLocation, config: &SyncConfig) -> Result<Option<RangeList>, CommandError> {
    let place = format!("cannot read the range list {location}");
    let unreadable = |cause: Box<dyn std::error::Error + Send + Sync>| CommandError::fatal(cause).at(&place);
    let content = match location {
        FileLocation::Path(path) => match read_input_aside(path).await {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.into())),
        },
        FileLocation::Object(folder, name) => {
            let home = config.connect_to(folder, Shutdown::default()).await?;
            match home.get(name).await {
                Ok(got) => got.content.to_vec(),
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(unreadable(home.explain(&error).into())),
            }
        }
    };
    RangeList::read(&content).map(Some).map_err(|error| unreadable(error.into()))
}

async fn sample_tree(
    config: SyncConfig,
    count: usize,
    shutdown: &Shutdown,
    progress: &Progress,
) -> Result<Sample, CommandError> {
    let setup = Box::pin(config.open(shutdown.clone(), progress.clone())).await.map_err(CommandError::fatal)?;
    let with_directories = setup.context.rules.preserve.is_some();
    let mut walk = setup.context.source.walk(None).map_err(CommandError::fatal)?;
    let mut sample = Sample::new(count);
    loop {
        let batch = tokio::select! {
            batch = walk.recv() => batch,
            () = shutdown.requested() => None,
        };
        if let Some(exit_code) = shutdown.exit_code() {
            return Err(CommandError::stopped(exit_code));
        }
        let Some(batch) = batch else {
            return Ok(sample);
        };
        for entry in batch {
            match entry.found {
                Found::File(_) | Found::Symlink(_) | Found::Named(EntryKind::File) => sample.push(&entry.key),
                Found::Directory(_) if with_directories => sample.push(&entry.key),
                Found::Unread { below, problem } if below.is_empty() => {
                    return Err(CommandError::fatal(format!("cannot read the source: {}", problem.message)));
                }
                // The counts miss its entries, but the ranges contain their keys.
                Found::Unread { problem, .. } => {
                    tracing::warn!(key = %entry.key, "not counted: {}", problem.message);
                }
                Found::Directory(_)
                | Found::Named(_)
                | Found::Special
                | Found::Skipped(..)
                | Found::Filtered(_)
                | Found::Failed(..)
                | Found::Unknown(..)
                | Found::Nameless(..) => {}
            }
        }
        progress.show(|| format!("{} seen", counted(sample.count(), "entry", "entries")));
    }
}

/// Where the range list is written.
enum RangeListSink {
    File(ResultFile),
    Object(State, String),
}

impl RangeListSink {
    async fn open(
        output: Option<&FileLocation>,
        places: &mut ResultPlaces,
        config: &SyncConfig,
    ) -> Result<Self, CommandError> {
        match output {
            None => Ok(Self::File(ResultFile::Stdout)),
            Some(FileLocation::Path(path)) => {
                let place = places.result("--output", path)?;
                let file = ResultFile::create(&place).map_err(|error| cannot_write("range list", &place, error))?;
                Ok(Self::File(file))
            }
            Some(FileLocation::Object(folder, name)) => {
                if config.scope().destination.contains(folder) {
                    return Err(CommandError::usage(format!(
                        "--output {folder}{name} is inside the destination, where a sync deletes it: name another place"
                    )));
                }
                let home = config.connect_to(folder, Shutdown::default()).await?;
                Ok(Self::Object(State::under(home, Shutdown::default()), name.to_string()))
            }
        }
    }

    async fn write(self, text: String, control: &Control) -> Result<(), CommandError> {
        let written = match self {
            Self::File(file) => write_result(file, text, control).await,
            Self::Object(home, name) => home.write(&name, text.into()).await.map_err(CommandError::fatal).map(drop),
        };
        written.map_err(|error| error.at("cannot write the range list"))
    }
}
