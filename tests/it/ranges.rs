//! Several runs over key ranges: together they do what one run over all keys does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fake_aws::s3::{Fault, Operation, Rule};
use serde_json::{Value, json};

use crate::trial::{FinishedRun, Trial, WRITES};
use crate::within;

const HOUR: Duration = Duration::from_hours(1);

/// A tree whose keys are close to one another, and objects that match a file, differ from it, or have none.
fn planted() -> Trial {
    let trial = Trial::new();
    for number in 0..120 {
        let name = format!("d{}/{}f{number:03}", number % 7, if number % 3 == 0 { "deep/er/" } else { "" });
        trial.write_aged(&name, format!("content {number}"), HOUR);
    }
    for name in ["d1!", "d1-x/y", "d1.txt", "d10", "a b+c%2Fd", "zz/é/ü"] {
        trial.write_aged(name, name, HOUR);
    }
    trial.link("d0", "link");
    fs::create_dir(trial.tree().join("empty")).unwrap();
    trial.write("d2/excluded/x", "x");
    Trial::settle();
    for (name, age) in [("d0/gone", HOUR), ("d3/gone/deeper", HOUR), ("d1", HOUR), ("d6/f006/below", HOUR)] {
        trial.object(name, "gone", age);
    }
    trial.object("d2/excluded/stays", "x", HOUR);
    trial.object("d1!", "d1!", Duration::ZERO);
    trial.object("d10", "oth", Duration::ZERO);
    trial
}

fn words<'a>(command: &'a str, source: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[command, source, "s3://site/www"], more].concat()
}

fn split(trial: &Trial, more: &[&str]) -> Vec<Value> {
    let source = trial.tree().display().to_string();
    let ended = trial.run_words(&words("ranges", &source, more), &[]).expect(0);
    let mut ranges: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    // Each list has an ID of its own.
    assert!(ranges.iter_mut().all(|range| range.as_object_mut().unwrap().remove("list").is_some()));
    ranges
}

/// Runs one process for each range, all at the same time.
fn run_ranges(trial: &Trial, file: &str, count: usize, more: &[&str]) -> Vec<FinishedRun> {
    let source = trial.tree().display().to_string();
    thread::scope(|scope| {
        let runs: Vec<_> = (0..count)
            .map(|index| {
                let source = &source;
                scope.spawn(move || {
                    let index = index.to_string();
                    let options = [&["--ranges", file], more].concat();
                    trial.run_words(&words("sync", source, &options), &[("AWS_BATCH_JOB_ARRAY_INDEX", &index)])
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

fn merged(trial: &Trial, runs: &[FinishedRun]) -> FinishedRun {
    let files: Vec<String> = runs
        .iter()
        .enumerate()
        .map(|(number, run)| {
            let path = trial.folder.path().join(format!("part-{number}.json"));
            fs::write(&path, run.report.to_string()).unwrap();
            path.display().to_string()
        })
        .collect();
    let words: Vec<&str> = ["report", "merge"].into_iter().chain(files.iter().map(String::as_str)).collect();
    trial.run_words(&words, &[])
}

/// Everything that is stored except the times.
fn stored(trial: &Trial) -> BTreeMap<String, (bytes::Bytes, BTreeMap<String, String>)> {
    let content = |key: String| {
        let object = trial.s3.object("site", &key)?;
        Some((key, (object.body, object.headers)))
    };
    trial.s3.keys("site", "").into_iter().filter_map(content).collect()
}

/// Runs both ways on trees of their own. The stored objects must be the same, and the reports must add up to the report of
/// the single run.
#[track_caller]
fn assert_same_in_ranges(mode: &str, count: usize) {
    let (single, shared) = (planted(), planted());
    let (source, shared_source) = (single.tree().display().to_string(), shared.tree().display().to_string());
    let mut how = vec!["--delete", "--exclude", "/d2/excluded", "--mode", mode];
    if mode == "datasync" {
        how.extend(["--no-preserve", "mtime,atime"]);
    }
    let single_run = single.run_words(&words("sync", &source, &how), &[]).expect(0);

    let file = shared.folder.path().join("ranges.json").display().to_string();
    let state = shared.folder.path().join("state").display().to_string();
    let number = count.to_string();
    let options = ["--count", &number, "--exclude", "/d2/excluded", "--mode", mode, "-o", &file];
    shared.run_words(&words("ranges", &shared_source, &options), &[]).expect(0);
    let ranges: Vec<Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(ranges.len(), count);

    how.extend(["--state", &state]);
    let runs = run_ranges(&shared, &file, count, &how);
    let sum = merged(&shared, &runs).expect(0).report;
    assert_eq!(shared.names(), single.names());
    assert_eq!(stored(&shared), stored(&single));
    for counts in ["counts", "skipped_because"] {
        assert_eq!(sum[counts], single_run.report[counts]);
    }
    assert_eq!(sum["bytes"]["source"], single_run.report["bytes"]["source"]);
    assert_eq!(sum["bytes"]["uploaded"], single_run.report["bytes"]["uploaded"]);
    assert_eq!(sum["merged"].as_array().unwrap().len(), count);

    // Each run has indexed its own part.
    Trial::settle();
    shared.s3.clear_log();
    for run in run_ranges(&shared, &file, count, &how) {
        run.expect(0);
    }
    assert_eq!(shared.count(WRITES), 0, "{:?}", shared.s3.log());
}

#[test]
fn runs_over_ranges_store_what_one_run_stores() {
    assert_same_in_ranges("plain", 9);
    assert_same_in_ranges("datasync", 1);
}

#[test]
fn runs_over_ranges_store_what_one_run_stores_in_datasync_mode() {
    assert_same_in_ranges("datasync", 4);
}

#[test]
fn ranges_are_balanced_by_the_tree_or_by_the_index() {
    let trial = Trial::new();
    for number in 0..300 {
        trial.write_aged(format!("{}/f{number:03}", number % 3), "x", HOUR);
    }
    Trial::settle();
    let source = trial.tree().display().to_string();
    let state = trial.folder.path().join("state").display().to_string();
    let entries =
        |ranges: &[Value]| -> Vec<u64> { ranges.iter().map(|range| range["entries"].as_u64().unwrap()).collect() };

    let walked = split(&trial, &["--count", "4", "--mode", "plain"]);
    assert_eq!(entries(&walked), [75, 75, 75, 75]);
    assert_eq!((&walked[0]["after"], &walked[3]["to"]), (&json!(""), &json!("")));
    // Directories are objects too in the other mode; there is no index yet.
    let with_directories = split(&trial, &["--count", "3", "--state", &state]);
    assert_eq!(entries(&with_directories).iter().sum::<u64>(), 303);

    trial.run_words(&words("sync", &source, &["--mode", "plain", "--state", &state]), &[]).expect(0);
    fs::rename(trial.tree(), trial.folder.path().join("elsewhere")).unwrap();
    let indexed = split(&trial, &["--count", "4", "--mode", "plain", "--state", &state]);
    assert_eq!(indexed, walked, "without a stat in the source");
    fs::rename(trial.folder.path().join("elsewhere"), trial.tree()).unwrap();

    // The indexes of runs over ranges count as well.
    let parts = trial.folder.path().join("parts").display().to_string();
    trial.s3.create_bucket("lists");
    let to = "s3://lists/today/ranges.json";
    trial.run_words(&words("ranges", &source, &["--count", "4", "--mode", "plain", "-o", to]), &[]).expect(0);
    for run in run_ranges(&trial, to, 4, &["--mode", "plain", "--state", &parts]) {
        run.expect(0);
    }
    trial.remove("0/f000");
    let previous = ["--count", "2", "--mode", "plain", "--state", &parts, "--previous", "s3://lists/none.json"];
    assert_eq!(entries(&split(&trial, &previous)), [149, 150], "walked: there is no such range list");
    let previous = [&previous[..7], &[to]].concat();
    assert_eq!(entries(&split(&trial, &previous)), [150, 150]);
    let sum = ["report", "merge", "--state", &parts, "--ranges", to, "--destination", "s3://site/www"];
    let sum = trial.run_words(&sum, &[]).expect(0);
    assert_eq!(sum.counted("files"), 300);
}

#[test]
fn a_tree_with_fewer_entries_than_ranges_gives_fewer_ranges_and_a_warning() {
    let trial = Trial::new();
    trial.write("a", "x");
    trial.write("b", "x");
    let source = trial.tree().display().to_string();
    let ended = trial.run_words(&words("ranges", &source, &["--count", "9", "--mode", "plain"]), &[]).expect(0);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&ended.stdout).unwrap().len(), 2);
    assert!(ended.stderr.contains("no more than 2 ranges"), "{}", ended.stderr);
}

#[test]
fn a_run_over_a_range_deletes_nothing_outside_it() {
    let trial = Trial::new();
    trial.write_aged("m", "x", HOUR);
    for name in ["a", "f", "m/below", "n", "z"] {
        trial.object(name, "x", HOUR);
    }
    let run = trial.sync(&["--delete", "--max-delete", "3", "--range-after", "a", "--range-to", "n"]).expect(0);
    assert_eq!(run.counted("deleted"), 3);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["a", "m", "z"]);
    assert_eq!(run.report["keys"], json!({ "after": "a", "to": "n" }));
    assert_eq!(run.counted("objects"), 3, "objects outside the range belong to another run");
}

#[test]
fn deletes_do_not_depend_on_where_the_keys_are_split() {
    const INNER: &str = "ranges::deletes_do_not_depend_on_where_the_keys_are_split";
    const FILES: [&str; 8] = ["a!", "a-b/x", "a.txt", "a/x", "a/y/z", "a0", "b/b", "é/😀"];
    const GONE: [&str; 10] = ["a", "a\"", "a-b", "a-b/w", "a-b/y", "a/", "a/y", "a/y/z/", "b", "é/"];
    within::apart(INNER, || {
        let runtime = within::runtime();
        let planted = Trial::new();
        for name in FILES {
            planted.write_aged(name, name, HOUR);
        }
        Trial::settle();
        let source = planted.tree().display().to_string();
        let keys = || FILES.iter().chain(&GONE).copied();
        // Each key, the text just after it, and a part of it.
        let bounds_at = |key: &str| {
            let middle = key.char_indices().nth(1).map_or(key, |(at, _)| &key[..at]);
            [key.to_owned(), format!("{key}\u{1}"), middle.to_owned()]
        };
        let bounds: BTreeSet<String> = keys().flat_map(bounds_at).collect();
        // Objects for directories; a run keeps those that a console made.
        let directories_of = [("plain", &["a/", "é/"][..]), ("datasync", &["a-b/", "a/", "a/y/", "b/", "é/"])];
        for (bound, (mode, directories)) in bounds.iter().flat_map(|bound| directories_of.map(|of| (bound, of))) {
            let trial = Trial::new();
            for key in keys() {
                // A console makes empty objects for directories.
                let content = if key.ends_with('/') { "" } else { key };
                trial.object(key, content, Duration::ZERO);
            }
            let mut ranges = [("", bound.as_str()), (bound.as_str(), "")];
            // The order of the ranges makes no difference either.
            if mode == "datasync" {
                ranges.reverse();
            }
            for (after, to) in ranges {
                let options =
                    ["--mode", mode, "--delete", "--max-delete", "99", "--range-after", after, "--range-to", to];
                let words = words("sync", &source, &options);
                let ended = runtime.block_on(within::run_on(&trial.s3, &words, None));
                assert_eq!(ended.code, 0, "{mode} at {bound:?}: {}", ended.stderr);
            }
            let expected = FILES.iter().chain(directories).map(|name| (*name).to_owned()).collect();
            assert_eq!(trial.names(), expected, "{mode} at {bound:?}");
        }
    });
}

#[test]
fn ranges_have_one_default_delete_limit_together() {
    let trial = Trial::new();
    for number in 0..300 {
        trial.object(&format!("f{number:03}"), "x", HOUR);
        if number % 15 == 0 {
            trial.write_aged(format!("f{number:03}"), "x", HOUR);
        }
    }
    let file = trial.folder.path().join("ranges.json").display().to_string();
    let bounds = ["", "f075", "f150", "f225", ""];
    let ranges: Vec<Value> = (0..4)
        .map(|index| json!({"index": index, "after": bounds[index], "to": bounds[index + 1], "entries": 5}))
        .collect();
    fs::write(&file, serde_json::to_string(&ranges).unwrap()).unwrap();
    for run in run_ranges(&trial, &file, 4, &["--delete", "--mode", "plain"]) {
        let count = run.expect(3).withheld_by("limit");
        assert!((69..=71).contains(&count), "{count}");
    }
    assert_eq!(trial.names().len(), 300);
    let removed = trial.names().into_iter().filter(|name| name.as_str() >= "f150").collect::<Vec<_>>();
    for name in removed.iter().step_by(4) {
        trial.s3.remove("site", &format!("www/{name}"));
    }
    for (index, run) in
        run_ranges(&trial, &file, 4, &["--delete", "--mode", "plain", "--max-delete", "60"]).into_iter().enumerate()
    {
        assert_eq!(run.code, if index < 2 { 3 } else { 0 }, "a number counts for each run: range {index}");
    }
}

#[test]
fn an_empty_range_of_a_source_with_files_is_not_an_empty_source() {
    let trial = Trial::new();
    trial.write_aged("elsewhere", "x", HOUR);
    trial.object("m/1", "x", HOUR);
    trial.object("m/2", "x", HOUR);
    // A range that is not from a list has no share of the 100 deletes of the default.
    let range = ["--delete", "--max-delete", "2", "--range-after", "k", "--range-to", "n"];
    assert_eq!(
        trial.sync(&range[..1].iter().chain(&range[3..]).copied().collect::<Vec<_>>()).expect(3).withheld_by("limit"),
        2
    );
    assert_eq!(trial.sync(&range).expect(0).counted("deleted"), 2);

    // Without any file, the source is empty.
    trial.object("m/1", "x", HOUR);
    trial.remove("elsewhere");
    assert_eq!(trial.sync(&range).expect(3).withheld_by("empty_source"), 1);
}

#[test]
fn an_unreadable_directory_withholds_deletes_in_every_range_that_it_reaches_into() {
    let trial = Trial::new();
    for name in ["d/e/1", "d/e/9", "x"] {
        trial.write_aged(name, "x", HOUR);
        trial.object(name, "x", Duration::ZERO);
    }
    for name in ["d/e/2", "d/e/8", "d/gone", "y"] {
        trial.object(name, "x", HOUR);
    }
    fs::set_permissions(trial.tree().join("d/e"), fs::Permissions::from_mode(0o000)).unwrap();
    let sync = |after: &str, to: &str| {
        trial.sync_as_nobody(&["--delete", "--max-delete", "9", "--range-after", after, "--range-to", to])
    };
    assert_eq!(sync("", "d/e/5").expect(3).counted("deletes_withheld"), 0);
    assert_eq!(sync("d/e/5", "e").expect(3).withheld_by("walk"), 1);
    assert_eq!(sync("e", "").expect(0).counted("deleted"), 1);
    fs::set_permissions(trial.tree().join("d/e"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(trial.names().len(), 6);
}

#[test]
fn runs_over_overlapping_ranges_exclude_each_other() {
    let trial = Trial::new();
    for number in 0..40 {
        trial.write(format!("f{number:02}"), "x");
    }
    let state = trial.folder.path().join("state").display().to_string();
    trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::Delay(Duration::from_millis(400))));
    let state_option = ["--state", state.as_str()];
    let run = trial.start(&[&["--range-to", "f19", "--concurrency", "4"], &state_option[..]].concat());
    trial.wait_for_requests(Operation::PutObject, 1);
    trial.sync(&state_option).expect(11);
    trial.sync(&[&["--range-after", "f10"], &state_option[..]].concat()).expect(11);
    trial.sync(&[&["--range-after", "f19"], &state_option[..]].concat()).expect(0);
    run.end().expect(0);
    assert_eq!(trial.names().len(), 40);
}

#[test]
fn range_options_that_are_wrong_or_incomplete_are_refused() {
    let trial = Trial::new();
    trial.write("a", "x");
    let file = |text: &str| {
        let path = trial.folder.path().join("ranges.json");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let refused = |options: &[&str], says: &str| {
        let ended = trial.sync(options).expect(2);
        assert!(ended.stderr.contains(says), "{options:?}: {}", ended.stderr);
    };
    refused(&["--range-after", "b", "--range-to", "a"], "contains no key");
    refused(&["--range-index", "0"], "--ranges");
    let good = file(r#"[{"index":0,"after":"","to":"m"},{"index":1,"after":"m","to":""}]"#);
    refused(&["--ranges", &good], "--range-index");
    refused(&["--ranges", &good, "--range-index", "2"], "there is no range 2");
    // An array of jobs may be larger than the range list: the surplus jobs have nothing to do.
    let idle = trial.start_with(&["--ranges", &good], &[("JOB_COMPLETION_INDEX", "2")]).end().expect(0);
    assert!(idle.stderr.contains("nothing to do: there is no range 2"), "{}", idle.stderr);
    assert_eq!(trial.s3.log().len(), 0);
    refused(&["--ranges", &good, "--range-index", "1", "--range-to", "x"], "cannot be used with");
    fs::write(trial.folder.path().join("named"), "a\n").unwrap();
    refused(&["--range-to", "x", "--from-manifest", "named"], "remove the key range");
    refused(&["--ranges", "/no/where", "--range-index", "1"], "cannot read the ");
    trial.sync(&["--ranges", &good, "--range-index", "1"]).expect(0);
    assert!(trial.names().is_empty(), "a is in range 0");
    let gap = file(r#"[{"index":0,"after":"","to":"m"},{"index":1,"after":"n","to":""}]"#);
    refused(&["--ranges", &gap, "--range-index", "1"], "in two ranges or in none");
    let source = trial.tree().display().to_string();
    for count in ["0", "10001", "many"] {
        trial.run_words(&words("ranges", &source, &["--count", count]), &[]).expect(2);
    }
    trial.run_words(&["ranges", "/no/where", "s3://site/www", "--count", "2"], &[]).expect(1);
    trial.s3.create_bucket("lists");
    trial.sync(&["--ranges", "s3://lists/none.json", "--range-index", "0"]).expect(1);
}

#[test]
fn reports_are_merged_only_if_they_cover_every_key_once() {
    let trial = Trial::new();
    for name in ["a", "m", "z"] {
        trial.write(name, "xy");
    }
    let range = |after: &str, to: &str| trial.sync(&["--range-after", after, "--range-to", to]).expect(0);
    let (first, second, third) = (range("", "k"), range("k", "p"), range("p", ""));
    let tried_again = range("k", "p");
    let merge = |runs: Vec<&FinishedRun>| {
        let runs: Vec<FinishedRun> = runs
            .into_iter()
            .map(|run| FinishedRun { report: run.report.clone(), stdout: String::new(), stderr: String::new(), ..*run })
            .collect();
        merged(&trial, &runs)
    };
    let sum = merge(vec![&third, &first, &second]).expect(0);
    let report = &sum.report;
    assert_eq!((&report["counts"]["uploaded"], &report["bytes"]["uploaded"]), (&json!(3), &json!(6)));
    assert_eq!(report["requests"]["put"], 3);
    assert!(sum.stderr.contains("3 files: 0 unchanged, 3 uploaded"), "{}", sum.stderr);
    let sum = merge(vec![&tried_again, &first, &second, &third]).expect(0);
    assert_eq!(sum.counted("uploaded"), 2, "the later report counts");

    let gap = merge(vec![&first, &third]).expect(1);
    assert!(gap.stderr.contains("no report covers the keys after \"k\" up to \"p\""), "{}", gap.stderr);
    assert!(merge(vec![&first, &second]).expect(1).stderr.contains("no report covers the keys after \"p\""));
    let overlap = range("j", "p");
    assert!(merge(vec![&first, &overlap, &third]).expect(1).stderr.contains("two reports cover"));

    let mut worst = first.report.clone();
    worst["exit_code"] = json!(3);
    let incomplete = FinishedRun { report: worst, stdout: String::new(), stderr: String::new(), ..first };
    merge(vec![&incomplete, &second, &third]).expect(3);
    let other = trial.sync_to("s3://site/other", &["--range-to", "k"]).expect(0);
    assert!(merge(vec![&other, &second, &third]).expect(2).stderr.contains("one destination"));
    let nonsense = trial.folder.path().join("nonsense.json");
    fs::write(&nonsense, "{}").unwrap();
    let refused = trial.run_words(&["report", "merge", nonsense.to_str().unwrap()], &[]).expect(2);
    assert!(refused.stderr.contains("nonsense.json is not a report of efs2s3: pass"), "{}", refused.stderr);
    fs::write(&nonsense, "{\"schema\": 1}").unwrap();
    let refused = trial.run_words(&["report", "merge", nonsense.to_str().unwrap()], &[]).expect(2);
    assert!(
        refused.stderr.contains("cannot read the report") && refused.stderr.contains("this version"),
        "{}",
        refused.stderr
    );
    trial.run_words(&["report", "merge"], &[]).expect(2);
}

/// Two ranges of a list, each with its report: `0.json` and `1.json`.
struct Round {
    trial: Trial,
    list: String,
}

impl Round {
    fn new() -> Self {
        let trial = Trial::new();
        for number in 0..20 {
            trial.write(format!("f{number:02}"), "x");
        }
        let list = trial.folder.path().join("ranges.json").display().to_string();
        let round = Self { trial, list };
        round.make_list();
        round
    }

    fn make_list(&self) {
        let source = self.trial.tree().display().to_string();
        let options = ["--count", "2", "--mode", "plain", "-o", &self.list];
        self.trial.run_words(&words("ranges", &source, &options), &[]).expect(0);
    }

    fn path(&self, name: &str) -> String {
        self.trial.folder.path().join(name).display().to_string()
    }

    /// Runs a command over a range, and writes its report to `N.json`.
    fn run(&self, command: &str, index: usize, options: &[&str]) -> FinishedRun {
        let source = self.trial.tree().display().to_string();
        self.run_on(&words(command, &source, options), index)
    }

    fn run_on(&self, words: &[&str], index: usize) -> FinishedRun {
        let (number, report) = (index.to_string(), self.path(&format!("{index}.json")));
        let range = ["--mode", "plain", "--ranges", &self.list, "--range-index", &number, "--report", &report];
        self.trial.run_words(&[words, &range[..]].concat(), &[])
    }

    fn merge(&self) -> FinishedRun {
        self.trial.run_words(&["report", "merge", &self.path("0.json"), &self.path("1.json")], &[])
    }

    /// Changes a report.
    fn edit(&self, index: usize, change: impl FnOnce(&mut Value)) {
        let path = self.path(&format!("{index}.json"));
        let mut report = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut report);
        fs::write(path, report.to_string()).unwrap();
    }

    #[track_caller]
    fn assert_refused(&self, why: &str) {
        let ended = self.merge().expect(1);
        assert!(ended.stderr.contains("1.json") && ended.stderr.contains(why), "{why}: {}", ended.stderr);
    }
}

#[test]
fn merge_names_the_range_to_run_again() {
    let round = Round::new();
    round.run("sync", 0, &[]).expect(0);
    let merged = round.trial.run_words(&["report", "merge", &round.path("0.json")], &[]).expect(1);
    assert!(
        merged.report["error"].as_str().unwrap().ends_with(": run range 1 again (--range-index 1)"),
        "{}",
        merged.report
    );
    round.run("sync", 1, &[]).expect(0);
    let merged = round.trial.run_words(&["report", "merge", &round.path("1.json")], &[]).expect(1);
    assert!(merged.report["error"].as_str().unwrap().contains("from range 0"), "{}", merged.report);
    let state = round.path("empty");
    let words = ["report", "merge", "--state", &state, "--ranges", &round.list, "--destination", "s3://site/www"];
    let refused = round.trial.run_words(&words, &[]).expect(2);
    assert!(refused.stderr.contains("has no report of s3://site/www"), "{}", refused.stderr);
}

#[test]
fn merge_refuses_reports_of_another_sync() {
    let round = Round::new();
    round.run("sync", 0, &[]).expect(0);
    round.run("sync", 1, &[]).expect(0);
    round.merge().expect(0);
    for command in ["plan", "verify"] {
        round.run(command, 1, &[]).expect(0);
        round.assert_refused(&format!("`{command}`"));
    }
    round.run("sync", 1, &["--dry-run"]).expect(0);
    round.assert_refused("`plan`");

    let other = round.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(Path::new(&other).join("f19"), "x").unwrap();
    round.run_on(&words("sync", &other, &[]), 1).expect(0);
    round.assert_refused("its source is");

    for options in
        [["--delete"].as_slice(), &["--exclude", "*.tmp"], &["--compare", "size-only"], &["--overwrite", "never"]]
    {
        round.run("sync", 1, options).expect(0);
        round.assert_refused(options[0]);
        round.assert_refused("run this range again with");
    }
    // Limits may differ.
    round.run("sync", 1, &["--concurrency", "3", "--retries", "1", "--memory", "32MiB"]).expect(0);
    round.merge().expect(0);
}

#[test]
fn merge_compares_whole_paths_of_relative_sources() {
    let round = Round::new();
    let run_in = |folder: &str, index: usize| {
        let (folder, number, report) = (round.path(folder), index.to_string(), round.path(&format!("{index}.json")));
        fs::create_dir_all(Path::new(&folder).join("tree")).unwrap();
        fs::write(Path::new(&folder).join(format!("tree/f{index}5")), "x").unwrap();
        let mut command = Command::new("env");
        command.args([
            "-C",
            &folder,
            env!("CARGO_BIN_EXE_efs2s3"),
            "sync",
            "tree",
            "s3://site/www",
            "--mode",
            "plain",
            "--ranges",
            &round.list,
        ]);
        command.args(["--range-index", &number, "--report", &report]);
        round.trial.spawn(command, &[]).end().expect(0);
    };
    run_in("one", 0);
    round.edit(0, |report| {
        assert_eq!((&report["source"], &report["source_path"]), (&json!("tree"), &json!(round.path("one/tree"))));
    });
    run_in("one", 1);
    round.merge().expect(0);
    run_in("two", 1);
    round.assert_refused("its source is");
    // The report of an older version shows only the relative path.
    round.edit(1, |report| drop(report.as_object_mut().unwrap().remove("source_path")));
    round.assert_refused("relative path tree");
}

#[test]
fn merge_refuses_numbers_that_are_too_large_to_add_up() {
    type Edit = fn(&mut Value);
    let round = Round::new();
    round.run("sync", 0, &[]).expect(0);
    round.run("sync", 1, &[]).expect(0);
    let whole = fs::read_to_string(round.path("1.json")).unwrap();
    round.edit(0, |report| report["failures_count"] = json!(1));
    let edits: [Edit; 5] = [
        |report| (report["counts"]["files"], report["counts"]["unchanged"]) = (json!(u64::MAX), json!(u64::MAX)),
        |report| report["bytes"]["source"] = json!(u64::MAX),
        |report| report["requests"]["put"] = json!(u64::MAX),
        |report| report["source_operations"]["stat"] = json!(u64::MAX),
        |report| report["failures_count"] = json!(u64::MAX),
    ];
    for edit in edits {
        fs::write(round.path("1.json"), &whole).unwrap();
        round.edit(1, edit);
        let ended = round.merge().expect(1);
        assert!(ended.stderr.contains("too large"), "{}", ended.stderr);
    }
    // Numbers of one report whose sum is too large do not add up.
    fs::write(round.path("1.json"), &whole).unwrap();
    round.run("sync", 0, &[]).expect(0);
    round.edit(1, |report| {
        (report["counts"]["uploaded"], report["counts"]["skipped"]) = (json!(u64::MAX), json!(11));
        report["withheld_because"] = json!([
            { "guard": "still_gone", "count": u64::MAX, "keys": [], "message": "" },
            { "guard": "still_the_same", "count": 1, "keys": [], "message": "" },
        ]);
    });
    assert_ne!(round.merge().code, 0);
    // The log line adds up the requests of all kinds.
    fs::write(round.path("1.json"), &whole).unwrap();
    round.edit(1, |report| {
        (report["requests"]["head"], report["requests"]["copy"]) = (json!(u64::MAX - 99), json!(100));
    });
    round.merge().expect(0);
}

#[test]
fn merge_refuses_reports_of_another_round() {
    let round = Round::new();
    let state = round.path("state");
    let sum = |expected: i32| {
        let words = ["report", "merge", "--state", &state, "--ranges", &round.list, "--destination", "s3://site/www"];
        round.trial.run_words(&words, &[]).expect(expected)
    };
    let on_state = ["--state", state.as_str()];
    round.run("sync", 0, &on_state).expect(0);
    round.run("sync", 1, &on_state).expect(0);
    assert_eq!(sum(0).counted("files"), 20);
    // The same ranges again, in a new list.
    round.make_list();
    round.run("sync", 0, &on_state).expect(0);
    assert!(sum(1).stderr.contains("another round"));
    round.assert_refused("another round");
    // A run without a list.
    round.run("sync", 1, &on_state).expect(0);
    round.merge().expect(0);
    round.edit(1, |report| drop(report.as_object_mut().unwrap().remove("range")));
    round.assert_refused("another round");
    sum(0);
    let ranges = fs::read_to_string(&round.list).unwrap();
    let mut foreign: Value = serde_json::from_str(&ranges).unwrap();
    for range in foreign.as_array_mut().unwrap() {
        range.as_object_mut().unwrap().remove("list");
    }
    fs::write(&round.list, foreign.to_string()).unwrap();
    assert!(sum(1).stderr.contains("has no ID"));
}

#[test]
fn merged_exit_code_follows_from_the_numbers() {
    type Edit = (&'static str, i32, fn(&mut Value));
    let round = Round::new();
    round.run("sync", 0, &[]).expect(0);
    round.run("sync", 1, &[]).expect(0);
    let whole = fs::read_to_string(round.path("1.json")).unwrap();
    let edits: [Edit; 8] = [
        ("failures and exit code 0", 3, |report| {
            (report["counts"]["failed"], report["counts"]["uploaded"]) = (json!(5), json!(5));
        }),
        ("a list of failures", 3, |report| report["failures_count"] = json!(1)),
        ("deletes that failed", 3, |report| report["counts"]["deletes_failed"] = json!(1)),
        ("an error", 3, |report| report["error"] = json!("cannot write the changes file")),
        ("files of which nothing became", 3, |report| report["counts"]["files"] = json!(11)),
        ("interrupted files", 3, |report| report["skipped_because"] = json!({ "interrupted": 1 })),
        ("withheld deletes", 3, |report| {
            report["counts"]["deletes_withheld"] = json!(1);
            report["withheld_because"] = json!([{ "guard": "limit", "count": 1, "keys": [], "message": "" }]);
        }),
        ("a guard that is normal", 0, |report| {
            report["counts"]["deletes_withheld"] = json!(1);
            report["withheld_because"] = json!([{ "guard": "still_gone", "count": 1, "keys": [], "message": "" }]);
        }),
    ];
    for (what, code, edit) in edits {
        fs::write(round.path("1.json"), &whole).unwrap();
        round.edit(1, edit);
        let ended = round.merge();
        assert_eq!(ended.code, code, "{what}: {}", ended.stderr);
        assert_eq!(ended.report["exit_code"], code, "{what}");
    }
    fs::write(round.path("1.json"), &whole).unwrap();
    round.edit(1, |report| report["schema"] = json!(2));
    round.assert_refused("its schema is 2");
    fs::write(round.path("1.json"), &whole).unwrap();
    // The report of an older version, without options.
    round.edit(1, |report| drop(report.as_object_mut().unwrap().remove("options")));
    round.assert_refused("this version");
}

#[test]
fn apply_of_a_plan_for_a_range_stays_in_the_range() {
    let trial = Trial::new();
    for name in ["a", "m", "z"] {
        trial.write_aged(name, name, HOUR);
    }
    trial.object("n", "x", HOUR);
    Trial::settle();
    let source = trial.tree().display().to_string();
    let plan = trial.folder.path().join("plan").display().to_string();
    let options =
        ["--mode", "plain", "--delete", "--max-delete", "1", "--range-after", "k", "--range-to", "p", "-o", &plan];
    trial.run_words(&words("plan", &source, &options), &[]).expect(0);
    trial.run_words(&["apply", &plan], &[]).expect(0);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["m"]);
}
