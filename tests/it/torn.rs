//! Concurrent writers: every object is a whole version that its file had.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fake_aws::s3::{Fault, Operation, Reply, Rule};

use crate::odd_fs::{Fault as OddFault, OddFs};
use crate::trial::Trial;

const FILES: usize = 300;
/// One file in this many is large enough for several parts.
const LARGE_EVERY: usize = 60;
const WRITERS: usize = 6;
const WRITING_TIME: Duration = Duration::from_secs(16);

/// The content of a version: a repeated line with the version and the number of lines, and a last line. A truncated version
/// and a mixture of two versions are not versions.
fn version(file: usize, number: usize, lines: usize) -> Vec<u8> {
    let line = format!("file {file:04} version {number:06} of {lines:07} lines\n");
    let mut content = line.repeat(lines).into_bytes();
    content.extend(format!("end of file {file:04} version {number:06}\n").bytes());
    content
}

/// Whether this is a whole version of the file.
fn is_version(file: usize, content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&content[..content.len().min(60)]).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["file", _, "version", number, "of", lines, ..] => {
            let (number, lines) = (number.parse().unwrap(), lines.parse().unwrap());
            content == version(file, number, lines)
        }
        ["end", "of", "file", _, "version", number] => content == version(file, number.parse().unwrap(), 0),
        _ => false,
    }
}

fn lines(file: usize, random: &mut fastrand::Rng) -> usize {
    if file.is_multiple_of(LARGE_EVERY) { random.usize(130_000..150_000) } else { random.usize(0..400) }
}

/// Writes the next version of a file in one of four ways. Each takes less than a second.
fn write(path: &Path, content: &[u8], random: &mut fastrand::Rng) {
    let pause = Duration::from_millis(random.u64(0..120));
    let middle = content.len() / 2;
    match random.u8(0..4) {
        // Truncated, then written.
        0 => {
            let mut file = File::create(path).unwrap();
            file.write_all(&content[..middle]).unwrap();
            thread::sleep(pause);
            file.write_all(&content[middle..]).unwrap();
        }
        // Overwritten in place, the second half first, then truncated to its length.
        1 => {
            let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
            file.write_all_at(&content[middle..], u64::try_from(middle).unwrap()).unwrap();
            thread::sleep(pause);
            file.write_all_at(&content[..middle], 0).unwrap();
            file.set_len(u64::try_from(content.len()).unwrap()).unwrap();
        }
        // Truncated, then appended in pieces.
        2 => {
            File::create(path).unwrap();
            for piece in content.chunks(content.len() / 3 + 1) {
                File::options().append(true).open(path).unwrap().write_all(piece).unwrap();
                thread::sleep(pause / 3);
            }
        }
        // Replaced by a rename.
        _ => {
            let aside = path.with_extension("aside");
            fs::write(&aside, content).unwrap();
            fs::rename(aside, path).unwrap();
        }
    }
}

fn path(trial: &Trial, file: usize) -> PathBuf {
    trial.tree().join(format!("d{}/f{file:04}", file % 10))
}

#[test]
fn each_object_is_a_whole_version_despite_concurrent_writers() {
    let trial = Trial::new();
    let mut random = fastrand::Rng::new();
    for file in 0..FILES {
        trial.write(path(&trial, file), version(file, 0, lines(file, &mut random)));
    }
    let stop = AtomicBool::new(false);
    let options = ["--delete", "--exclude", "*.aside", "--part-size", "5MiB", "--multipart-threshold", "5MiB"];
    let mut uploaded = 0;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (trial, stop) = (&trial, &stop);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(u64::try_from(writer).unwrap());
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    // Each file has one writer. It writes some files often, and others rarely.
                    let mine = FILES / WRITERS;
                    let pick = random.usize(0..mine).min(random.usize(0..mine));
                    let file = pick * WRITERS + writer;
                    let content = version(file, number, lines(file, &mut random));
                    write(&path(trial, file), &content, &mut random);
                }
            });
        }
        let started = Instant::now();
        while started.elapsed() < WRITING_TIME {
            let ended = trial.sync(&options);
            assert!([0, 3].contains(&ended.code), "{}", ended.stderr);
            ended.assert_adds_up();
            uploaded += ended.counted("uploaded");
            check(&trial.objects());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(uploaded > u64::try_from(FILES).unwrap(), "only {uploaded} uploads: the writers changed too little");
    Trial::settle();
    trial.sync(&options).expect(0);
    trial.assert_same();
}

#[test]
fn truncated_file_with_old_times_is_not_published() {
    let trial = Trial::new();
    let _odd = OddFs::mount(&trial.tree(), &["file"], &[("file", OddFault::TruncatedOnOpen)]);
    trial.sync(&[]).expect(0);
    assert_eq!(trial.stored("file").body, "file");
    let sizes: Vec<_> = trial.s3.requests(Operation::PutObject).iter().map(|request| request.body_bytes).collect();
    assert_eq!(sizes, [4], "an empty file was published first");
}

/// S3 dates an object when it stores it. If a retry stored the old content after the change, the dates would hide the change
/// from a run without a state.
#[test]
fn a_write_whose_file_changed_is_not_sent_again() {
    let (put, complete, copy) = (Operation::PutObject, Operation::CompleteMultipartUpload, Operation::CopyObject);
    let parts = ["--part-size", "5MiB", "--multipart-threshold", "5MiB"];
    for (operation, bytes, options, sent, put_again) in
        [(put, 9, &[][..], 2, 0), (complete, 6 << 20, &parts[..], 2, 0), (copy, 9, &[][..], 1, 1)]
    {
        let trial = Trial::new();
        trial.write("f", vec![b'1'; bytes]);
        Trial::settle();
        if operation == copy {
            trial.datasync(options).expect(0);
            fs::set_permissions(trial.tree().join("f"), Permissions::from_mode(0o600)).unwrap();
            Trial::settle();
        }
        trial.s3.clear_log();
        let path = trial.tree().join("f");
        trial.s3.rule(Rule::on(operation).does(Fault::custom(move |_| {
            fs::write(&path, vec![b'2'; bytes]).unwrap();
            Some(Reply { status: 500, headers: Vec::new(), body: "".into() })
        })));
        trial.datasync(options).expect(0);
        assert_eq!(trial.stored("f").body, vec![b'2'; bytes], "{operation:?}");
        assert_eq!(trial.s3.requests(operation).iter().filter(|request| request.key == "www/f").count(), sent);
        let puts = trial.s3.requests(put);
        let puts = puts.iter().filter(|request| operation == copy && request.key == "www/f").count();
        assert_eq!(puts, put_again, "{operation:?}");
    }
}

fn check(objects: &BTreeMap<String, Vec<u8>>) {
    for (name, content) in objects {
        let file = name[name.len() - 4..].parse().unwrap();
        let shown = String::from_utf8_lossy(&content[..content.len().min(60)]);
        assert!(is_version(file, content), "'{name}' is torn: {} bytes, {shown}", content.len());
    }
}
