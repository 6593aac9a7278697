//! Comparison: when a file is uploaded, and when its object is kept.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fake_aws::s3::{ConditionalWrites, Operation, Seed};

use crate::trial::{READS, Trial, WRITES};

/// Longer ago than anything that a trial does.
const LONG_AGO: Duration = Duration::from_secs(1000);
const JUST_NOW: Duration = Duration::ZERO;
const MIB: usize = 1 << 20;

#[test]
fn an_unchanged_tree_costs_only_listings() {
    let trial = Trial::new();
    for number in 0..2400 {
        trial.write(format!("d{:02}/f{number:04}.txt", number % 40), number.to_string());
    }
    Trial::settle();
    trial.sync(&["--delete"]).expect(0);
    trial.assert_same();
    trial.s3.clear_log();
    let run = trial.sync(&["--delete"]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    assert_eq!(trial.s3.log().len(), 3, "2,400 objects are three pages, and nothing else is requested");
    assert_eq!(run.counted("unchanged"), 2400);
    assert_eq!(run.report["bytes"]["read_for_compare"], 0);
    assert_eq!(run.report["source_operations"]["open"], 41, "the root and 40 directories, no file");
}

#[test]
fn a_file_of_another_size_is_uploaded_although_its_object_is_newer() {
    let trial = Trial::new();
    trial.write("more", "12345");
    trial.write("less", "12345");
    trial.write("same", "12345");
    Trial::settle();
    trial.object("more", "1234", JUST_NOW);
    trial.object("less", "123456", JUST_NOW);
    trial.object("same", "12345", JUST_NOW);
    let run = trial.sync(&[]).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("uploaded"), run.counted("unchanged")), (2, 1));
}

#[test]
fn a_newer_file_with_other_content_of_the_same_size_is_uploaded() {
    let trial = Trial::new();
    trial.object("a", "old", LONG_AGO);
    trial.write("a", "new");
    let run = trial.sync(&[]).expect(0);
    trial.assert_same();
    assert_eq!(run.report["bytes"]["uploaded"], 3);
}

#[test]
fn a_touched_file_with_equal_content_is_read_and_not_uploaded() {
    let trial = Trial::new();
    trial.object("a", "same", LONG_AGO);
    trial.write("a", "same");
    for run in ["the first", "the second"] {
        let ended = trial.sync(&[]).expect(0);
        assert_eq!(trial.count(WRITES), 0, "{run}");
        assert_eq!(ended.report["bytes"]["read_for_compare"], 4, "{run}");
        assert_eq!(ended.counted("unchanged"), 1, "{run}");
    }
}

#[test]
fn other_content_with_an_old_mtime_is_uploaded() {
    let trial = Trial::new();
    trial.object("a", "first version", LONG_AGO);
    trial.write_aged("a", "other version", 2 * LONG_AGO);
    trial.sync(&[]).expect(0);
    trial.assert_same();
}

#[test]
fn a_directory_moved_into_place_is_uploaded_although_its_files_are_older() {
    let trial = Trial::new();
    trial.write("site.new/deep/er/a", "the new one");
    trial.write("stays/a", "untouched");
    Trial::settle();
    trial.object("site/deep/er/a", "the old one", JUST_NOW);
    trial.object("stays/a", "untouched", JUST_NOW);
    fs::rename(trial.tree().join("site.new"), trial.tree().join("site")).unwrap();
    let run = trial.sync(&[]).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("uploaded"), run.counted("unchanged")), (1, 1));
    assert_eq!(run.report["bytes"]["read_for_compare"], 11, "what was not moved is not read");
}

/// A tree in which `releases/1` and `releases/2` differ, and a bucket whose objects are newer than the files.
fn two_releases(links: &[(&str, &str)], seen_through_links: &[(&str, &str)]) -> Trial {
    let trial = Trial::new();
    trial.write("releases/1/a", "release 1");
    trial.write("releases/2/a", "release 2");
    for (name, target) in links {
        trial.link(target, name);
    }
    Trial::settle();
    trial.object("releases/1/a", "release 1", JUST_NOW);
    trial.object("releases/2/a", "release 2", JUST_NOW);
    for (name, content) in seen_through_links {
        trial.object(name, (*content).to_owned(), JUST_NOW);
    }
    trial
}

fn retarget(trial: &Trial, name: &str, target: &str) {
    trial.remove(name);
    trial.link(target, name);
}

#[test]
fn a_followed_link_to_another_release_is_uploaded() {
    let trial = two_releases(
        &[("current", "releases/2"), ("a", "releases/2/a")],
        &[("current/a", "release 2"), ("a", "release 2")],
    );
    retarget(&trial, "current", "releases/1");
    retarget(&trial, "a", "releases/1/a");
    let run = trial.sync(&[]).expect(0);
    let objects = trial.objects();
    assert_eq!((&objects["current/a"][..], &objects["a"][..]), (&b"release 1"[..], &b"release 1"[..]));
    assert_eq!((run.counted("uploaded"), run.counted("unchanged")), (2, 2));
}

#[test]
fn a_link_through_a_changed_link_is_uploaded() {
    let trial = two_releases(
        &[("current", "releases/2"), ("docs", "current"), ("a", "docs/a")],
        &[("current/a", "release 2"), ("docs/a", "release 2"), ("a", "release 2")],
    );
    retarget(&trial, "current", "releases/1");
    trial.sync(&[]).expect(0);
    let objects = trial.objects();
    for name in ["current/a", "docs/a", "a"] {
        assert_eq!(objects[name], b"release 1", "{name}");
    }
}

#[test]
fn a_link_through_a_moved_directory_is_uploaded() {
    let trial = two_releases(&[("a", "releases/2/a")], &[("a", "release 2")]);
    let releases = trial.tree().join("releases");
    fs::rename(releases.join("2"), releases.join("3")).unwrap();
    fs::rename(releases.join("1"), releases.join("2")).unwrap();
    trial.sync(&[]).expect(0);
    assert_eq!(trial.objects()["a"], b"release 1");
}

#[test]
fn a_change_right_after_its_upload_is_uploaded() {
    let trial = Trial::new();
    trial.write("a", "version 1");
    trial.sync(&[]).expect(0);
    let before = fs::metadata(trial.tree().join("a")).unwrap().modified().unwrap();
    trial.write("a", "version 2");
    trial.set_mtime("a", before);
    trial.sync(&[]).expect(0);
    trial.assert_same();
}

#[test]
fn a_change_within_the_margin_before_last_modified_is_compared() {
    let trial = Trial::new();
    trial.write("a", "what came after the read.");
    // Longer than the second to which LastModified is truncated, shorter than the margin: the times prove nothing.
    std::thread::sleep(Duration::from_millis(1100));
    trial.object("a", "what another tool had got", JUST_NOW);
    trial.sync(&[]).expect(0);
    trial.assert_same();
}

#[test]
fn empty_files_are_uploaded_once_and_equal_afterwards() {
    let trial = Trial::new();
    trial.write("empty", "");
    trial.write("full", "abc");
    trial.object("full", "", LONG_AGO);
    trial.sync(&[]).expect(0);
    trial.assert_same();
    // A new ctime: the run compares the content, which is empty.
    trial.write("empty", "");
    trial.s3.clear_log();
    trial.sync(&[]).expect(0);
    assert_eq!(trial.count(WRITES), 0);
}

#[test]
fn an_equal_object_in_parts_of_another_size_is_recognised() {
    let trial = Trial::new();
    let content: Vec<u8> = (0..=250).cycle().take(1000).collect();
    for part_bytes in [1, 7, 333, 999, 1000] {
        let name = format!("in parts of {part_bytes}");
        trial.write(&name, &content);
        let seed = Seed::aged(LONG_AGO).in_parts_of(part_bytes);
        trial.s3.put("site", &format!("www/{name}"), content.clone(), seed);
    }
    trial.write("other", &content);
    let seed = Seed::aged(LONG_AGO).in_parts_of(333);
    trial.s3.put("site", "www/other", vec![7; 1000], seed);
    let run = trial.sync(&[]).expect(0);
    trial.assert_same();
    assert_eq!(trial.count(WRITES), 1, "only the object with other content is replaced");
    assert_eq!((run.counted("unchanged"), run.counted("uploaded")), (5, 1));
}

#[test]
fn an_equal_object_in_parts_of_unknown_size_is_recognised() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.parts_count = false);
    let content: Vec<u8> = (0..=250).cycle().take(11 * MIB + 5).collect();
    for part_mib in [5, 6, 8] {
        let name = format!("{part_mib}");
        trial.write(&name, &content);
        let seed = Seed::aged(LONG_AGO).in_parts_of(part_mib * MIB);
        trial.s3.put("site", &format!("www/{name}"), content.clone(), seed);
    }
    let run = trial.sync(&[]).expect(0);
    assert_eq!(trial.count(WRITES), 0);
    assert_eq!(
        run.report["bytes"]["read_for_compare"],
        3 * content.len(),
        "each file is read once for all possible part sizes"
    );
}

#[test]
fn a_file_is_uploaded_once_if_the_etag_is_not_an_md5() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.kms = true);
    trial.object("a", "same size", LONG_AGO);
    trial.write("a", "same size");
    let run = trial.sync(&[]).expect(0);
    assert_eq!(run.counted("uploaded"), 1, "the object's content is unknown");
    trial.s3.clear_log();
    let run = trial.sync(&[]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0), "its times prove that it is unchanged");
    assert_eq!(run.counted("unchanged"), 1);
}

#[test]
fn the_stored_checksum_is_compared_if_the_etag_is_not_an_md5() {
    for stored_with in ["crc64nvme", "crc32c", "crc32"] {
        let trial = Trial::new();
        trial.s3.settings(|settings| settings.kms = true);
        trial.write("same", "same size");
        trial.write("other", "same size");
        trial.sync(&["--checksum", stored_with]).expect(0);
        trial.write("same", "same size");
        trial.write("other", "SAME SIZE");
        trial.s3.clear_log();
        let run = trial.sync(&[]).expect(0);
        trial.assert_same();
        assert_eq!(trial.count(WRITES), 1, "{stored_with}");
        assert_eq!(run.counted("unchanged"), 1, "{stored_with}");
    }
}

#[test]
fn size_only_ignores_times_and_reads_nothing() {
    let trial = Trial::new();
    trial.object("a", "old", LONG_AGO);
    trial.object("b", "old", LONG_AGO);
    trial.write("a", "new");
    trial.write("b", "longer");
    let run = trial.sync(&["--compare", "size-only"]).expect(0);
    assert_eq!(trial.objects()["a"], b"old");
    assert_eq!(trial.objects()["b"], b"longer");
    assert_eq!(run.report["bytes"]["read_for_compare"], 0);
    assert_eq!(trial.count(READS), 0);
}

#[test]
fn compare_mtime_uses_only_the_mtime_to_the_nanosecond() {
    let trial = Trial::new();
    for name in ["equal", "after", "before"] {
        trial.object(name, "old", LONG_AGO);
        trial.write(name, "new");
    }
    trial.object("touched", "same", LONG_AGO);
    trial.write("touched", "same");
    // LastModified in the listing has no fraction.
    let modified = trial.s3.object("site", "www/equal").unwrap().modified;
    let seconds = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let listed = UNIX_EPOCH + Duration::from_secs(seconds);
    trial.set_mtime("equal", listed);
    trial.set_mtime("after", listed + Duration::from_secs(1) + Duration::from_nanos(1));
    trial.set_mtime("before", listed - Duration::from_nanos(1));
    let run = trial.sync(&["--compare", "mtime"]).expect(0);
    let objects = trial.objects();
    assert_eq!(objects["equal"], b"old");
    assert_eq!(objects["after"], b"new");
    assert_eq!(objects["before"], b"old", "whatever its ctime and its content are");
    assert_eq!(run.counted("uploaded"), 2, "newer files are uploaded, also the one with equal content");
    assert_eq!(run.report["bytes"]["read_for_compare"], 0);
    assert_eq!(trial.count(READS), 0);
}

#[test]
fn only_checksum_finds_an_object_that_another_writer_replaced() {
    let trial = Trial::new();
    trial.write("a", "ours");
    trial.write("b", "equal");
    Trial::settle();
    trial.object("a", "evil", JUST_NOW);
    trial.object("b", "equal", JUST_NOW);
    let run = trial.sync(&[]).expect(0);
    assert_eq!((trial.count(WRITES), run.counted("unchanged")), (0, 2), "the object is newer than the file");
    let run = trial.sync(&["--compare", "checksum"]).expect(0);
    trial.assert_same();
    assert_eq!((run.counted("uploaded"), run.counted("unchanged")), (1, 1));
    assert_eq!(run.report["bytes"]["read_for_compare"], 9, "all of the tree is read");
}

#[test]
fn files_with_extreme_times_are_equal_on_the_second_run() {
    let trial = Trial::new();
    let day = Duration::from_hours(24);
    for (name, time) in [
        ("before 1970", UNIX_EPOCH - 20_000 * day - Duration::from_nanos(1)),
        ("a nanosecond before 1970", UNIX_EPOCH - Duration::from_nanos(1)),
        ("1970", UNIX_EPOCH),
        ("a nanosecond", SystemTime::now() - LONG_AGO + Duration::from_nanos(1)),
        ("2400", UNIX_EPOCH + 157_000 * day),
    ] {
        trial.write(name, name);
        trial.set_mtime(name, time);
    }
    trial.sync(&[]).expect(0);
    trial.assert_same();
    trial.s3.clear_log();
    let run = trial.sync(&[]).expect(0);
    assert_eq!((trial.count(WRITES), trial.count(READS)), (0, 0));
    assert_eq!(
        run.report["bytes"]["read_for_compare"], 4,
        "the file from the future is compared by content, the others are older than their objects"
    );
}

#[test]
fn a_change_is_uploaded_although_the_clock_of_s3_is_wrong() {
    for hours in [-3, 3] {
        let trial = Trial::new();
        trial.s3.settings(|settings| settings.clock_offset_seconds = hours * 3600);
        trial.object("changed", "version 1", JUST_NOW);
        trial.object("equal", "equal", JUST_NOW);
        trial.write("changed", "version 2");
        trial.write("equal", "equal");
        trial.sync(&[]).expect(0);
        trial.assert_same();
        assert_eq!(trial.count(Operation::PutObject), 1, "{hours} h");
        trial.s3.clear_log();
        trial.sync(&[]).expect(0);
        assert_eq!(trial.count(WRITES), 0, "{hours} h");
    }
}

#[test]
fn after_a_change_of_mode_links_are_compared_without_a_row_that_shows_it() {
    for (first, then) in [("plain", "datasync"), ("datasync", "plain")] {
        // Without state, and with a state that starts after the change.
        for with_state in [false, true] {
            let trial = Trial::new();
            trial.write("page-of-40", "CONTENT-40");
            trial.write("other", "of another size");
            trial.link("page-of-40", "current");
            trial.link("other", "to-other");
            Trial::settle();
            let state = trial.folder.path().join("state").display().to_string();
            let tree = trial.tree().display().to_string();
            let sync = |mode: &str, with_state: bool| {
                trial.s3.clear_log();
                let mut words = vec!["sync", &tree, "s3://site/www", "--mode", mode];
                words.extend(with_state.then_some(["--state", &state]).into_iter().flatten());
                trial.run_words(&words, &[])
            };
            sync(first, false).expect(0);
            Trial::settle();
            sync(then, with_state).expect(0);
            let expected = if then == "plain" { "CONTENT-40" } else { "page-of-40" };
            assert_eq!(trial.stored("current").body, expected, "{first} then {then}, state: {with_state}");
            Trial::settle();
            for _ in 0..2 {
                let quiet = sync(then, with_state).expect(0);
                assert_eq!((trial.count(READS), trial.count(WRITES)), (0, 0), "{:?}", trial.s3.log());
                assert_eq!(quiet.report["bytes"]["read_for_compare"], 0);
            }
        }
    }
}

#[test]
fn a_file_below_min_age_is_skipped_and_keeps_its_object() {
    let trial = Trial::new();
    trial.write("new", "1");
    trial.write("changed", "22");
    trial.object("changed", "1", LONG_AGO);
    trial.object("orphan", "of another size", LONG_AGO);
    let run = trial.sync(&["--min-age", "1h", "--delete"]).expect(0);
    assert_eq!(trial.objects().into_iter().collect::<Vec<_>>(), [("changed".to_owned(), b"1".to_vec())]);
    assert_eq!((run.counted("skipped"), run.counted("deleted")), (2, 1));
    run.assert_adds_up();
}

#[test]
fn a_server_without_conditional_writes_gets_concurrent_uploads() {
    let trial = Trial::new();
    trial.s3.settings(|settings| settings.conditional_writes = ConditionalWrites::NotImplemented);
    for number in 0..20 {
        trial.write(format!("f{number:02}"), "x");
    }
    trial.sync(&[]).expect(0);
    trial.assert_same();
}
