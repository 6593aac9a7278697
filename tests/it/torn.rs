//! Writers at work while runs go on: whatever is at the destination is a version that its file had as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fake_aws::s3::Operation;

use crate::odd_fs::{Fault as OddFault, OddFs};
use crate::trial::Trial;

const FILES: usize = 300;
/// Of a few the content takes several parts.
const LARGE_EACH: usize = 60;
const WRITERS: usize = 6;
const AT_WORK: Duration = Duration::from_secs(16);

/// A version: a line that says which, again and again, and a last line that says how often. Cut off, or put together from
/// two, it is none.
fn version(file: usize, number: usize, lines: usize) -> Vec<u8> {
    let line = format!("file {file:04} version {number:06} of {lines:07} lines\n");
    let mut content = line.repeat(lines).into_bytes();
    content.extend(format!("end of file {file:04} version {number:06}\n").bytes());
    content
}

/// Whether this is a version of the file as a whole.
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
    if file.is_multiple_of(LARGE_EACH) { random.usize(130_000..150_000) } else { random.usize(0..400) }
}

/// How a file comes to its next version: all of it within a second, and with it whole again.
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
        // Overwritten in place, the second half first, then cut to its length.
        1 => {
            let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
            file.write_all_at(&content[middle..], u64::try_from(middle).unwrap()).unwrap();
            thread::sleep(pause);
            file.write_all_at(&content[..middle], 0).unwrap();
            file.set_len(u64::try_from(content.len()).unwrap()).unwrap();
        }
        // Appended, piece by piece, to nothing.
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
fn whatever_writers_do_meanwhile_each_object_is_a_version_that_its_file_had_as_a_whole() {
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
                    // Each file has one writer. Some files are written again and again, others rest for longer.
                    let mine = FILES / WRITERS;
                    let pick = random.usize(0..mine).min(random.usize(0..mine));
                    let file = pick * WRITERS + writer;
                    let content = version(file, number, lines(file, &mut random));
                    write(&path(trial, file), &content, &mut random);
                }
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < AT_WORK {
            let ended = trial.sync(&options);
            assert!([0, 3].contains(&ended.code), "{}", ended.stderr);
            ended.assert_adds_up();
            uploaded += ended.counted("uploaded");
            check(&trial.objects());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(uploaded > u64::try_from(FILES).unwrap(), "only {uploaded} uploads: nothing was tried");
    Trial::settle();
    trial.sync(&options).expect(0);
    trial.assert_same();
}

#[test]
fn a_cut_that_shows_in_the_size_before_it_shows_in_the_times_is_not_published() {
    let trial = Trial::new();
    let _odd = OddFs::mount(&trial.tree(), &["file"], &[("file", OddFault::CutWhenOpened)]);
    trial.sync(&[]).expect(0);
    assert_eq!(trial.stored("file").body, "file");
    let sizes: Vec<_> = trial.s3.requests(Operation::PutObject).iter().map(|request| request.body_bytes).collect();
    assert_eq!(sizes, [4], "an empty one was published first");
}

fn check(objects: &BTreeMap<String, Vec<u8>>) {
    for (name, content) in objects {
        let file = name[name.len() - 4..].parse().unwrap();
        let shown = String::from_utf8_lossy(&content[..content.len().min(60)]);
        assert!(is_version(file, content), "'{name}' is torn: {} bytes, {shown}", content.len());
    }
}
