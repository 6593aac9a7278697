//! The index: what it saves a run, what it detects, and what a run does with a damaged index.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use fake_aws::s3::{Fault, Operation, Rule, S3Server, Seed};

use crate::trial::{FinishedRun, READS, Trial, WRITES, wait_until};
use crate::within;

type Damage = fn(&[u8]) -> Vec<u8>;

const HOUR: Duration = Duration::from_hours(1);

fn state(trial: &Trial) -> String {
    trial.folder.path().join("state").display().to_string()
}

fn index_file(trial: &Trial) -> PathBuf {
    let mut names = fs::read_dir(state(trial)).unwrap().map(|entry| entry.unwrap().path());
    names.find(|path| path.to_string_lossy().contains(".index.")).expect("an index")
}

/// Ten files, settled and synced with a state.
fn synced(mode: &str) -> Trial {
    let trial = Trial::new();
    for number in 0..10 {
        trial.write(format!("d{}/f{number}", number % 2), format!("content {number}"));
    }
    Trial::settle();
    sync(&trial, mode).expect(0);
    Trial::settle();
    trial
}

fn sync(trial: &Trial, mode: &str) -> FinishedRun {
    trial.s3.clear_log();
    let source = trial.tree().display().to_string();
    trial.run_words(&["sync", &source, "s3://site/www", "--mode", mode, "--delete", "--state", &state(trial)], &[])
}

/// A run that sends listings and nothing else, and reads nothing.
#[track_caller]
fn assert_quiet(trial: &Trial, mode: &str) {
    let ended = sync(trial, mode).expect(0);
    assert_eq!((trial.count(READS), trial.count(WRITES)), (0, 0), "{:?}", trial.s3.log());
    assert_eq!(ended.report["bytes"]["read_for_compare"], 0);
    assert_eq!(ended.report["source_operations"]["open"], 3, "the directories");
}

#[test]
fn directory_moved_away_and_back_costs_no_comparison() {
    for mode in ["plain", "datasync"] {
        let trial = synced(mode);
        fs::rename(trial.tree().join("d0"), trial.tree().join("elsewhere")).unwrap();
        fs::rename(trial.tree().join("elsewhere"), trial.tree().join("d0")).unwrap();
        let written = fs::metadata(index_file(&trial)).unwrap().modified().unwrap();
        if mode == "plain" {
            assert_quiet(&trial, mode);
            assert_eq!(fs::metadata(index_file(&trial)).unwrap().modified().unwrap(), written, "no edits");
        } else {
            // The rename changed the directory's own ctime.
            let ended = sync(&trial, mode).expect(0);
            assert_eq!((trial.count(READS), trial.count(WRITES)), (1, 0), "{:?}", trial.s3.log());
            assert_eq!(ended.report["bytes"]["read_for_compare"], 0);
        }
        assert_quiet(&trial, mode);
    }
}

#[test]
fn a_touched_file_is_read_once_and_not_by_each_run() {
    let trial = synced("plain");
    trial.set_mtime("d0/f0", SystemTime::now() - Duration::from_secs(5));
    Trial::settle();
    let ended = sync(&trial, "plain").expect(0);
    assert_eq!(ended.report["bytes"]["read_for_compare"], 9);
    assert_eq!(trial.count(WRITES), 0);
    assert_quiet(&trial, "plain");
}

#[test]
fn content_changed_under_the_same_size_and_mtime_is_uploaded() {
    for mode in ["plain", "datasync"] {
        let trial = synced(mode);
        let path = trial.tree().join("d0/f0");
        let mtime = fs::metadata(&path).unwrap().modified().unwrap();
        trial.write("d0/f0", "CONTENT 0");
        trial.set_mtime("d0/f0", mtime);
        Trial::settle();
        sync(&trial, mode).expect(0);
        assert_eq!(trial.stored("d0/f0").body, "CONTENT 0", "{mode}");
        assert_quiet(&trial, mode);
    }
}

#[test]
fn older_file_moved_into_place_is_uploaded_although_its_directory_is_newer() {
    let trial = Trial::new();
    trial.write("site/page", "release 1");
    trial.write("site.new/page", "release 2");
    Trial::settle();
    sync(&trial, "plain").expect(0);
    assert_a_release_is_detected(&trial);
}

/// Moves `site.new` to `site`. Only an index can detect that.
#[track_caller]
fn assert_a_release_is_detected(trial: &Trial) {
    Trial::settle();
    // The directory's mtime becomes newer than its ctime of the move.
    fs::rename(trial.tree().join("site"), trial.folder.path().join("old")).unwrap();
    fs::rename(trial.tree().join("site.new"), trial.tree().join("site")).unwrap();
    Trial::settle();
    trial.write("site/another", "makes the mtime newer");
    Trial::settle();
    sync(trial, "plain").expect(0);
    assert_eq!(trial.stored("site/page").body, "release 2");
    trial.assert_same();
}

#[test]
fn stopped_or_failed_run_writes_its_uploads_to_the_index() {
    for (code, trouble) in [(143, Fault::Delay(Duration::from_secs(5))), (1, Fault::status(404, "NoSuchBucket"))] {
        let trial = Trial::new();
        trial.write("site/page", "release 1");
        trial.write("site.new/page", "release 2");
        for number in 0..30 {
            trial.write(format!("z{number}"), "z");
        }
        Trial::settle();
        // The first ones leave time for those before them.
        let late = Rule::on(Operation::PutObject).key_contains("/z").skip(8).always();
        trial.s3.rule(late.does(trouble));
        let run = trial.start(&["--retries", "1", "--concurrency", "4", "--state", &state(&trial)]);
        if code == 143 {
            wait_until("uploads are in flight", || trial.count(Operation::PutObject) > 10);
            run.signal("-TERM");
        }
        let run = run.end().expect(code);
        assert!(trial.has("site/page") && trial.has("site.new/page") && run.counted("skipped") > 0, "{}", run.stderr);
        trial.s3.clear_rules();
        assert_a_release_is_detected(&trial);
    }
}

#[test]
fn stop_does_not_wait_for_a_state_that_stalls() {
    let trial = Trial::new();
    trial.s3.create_bucket("states");
    for number in 0..30 {
        trial.write(format!("f{number}"), "x");
    }
    Trial::settle();
    let troubles = [("www/", Fault::Delay(Duration::from_secs(1))), (".index.", Fault::Stall(HOUR))];
    for (key, trouble) in troubles {
        trial.s3.rule(Rule::on(Operation::PutObject).key_contains(key).always().does(trouble));
    }
    let run = trial.start(&["--concurrency", "2", "--state", "s3://states/here"]);
    wait_until("uploads are in flight", || trial.names().len() > 1);
    let asked = Instant::now();
    run.signal("-TERM");
    let run = run.end().expect(143);
    assert!(asked.elapsed() < Duration::from_mins(1), "{:?}", asked.elapsed());
    assert!(run.stderr.contains("cannot write the index in the time left"), "{}", run.stderr);
    run.assert_adds_up();
    trial.s3.clear_rules();
    trial.sync(&["--state", "s3://states/here"]).expect(0);
    trial.assert_same();
}

#[test]
fn object_replaced_by_another_writer_is_detected_by_the_listing_and_repaired() {
    for mode in ["plain", "datasync"] {
        let trial = synced(mode);
        trial.object("d0/f0", "CONTENT 0", Duration::ZERO);
        let ended = sync(&trial, mode).expect(0);
        assert_eq!((ended.counted("uploaded"), trial.count(Operation::PutObject)), (1, 1), "{mode}");
        assert_eq!(trial.stored("d0/f0").body, "content 0");
        assert_quiet(&trial, mode);
    }
}

#[test]
fn metadata_rewritten_by_another_writer_is_detected_and_repaired() {
    let trial = synced("datasync");
    let stored = trial.stored("d0/f0");
    let mut seed = Seed { headers: stored.headers.clone(), ..Seed::default() };
    seed = seed.header("x-amz-meta-file-permissions", "0777");
    trial.s3.put("site", "www/d0/f0", stored.body, seed);
    let ended = sync(&trial, "datasync").expect(0);
    assert_eq!(ended.counted("metadata_rewritten"), 1);
    assert_eq!(ended.report["bytes"]["read_for_compare"], 0);
    assert_quiet(&trial, "datasync");
}

#[test]
fn a_mode_that_changed_costs_one_head_and_one_copy() {
    let trial = synced("datasync");
    fs::set_permissions(trial.tree().join("d0/f0"), fs::Permissions::from_mode(0o600)).unwrap();
    Trial::settle();
    sync(&trial, "datasync").expect(0);
    assert_eq!((trial.count(Operation::HeadObject), trial.count(Operation::CopyObject)), (1, 1));
    assert_eq!(trial.stored("d0/f0").metadata("file-permissions"), Some("0100600"));
    assert_quiet(&trial, "datasync");
}

#[test]
fn metadata_never_read_is_read_with_compare_metadata() {
    let trial = Trial::new();
    trial.write("a", "1");
    Trial::settle();
    // As another tool wrote it: without metadata, and newer than the file.
    trial.object("a", "1", Duration::ZERO);
    let counted = |ended: &FinishedRun| (ended.counted("unchanged"), ended.counted("metadata_rewritten"));
    assert_eq!(counted(&sync(&trial, "datasync").expect(0)), (1, 0), "its date shows that the content is equal");
    let source = trial.tree().display().to_string();
    let state = state(&trial);
    let words = ["sync", &source, "s3://site/www", "--state", &state, "--compare", "metadata"];
    assert_eq!(counted(&trial.run_words(&words, &[]).expect(0)), (0, 1));
    trial.s3.clear_log();
    assert_eq!(counted(&trial.run_words(&words, &[]).expect(0)), (1, 0));
    assert_eq!(trial.count(READS), 0, "the index records that the metadata was read");
}

#[test]
fn damaged_index_is_reported_ignored_and_rebuilt() {
    let damages: [(&str, Damage); 4] = [
        ("empty", |_| Vec::new()),
        ("truncated", |whole| whole[..whole.len() / 2].to_vec()),
        ("flipped", |whole| whole.iter().map(|byte| byte ^ 1).collect()),
        ("something else", |_| b"key,size\na,1\n".to_vec()),
    ];
    std::thread::scope(|scope| {
        for (how, damage) in damages {
            scope.spawn(move || index_is_rebuilt_after(how, damage));
        }
    });
}

fn index_is_rebuilt_after(how: &str, damage: Damage) {
    let trial = synced("plain");
    let path = index_file(&trial);
    fs::write(&path, damage(&fs::read(&path).unwrap())).unwrap();
    trial.write("d0/f0", "changed 0");
    Trial::settle();
    let ended = sync(&trial, "plain").expect(0);
    assert!(ended.stderr.contains("the index is damaged or truncated"), "{how}: {}", ended.stderr);
    trial.assert_same();
    let ended = sync(&trial, "plain").expect(0);
    assert!(!ended.stderr.contains("the index"), "{how}: {}", ended.stderr);
    assert_quiet(&trial, "plain");
}

#[test]
fn a_change_of_mode_compares_the_metadata_of_files() {
    let trial = synced("plain");
    let ended = sync(&trial, "datasync").expect(0);
    assert!(ended.stderr.contains("a run in another mode wrote the index"), "{}", ended.stderr);
    let counted = (ended.counted("metadata_rewritten"), ended.counted("uploaded"));
    assert_eq!(counted, (10, 2), "plain mode stores no metadata and no directories");
    assert_eq!(ended.report["bytes"]["read_for_compare"], 0);
    assert_quiet(&trial, "datasync");
    let ended = sync(&trial, "plain").expect(0);
    assert_eq!((trial.count(READS), ended.counted("unchanged")), (0, 10), "plain mode compares no metadata");
    // A file that is newer than its object has no metadata yet, and its row shows nothing about that.
    trial.set_mtime("d0/f0", SystemTime::now());
    Trial::settle();
    sync(&trial, "plain").expect(0);
    assert_eq!(sync(&trial, "datasync").expect(0).counted("metadata_rewritten"), 1);
}

#[test]
fn sync_and_verify_agree_after_a_run_with_no_preserve() {
    let trial = Trial::new();
    trial.write("d/f", "content");
    Trial::settle();
    let state = state(&trial);
    trial.datasync(&["--state", &state, "--no-preserve", "permissions"]).expect(0);
    let source = trial.tree().display().to_string();
    let verify = || trial.run_words(&["verify", &source, "s3://site/www", "--mode", "datasync"], &[]);
    verify().expect(10);
    let ended = trial.datasync(&["--state", &state]).expect(0);
    assert_eq!(ended.counted("metadata_rewritten"), 2, "the file and its directory");
    assert_eq!(ended.report["bytes"]["read_for_compare"], 0, "the index shows that the content is equal");
    verify().expect(0);
    trial.s3.clear_log();
    trial.datasync(&["--state", &state]).expect(0);
    assert_eq!((trial.count(READS), trial.count(WRITES)), (0, 0));
}

/// Swaps two directories. An entry that is created afterwards hides the move from all times.
fn swap(trial: &Trial, one: &str, other: &str) {
    let at = |name: &str| trial.tree().join(name);
    fs::rename(at(one), at("aside")).unwrap();
    fs::rename(at(other), at(one)).unwrap();
    fs::rename(at("aside"), at(other)).unwrap();
    for name in [one, other] {
        trial.write(format!("{name}/later"), "x");
    }
}

#[test]
fn a_file_that_had_just_changed_when_it_was_sent_is_compared_again() {
    let trial = Trial::new();
    trial.write("b/x", "one");
    std::thread::sleep(Duration::from_secs(3));
    trial.write("a/x", "two");
    // The margin is 4 seconds, and the run sends a/x after 3.
    trial.s3.settings(|settings| settings.clock_offset_seconds = -2);
    sync(&trial, "plain").expect(0);
    trial.s3.settings(|settings| settings.clock_offset_seconds = 0);
    swap(&trial, "a", "b");
    sync(&trial, "plain").expect(0);
    trial.assert_same();
}

/// The write may have been of another file: the source may change while the request is on its way.
#[test]
fn an_object_whose_write_was_not_proven_is_compared() {
    for mode in ["plain", "datasync"] {
        let trial = synced(mode);
        trial.write("d0/new", "CONTENT 0");
        Trial::settle();
        trial.s3.rule(Rule::on(Operation::PutObject).always().does(Fault::WrongEtag));
        trial.s3.rule(Rule::on(Operation::HeadObject).always().does(Fault::status(400, "InvalidRequest")));
        sync(&trial, mode).expect(3);
        trial.s3.clear_rules();
        assert_eq!(trial.stored("d0/new").body, "CONTENT 0");
        let run = sync(&trial, mode).expect(0);
        assert_eq!(run.report["bytes"]["read_for_compare"], 9, "{mode}: {}", run.stderr);
        assert_quiet(&trial, mode);
    }
}

#[test]
fn a_run_with_a_manifest_reads_the_rows_of_its_files() {
    for mode in ["plain", "datasync"] {
        let trial = Trial::new();
        trial.write("a/x", "one");
        trial.write("b/x", "two");
        Trial::settle();
        sync(&trial, mode).expect(0);
        Trial::settle();
        swap(&trial, "a", "b");
        trial.write("manifest", "b/x\na/x\n");
        let (source, manifest) = (trial.tree().display().to_string(), trial.tree().join("manifest"));
        let words = ["sync", &source, "s3://site/www", "--mode", mode, "--state", &state(&trial)];
        let words = [&words[..], &["--from-manifest", manifest.to_str().unwrap()]].concat();
        let run = trial.run_words(&words, &[]).expect(0);
        assert_eq!((trial.stored("a/x").body, trial.stored("b/x").body), ("two".into(), "one".into()), "{mode}");
        assert_eq!(run.counted("uploaded"), 2, "{mode}");
    }
}

#[test]
fn a_change_of_mode_compares_links_again() {
    // In both directions, the object has the size of the other mode's object.
    for (first, then) in [("plain", "datasync"), ("datasync", "plain")] {
        let trial = Trial::new();
        trial.write("release-40/f", "x");
        trial.write("page-of-40", "CONTENT-40");
        trial.link("page-of-40", "current");
        trial.link("release-40", "linked");
        Trial::settle();
        sync(&trial, first).expect(0);
        Trial::settle();
        sync(&trial, then).expect(0);
        let expected = if then == "plain" { "CONTENT-40" } else { "page-of-40" };
        assert_eq!(trial.stored("current").body, expected, "{first} then {then}");
        assert_eq!(trial.has("linked/f"), then == "plain", "{first} then {then}");
        assert_quiet_but_for_directories(&trial, then);
    }
}

#[track_caller]
fn assert_quiet_but_for_directories(trial: &Trial, mode: &str) {
    Trial::settle();
    sync(trial, mode).expect(0);
    sync(trial, mode).expect(0);
    assert_eq!((trial.count(READS), trial.count(WRITES)), (0, 0), "{:?}", trial.s3.log());
}

#[test]
fn the_index_of_another_endpoint_is_reported_ignored_and_rebuilt() {
    let (trial, other) = (synced("datasync"), S3Server::start_blocking().unwrap());
    other.create_bucket("site");
    for name in trial.names() {
        let object = trial.stored(&name);
        other.put("site", &format!("www/{name}"), object.body, Seed::default());
    }
    let source = trial.tree().display().to_string();
    let words = [
        "sync",
        source.as_str(),
        "s3://site/www",
        "--mode",
        "datasync",
        "--compare",
        "metadata",
        "--state",
        &state(&trial),
    ];
    let run = |url: &str| trial.run_words(&words, &[("AWS_ENDPOINT_URL", url)]).expect(0);
    let ended = run(&other.url());
    assert!(ended.stderr.contains("the index belongs to another endpoint"), "{}", ended.stderr);
    assert_eq!(ended.counted("metadata_rewritten"), 12, "10 files and 2 directories");
    let ended = run(&format!("{}/", other.url()));
    assert!(!ended.stderr.contains("endpoint"), "the same server: {}", ended.stderr);
    assert_eq!(ended.counted("unchanged"), 12);
}

/// The text of the index.
fn rows_of(trial: &Trial) -> String {
    let content = zstd::decode_all(fs::File::open(index_file(trial)).unwrap()).unwrap();
    String::from_utf8(content).unwrap()
}

#[test]
fn an_older_version_with_the_same_etag_is_compared_again() {
    // By a copy within S3, and by an upload of an object that S3 cannot copy.
    for is_copied in [true, false] {
        let trial = synced("datasync");
        let first = trial.stored("d0/f0");
        if !is_copied {
            let refused = Fault::status(403, "InvalidObjectState");
            trial.s3.rule(Rule::on(Operation::CopyObject).always().does(refused));
        }
        let permissions =
            |mode| fs::set_permissions(trial.tree().join("d0/f0"), fs::Permissions::from_mode(mode)).unwrap();
        permissions(0o600);
        sync(&trial, "datasync").expect(0);
        assert_eq!(trial.stored("d0/f0").metadata("file-permissions"), Some("0100600"));
        assert_eq!(trial.count(Operation::PutObject), usize::from(!is_copied));
        trial.s3.restore("site", "www/d0/f0", first);
        sync(&trial, "datasync").expect(0);
        assert_eq!(trial.stored("d0/f0").metadata("file-permissions"), Some("0100600"), "copied: {is_copied}");
        assert_quiet(&trial, "datasync");
    }
}

#[test]
fn index_that_cannot_be_written_loses_no_sync() {
    let trial = Trial::new();
    trial.write("a", "1");
    Trial::settle();
    sync(&trial, "plain").expect(0);
    // A folder takes the place of the index.
    let index = index_file(&trial);
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    trial.write("b", "2");
    Trial::settle();
    let ended = sync(&trial, "plain").expect(0);
    assert!(ended.stderr.contains("cannot write the index"), "{}", ended.stderr);
    trial.assert_same();
}

#[test]
fn on_s3_the_index_is_read_and_written_as_in_a_folder() {
    let trial = Trial::new();
    trial.s3.create_bucket("states");
    for number in 0..10 {
        trial.write(format!("d/f{number}"), format!("content {number}"));
    }
    Trial::settle();
    let run = || {
        trial.s3.clear_log();
        trial.sync(&["--delete", "--state", "s3://states/of/site"]).expect(0)
    };
    run();
    assert!(trial.s3.keys("states", "of/site/").iter().any(|key| key.contains(".index.")));
    fs::rename(trial.tree().join("d"), trial.tree().join("e")).unwrap();
    fs::rename(trial.tree().join("e"), trial.tree().join("d")).unwrap();
    let ended = run();
    assert_eq!(ended.report["source_operations"]["open"], 2, "the directories");
    assert_eq!(ended.report["requests"]["put"], 3, "the lease, taken and released, and the report");
    assert_eq!(ended.report["requests"]["get"], 4, "the lease, the index, since when objects are suspect, the mounts");
    trial.s3.put("site", "www/d/f0", "CONTENT 0", Seed::aged(Duration::ZERO));
    run();
    assert_eq!(trial.stored("d/f0").body, "content 0");
}

#[test]
fn a_large_file_of_the_state_goes_to_s3_in_parts_and_comes_back() {
    within::apart("index::a_large_file_of_the_state_goes_to_s3_in_parts_and_comes_back", || {
        within::runtime().block_on(async {
            let s3 = S3Server::start().await.unwrap();
            s3.create_bucket("states");
            let state = within::state_on(&s3, "s3://states/here").await;
            let mut content = vec![0; (40 << 20) + 7];
            fastrand::Rng::with_seed(3).fill(&mut content);
            let mut file = state.new_file().await.unwrap();
            file.write_all(&content).unwrap();
            state.publish("large", file).await.unwrap();
            assert_eq!((s3.count(Operation::UploadPart), s3.uploads().len()), (3, 0));
            let mut read = Vec::new();
            let mut file = state.open_file("large").await.unwrap().unwrap();
            file.rewind().unwrap();
            file.read_to_end(&mut read).unwrap();
            assert!(read == content);
            assert!(state.open_file("none").await.unwrap().is_none());
        });
    });
}

#[test]
fn plan_with_a_state_shows_what_a_sync_does_and_does_not_change_the_state() {
    let trial = synced("plain");
    trial.object("d0/f0", "CONTENT 0", Duration::ZERO);
    let written = fs::metadata(index_file(&trial)).unwrap().modified().unwrap();
    let ended = trial.plan(&["--state", &state(&trial)]).expect(0);
    assert!(ended.stdout.contains("www/d0/f0") && ended.stdout.lines().count() == 1, "{}", ended.stdout);
    assert_eq!(fs::metadata(index_file(&trial)).unwrap().modified().unwrap(), written);
    let without = trial.plan(&[]).expect(0);
    assert_eq!(without.stdout, "", "the times alone do not show it");
}

#[test]
fn object_copied_by_another_tool_after_a_change_is_not_read() {
    let trial = synced("plain");
    trial.write("d0/f0", "changed 0");
    Trial::settle();
    trial.s3.put("site", "www/d0/f0", "changed 0", Seed::default());
    assert_quiet(&trial, "plain");
}

#[test]
fn index_drops_the_rows_of_deleted_keys() {
    let trial = synced("plain");
    let rows = || rows_of(&trial);
    assert!(rows().contains("\nd0/f0,") && rows().ends_with("\nend,10\n"), "{}", rows());
    trial.remove("d0/f0");
    trial.object("d0/older", "x", HOUR);
    sync(&trial, "plain").expect(0);
    assert!(!rows().contains("\nd0/f0,") && rows().ends_with("\nend,9\n"), "{}", rows());
}

/// Only the row shows that the file is another one than the object's.
#[test]
fn a_file_in_the_place_of_an_orphan_that_was_kept_is_compared() {
    let trial = Trial::new();
    let (site, next) = (trial.tree().join("site"), trial.folder.path().join("next"));
    trial.write("site/page", "release 1");
    trial.write("z", "z");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("page"), "release 2").unwrap();
    Trial::settle();
    sync(&trial, "plain").expect(0);
    Trial::settle();
    fs::rename(&site, trial.folder.path().join("old")).unwrap();
    trial.sync(&["--state", &state(&trial)]).expect(0);
    assert!(trial.has("site/page"), "a run without --delete");
    fs::rename(next, site).unwrap();
    Trial::settle();
    // The directory's mtime becomes newer than its ctime of the move.
    trial.write("site/another", "x");
    Trial::settle();
    sync(&trial, "plain").expect(0);
    assert_eq!(trial.stored("site/page").body, "release 2");
}
