//! `efs2s3 ranges`: the keys cut into ranges of about the same size, counted in what earlier runs remember, or else in the
//! tree, whose files are not looked at where a directory tells what they are.

use std::io::Write as _;

use super::error::CommandError;
use crate::cli::RangesCommand;
use crate::config::SyncConfig;
use crate::cut::{Cut, Sample};
use crate::destination::error::ErrorKind;
use crate::exit_code::ExitCode;
use crate::index::Index;
use crate::location::FileLocation;
use crate::progress::Progress;
use crate::recorded_options::RecordedOptions;
use crate::report::write_stdout;
use crate::result_file::ResultFile;
use crate::scope::Scope;
use crate::session::open_state;
use crate::shutdown::Shutdown;
use crate::source::entry::{EntryKind, Found};
use crate::state::State;

/// Cuts, and writes the cut.
pub(super) async fn run(command: RangesCommand, options: &RecordedOptions, progress: &Progress) -> ExitCode {
    match Box::pin(cut(command, options, progress)).await {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            progress.finish();
            tracing::error!("{error}");
            error.exit_code()
        }
    }
}

async fn cut(command: RangesCommand, options: &RecordedOptions, progress: &Progress) -> Result<(), CommandError> {
    let source = command.source.display().to_string();
    let args = options.sync_args(&source, &command.destination.to_string());
    let args = args.map_err(|error| CommandError::usage(error.to_string().trim_end()))?;
    let config = SyncConfig::new(args, Vec::new()).map_err(CommandError::usage)?.of_names();
    let shutdown = Shutdown::on_signals().map_err(CommandError::fatal)?;

    // Who could not be written to is told before the work, not after it.
    let sink = Sink::open(command.output.as_ref(), &config).await?;
    let state = match &command.state {
        Some(place) => Some(open_state(place, &command.source, &config).await?),
        None => None,
    };
    let remembered = match &state {
        Some(state) => remembered(state, &config, command.previous.as_ref(), command.count).await?,
        None => None,
    };
    let sample = match remembered {
        Some(sample) => sample,
        None => walked(config, command.count, &shutdown, progress).await?,
    };
    progress.finish();

    let cut = sample.cut();
    if cut.ranges().len() < command.count {
        tracing::warn!("{} entries give no more than {} ranges", sample.count(), cut.ranges().len());
    }
    sink.write(cut.json()).await
}

/// Counts what runs over all keys remember, or else those over the ranges of an earlier cut; nothing where some of it is not
/// remembered.
async fn remembered(
    state: &State,
    config: &SyncConfig,
    previous: Option<&FileLocation>,
    count: usize,
) -> Result<Option<Sample>, CommandError> {
    let mut sample = Sample::new(count);
    let (whole, preserve) = (config.scope(), config.preserve());
    if Index::open(state, whole, preserve).await.for_each_key(|key| sample.push(key)).await {
        return Ok(Some(sample));
    }
    let Some(previous) = previous else {
        tracing::info!("no run over all keys has left an index: walking");
        return Ok(None);
    };
    let Some(cut) = read_cut(previous, config).await? else {
        tracing::info!("there are no ranges at {previous} yet: walking");
        return Ok(None);
    };
    let mut sample = Sample::new(count);
    for range in cut.ranges() {
        let scope = Scope { keys: range.keys.clone(), ..whole.clone() };
        if !Index::open(state, &scope, preserve).await.for_each_key(|key| sample.push(key)).await {
            tracing::info!("no run over the {} has left an index: walking", range.keys);
            return Ok(None);
        }
    }
    Ok(Some(sample))
}

/// Reads a cut, if there is one.
pub(super) async fn read_cut(location: &FileLocation, config: &SyncConfig) -> Result<Option<Cut>, CommandError> {
    let place = format!("cannot read the ranges {location}");
    let unreadable = |cause: Box<dyn std::error::Error + Send + Sync>| CommandError::fatal(cause).at(&place);
    let content = match location {
        FileLocation::Path(path) => match std::fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.into())),
        },
        FileLocation::Object(folder, name) => {
            let home = config.connect_to(folder, Shutdown::default()).await.map_err(CommandError::fatal)?;
            match home.get(name).await {
                Ok(got) => got.content.to_vec(),
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(unreadable(home.explain(&error).into())),
            }
        }
    };
    Cut::read(&content).map(Some).map_err(|error| unreadable(error.into()))
}

/// Counts what is in the tree.
async fn walked(
    config: SyncConfig,
    count: usize,
    shutdown: &Shutdown,
    progress: &Progress,
) -> Result<Sample, CommandError> {
    let setup = config.open(shutdown.clone(), progress.clone()).await.map_err(CommandError::fatal)?;
    let with_directories = setup.rules.preserve.is_some();
    let mut walk = setup.source.walk().map_err(CommandError::fatal)?;
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
                Found::Unknown { below, problem } if below.is_empty() => {
                    return Err(CommandError::fatal(format!("the source cannot be read: {}", problem.message)));
                }
                // What it would have held is missing in the counts; the ranges hold its keys all the same.
                Found::Unknown { problem, .. } => {
                    tracing::warn!(key = %entry.key, "not counted: {}", problem.message);
                }
                Found::Directory(_)
                | Found::Named(_)
                | Found::Special
                | Found::Skipped(..)
                | Found::Filtered(_)
                | Found::Failed(..)
                | Found::Nameless(..) => {}
            }
        }
        progress.show(|| format!("{} entries seen", sample.count()));
    }
}

/// Where the cut goes.
enum Sink {
    Stdout,
    File(ResultFile),
    Object(State, String),
}

impl Sink {
    async fn open(output: Option<&FileLocation>, config: &SyncConfig) -> Result<Self, CommandError> {
        match output {
            None => Ok(Self::Stdout),
            Some(FileLocation::Path(path)) => ResultFile::create(path).map(Self::File).map_err(|error| {
                CommandError::fatal(format!("the ranges cannot be written to {}: {error}", path.display()))
            }),
            Some(FileLocation::Object(folder, name)) => {
                let home = config.connect_to(folder, Shutdown::default()).await.map_err(CommandError::fatal)?;
                Ok(Self::Object(State::Prefix(Box::new(home)), name.to_string()))
            }
        }
    }

    async fn write(self, text: String) -> Result<(), CommandError> {
        let written = match self {
            Self::Stdout => write_stdout(text.as_bytes()).map_err(|error| error.to_string()),
            Self::File(mut file) => {
                file.write_all(text.as_bytes()).and_then(|()| file.publish()).map_err(|error| error.to_string())
            }
            Self::Object(home, name) => home.write(&name, text.into()).await.map_err(|error| error.to_string()),
        };
        written.map_err(|error| CommandError::fatal(format!("the ranges cannot be written: {error}")))
    }
}
