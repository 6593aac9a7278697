//! Compares the permissions in the reference with the requests that runs send.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use fake_aws::datasync::DataSyncServer;
use fake_aws::s3::{Fault, Operation, Rule, Seed};

use crate::reference::REFERENCE;
use crate::trial::Trial;

/// The actions that S3 requires for a request (Service Authorization Reference, "Actions for Amazon S3").
fn actions(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::ListObjectsV2 => &["s3:ListBucket"],
        Operation::HeadObject | Operation::GetObject => &["s3:GetObject"],
        Operation::PutObject
        | Operation::CreateMultipartUpload
        | Operation::UploadPart
        | Operation::CompleteMultipartUpload => &["s3:PutObject"],
        Operation::GetObjectTagging => &["s3:GetObjectTagging"],
        Operation::CopyObject => &["s3:GetObject", "s3:PutObject"],
        Operation::AbortMultipartUpload => &["s3:AbortMultipartUpload"],
        Operation::ListParts => &["s3:ListMultipartUploadParts"],
        Operation::ListMultipartUploads => &["s3:ListBucketMultipartUploads"],
        Operation::DeleteObject | Operation::DeleteObjects => &["s3:DeleteObject"],
        Operation::HeadBucket | Operation::GetObjectAttributes | Operation::UploadPartCopy | Operation::Other => {
            panic!("a run sends {operation:?}, and no document names a permission for it")
        }
    }
}

/// The words in the row of the reference's table of permissions that starts with `row`, actions among them.
fn words(row: &str) -> impl Iterator<Item = &'static str> {
    REFERENCE.lines().find(|line| line.starts_with(&format!("| {row}"))).unwrap().split('`')
}

/// The actions on S3 in a row.
fn documented(row: &str) -> BTreeSet<&'static str> {
    words(row).filter(|word| word.starts_with("s3:") && !word.starts_with("s3://")).collect()
}

/// The operations of DataSync in some rows.
pub(crate) fn documented_of_datasync(rows: &[&str]) -> BTreeSet<String> {
    let words = rows.iter().flat_map(|row| words(row));
    words.filter_map(|word| word.strip_prefix("datasync:")).map(str::to_owned).collect()
}

/// The actions that the requests to a bucket require.
fn required(trial: &Trial, bucket: &str) -> BTreeSet<&'static str> {
    let log = trial.s3.log().into_iter().filter(|request| request.bucket == bucket);
    log.flat_map(|request| actions(request.operation)).copied().collect()
}

#[test]
fn documented_s3_policy_allows_exactly_what_runs_request() {
    let trial = Trial::new();
    trial.s3.create_bucket("state");
    let source = trial.tree().display().to_string();
    let options = ["--delete", "--part-size", "5MiB", "--multipart-threshold", "5MiB", "--lease-ttl", "1s"];
    let sync = [&["sync", &source, "s3://site/www", "--mode", "datasync"], &options[..]].concat();
    let with_state = [&sync[..], &["--state", "s3://state/here"]].concat();
    trial.write("file", "1");
    trial.write("large", vec![b'x'; 6 << 20]);
    trial.object("orphan", "1", Duration::ZERO);
    trial.object("orphan\u{1}", "1", Duration::ZERO);
    // A run aborts an upload that fails. The run after a killed one finds its upload, and aborts or resumes it.
    trial.s3.rule(Rule::on(Operation::CompleteMultipartUpload).does(Fault::status(400, "InvalidRequest")));
    trial.run_words(&sync, &[]).expect(3);
    trial.set_mtime("file", std::time::SystemTime::now() - Duration::from_secs(9));
    Trial::settle();
    trial.run_words(&sync, &[]).expect(0);
    trial.run_words(&["verify", &source, "s3://site/www"], &[]);
    trial.run_words(&["plan", &source, "s3://site/www", "--delete"], &[]);
    let without_state = required(&trial, "site");
    let allowed: BTreeSet<_> = documented("the direct sync, on the bucket")
        .union(&documented("the direct sync, on the objects"))
        .copied()
        .collect();
    // Copies of objects with tags, and uploads in their place, also require these.
    let of_tags = BTreeSet::from(["s3:GetObjectTagging", "s3:PutObjectTagging"]);
    assert_eq!(without_state.union(&of_tags).copied().collect::<BTreeSet<_>>(), allowed);

    trial.s3.clear_log();
    for (killed_before, content) in [(Operation::CreateMultipartUpload, b'y'), (Operation::UploadPart, b'z')] {
        let sent_before = trial.count(killed_before);
        trial.write("large", vec![content; 6 << 20]);
        Trial::settle();
        let hang = Fault::after(|| thread::sleep(Duration::from_secs(20)));
        trial.s3.rule(Rule::on(killed_before).does(hang));
        let run = trial.start_words(&with_state, &[]);
        trial.wait_for_requests(killed_before, sent_before + 1);
        run.signal("-KILL");
        run.end();
        trial.s3.clear_rules();
        while trial.run_words(&with_state, &[]).code == 11 {
            thread::sleep(Duration::from_millis(500));
        }
    }
    trial.s3.put("state", "here/left", "of no run", Seed::default());
    let mut allowed = documented("`--state s3://…`");
    assert!(required(&trial, "state").is_subset(&allowed), "{:?}", required(&trial, "state"));
    allowed.extend(documented("resumed uploads"));
    allowed.extend(without_state);
    let with_state = required(&trial, "site");
    assert!(with_state.is_subset(&allowed), "{with_state:?}");
    for action in documented("resumed uploads") {
        assert!(with_state.contains(action), "no run needs {action}");
    }
}

#[test]
fn documented_datasync_policy_allows_exactly_what_runs_request() {
    let trial = Trial::new();
    trial.write("file", "1");
    let datasync = DataSyncServer::start("aws", "us-east-1").unwrap();
    datasync.change(|service| service.script = vec![("QUEUED", Duration::from_hours(1))]);
    trial.run(&datasync, &[]);
    assert_eq!(datasync.operations(), documented_of_datasync(&["`run`, on the task", "`run`, on the locations"]));
}
