//! A case: a story that happens, and the runs in it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fake_aws::datasync::DataSyncServer;
use fake_aws::s3::{Fault, Operation, Rule, S3Server, Seed};

use super::execution::{self, CHANGE, Deleted, TRANSFER};
use super::mount;
use super::oracle::{Evidence, History, Objects, is_inner};
use super::scope::{INNER, Scope};
use super::story::{
    Edit, End, Execution, How, Moment, NAMES, Policy, Round, Rules, SIZES, Story, Trouble, is_on, replaces_source,
};
use super::tree::Tree;
use super::view::{Kind, Mode, View};
use crate::trial::{FinishedRun, Trial, WRITES};
use crate::within;

const OPTIONS: [&str; 10] =
    ["--walkers", "2", "--lease-ttl", "1s", "--retries", "2", "--part-size", "5MiB", "--multipart-threshold", "5MiB"];

/// How a case runs the program.
#[derive(Clone)]
pub(super) enum Place {
    /// As a process.
    Program,
    /// Within this process.
    Within(tokio::runtime::Handle),
}

struct Case<'a> {
    story: &'a Story,
    place: Place,
    trial: Trial,
    tree: Tree,
    history: History,
    /// Every mount that a run could see, and every followed link to a directory.
    seen_mounts: BTreeSet<String>,
    seen_links: BTreeSet<String>,
    /// Whether the state lacks what a run wrote: the run was killed, or was over a key range.
    lacks_rows: bool,
    has_inner: bool,
    datasync: Option<DataSyncServer>,
}

/// What the source holds during a run: each change adds a moment.
type Moments = Arc<Mutex<Vec<View>>>;

/// One run: its words, and what happens to it.
struct Step<'a> {
    words: Vec<String>,
    troubles: &'a [Trouble],
    is_whole: bool,
    /// What DataSync deletes on behalf of another client, or because the run lets it.
    deleted_by_others: Deleted,
    /// Whether everything that the run does follows the last change of the source.
    judge_by_end: bool,
}

impl<'a> Step<'a> {
    fn new(words: Vec<String>, troubles: &'a [Trouble], is_whole: bool) -> Self {
        Self { words, troubles, is_whole, deleted_by_others: Deleted::default(), judge_by_end: false }
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        self.tree.dismantle();
    }
}

impl Case<'_> {
    fn objects(&self) -> Objects {
        let keys = self.trial.s3.keys("site", "www/").into_iter();
        let objects = keys.filter_map(|key| Some((key.clone(), self.trial.s3.object("site", &key)?)));
        objects.map(|(key, object)| (key["www/".len()..].to_owned(), object)).collect()
    }

    fn outer_objects(&self) -> Objects {
        self.objects().into_iter().filter(|(key, _)| !is_inner(key)).collect()
    }

    fn remember(&mut self, view: &View) {
        for (key, entry) in &view.entries {
            self.history.entry(key.clone()).or_default().extend(entry.content.clone());
        }
    }

    fn scope(&self, rules: &Rules) -> Scope {
        Scope {
            mode: self.story.mode,
            rules: rules.clone(),
            filter: rules.filter.of(&self.tree.names),
            keys: (None, None),
            named: None,
            remembered_mounts: self.remembered_mounts(),
            seen_links: self.seen_links.clone(),
        }
    }

    fn remembered_mounts(&self) -> BTreeSet<String> {
        mount::remembered(&self.trial.folder.path().join("state"))
    }

    /// The words of a command with the options of the scope.
    fn words(&self, command: &str, scope: &Scope) -> Vec<String> {
        let mode = if scope.mode == Mode::Plain { "plain" } else { "datasync" };
        let mut words = vec![command.to_owned(), self.tree.source.display().to_string(), "s3://site/www".to_owned()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
        add(&["--mode", mode, "--max-delete", scope.rules.max_delete]);
        add(&OPTIONS[..if command == "sync" { OPTIONS.len() } else { 2 }]);
        let flags = [
            ("--delete", scope.rules.delete && scope.named.is_none()),
            ("--allow-empty-source", scope.rules.allow_empty),
            ("--ignore-errors", scope.rules.ignore_errors),
            ("--allow-missing-mounts", scope.rules.allow_missing_mounts),
        ];
        for (flag, _) in flags.iter().filter(|(_, is_set)| *is_set) {
            add(&[flag]);
        }
        let options = [
            ("--min-age", scope.rules.min_age.then_some("1h")),
            ("--include", scope.filter.include.as_deref()),
            ("--exclude", scope.filter.exclude.as_deref()),
            ("--range-after", scope.keys.0.as_deref()),
            ("--range-to", scope.keys.1.as_deref()),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                add(&[option, value]);
            }
        }
        if self.story.with_state && command != "verify" {
            add(&["--state", &self.trial.folder.path().join("state").display().to_string()]);
        }
        words
    }

    fn troubles(&self, troubles: &[Trouble], moments: &Moments) {
        let (trial, tree, mode) = (&self.trial, &self.tree, self.story.mode);
        let multipart = [Operation::CreateMultipartUpload, Operation::UploadPart, Operation::CompleteMultipartUpload];
        let note = |tree: Tree, moments: Moments, change: Box<dyn Fn(&Tree) + Send + Sync>| {
            Fault::before(move || {
                change(&tree);
                moments.lock().unwrap().push(tree.view(mode));
            })
        };
        for trouble in troubles {
            let rule = match trouble.clone() {
                Trouble::ConcurrentRewrite(pick) => {
                    let Some(path) = tree.pick_file(pick) else {
                        continue;
                    };
                    let change = move |tree: &Tree| {
                        let _ = tree.rewrite_in_place(&path);
                    };
                    Rule::on(Operation::PutObject).does(note(tree.clone(), Arc::clone(moments), Box::new(change)))
                }
                // Without state, the next run cannot know that this run copied the source as it was before, and an entry that
                // is created in a moved directory hides the move.
                Trouble::ConcurrentEdit(moment, edit)
                    if is_on(&edit)
                        && (self.story.with_state || !replaces_source(&edit))
                        && (self.has_all_rows() || !tree.has_moved()) =>
                {
                    let change = move |tree: &Tree| {
                        let _ = tree.edit(&edit);
                    };
                    let fault = note(tree.clone(), Arc::clone(moments), Box::new(change));
                    Rule::on(moment.operations().as_slice()).does(fault)
                }
                Trouble::Puts(fault, times) => Rule::on(Operation::PutObject).times(times).does(fault),
                Trouble::PutsOf(name, fault) => {
                    Rule::on(Operation::PutObject).key_contains(tree.names[name]).always().does(fault)
                }
                Trouble::Parts(fault, times) => Rule::on(multipart).times(times).does(fault),
                Trouble::Lists(skip, fault, times) => {
                    Rule::on(Operation::ListObjectsV2).skip(skip).times(times).does(fault)
                }
                Trouble::Deletes(fault, times) => {
                    Rule::on(Moment::Delete.operations().as_slice()).times(times).does(fault)
                }
                Trouble::ConcurrentEdit(..) | Trouble::Stop(..) => continue,
            };
            trial.s3.rule(rule);
        }
    }

    /// Runs one command, and checks what it did.
    fn run(&mut self, scope: &Scope, step: &Step<'_>) -> FinishedRun {
        self.run_during(scope, step, |_, _| {})
    }

    fn run_during(&mut self, scope: &Scope, step: &Step<'_>, first: impl FnOnce(&mut Self, &Moments)) -> FinishedRun {
        let moments: Moments = Arc::new(Mutex::new(vec![self.tree.view(self.story.mode)]));
        let (before, uploads) = (self.objects(), self.trial.s3.uploads().len());
        self.trial.s3.clear_rules();
        self.trial.s3.clear_log();
        first(self, &moments);
        self.troubles(step.troubles, &moments);
        moments.lock().unwrap().push(self.tree.view(self.story.mode));
        let run = self.ended(step);
        self.trial.s3.clear_rules();
        let moments = std::mem::take(&mut *moments.lock().unwrap());
        for view in &moments {
            self.remember(view);
        }
        let stopped = stop(step.troubles).is_some();
        self.lacks_rows |= run.report.is_null();
        let after = self.objects();
        let inner = |objects: &Objects| {
            objects.iter().filter(|(key, _)| is_inner(key)).map(|(key, object)| (key.clone(), object.clone())).collect()
        };
        let (inner_before, inner_after): (Objects, Objects) = (inner(&before), inner(&after));
        assert_eq!(inner_before, inner_after, "a run changed another destination: {}", run.stderr);
        let (before, after) = (without_inner(before), without_inner(after));
        let judged = if step.judge_by_end { moments.len() - 1 } else { 0 };
        Evidence {
            scope,
            moments: &moments[judged..],
            before: &before,
            after: &after,
            log: &self.trial.s3.log(),
            history: &self.history,
            run: &run,
            is_stopped: stopped,
            is_restructured: step.troubles.iter().any(|trouble| matches!(trouble, Trouble::ConcurrentEdit(..))),
            deleted_by_others: &step.deleted_by_others.lock().unwrap(),
            is_whole: step.is_whole,
        }
        .check();
        if !run.report.is_null() {
            // If a response to CreateMultipartUpload is lost, the run cannot know the upload.
            let response_lost = step.troubles.iter().any(|trouble| matches!(trouble, Trouble::Parts(..)));
            let open = self.trial.s3.uploads().len();
            assert!(open <= uploads || response_lost || run.code == 1, "an upload is unfinished");
        }
        self.mounts_are_remembered(scope, step, &moments, &run);
        if !self.has_all_rows() && !run.report.is_null() {
            // Without its state, the next run cannot know that a failed run wrote an older version, at a later time.
            for key in run.failed_keys() {
                self.tree.renew(&key["www/".len()..]);
            }
            // A change of a directory during its own upload is not noticed either.
            let ([first, ..], Some(last)) = (&moments[..], moments.last()) else { panic!("no moment") };
            let directories = last.entries.iter().filter(|(_, entry)| entry.kind == Kind::Directory);
            for (key, _) in directories.filter(|(key, entry)| first.entries.get(*key) != Some(*entry)) {
                self.tree.renew(key);
            }
        }
        run
    }

    /// The state remembers only mounts that were there, and a run that saw the whole source adds them all.
    fn mounts_are_remembered(&mut self, scope: &Scope, step: &Step<'_>, moments: &[View], run: &FinishedRun) {
        self.seen_mounts.extend(moments.iter().flat_map(|view| view.mounts.union(&view.links)).cloned());
        self.seen_links.extend(moments.iter().flat_map(|view| &view.links).cloned());
        let remembered = self.remembered_mounts();
        let invented: Vec<&String> = remembered.difference(&self.seen_mounts).collect();
        assert!(invented.is_empty(), "the state remembers mounts that never were: {invented:?}");
        let may_forget = |key: &&String| may_forget_mounts(step, run) && scope.may_forget(key, moments);
        let forgotten = scope.remembered_mounts.difference(&remembered).filter(|key| !may_forget(key));
        let forgotten: Vec<&String> = forgotten.collect();
        assert!(forgotten.is_empty(), "the state has forgotten {forgotten:?}: {}", run.stderr);
        let is_steady = moments.windows(2).all(|two| two[0].mounts == two[1].mounts && two[0].links == two[1].links);
        let sees_all = step.is_whole && scope.named.is_none() && step.words[0] == "sync" && [0, 3].contains(&run.code);
        if self.story.with_state && is_steady && sees_all {
            let lost = moments.iter().flat_map(|view| scope.maybe_missing(view));
            let lost: Vec<&String> = lost.collect();
            // A key range that ends with its name holds nothing of what is below it.
            let is_covered = |key: &str| scope.covers(key) && scope.covers(&format!("{key}/"));
            let is_seen =
                |key: &&String| is_covered(key) && !lost.iter().any(|top| super::view::is_at_or_below(key, top));
            let unknown: Vec<&String> = moments[0].mounts.difference(&remembered).filter(is_seen).collect();
            assert!(unknown.is_empty(), "the state does not remember {unknown:?}: {}", run.stderr);
        }
    }

    /// Whether the state has a row for each key that a run has compared or written.
    fn has_all_rows(&self) -> bool {
        self.story.with_state && !self.lacks_rows
    }

    /// Makes visible what a run without a record of the last one cannot see.
    fn show_moves(&self) {
        if !self.has_all_rows() {
            self.tree.renew_moved();
        }
        // A directory need not settle before its upload, so the state may lack its row.
        if self.story.mode == Mode::DataSync {
            self.tree.renew_mounted(fs::Metadata::is_dir);
        }
    }

    fn ended(&self, step: &Step<'_>) -> FinishedRun {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        match &self.place {
            Place::Program => {
                let url = self.datasync.as_ref().map(DataSyncServer::url).unwrap_or_default();
                run_program(&self.trial, &words, step.troubles, &[("AWS_ENDPOINT_URL_DATASYNC", &url)])
            }
            Place::Within(runtime) if words[0] == "sync" => {
                runtime.block_on(within::run_on(&self.trial.s3, &words, stop(step.troubles)))
            }
            Place::Within(runtime) => {
                runtime.block_on(within::command(&self.trial.s3, self.trial.folder.path(), &words))
            }
        }
    }

    fn round(&mut self, round: &Round) {
        self.show_moves();
        let scope = self.scope(&round.rules);
        if round.inner && self.story.with_state {
            self.sync_inner();
        }
        match &round.how {
            How::Ranges(names) => {
                let key: Vec<&str> = names.iter().map(|name| self.tree.names[*name]).collect();
                let key = Some(key.join("/"));
                self.lacks_rows = true;
                for keys in [(None, key.clone()), (key, None)] {
                    self.show_moves();
                    // The run before may have forgotten a mount.
                    let scope = Scope { keys, ..self.scope(&round.rules) };
                    drop(self.sync(&scope, &round.troubles));
                }
            }
            How::Manifest(picks) => {
                let named: BTreeSet<String> = self.tree.pick_keys(picks).into_iter().collect();
                if named.is_empty() {
                    return;
                }
                let path = self.trial.folder.path().join("manifest.csv");
                let lines = named.iter().map(|key| format!("\"{}\"\n", key.replace('"', "\"\"")));
                fs::write(&path, lines.collect::<String>()).unwrap();
                let scope = Scope { named: Some(named), ..scope };
                let mut words = self.words("sync", &scope);
                words.extend(["--from-manifest".to_owned(), path.display().to_string()]);
                self.run(&scope, &Step::new(words, &round.troubles, true));
            }
            How::PlanAndApply(edits) => {
                let path = self.trial.folder.path().join("plan.jsonl").display().to_string();
                let mut words = self.words("plan", &scope);
                words.extend(["-o".to_owned(), path.clone()]);
                let plan = self.run(&scope, &Step::new(words, &[], false));
                if ![0, 3].contains(&plan.code) {
                    return;
                }
                let words = vec!["apply".to_owned(), path];
                let troubles = without_stops(&round.troubles);
                self.run_during(&scope, &Step::new(words, &troubles, false), |case, _| {
                    for edit in edits.iter().filter(|edit| is_on(edit)) {
                        let _ = case.tree.edit(edit);
                    }
                });
            }
            How::Run(execution) if scope.mode == Mode::DataSync && matches!(self.place, Place::Program) => {
                self.run_task(&scope, execution);
            }
            How::Sync | How::Run(_) => drop(self.sync(&scope, &round.troubles)),
            How::Verify => {
                self.sync(&scope, &round.troubles);
                self.show_moves();
                self.verify(&scope);
            }
        }
    }

    fn sync(&mut self, scope: &Scope, troubles: &[Trouble]) -> FinishedRun {
        let words = self.words("sync", scope);
        self.run(scope, &Step::new(words, troubles, true))
    }

    /// `efs2s3 run` with an execution of the task.
    fn run_task(&mut self, scope: &Scope, execution: &Execution) {
        let scope = &Scope { rules: Rules { min_age: false, ..scope.rules.clone() }, ..scope.clone() };
        let needs_audit = execution.is_of_others || scope.rules.delete && execution.run != Policy::DeletesOfDataSync;
        let is_trusted = execution.end == End::Success && !needs_audit;
        let mut execution = execution.clone();
        if is_trusted {
            // DataSync itself notices its own late writes.
            execution.during.clear();
        }
        let start = || DataSyncServer::start("aws", "us-east-1").unwrap();
        let datasync = self.datasync.take().unwrap_or_else(start);
        let read = self.tree.view(scope.mode);
        let deleted = execution::prepare(&datasync, &self.trial.s3, scope, &execution, &read);
        let mut words = vec!["run".to_owned(), "--task-arn".to_owned(), datasync.task_arn()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
        add(&["--source", &self.tree.source.display().to_string(), "--max-delete", scope.rules.max_delete]);
        add(&[
            "--poll-interval",
            "100ms",
            "--stall-timeout",
            "3s",
            "--queue-timeout",
            "9s",
            "--breaker-failures",
            "1000",
        ]);
        add(&OPTIONS);
        if scope.rules.allow_empty {
            add(&["--allow-empty-source"]);
        }
        if scope.rules.ignore_errors {
            add(&["--ignore-errors"]);
        }
        if scope.rules.allow_missing_mounts {
            add(&["--allow-missing-mounts"]);
        }
        match execution.run {
            Policy::DataSyncFirst => {}
            Policy::DeletesOfDataSync => add(&["--deletes", "datasync"]),
            Policy::DirectOnly => add(&["--policy", "direct-only"]),
        }
        if self.story.with_state {
            add(&["--state", &self.trial.folder.path().join("state").display().to_string()]);
        }
        let is_allowed =
            execution.is_of_others || execution.run == Policy::DeletesOfDataSync || execution.ignores_override;
        // DataSync's own success is trusted, and after a cancel by an operator the run does nothing.
        let is_judged = !is_trusted && execution.end != End::Cancelled;
        let step = Step {
            judge_by_end: true,
            deleted_by_others: if is_allowed { deleted } else { Deleted::default() },
            ..Step::new(words, &[], is_judged)
        };
        let (edits, tree, mode) = (execution.during.clone(), self.tree.clone(), scope.mode);
        let change = move |moments: &Moments| {
            for edit in edits.iter().filter(|edit| is_on(edit) && !replaces_source(edit)) {
                let _ = tree.edit(edit);
            }
            moments.lock().unwrap().push(tree.view(mode));
        };
        let mut changing = None;
        let has_objects = self.outer_objects().keys().any(|key| scope.covers(key) && !key.ends_with('/'));
        let starts = datasync.count("StartTaskExecution");
        self.datasync = Some(datasync);
        let run = self.run_during(scope, &step, |case, moments| {
            let datasync = case.datasync.as_ref().unwrap();
            if execution.is_of_others {
                let _ = datasync.start_execution();
                change(moments);
                if execution.run == Policy::DirectOnly {
                    thread::sleep(if execution.during.is_empty() { CHANGE } else { TRANSFER + CHANGE });
                    datasync.settle();
                }
            } else if !execution.during.is_empty() {
                let moments = Arc::clone(moments);
                changing = Some(thread::spawn(move || {
                    thread::sleep(CHANGE);
                    change(&moments);
                }));
            }
        });
        drop(changing.map(thread::JoinHandle::join));
        // On a busy machine, a change during the execution may come before the check of the source.
        let now = self.tree.view(scope.mode);
        let is_empty = scope.is_empty(&read) && scope.is_empty(&now) && !scope.rules.allow_empty;
        let started = self.datasync.as_ref().unwrap().count("StartTaskExecution") > starts;
        // What another client's execution has deleted before, the run cannot protect.
        let is_empty = is_empty && has_objects && !execution.is_of_others;
        assert!(!(started && is_empty), "DataSync started with an empty source: {}", run.stderr);
        if execution.end == End::Cancelled && execution.run != Policy::DirectOnly && run.code != 1 {
            assert_eq!((run.code, self.trial.count(WRITES)), (3, 0), "after a cancel by an operator: {}", run.stderr);
        }
    }

    /// A comparison that ends with 0 proves that the contents are equal.
    fn verify(&mut self, scope: &Scope) {
        let (objects, view) = (self.outer_objects(), self.tree.view(self.story.mode));
        let step = Step::new(self.words("verify", scope), &[], false);
        self.trial.s3.clear_log();
        let run = self.ended(&step);
        assert!([0, 1, 3, 10].contains(&run.code), "verify: exit {}: {}", run.code, run.stderr);
        assert_eq!(self.trial.count(WRITES), 0, "verify writes");
        if run.code != 0 {
            return;
        }
        for (key, entry) in view.entries.iter().filter(|(key, _)| scope.covers(key)) {
            let content = objects.get(key).map(|object| &*object.body);
            // An empty file is equal to an empty object, even if it cannot be read.
            let is_equal = content == entry.content.as_deref() || content == Some(&[]) && entry.size == 0;
            assert!(content.is_some() && is_equal, "verify ends with 0, and '{key}' differs");
        }
        for key in objects.keys().filter(|key| scope.rules.delete && scope.covers(key)) {
            let is_known = view.entries.contains_key(key) || scope.is_marker(key, &view);
            assert!(is_known, "verify ends with 0, and '{key}' has no file");
        }
    }

    /// Another source has a destination inside this one.
    fn sync_inner(&mut self) {
        let folder = self.trial.folder.path().join("inner");
        fs::create_dir_all(&folder).unwrap();
        for name in [1, 2] {
            fs::write(folder.join(self.tree.names[name]), self.tree.content(8)).unwrap();
        }
        let scope = self.scope(&Rules::last());
        let mut words = self.words("sync", &scope);
        words[1] = folder.display().to_string();
        words[2] = format!("s3://site/www/{INNER}");
        self.trial.s3.clear_rules();
        let run = self.ended(&Step::new(words, &[], false));
        assert_eq!(run.code, 0, "{}", run.stderr);
        self.has_inner = true;
    }

    /// A run without trouble repairs everything, and the one after it writes nothing.
    fn last_runs(&mut self) {
        let _ = self.tree.edit(&Edit::SwapAlike);
        self.tree.repair(self.story.mode);
        self.show_moves();
        let inner = if self.has_inner { 3 } else { 0 };
        let scope = self.scope(&Rules::last());
        let view = self.tree.view(self.story.mode);
        if scope.maybe_missing(&view).next().is_some() {
            self.miss_mounts(&scope, &view);
            let allowed = self.scope(&Rules { allow_missing_mounts: true, ..Rules::last() });
            let run = self.sync(&allowed, &[]);
            assert_eq!(run.code, inner, "the missing mounts are forgotten: {}", run.stderr);
        }
        let scope = self.scope(&Rules::last());
        let run = self.sync(&scope, &[]);
        let expected = inner;
        assert_eq!(run.code, expected, "{}", run.stderr);
        // On a busy machine the measured difference of the clocks can hide a change from the index once.
        let mut others = Vec::new();
        for _ in 0..3 {
            let run = self.sync(&scope, &[]);
            assert_eq!(run.code, expected, "{}", run.stderr);
            assert_eq!(self.trial.count(WRITES), 0, "a second run writes nothing");
            let operations = self.trial.s3.log().into_iter().map(|request| request.operation);
            others = operations.filter(|operation| *operation != Operation::ListObjectsV2).collect();
            if others.is_empty() {
                break;
            }
        }
        if self.story.with_state {
            assert_eq!(others, [], "a run with nothing to do costs more than listings");
            assert_eq!(self.trial.s3.uploads().len(), 0, "no run resumes or aborts this upload");
        }
    }

    /// While mounts are missing, a run keeps what was below them, and says so.
    fn miss_mounts(&mut self, scope: &Scope, view: &View) {
        let run = self.sync(scope, &[]);
        let missing = scope.missing_mounts(view);
        let is_lost = |key: &String| missing.iter().any(|mount| super::view::is_at_or_below(key, mount));
        // A link may lead into as many mounts as before.
        let may_be_lost = |key: &String| scope.maybe_missing(view).any(|mount| super::view::is_at_or_below(key, mount));
        let is_bare = |key: &String| key.strip_suffix('/').is_some_and(|key| missing.contains(key));
        let in_source = || view.entries.keys().filter(|key| !is_bare(key));
        let (objects, inner) = (self.outer_objects(), self.has_inner);
        if inner || objects.keys().chain(in_source()).any(is_lost) {
            assert_eq!(run.code, 3, "a mount is missing: {}", run.stderr);
        } else if !objects.keys().chain(in_source()).any(may_be_lost) {
            assert_eq!(run.code, 0, "no mount is missing: {}", run.stderr);
        }
    }
}

/// Whether no guard withheld a delete for a reason that a missing file system may cause. A run that was killed after it
/// forgot a mount has no report.
fn may_forget_mounts(step: &Step<'_>, run: &FinishedRun) -> bool {
    let withheld = run.report["withheld_because"].as_array().into_iter().flatten();
    let mut guards = withheld.map(|entry| entry["guard"].as_str().unwrap());
    let ended = run.report.is_null() || [0, 3].contains(&run.code) && run.counted("deletes_failed") == 0;
    step.words[0] == "sync" && ended && guards.all(|guard| ["other_destination", "impossible_path"].contains(&guard))
}

fn without_inner(objects: Objects) -> Objects {
    objects.into_iter().filter(|(key, _)| !is_inner(key)).collect()
}

fn without_stops(troubles: &[Trouble]) -> Vec<Trouble> {
    troubles.iter().filter(|trouble| !matches!(trouble, Trouble::Stop(..))).cloned().collect()
}

/// The signal that stops the run, and when the run gets it.
fn stop(troubles: &[Trouble]) -> Option<(&'static str, Duration)> {
    troubles.iter().find_map(|trouble| {
        if let Trouble::Stop(signal, after) = trouble { Some((*signal, Duration::from_millis(*after))) } else { None }
    })
}

fn run_program(trial: &Trial, words: &[&str], troubles: &[Trouble], environment: &[(&str, &str)]) -> FinishedRun {
    loop {
        let run = trial.start_words(words, environment);
        if let Some((signal, after)) = stop(troubles) {
            thread::sleep(after);
            run.signal(signal);
        }
        let ended = run.end();
        // The lease of a killed run expires on its own.
        if ended.code != 11 {
            return ended;
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// Lets a story happen.
pub(super) fn tell(story: &Story, place: Place) {
    let trial = match &place {
        Place::Program => Trial::new(),
        Place::Within(runtime) => Trial::on(runtime.block_on(S3Server::start()).unwrap()),
    };
    trial.s3.settings(|settings| {
        settings.conditional_writes = story.conditional_writes;
        settings.listing = story.listing;
        settings.kms = story.kms;
        settings.page_size = story.page_size;
    });
    let names = std::array::from_fn(|place| NAMES[(story.first_name + place) % NAMES.len()]);
    let tree = Tree::new(trial.folder.path(), story.layout, names);
    let mut case = Case {
        story,
        place,
        trial,
        tree,
        history: History::new(),
        seen_mounts: BTreeSet::new(),
        seen_links: BTreeSet::new(),
        lacks_rows: false,
        has_inner: false,
        datasync: None,
    };
    for (names, size, parts) in &story.seeds {
        let name: Vec<&str> = names.iter().map(|name| case.tree.names[*name]).collect();
        let (name, content) = (name.join("/"), case.tree.content(SIZES[*size]));
        let seed = Seed::aged(Duration::from_secs(100));
        let seed = parts.map_or(seed.clone(), |part_bytes| seed.in_parts_of(part_bytes));
        case.trial.s3.put("site", &format!("www/{name}"), content.clone(), seed);
        case.history.entry(name).or_default().insert(content.into());
    }
    for (number, round) in story.rounds.iter().enumerate() {
        for edit in round.edits.iter().filter(|edit| is_on(edit)) {
            let _ = case.tree.edit(edit);
        }
        if number == 0 {
            case.tree.make_other_release();
        }
        case.round(round);
    }
    case.last_runs();
}
