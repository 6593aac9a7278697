//! Deleting orphans: last, guarded, and looked at once more.
//!
//! A delete happens only if no guard objects, in this order:
//! 1. *walk*: every directory could be read (with `--ignore-errors`: those that could not keep what is below them);
//! 2. *uploads*: no upload of a key without an object failed at the destination;
//! 3. *`empty_source`*: the source holds something;
//! 4. *limit*: there are no more than `--max-delete` allows;
//! 5. *`still_gone`*: looked at afresh, the source still has nothing of this name;
//! 6. *`still_the_same`*: the object is still the one that was listed.
//!
//! A listing that failed ends the run before it comes here. Guards 5 and 6 are normal life and no reason for exit code 3.

use std::io::{self, BufRead, BufReader, Seek, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tempfile::SpooledTempFile;

use super::changes::{Change, Changes};
use super::context::Context;
use super::tally::{Failure, Guard, Tally};
use crate::destination::delete::{Deleted, Doomed, MAX_BATCH, fits_a_batch};
use crate::object::{ETag, Object};
use crate::source::presence::Presence;

/// Pending deletes up to this size stay in memory; more go to a temporary file.
const IN_MEMORY_BYTES: usize = 4 << 20;

/// How many deletes one run may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxDelete {
    /// More than 100 and more than 10 % of the objects listed are refused.
    Default,
    /// So many objects.
    Count(u64),
    /// So much of the objects listed, in percent.
    Percent(f64),
}

impl FromStr for MaxDelete {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let refused = || format!("'{text}' is neither a number of objects (250) nor a share of them (5%)");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| refused())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(refused()) };
        }
        text.parse().map(Self::Count).map_err(|_| refused())
    }
}

/// What allows deletes, and how many.
#[derive(Clone, Copy, Debug)]
pub struct DeleteRules {
    /// The most deletes.
    pub max_delete: MaxDelete,
    /// Whether an empty source may delete everything.
    pub allow_empty_source: bool,
    /// Whether directories that could not be read withhold deletes below themselves alone.
    pub ignore_errors: bool,
}

/// Orphans found so far, in order.
#[derive(Debug)]
pub struct Orphans {
    spool: SpooledTempFile,
    count: u64,
    /// Why not all of them could be remembered.
    lost: Option<io::Error>,
}

#[derive(Deserialize, Serialize)]
struct Line {
    key: String,
    etag: String,
    size: u64,
}

impl Default for Orphans {
    fn default() -> Self {
        Self { spool: SpooledTempFile::new(IN_MEMORY_BYTES), count: 0, lost: None }
    }
}

impl Orphans {
    /// Remembers an orphan.
    pub fn push(&mut self, object: &Object) {
        self.count += 1;
        if self.lost.is_some() {
            return;
        }
        let line = Line { key: object.key.clone(), etag: object.etag.as_str().to_owned(), size: object.size_bytes };
        let written = serde_json::to_vec(&line).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.spool.write_all(&line)
        });
        self.lost = written.err();
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Objects where not all of them could be remembered.
    fn spill_guard(&self) -> Option<Guard> {
        self.lost.as_ref().map(|error| spill_guard(error, self.count))
    }

    /// The orphans in batches, in order.
    fn batches(&mut self) -> io::Result<impl Iterator<Item = io::Result<Vec<Doomed>>> + '_> {
        self.spool.rewind()?;
        let mut lines = BufReader::new(&mut self.spool).lines();
        Ok(std::iter::from_fn(move || {
            let batch: io::Result<Vec<Doomed>> = lines.by_ref().take(MAX_BATCH).map(|line| read_line(&line?)).collect();
            batch.map(|batch| Some(batch).filter(|batch| !batch.is_empty())).transpose()
        }))
    }
}

fn read_line(line: &str) -> io::Result<Doomed> {
    let Line { key, etag, size } = serde_json::from_str(line)?;
    Ok(Doomed { key, etag: ETag::new(&etag), size_bytes: size })
}

/// The first guard that objects to deleting `orphans` objects after a run that tallied like this.
#[must_use]
pub fn objection(orphans: u64, tally: &Tally, rules: &DeleteRules) -> Option<Guard> {
    let object = |name, message: String| Some(Guard { name, message, is_normal: false });
    let source_is_empty =
        tally.counts.files + tally.counts.directories + tally.counts.symlinks + tally.counts.special_skipped == 0;
    let allowed = most_deletes(rules.max_delete, tally.counts.objects);
    if orphans == 0 {
        None
    } else if tally.unknown_directories > 0 && !rules.ignore_errors {
        object(
            "walk",
            format!(
                "{} directories could not be read, and an unreadable directory looks like a deleted one: {orphans} deletes withheld. \
             Make them readable, or pass --ignore-errors to keep only what is below them",
                tally.unknown_directories
            ),
        )
    } else if tally.absent_uploads_failed > 0 {
        object(
            "uploads",
            format!(
                "{} new files could not be uploaded, and one of them may be the new name of a file whose old name would go: \
             {orphans} deletes withheld until the uploads succeed",
                tally.absent_uploads_failed
            ),
        )
    } else if source_is_empty && !rules.allow_empty_source {
        object(
            "empty_source",
            format!(
                "the source is empty, as it looks when it is not mounted: {orphans} deletes withheld. Pass --allow-empty-source if it is meant to be empty"
            ),
        )
    } else if orphans > allowed {
        let limit = match rules.max_delete {
            MaxDelete::Default => "more than 100 and more than 10 %".to_owned(),
            MaxDelete::Count(count) => format!("more than {count}"),
            MaxDelete::Percent(percent) => format!("more than {percent} %"),
        };
        object(
            "limit",
            format!(
                "{orphans} of {} objects would be deleted, {limit}: all withheld. Pass --max-delete {orphans} to allow them",
                tally.counts.objects
            ),
        )
    } else {
        None
    }
}

#[allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count"
)]
fn most_deletes(limit: MaxDelete, objects: u64) -> u64 {
    match limit {
        MaxDelete::Default => (objects / 10).max(100),
        MaxDelete::Count(count) => count,
        MaxDelete::Percent(percent) => (objects as f64 * percent / 100.0).floor() as u64,
    }
}

/// Deletes the orphans, if no guard objects.
pub async fn delete_orphans(
    context: &Context,
    orphans: Orphans,
    rules: &DeleteRules,
    tally: &mut Tally,
    changes: &mut Changes,
) {
    for_each_batch(context, orphans, rules, tally, async |batch, tally| {
        delete_batch(context, batch, tally, changes).await;
    })
    .await;
}

/// Brings the orphans that no guard objects to before `each`, in batches and in order; tallies the others as withheld.
pub async fn for_each_batch(
    context: &Context,
    mut orphans: Orphans,
    rules: &DeleteRules,
    tally: &mut Tally,
    mut each: impl AsyncFnMut(Vec<Doomed>, &mut Tally),
) {
    let guard = objection(orphans.count, tally, rules).or_else(|| orphans.spill_guard());
    if let Some(guard) = &guard {
        tracing::warn!("{}", guard.message);
    }
    let mut to_come = orphans.count;
    let result = async {
        for batch in orphans.batches()? {
            let batch = batch?;
            to_come = to_come.saturating_sub(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            if let Some(guard) = &guard {
                for doomed in &batch {
                    tally.withheld(guard, &context.key(&doomed.key));
                }
            } else {
                let gone = still_gone(context, batch, tally).await;
                each(gone, tally).await;
            }
        }
        io::Result::Ok(())
    };
    let lost = result.await.err().map(|error| spill_guard(&error, to_come));
    // What could not be remembered or read back by name is withheld all the same.
    if let (Some(guard), 1..) = (lost.or(guard), to_come) {
        tally.withheld_many(&guard, to_come);
    }
}

fn spill_guard(error: &io::Error, count: u64) -> Guard {
    let message = format!(
        "the list of deletes cannot be kept in the temporary folder ({error}): {count} deletes withheld. Free some space there, or set TMPDIR to another"
    );
    Guard { name: "spill", message, is_normal: false }
}

/// Guard 5: those of which the source, looked at afresh, has nothing.
async fn still_gone(context: &Context, batch: Vec<Doomed>, tally: &mut Tally) -> Vec<Doomed> {
    let presences = context.source.presences(batch.iter().map(|doomed| doomed.key.clone()).collect()).await;
    let mut gone = Vec::with_capacity(batch.len());
    for (doomed, presence) in batch.into_iter().zip(presences) {
        let guard = match presence {
            Presence::Gone => {
                gone.push(doomed);
                continue;
            }
            Presence::There => Guard {
                name: "still_gone",
                message: "the file is there again: its object stays".to_owned(),
                is_normal: true,
            },
            Presence::Unknown(problem) => Guard {
                name: "still_gone_unknown",
                message: format!("whether the file is still gone cannot be seen: {}", problem.message),
                is_normal: false,
            },
        };
        tally.withheld(&guard, &context.key(&doomed.key));
    }
    gone
}

/// Deletes a batch; guard 6 is S3's own, by the ETag that goes with each key.
async fn delete_batch(context: &Context, batch: Vec<Doomed>, tally: &mut Tally, changes: &mut Changes) {
    if context.shutdown.is_requested() {
        let message = "the run was asked to stop before these deletes: the next run does them".to_owned();
        let guard = Guard { name: "interrupted", message, is_normal: false };
        return batch.iter().for_each(|doomed| tally.withheld(&guard, &context.key(&doomed.key)));
    }
    let (together, alone): (Vec<Doomed>, Vec<Doomed>) =
        batch.into_iter().partition(|doomed| fits_a_batch(&context.key(&doomed.key)));
    let outcomes = if together.is_empty() { Vec::new() } else { context.destination.delete_batch(&together).await };
    for (doomed, outcome) in together.iter().zip(outcomes) {
        account(context, doomed, outcome, tally, changes);
    }
    for doomed in &alone {
        let outcome = context.destination.delete_one(doomed).await;
        account(context, doomed, outcome, tally, changes);
    }
}

fn account(context: &Context, doomed: &Doomed, outcome: Deleted, tally: &mut Tally, changes: &mut Changes) {
    let key = context.key(&doomed.key);
    match outcome {
        Deleted::Yes => {
            tally.counts.deleted += 1;
            changes.note(&Change::delete(key));
        }
        Deleted::Changed => {
            let message = "somebody else wrote the object since it was listed: it stays".to_owned();
            tally.withheld(&Guard { name: "still_the_same", message, is_normal: true }, &key);
        }
        Deleted::Failed(error) => tally.delete_failed(Failure::of_request(key, &error)),
    }
    context.progress.show(|| tally.line());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::entry::EpochNanos;

    const RULES: DeleteRules =
        DeleteRules { max_delete: MaxDelete::Default, allow_empty_source: false, ignore_errors: false };

    fn tally(files: u64, objects: u64) -> Tally {
        let mut tally = Tally::default();
        (tally.counts.files, tally.counts.objects) = (files, objects);
        tally
    }

    fn guard(orphans: u64, tally: &Tally, rules: DeleteRules) -> Option<&'static str> {
        objection(orphans, tally, &rules).map(|guard| guard.name)
    }

    #[test]
    fn a_clean_run_may_delete() {
        assert_eq!(guard(100, &tally(1, 101), RULES), None);
        assert_eq!(guard(500, &tally(1, 5000), RULES), None);
    }

    #[test]
    fn a_directory_that_could_not_be_read_withholds_everything() {
        let mut tally = tally(9, 10);
        tally.unknown_directories = 1;
        assert_eq!(guard(1, &tally, RULES), Some("walk"));
        assert_eq!(guard(1, &tally, DeleteRules { ignore_errors: true, ..RULES }), None);
    }

    #[test]
    fn a_new_file_that_could_not_be_uploaded_withholds_everything() {
        let mut tally = tally(9, 10);
        tally.absent_uploads_failed = 1;
        assert_eq!(guard(1, &tally, RULES), Some("uploads"));
        tally.absent_uploads_failed = 0;
        tally.counts.failed = 1;
        assert_eq!(guard(1, &tally, RULES), None, "a file that failed by itself withholds nothing");
    }

    #[test]
    fn an_empty_source_withholds_everything() {
        assert_eq!(guard(1, &tally(0, 10), RULES), Some("empty_source"));
        assert_eq!(guard(1, &tally(0, 10), DeleteRules { allow_empty_source: true, ..RULES }), None);
        assert_eq!(guard(0, &tally(0, 10), RULES), None);
    }

    #[test]
    fn more_than_a_hundred_and_more_than_a_tenth_is_too_much() {
        assert_eq!(guard(101, &tally(1, 1000), RULES), Some("limit"));
        assert_eq!(guard(100, &tally(1, 100), RULES), None);
        assert_eq!(guard(501, &tally(1, 5000), RULES), Some("limit"));
        for (max_delete, most) in [
            (MaxDelete::Count(7), 7),
            (MaxDelete::Percent(2.5), 25),
            (MaxDelete::Count(0), 0),
            (MaxDelete::Percent(100.0), 1000),
        ] {
            let rules = DeleteRules { max_delete, ..RULES };
            assert_eq!(guard(most, &tally(1, 1000), rules), None);
            assert_eq!(guard(most + 1, &tally(1, 1000), rules), Some("limit"));
        }
    }

    #[test]
    fn the_message_names_the_flag_and_the_number() {
        let message = objection(150, &tally(251, 401), &RULES).unwrap().message;
        assert!(message.contains("--max-delete 150") && message.contains("401"), "{message}");
    }

    #[test]
    fn any_number_of_orphans_comes_back_in_order_whatever_their_names() {
        let mut orphans = Orphans::default();
        let key = |number: u64| format!("{number:06}\n\u{1}\"é{}", "x".repeat(100));
        for number in 0..60_000 {
            orphans.push(&Object {
                key: key(number),
                size_bytes: 1,
                etag: ETag::new("e"),
                last_modified: EpochNanos(0),
            });
        }
        assert!(orphans.spool.is_rolled(), "more than fits in memory went to a file");
        let batches: Vec<Vec<Doomed>> = orphans.batches().unwrap().collect::<Result<_, _>>().unwrap();
        assert!(batches.iter().all(|batch| batch.len() == MAX_BATCH));
        assert!(batches.iter().flatten().zip(0..).all(|(doomed, number)| doomed.key == key(number)));
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 60_000);
    }

    #[test]
    fn a_limit_of_deletes_is_a_number_or_a_share() {
        assert_eq!("150".parse(), Ok(MaxDelete::Count(150)));
        assert_eq!("5%".parse(), Ok(MaxDelete::Percent(5.0)));
        for text in ["many", "101%", "-1", "-1%", "", "%", "NaN%"] {
            assert!(text.parse::<MaxDelete>().is_err(), "{text}");
        }
    }
}
