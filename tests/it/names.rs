//! Names: objects have exactly their bytes, in byte order, and later runs find the objects again.

use std::collections::BTreeSet;
use std::time::Duration;

use fake_aws::s3::{ListOrder, ListingDialect, LoggedRequest, Operation, Seed};
use serde_json::Value;

use crate::name_lists::{AWKWARD, ORDER};
use crate::trial::{READS, Trial, WRITES};

const LONG_AGO: Duration = Duration::from_secs(1000);

/// Further awkward names, which the real servers of `tests/real_s3` do not get.
const MORE_AWKWARD: [&str; 33] = [
    "a%2Fb",
    "a&amp;b",
    "..x",
    "...",
    "x.",
    "100%",
    "cr\rlf\n",
    "<>",
    "ü/ñ 1",
    " ",
    "a  b",
    "+",
    "%",
    "%zz",
    "a%00b",
    "?",
    "\\",
    "{x}",
    "a:b;c,d",
    "a@b$c^d`e",
    "a|b",
    "-rf",
    "~",
    "é",
    "e\u{301}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffe}",
    "\u{ffff}",
    "👩\u{200d}👧",
    "d +%2B?#\u{1}/x y\n/z",
];

const FOLDERS: [&str; 4] = ["", "p/", "p/q-r/", "p/q/"];

fn quiet(trial: &Trial) {
    Trial::settle();
    trial.s3.clear_log();
    trial.sync(&["--delete"]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0), "the next run finds all of them");
}

#[test]
fn byte_order_holds_at_every_depth() {
    let trial = Trial::new();
    for folder in FOLDERS {
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
fn a_plan_names_the_keys_in_byte_order() {
    let trial = Trial::new();
    let mut keys = Vec::new();
    for folder in FOLDERS {
        for name in ORDER {
            trial.write(format!("{folder}{name}"), name);
            keys.push(format!("www/{folder}{name}"));
        }
    }
    keys.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    let plan = trial.plan(&[]).expect(0);
    let key = |line: &str| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned();
    assert_eq!(plan.stdout.lines().map(key).collect::<Vec<_>>(), keys);
}

#[test]
fn names_missing_on_one_side_are_uploaded_or_deleted() {
    let trial = Trial::new();
    let (mut on_both, mut in_source, mut in_bucket) = (0, 0, 0);
    for (number, name) in FOLDERS.iter().flat_map(|folder| ORDER.map(|name| format!("{folder}{name}"))).enumerate() {
        if number % 3 != 2 {
            trial.write(&name, &name);
        }
        if number % 3 != 1 {
            trial.object(&name, name.clone(), LONG_AGO);
        }
        *[&mut on_both, &mut in_source, &mut in_bucket][number % 3] += 1;
    }
    let run = trial.sync(&["--delete", "--max-delete", "100%"]).expect(0);
    trial.assert_same();
    assert_eq!(
        (run.counted("unchanged"), run.counted("uploaded"), run.counted("deleted")),
        (on_both, in_source, in_bucket)
    );
    run.assert_adds_up();
}

fn awkward_names() -> Vec<String> {
    let controls = (1..=31u8).chain([127]).map(char::from);
    let controls = controls.flat_map(|byte| [byte.to_string(), format!("control-{byte}-"), format!("control-{byte}")]);
    AWKWARD.into_iter().chain(MORE_AWKWARD).map(str::to_owned).chain(controls).collect()
}

#[test]
fn awkward_names_are_copied_and_deleted_byte_for_byte() {
    let names = awkward_names();
    let trial = Trial::new();
    for name in &names {
        trial.write(name, name);
    }
    trial.sync(&["--delete"]).expect(0);
    assert_eq!(trial.names(), names.iter().cloned().collect());
    trial.assert_same();
    quiet(&trial);
    for name in names.iter().step_by(2) {
        trial.remove(name);
    }
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!(run.counted("deleted"), u64::try_from(names.len().div_ceil(2)).unwrap());
    trial.assert_same();
    trial.write("keep", "keep");
    for name in names.iter().skip(1).step_by(2) {
        trial.remove(name);
    }
    trial.sync(&["--delete", "--max-delete", "100%"]).expect(0);
    assert_eq!(trial.names(), BTreeSet::from(["keep".to_owned()]));
}

#[test]
fn space_plus_and_percent_differ_in_every_listing_dialect() {
    for dialect in [ListingDialect::S3, ListingDialect::Percent, ListingDialect::Ignored] {
        let trial = Trial::new();
        trial.s3.settings(|settings| settings.listing = dialect);
        let names = ["a b", "a+b", "a%2Bb", "a%20b", "a%2Fb", "a/b", "a%b", "a&amp;b"];
        for name in names.into_iter().chain(["keep"]) {
            trial.write(name, name);
        }
        trial.sync(&["--delete"]).expect(0);
        trial.assert_same();
        quiet(&trial);
        for name in names {
            trial.remove(name);
            assert_eq!(trial.sync(&["--delete"]).expect(0).counted("deleted"), 1, "{name:?} in {dialect:?}");
            trial.assert_same();
        }
    }
}

#[test]
fn a_listing_can_start_after_any_name() {
    let trial = Trial::new();
    for number in 0..3500 {
        let name = format!("{number:04} +%2B&=?é\u{1}");
        trial.object(&name, "", LONG_AGO);
        trial.write(&name, "");
    }
    let run = trial.sync(&["--delete", "--compare", "size-only"]).expect(0);
    let start_after = |request: &LoggedRequest| request.query.get("start-after").cloned();
    let starts: Vec<String> = trial.s3.requests(Operation::ListObjectsV2).iter().filter_map(start_after).collect();
    assert!(starts.contains(&"www/0999 +%2B&=?é\u{1}".to_owned()), "{starts:?}");
    assert_eq!((run.counted("objects"), run.counted("unchanged"), trial.count(WRITES)), (3500, 3500, 0));
}

/// A path of this length in bytes; its first thousand bytes are directories.
fn path_of(bytes: usize, last: &str) -> String {
    let directories = format!("{}/", "é".repeat(124)).repeat(4);
    format!("{directories}{}", last.repeat(bytes - directories.len()))
}

#[test]
fn a_key_of_1024_bytes_works_and_one_of_1025_fails_alone_under_any_prefix() {
    for (destination, prefix) in [("s3://site", ""), ("s3://site/some/where", "some/where/")] {
        let trial = Trial::new();
        let room = 1024 - prefix.len();
        let (fits, too_long) = (path_of(room, "f"), path_of(room + 1, "f"));
        let too_deep = path_of(room, "d");
        let widest = format!("{}/{}", "n".repeat(255), "N".repeat(255));
        for name in [&fits, &too_long, &widest, &format!("{too_deep}/f")] {
            trial.write(name, "content");
        }
        for neighbour in [&path_of(room, "a"), &path_of(room, "z")] {
            trial.s3.put("site", &format!("{prefix}{neighbour}"), "old", Seed::aged(LONG_AGO));
        }
        let run = trial.sync_to(destination, &["--delete", "--max-delete", "100%"]).expect(3);
        let expected = BTreeSet::from([format!("{prefix}{fits}"), format!("{prefix}{widest}")]);
        assert_eq!(trial.s3.keys("site", "").into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(run.failed_keys(), [format!("{prefix}{too_deep}/"), format!("{prefix}{too_long}")]);
        for failure in run.report["failures"].as_array().unwrap() {
            assert_eq!(failure["kind"], "key_too_long");
            assert!(failure["message"].as_str().unwrap().contains("1,024 bytes"), "{failure}");
        }
        run.assert_adds_up();
    }
}

#[test]
fn a_name_that_is_not_utf8_fails_alone_and_is_shown_escaped() {
    let trial = Trial::new();
    trial.write_raw_name(b"d/caf\xe9", b"latin 1");
    // Of another size than the orphans, which would else be kept as its old name.
    trial.write_raw_name(b"f\xff/inside", b"of another size");
    trial.write("d/cafe", "x");
    trial.write("z", "x");
    // The last one is equal to the escaped form of a name.
    for orphan in ["d/caf", "d/z", "orphan", r"d/caf\xe9"] {
        trial.object(orphan, "x", LONG_AGO);
    }
    let run = trial.sync(&["--delete"]).expect(3);
    assert_eq!(trial.names().into_iter().collect::<Vec<_>>(), ["d/cafe", "z"], "the rest synced, the orphans deleted");
    assert!(run.failed_keys().iter().any(|key| key.contains(r"caf\xe9")), "{:?}", run.failed_keys());
    let message = run.report["failures"][0]["message"].as_str().unwrap();
    assert!(message.contains(r"exclude it with * in place of \xNN"), "{message}");
    assert_eq!(run.counted("failed"), 2);
    run.assert_adds_up();
}

#[test]
fn an_excluded_name_that_is_not_utf8_is_no_failure_and_withholds_no_delete() {
    for mode in ["plain", "datasync"] {
        let trial = Trial::new();
        trial.write("z", "x");
        trial.write_raw_name(b"caf\xe9.bak", b"x");
        trial.write_raw_name(b"d/dir\xff.bak/inside", b"x");
        trial.object("orphan", "x", LONG_AGO);
        let run = trial.sync(&["--delete", "--mode", mode, "--exclude", "*.bak"]).expect(0);
        assert_eq!((run.counted("failed"), run.counted("filtered"), run.counted("deleted")), (0, 2, 1), "{mode}");
        run.assert_adds_up();
        let source = trial.tree().display().to_string();
        let verify = ["verify", &source, "s3://site/www", "--mode", mode, "--exclude", "*.bak"];
        trial.run_words(&verify, &[]).expect(0);
        let included = ["--delete", "--mode", mode, "--include", "/z|/d/dir*", "--exclude", "/caf*"];
        let run = trial.sync(&included).expect(3);
        assert_eq!((run.failed_keys(), run.counted("filtered") > 0), (vec![r"www/d/dir\xff.bak/".to_owned()], true));
    }
}

#[test]
fn each_name_that_is_not_utf8_counts_in_one_key_range() {
    let trial = Trial::new();
    trial.write("a", "x");
    trial.write_raw_name(b"m\xe9.bak/inside", b"x");
    trial.write("z", "x");
    for (after, to, expected) in [("", "m", 0), ("m", "m\u{10ffff}", 1), ("m\u{10ffff}", "", 0)] {
        let mut words = vec!["--exclude", "*.bak"];
        for (option, key) in [("--range-after", after), ("--range-to", to)] {
            if !key.is_empty() {
                words.extend([option, key]);
            }
        }
        let run = trial.sync(&words).expect(0);
        assert_eq!(run.counted("filtered"), expected, "after {after:?} to {to:?}");
        run.assert_adds_up();
    }
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
    Trial::settle();
    let destinations = [
        ("s3://site/one", "one/a"),
        ("s3://site/two/", "two/a"),
        ("s3://site/ sp  ace /ü/", " sp  ace /ü/a"),
        ("s3://site/a+b%2B/日本", "a+b%2B/日本/a"),
        ("s3://site/", "a"),
    ];
    let mut expected = BTreeSet::new();
    for (destination, key) in destinations {
        trial.sync_to(destination, &[]).expect(0);
        expected.insert(key.to_owned());
        assert_eq!(trial.s3.keys("site", "").into_iter().collect::<BTreeSet<_>>(), expected);
    }
    trial.s3.clear_log();
    for (destination, _) in destinations {
        let other =
            if let Some(bare) = destination.strip_suffix('/') { bare.to_owned() } else { format!("{destination}/") };
        let run = trial.sync_to(&other, &[]).expect(0);
        assert_eq!((run.counted("unchanged"), trial.count(WRITES)), (1, 0), "{other}");
    }
}

#[test]
fn a_prefix_that_no_path_can_have_is_refused_before_any_request() {
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
fn keys_that_no_path_can_have_are_reported_and_kept() {
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

#[test]
fn a_listing_out_of_order_between_pages_is_refused() {
    for files_in_a in [999, 1000, 2500] {
        let trial = Trial::new();
        trial.s3.settings(|settings| settings.list_order = ListOrder::DirectoriesFirst);
        let names =
            (0..files_in_a).map(|number| format!("a/{number:04}")).chain(["a!", "a-b/x", "z"].map(str::to_owned));
        for name in names {
            trial.object(&name, "", LONG_AGO);
            trial.write(&name, "");
        }
        for orphan in ["a!b", "a/orphan", "orphan"] {
            trial.object(orphan, "", LONG_AGO);
        }
        let before = trial.names();
        let run = trial.sync(&["--compare", "size-only", "--delete", "--max-delete", "100%"]).expect(1);
        assert!(run.stderr.contains("byte order") || run.stderr.contains("out of order"), "{}", run.stderr);
        assert_eq!(trial.names(), before);
        assert_eq!(trial.count([Operation::DeleteObject, Operation::DeleteObjects]), 0);
    }
}
