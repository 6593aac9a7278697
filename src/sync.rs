//! The direct sync: the destination is made to match the source.
//!
//! ```text
//! walk the source in key order
//!   -> cut into ranges                     range
//!   -> list each range of the destination  listing, many at once
//!   -> merge the two ordered streams       merge
//!   -> decide                              decide, a pure function      (all of these: survey)
//!   -> compare content, upload             settle, compare, upload; many at once: transfer
//!   -> delete orphans                      delete: last, guarded
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

pub mod apply;
pub mod budget;
pub mod changes;
pub mod compare;
pub mod context;
pub mod decide;
pub mod delete;
pub mod dialect;
pub mod guard;
pub mod inspect;
pub mod listing;
pub mod merge;
pub mod orphan;
pub mod plan;
pub mod range;
pub mod rewrite;
pub mod settle;
pub mod survey;
pub mod tally;
pub mod transfer;
pub mod upload;
pub mod verify;

use apply::PlanFile;
use changes::Changes;
use context::{Context, Memory};
use decide::{Rules, Suspect};
use delete::delete_orphans;
use guard::DeleteRules;
use orphan::Orphans;
use survey::{Step, survey};
use tally::{Guard, Seconds, Tally};
use transfer::Transfers;

use crate::destination::Destination;
use crate::destination::error::S3Error;
use crate::exit_code::ExitCode;
use crate::filter::Filter;
use crate::index::Index;
use crate::manifest::Manifest;
use crate::scope::Scope;
use crate::source::walk::WalkError;
use crate::state::State;
use crate::uploads::Uploads;

/// How long a run that ends early may take to write the index, after what was under way has had its time.
const INDEX_GRACE: Duration = Duration::from_secs(5);

/// A sync that is ready to begin.
#[derive(Debug)]
pub struct Setup {
    /// The two sides and what limits the work.
    pub context: Arc<Context>,
    /// When an object is as it should be.
    pub rules: Rules,
    /// Which keys belong to the sync.
    pub filter: Arc<Filter>,
    /// The only files that are looked at, if they are named.
    pub manifest: Option<Manifest>,
    /// The plan to be carried out, and nothing else, if there is one.
    pub planned: Option<PlanFile>,
    /// What allows deletes.
    pub delete_rules: DeleteRules,
    /// How many ranges are listed at once.
    pub list_concurrency: usize,
    /// Whether files that stay as they are are steps too.
    pub show_kept: bool,
}

impl Setup {
    /// Another engine has been at work on the destination: doubts about what it wrote, and a guard against deletes if it may
    /// not have ended. For a sync that has not begun.
    pub fn doubt(&mut self, suspect: Option<Suspect>, guard: Option<Guard>) {
        self.rules.suspect = suspect;
        self.delete_rules.objection = guard;
    }
}

impl Setup {
    /// What earlier runs left in the state; their uploads only for a run that may write. For a sync that has not begun.
    pub async fn recall(&mut self, state: &Arc<State>, scope: &Scope, may_write: bool) {
        let (preserve, shutdown) = (self.context.preserve, self.context.shutdown.clone());
        let index = Some(Index::open(state, scope, preserve).await);
        let uploads = if may_write { Some(Uploads::open(Arc::clone(state), scope, shutdown).await) } else { None };
        // Nobody else works with it yet.
        if let Some(context) = Arc::get_mut(&mut self.context) {
            context.memory = Memory { state: Some(Arc::clone(state)), index, uploads };
        }
    }
}

/// Why a run cannot go on: nothing that it would still do could be trusted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fatal {
    message: String,
}

impl Fatal {
    fn destination(destination: &Destination, error: &S3Error) -> Self {
        Self { message: destination.explain(error) }
    }

    fn plan(error: &std::io::Error) -> Self {
        Self { message: format!("the plan cannot be written: {error}") }
    }

    fn unreadable_plan(error: &std::io::Error) -> Self {
        Self { message: format!("the plan cannot be read to its end: {error}") }
    }

    fn result(error: &std::io::Error) -> Self {
        Self { message: format!("the result cannot be written: {error}") }
    }
}

impl From<merge::OutOfOrder> for Fatal {
    fn from(error: merge::OutOfOrder) -> Self {
        Self {
            message: format!("{error}: nothing can be told from a list that is not in order, and nothing was deleted"),
        }
    }
}

impl From<WalkError> for Fatal {
    fn from(error: WalkError) -> Self {
        Self { message: error.to_string() }
    }
}

/// Makes the destination match the source, and tallies what happened.
///
/// # Errors
/// Where the run could not go on to its end. What was done until then is in the tally.
pub async fn sync(setup: &Setup, changes: Changes, tally: &mut Tally, seconds: &mut Seconds) -> Result<(), Fatal> {
    let context = &setup.context;
    let begin = Instant::now();
    let mut transfers = Transfers::new(Arc::clone(context), changes);
    let mut orphans = Orphans::default();

    let surveyed = survey(setup, tally, async |step, tally| match step {
        Step::File(job) => transfers.begin(job, tally).await,
        Step::Orphan(object) => {
            orphans.push(&object);
            Ok(())
        }
    })
    .await;
    seconds.walk = begin.elapsed().as_secs_f64();

    let transferred = match surveyed {
        Ok(()) => transfers.finish(tally).await,
        Err(fatal) => Err(fatal),
    };
    // Of a few files alone nobody knows whether the next run goes on with others.
    let is_of_all = setup.manifest.is_none() && setup.planned.is_none() && !context.shutdown.is_requested();
    if let (Ok(()), Some(uploads), true) = (&transferred, &context.memory.uploads, is_of_all) {
        uploads.abort_left(&context.destination).await;
    }
    if transferred.is_err() {
        // What is queued behind the request limit need not meet the same end.
        context.shutdown.wind_down();
    }
    if context.shutdown.is_requested() {
        transfers.stop(tally).await;
    }
    seconds.transfer = transfers.seconds();

    match &transferred {
        Ok(()) if !context.shutdown.is_requested() => {
            let begin = Instant::now();
            delete_orphans(context, orphans, &setup.delete_rules, tally, transfers.changes()).await;
            seconds.delete = begin.elapsed().as_secs_f64();
        }
        Ok(()) => {
            withhold_all("interrupted", "the run was asked to stop before it came to the deletes", &orphans, tally);
        }
        Err(_) => withhold_all(
            "listing",
            "the run ended before source and destination were seen to their ends",
            &orphans,
            tally,
        ),
    }
    transfers.changes().finish();
    write_index(context).await;
    transferred
}

/// What a run has learnt is for the next one, also what one learnt that is asked to stop or fails: without the rows of what it
/// uploaded, the next one would have to go by times alone. Not where the state is another run's by now.
async fn write_index(context: &Context) {
    let (Some(index), Some(state)) = (&context.memory.index, &context.memory.state) else {
        return;
    };
    let shutdown = &context.shutdown;
    if !shutdown.may_write() || shutdown.exit_code() == Some(ExitCode::LeaseHeld) {
        return;
    }
    let writing = index.write(state);
    if !shutdown.is_requested() {
        writing.await;
    } else if tokio::time::timeout(INDEX_GRACE, writing).await.is_err() {
        tracing::warn!("the index could not be written in the time left: what was learnt is learnt again");
    }
}

fn withhold_all(name: &'static str, message: &str, orphans: &Orphans, tally: &mut Tally) {
    if orphans.count() > 0 {
        tally.withheld_many(&Guard { name, message: message.to_owned(), is_normal: false }, orphans.count());
    }
}
