//! Names: stored under exactly their bytes, in byte order, and found again under them.

use std::time::Duration;

use efs2s3::demo::s3::{ListOrder, ListingDialect, Operation};

use crate::trial::{READS, Trial, WRITES};

const LONG_AGO: Duration = Duration::from_secs(1000);

/// Where byte order, locales and UTF-16 differ, and directories beside files of a like name.
const ORDER: [&str; 16] = [
    "A",
    "a!",
    "a-1",
    "a-b/x",
    "a.txt",
    "a/-",
    "a/.h",
    "a/x",
    "a0",
    "aB",
    "aa",
    "~",
    "é",
    "\u{e000}",
    "\u{10000}",
    "😀",
];

/// What encodings, shells, XML and URLs give a meaning to.
const AWKWARD: [&str; 26] = [
    "a b",
    "a+b",
    "a%2Bb",
    "a%2Fb",
    "a%20b",
    "a&b",
    "a&amp;b",
    "a=b",
    "a?b",
    "a#b",
    "'",
    "\"",
    "back\\slash",
    "*",
    "[x]",
    " lead",
    "trail ",
    "..x",
    "...",
    "x.",
    "100%",
    "new\nline",
    "tab\there",
    "cr\rlf\n",
    "<>",
    "ü/ñ 1",
];

fn quiet(trial: &Trial) {
    Trial::settle();
    trial.s3.clear_log();
    trial.sync(&["--delete"]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0), "a second run finds all of them again");
}

#[test]
fn byte_order_holds_at_every_depth() {
    let trial = Trial::new();
    for folder in ["", "p/", "p/q-r/", "p/q/"] {
        for name in ORDER {
            trial.write(format!("{folder}{name}"), name);
        }
    }
    trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    quiet(&trial);
    trial.write("p/q/a/x", "changed!");
    trial.remove("p/a0");
    trial.remove("p/q/a!");
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((run.counted("uploaded"), run.counted("deleted")), (1, 2));
    trial.assert_same();
}

#[test]
fn awkward_names_are_kept_byte_for_byte_and_go_one_by_one() {
    let controls = (1..=31u8).chain([127]).map(|byte| format!("control-{}-{byte}", char::from(byte)));
    let names: Vec<String> = AWKWARD.into_iter().map(str::to_owned).chain(controls).collect();
    let trial = Trial::new();
    for name in &names {
        trial.write(name, name);
    }
    trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    quiet(&trial);
    for name in names.iter().step_by(2) {
        trial.remove(name);
    }
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!(run.counted("deleted"), u64::try_from(names.len().div_ceil(2)).unwrap());
    trial.assert_same();
}

#[test]
fn a_blank_a_plus_and_a_percent_are_told_apart_in_every_dialect_of_listings() {
    for dialect in [ListingDialect::S3, ListingDialect::Percent, ListingDialect::Ignored] {
        let trial = Trial::new();
        trial.s3.settings(|settings| settings.listing = dialect);
        for name in ["a b", "a+b", "a%2Bb", "a%20b", "a%2Fb"] {
            trial.write(name, name);
        }
        trial.sync(&["--delete"]).expect(0);
        quiet(&trial);
        for name in ["a b", "a%2Bb"] {
            trial.remove(name);
            assert_eq!(trial.sync(&["--delete"]).expect(0).counted("deleted"), 1, "{name:?} in {dialect:?}");
            trial.assert_same();
        }
    }
}

#[test]
fn a_key_of_1024_bytes_works_and_one_of_1025_fails_alone() {
    let trial = Trial::new();
    // `www/` takes four bytes.
    let folder = format!("{}/", "d".repeat(255)).repeat(3);
    let fits = format!("{folder}{}", "f".repeat(1024 - 4 - folder.len()));
    let too_long = format!("{folder}{}", "g".repeat(1025 - 4 - folder.len()));
    for name in [&fits, &too_long] {
        trial.write(name, "x");
    }
    trial.write("z", "x");
    let run = trial.sync(&["--delete"]).expect(3);
    assert!(trial.has(&fits) && trial.has("z") && trial.names().len() == 2);
    assert_eq!(run.failed_keys(), [format!("www/{too_long}")]);
    assert!(run.stderr.contains("1021 bytes") && run.stderr.contains("1020"), "{}", run.stderr);
    run.assert_adds_up();
}

#[test]
fn a_name_that_is_not_utf8_fails_alone_and_is_shown_escaped() {
    let trial = Trial::new();
    trial.write_raw_name(b"d/caf\xe9", b"latin 1");
    trial.write_raw_name(b"f\xff/inside", b"x");
    trial.write("d/cafe", "x");
    trial.write("z", "x");
    trial.object("orphan", "x", LONG_AGO);
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["d/cafe", "z"], "the rest synced, the orphan deleted");
    assert!(run.failed_keys().iter().any(|key| key.contains(r"caf\xe9")), "{:?}", run.failed_keys());
    assert_eq!(run.counted("failed"), 2);
    run.assert_adds_up();
}

#[test]
fn two_hundred_levels_deep() {
    let trial = Trial::new();
    trial.write(format!("{}leaf", "d/".repeat(200)), "deep");
    trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    quiet(&trial);
}

#[test]
fn a_hundred_thousand_empty_directories_cost_few_listings() {
    let trial = Trial::new();
    for number in 0..100_000 {
        std::fs::create_dir(trial.tree().join(format!("d{number:06}"))).unwrap();
    }
    for number in 0..1500 {
        trial.object(&format!("d{number:06}/old"), "x", LONG_AGO);
    }
    trial.write("z", "x");
    let run = trial.sync(&["--delete", "--max-delete", "100%"]).expect(0);
    assert_eq!((run.counted("files"), run.counted("deleted"), run.counted("uploaded")), (1, 1500, 1));
    let lists = trial.count(Operation::ListObjectsV2);
    assert!(lists <= 2 + 4, "{lists} LISTs for 2 pages and four ranges of 32,000 directories");
}

#[test]
fn a_hundred_thousand_entries_in_one_directory_cost_their_pages() {
    let trial = Trial::new();
    for number in 0..100_000 {
        trial.write(format!("flat/f{number:06}"), "x");
    }
    Trial::settle();
    for number in 0..100_000 {
        trial.object(&format!("flat/f{number:06}"), "x", Duration::ZERO);
    }
    trial.remove("flat/f050000");
    trial.write("flat/f050000-new", "x");
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((run.counted("unchanged"), run.counted("uploaded"), run.counted("deleted")), (99_999, 1, 1));
    let lists = trial.count(Operation::ListObjectsV2);
    assert!((100..=115).contains(&lists), "{lists} LISTs for 100 pages");
}

#[test]
fn a_destination_is_the_same_with_and_without_a_slash() {
    let trial = Trial::new();
    trial.write("a", "1");
    let source = trial.tree().display().to_string();
    for destination in ["s3://site/one", "s3://site/two/", "s3://site", "s3://site/sp ace/ü"] {
        trial.run_words(&["sync", &source, destination, "--mode", "plain"], &[]).expect(0);
    }
    let keys = trial.s3.keys("site", "");
    assert_eq!(keys, ["a", "one/a", "sp ace/ü/a", "two/a"]);
}

#[test]
fn a_prefix_that_no_path_leads_to_is_refused_and_nobody_contacted() {
    let trial = Trial::new();
    trial.write("a", "1");
    let source = trial.tree().display().to_string();
    for destination in ["s3://site//a", "s3://site/a//b", "s3://site/a/../b", "s3://site/./a"] {
        let run = trial.run_words(&["sync", &source, destination, "--mode", "plain"], &[]).expect(2);
        assert!(run.stderr.contains("prefix"), "{destination}: {}", run.stderr);
    }
    assert!(trial.s3.log().is_empty());
}

#[test]
fn keys_that_no_path_can_have_are_reported_and_stay() {
    let trial = Trial::new();
    trial.write("a/b", "1");
    let impossible = ["a//b", "../x", "/abs", ".", "a/./b", "a/.."];
    for name in impossible {
        trial.object(name, "x", LONG_AGO);
    }
    trial.object("orphan", "x", LONG_AGO);
    let run = trial.sync(&["--delete", "--max-delete", "100%"]).expect(0);
    assert!(impossible.iter().all(|name| trial.has(name)), "{:?}", trial.names());
    assert!(!trial.has("orphan"));
    assert_eq!(run.withheld_by("impossible_path"), 6);
    assert!(!trial.folder.path().join("x").exists());
}

#[test]
fn a_server_that_lists_out_of_order_is_refused_and_nothing_is_deleted() {
    let trial = Trial::new();
    for name in ["a!", "a-b/x", "a/x", "z"] {
        trial.write(name, name);
        trial.object(name, name, LONG_AGO);
    }
    trial.object("orphan", "x", LONG_AGO);
    trial.s3.settings(|settings| settings.list_order = ListOrder::DirectoriesFirst);
    let run = trial.sync(&["--delete", "--max-delete", "100%"]).expect(1);
    assert!(run.stderr.contains("byte order"), "{}", run.stderr);
    assert_eq!(trial.names().len(), 5);
    assert_eq!(trial.count(WRITES), 0);
}
