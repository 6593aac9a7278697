//! Filters: DataSync's patterns decide which keys belong to the sync; the other objects are not orphans.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fake_aws::s3::Operation;

use crate::task;
use crate::trial::{FinishedRun, Trial, WRITES};

const LONG_AGO: Duration = Duration::from_secs(1000);

const TREE: [&str; 17] = [
    "a/f1.txt",
    "a/f2.txt",
    "a/f3.txt",
    "temp/x",
    "b/temp/y",
    "b/tmp/z",
    "b/template/k",
    "reports1/r",
    "reports/r",
    "x.tmp",
    "b/y.tmp",
    "b/y.tmpx",
    "folder/in/f",
    "folder2/f",
    "lit*eral",
    "pi|pe",
    "Case/c",
];

/// Syncs with these options to objects with other content; returns the uploaded names.
fn uploaded(options: &[&str]) -> BTreeSet<&'static str> {
    let trial = Trial::new();
    for name in TREE {
        trial.write(name, name);
        trial.object(name, "previous content, longer than any name", LONG_AGO);
    }
    trial.object("orphan.tmp", "x", LONG_AGO);
    trial.object("orphan", "x", LONG_AGO);
    let run = trial.sync(&[options, &["--delete", "--max-delete", "100%"]].concat()).expect(0);
    run.assert_adds_up();
    let objects = trial.objects();
    assert!(TREE.iter().all(|name| objects.contains_key(*name)), "a filtered key was deleted");
    TREE.into_iter().filter(|name| objects[*name] == name.as_bytes()).collect()
}

fn names(keep: impl Fn(&str) -> bool) -> BTreeSet<&'static str> {
    TREE.into_iter().filter(|name| keep(name)).collect()
}

#[test]
fn the_patterns_of_the_aws_page_select_what_it_says() {
    let in_folder = |name: &str, folders: &[&str]| {
        let parts: Vec<&str> = name.split('/').collect();
        parts[..parts.len() - 1].iter().any(|part| folders.contains(part))
    };
    assert_eq!(uploaded(&["--exclude", "*/temp|*/tmp"]), names(|name| !in_folder(name, &["temp", "tmp"])));
    assert_eq!(uploaded(&["--exclude", "*.tmp|*.temp"]), names(|name| name.strip_suffix(".tmp").is_none()));
    assert_eq!(uploaded(&["--include", "/reports*"]), names(|name| name.starts_with("reports")));
    assert_eq!(uploaded(&["--include", "/folder/*"]), names(|name| name.starts_with("folder/")));
    assert_eq!(uploaded(&["--include", "/a/f1.txt|/a/f2.txt"]), names(|name| matches!(name, "a/f1.txt" | "a/f2.txt")));
    assert_eq!(uploaded(&["--exclude", r"/lit\*eral|/pi\|pe"]), names(|name| !matches!(name, "lit*eral" | "pi|pe")));
    assert_eq!(uploaded(&["--exclude", "/case"]), names(|_| true), "upper and lower case differ");
    assert_eq!(
        uploaded(&["--include", "/b", "--exclude", "*.tmp"]),
        names(|name| name.starts_with("b/") && name.strip_suffix(".tmp").is_none())
    );
}

#[test]
fn an_excluded_directory_is_not_walked_and_counts_once() {
    let trial = Trial::new();
    for number in 0..300 {
        trial.write(format!("cache/{number}"), "x");
    }
    trial.write("a", "x");
    trial.object("cache/7", "previous", LONG_AGO);
    trial.object("cache/orphan", "x", LONG_AGO);
    let run = trial.sync(&["--exclude", "/cache", "--delete", "--max-delete", "100%"]).expect(0);
    assert_eq!((run.counted("directories"), run.counted("filtered"), run.counted("files")), (1, 1, 1));
    assert!(run.stderr.contains("0 deleted, 1 excluded; "), "{}", run.stderr);
    assert!(trial.has("cache/7") && trial.has("cache/orphan"));
    let calls = ["readdir", "stat", "open"].map(|name| run.report["source_operations"][name].as_u64().unwrap());
    // The root, the file, and the stats and the open of its upload; after each of them, the path of the source.
    assert!(
        calls[0] == 1 && calls[1] <= 2 + 5 + 4 && calls[2] <= 1 + 1,
        "{calls:?} for a file next to an excluded directory"
    );
    assert_eq!(trial.count(Operation::ListObjectsV2), 1);
    run.assert_adds_up();
}

#[test]
fn a_pattern_that_datasync_would_refuse_is_refused_before_any_request() {
    let trial = Trial::new();
    trial.write("a", "x");
    for (option, pattern) in [("--include", "*/a/b"), ("--include", "/a*b"), ("--exclude", "||")] {
        let run = trial.sync(&[option, pattern]).expect(2);
        assert!(run.stderr.contains("pattern"), "{}", run.stderr);
    }
    let longest = format!("/{}", "x".repeat(102_399));
    let run = trial.sync(&["--exclude", &format!("{longest}x")]).expect(2);
    assert!(run.stderr.contains("102401 characters"), "{}", run.stderr);
    assert!(trial.s3.log().is_empty());
    trial.sync(&["--exclude", &longest]).expect(0);
}

#[test]
fn an_excluded_directory_need_not_be_readable() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.write("private/x/f", "2");
    trial.object("orphan", "", LONG_AGO);
    trial.object("private/x/old", "", LONG_AGO);
    fs::set_permissions(trial.tree().join("private"), fs::Permissions::from_mode(0o000)).unwrap();
    trial.sync_as_nobody(&["--delete", "--exclude", "*/private"]).expect(0);
    fs::set_permissions(trial.tree().join("private"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(trial.names(), BTreeSet::from(["a", "private/x/old"].map(str::to_owned)));
}

#[test]
fn a_source_that_is_excluded_as_a_whole_is_not_empty_and_deletes_nothing() {
    let trial = Trial::new();
    trial.write("a", "1");
    trial.object("a", "old", LONG_AGO);
    trial.object("b", "old", LONG_AGO);
    let run = trial.sync(&["--delete", "--exclude", "*"]).expect(0);
    assert_eq!((trial.count(WRITES), run.counted("filtered")), (0, 1));
}

/// The lines that warn of filters that admit nothing.
fn warnings(run: &FinishedRun) -> Vec<&str> {
    run.stderr.lines().filter(|line| line.contains("the filters admit no file of the source")).collect()
}

#[test]
fn filters_that_admit_no_file_are_one_warning_and_no_delete() {
    let trial = Trial::new();
    for name in ["a", "d/b", "e/c"] {
        trial.write(name, "1");
        trial.object(name, "old", LONG_AGO);
    }
    trial.object("orphan", "old", LONG_AGO);
    let none: [&[&str]; 4] =
        [&["--include", "/typo"], &["--include", "/D|/E/c"], &["--exclude", "*"], &["--exclude", "/a|/d|/e|/orphan"]];
    for filters in none {
        let all = [&["--delete", "--max-delete", "100%"], filters].concat();
        let direct = trial.sync(&all).expect(0);
        assert_eq!(warnings(&direct).len(), 1, "{filters:?}: {}", direct.stderr);
        let left_out = format!("leave out {} files and directories", direct.counted("filtered"));
        assert!(warnings(&direct)[0].contains(&left_out), "{}", direct.stderr);
        assert_eq!(warnings(&trial.datasync(filters).expect(0)).len(), 1, "{filters:?}");
        assert_eq!(warnings(&trial.plan(&all).expect(0)).len(), 1, "{filters:?}");
        assert!(trial.count(WRITES) == 0 || !filters.contains(&"--delete"));
        assert_eq!(trial.names().len(), 4, "{filters:?}");
    }
    // Filters that match nothing in the source, and objects that no longer have a file: a guard applies.
    trial.object("gone/x", "old", LONG_AGO);
    let run = trial.sync(&["--delete", "--max-delete", "100%", "--include", "/gone"]).expect(3);
    assert_eq!((run.withheld_by("empty_source"), warnings(&run).len()), (1, 1), "{}", run.stderr);
    assert!(trial.has("gone/x"));
    for filters in [&["--include", "/a"][..], &["--exclude", "/d"], &[]] {
        let run = trial.plan(filters).expect(0);
        assert_eq!(warnings(&run), [""; 0], "{filters:?}");
    }
}

#[test]
fn an_empty_source_with_filters_is_no_warning() {
    let trial = Trial::new();
    assert_eq!(warnings(&trial.sync(&["--include", "/a", "--exclude", "/b"]).expect(0)), [""; 0]);
}

/// Patterns that no user can have meant, and what the error says.
const NOT_MEANT: [(&str, &str); 6] = [
    ("/private\n", "whitespace"),
    ("/private ", "whitespace"),
    ("/other|/private\r\n", "whitespace"),
    ("private", "matches nothing"),
    ("./private", "matches nothing"),
    ("//private", "matches nothing"),
];

#[test]
fn a_pattern_that_a_user_cannot_have_meant_is_refused_wherever_it_is_written() {
    let trial = Trial::new();
    trial.write("private/x", "secret");
    let (source, config) = (trial.tree().display().to_string(), trial.folder.path().join("config.toml"));
    let words = ["sync", &source, "s3://site/www", "--mode", "plain"];
    let refused = |run: FinishedRun, (pattern, why): (&str, &str)| {
        let run = run.expect(2);
        let last = pattern.rsplit('|').next().unwrap();
        assert!(run.stderr.contains(&format!("{last:?}")) && run.stderr.contains(why), "{pattern:?}: {}", run.stderr);
        assert_eq!(trial.s3.log().len(), 0, "{pattern:?}");
    };
    for not_meant in NOT_MEANT {
        let pattern = not_meant.0;
        for option in ["--exclude", "--include"] {
            refused(trial.sync(&[option, pattern]), not_meant);
        }
        refused(trial.run_words(&words, &[("EFS2S3_EXCLUDE", pattern)]), not_meant);
        let header = format!("[[header]]\npattern = {pattern:?}\ncache_control = 'no-store'\n");
        for content in [format!("exclude = {pattern:?}\n"), header] {
            fs::write(&config, content).unwrap();
            refused(trial.sync(&["--config", config.to_str().unwrap()]), not_meant);
        }
    }
    // An escape shows that the character belongs to the name.
    trial.write("name ", "1");
    trial.sync(&["--exclude", "/private|/name\\ "]).expect(0);
    assert_eq!(trial.names(), BTreeSet::new());
}

#[test]
fn a_task_with_such_a_pattern_is_one_warning() {
    for (pattern, why) in NOT_MEANT {
        let (trial, datasync) = task::trial(&task::failing());
        datasync.change(|service| service.exclude = Some(pattern.to_owned()));
        let run = trial.run(&datasync, &[]).expect(0);
        let warnings = run.stderr.lines().filter(|line| line.contains("of the task or plan") && line.contains(why));
        assert_eq!(warnings.count(), 1, "{pattern:?}: {}", run.stderr);
    }
}
