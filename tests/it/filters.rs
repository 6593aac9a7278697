//! Filters: DataSync's patterns decide what is looked at, and what they leave out is nobody's orphan.

use std::collections::BTreeSet;
use std::time::Duration;

use efs2s3::demo::s3::Operation;

use crate::trial::Trial;

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

/// Syncs with these options over objects of other content; returns the names that were sent.
fn sent(options: &[&str]) -> BTreeSet<&'static str> {
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
    assert_eq!(sent(&["--exclude", "*/temp|*/tmp"]), names(|name| !in_folder(name, &["temp", "tmp"])));
    assert_eq!(sent(&["--exclude", "*.tmp|*.temp"]), names(|name| name.strip_suffix(".tmp").is_none()));
    assert_eq!(sent(&["--include", "/reports*"]), names(|name| name.starts_with("reports")));
    assert_eq!(sent(&["--include", "/folder/*"]), names(|name| name.starts_with("folder/")));
    assert_eq!(sent(&["--include", "/a/f1.txt|/a/f2.txt"]), names(|name| matches!(name, "a/f1.txt" | "a/f2.txt")));
    assert_eq!(sent(&["--exclude", r"/lit\*eral|/pi\|pe"]), names(|name| !matches!(name, "lit*eral" | "pi|pe")));
    assert_eq!(sent(&["--exclude", "/case"]), names(|_| true), "upper and lower case differ");
    assert_eq!(
        sent(&["--include", "/b", "--exclude", "*.tmp"]),
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
    trial.object("cache/7", "of before", LONG_AGO);
    trial.object("cache/orphan", "x", LONG_AGO);
    let run = trial.sync(&["--exclude", "/cache", "--delete", "--max-delete", "100%"]).expect(0);
    assert_eq!((run.counted("directories"), run.counted("filtered"), run.counted("files")), (1, 1, 1));
    assert!(trial.has("cache/7") && trial.has("cache/orphan"));
    let stats = run.report["source_operations"]["stat"].as_u64().unwrap();
    assert!(stats < 20, "{stats} stats for one file and a directory that is not walked");
    assert_eq!(trial.count(Operation::ListObjectsV2), 1);
    run.assert_adds_up();
}

#[test]
fn a_pattern_that_datasync_would_refuse_is_refused_before_anything_is_contacted() {
    let trial = Trial::new();
    trial.write("a", "x");
    for (option, pattern) in [("--include", "*/a/b"), ("--include", "/a*b"), ("--exclude", "||")] {
        let run = trial.sync(&[option, pattern]).expect(2);
        assert!(run.stderr.contains("pattern"), "{}", run.stderr);
    }
    let long = "x".repeat(102_401);
    trial.sync(&["--exclude", &long]).expect(2);
    assert!(trial.s3.log().is_empty());
}
