//! The direct sync and DataSync take turns: after each of them, the other has nothing to do.
//!
//! DataSync is the reference copy of `fake_aws::datasync`, which shares no code with the direct sync. Each case has a seed.
//! `EFS2S3_EQUIVALENCE_CASES` is the number of cases, and `EFS2S3_EQUIVALENCE_SEED` the seed of the first one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use fake_aws::datasync::reference::Copy;
use fake_aws::s3::{S3Server, Seed};
use fastrand::Rng;

use crate::trial::{READS, Trial, WRITES};

const CASES: u64 = 16;
/// The cases mostly wait for files to settle.
const PARALLEL: usize = 16;
/// Awkward in their order or bytes. They are few, so that edits often meet the same name.
const NAMES: [&str; 16] = [
    "a",
    "a-b",
    "a.b",
    "a b",
    "a+b",
    "a%2Bb",
    "a!",
    "a0",
    "é",
    "😀",
    "x.tmp",
    "temp",
    "keep.html",
    ".aws-datasync",
    "v.snapshot",
    "\\*|",
];
const FILTERS: [(Option<&str>, Option<&str>); 6] = [
    (None, None),
    (None, Some("*.tmp|*/temp")),
    (Some("/a*"), None),
    (Some("/a|/é"), Some("*a0")),
    (None, Some("/a")),
    (None, Some("*b")),
];
const NONE_OPTIONS: [(&[&str], &str); 4] =
    [(&[], ""), (&["Uid", "Gid"], "uid,gid"), (&["PosixPermissions"], "permissions"), (&["Atime"], "atime")];

/// The settings of both copies in one case.
struct Settings {
    filters: (Option<&'static str>, Option<&'static str>),
    none: (&'static [&'static str], &'static str),
    milliseconds: bool,
}

impl Settings {
    fn new(random: &mut Rng) -> Self {
        Self {
            filters: random.choice(FILTERS).unwrap(),
            none: random.choice(NONE_OPTIONS).unwrap(),
            milliseconds: random.u8(..4) == 0,
        }
    }

    fn datasync<'a>(&'a self, tree: &'a Path, server: &'a S3Server) -> Copy<'a> {
        let (include, exclude) = self.filters;
        Copy {
            include,
            exclude,
            none: self.none.0,
            milliseconds: self.milliseconds,
            ..Copy::new(tree, server, "site", "www/")
        }
    }

    fn options(&self) -> Vec<&str> {
        let mut options = vec!["--delete", "--max-delete", "100%", "--allow-empty-source"];
        for (name, value) in [("--include", self.filters.0), ("--exclude", self.filters.1)] {
            options.extend(value.into_iter().flat_map(|value| [name, value]));
        }
        if !self.none.1.is_empty() {
            options.extend(["--no-preserve", self.none.1]);
        }
        options
    }
}

fn name(random: &mut Rng) -> &'static str {
    random.choice(NAMES).unwrap()
}

/// A random path below the tree, of one to three names.
fn path(tree: &Path, random: &mut Rng) -> PathBuf {
    (0..random.usize(1..4)).fold(tree.to_owned(), |path, _| path.join(name(random)))
}

/// All paths below the tree.
fn everything(tree: &Path) -> Vec<PathBuf> {
    let below = walkdir::WalkDir::new(tree).min_depth(1).sort_by_file_name().into_iter();
    below.map(|entry| entry.unwrap().into_path()).collect()
}

/// Creates a random entry, and removes the entry that has its path.
fn create(tree: &Path, random: &mut Rng) {
    let path = path(tree, random);
    if fs::create_dir_all(path.parent().unwrap()).is_err() {
        return;
    }
    remove(&path);
    match random.u8(..10) {
        0 | 1 => drop(fs::create_dir(&path)),
        2 => symlink(name(random), &path).unwrap(),
        3 => symlink("/no/where/at all", &path).unwrap(),
        4 => drop(Command::new("mkfifo").arg(&path).status()),
        5 => fs::write(&path, "").unwrap(),
        _ => fs::write(&path, random.alphanumeric().to_string().repeat(random.usize(1..4))).unwrap(),
    }
    if random.bool() {
        age(&path, random);
    }
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
}

/// Sets a random mtime with nanoseconds, which may be before 1970.
fn age(path: &Path, random: &mut Rng) {
    let time = format!("@{}.{:09}", random.i64(-1_000_000_000..1_700_000_000), random.u32(..1_000_000_000));
    assert!(Command::new("touch").args(["-h", "-d", &time]).arg(path).status().unwrap().success());
}

/// Edits a random entry or creates one. A `hidden` edit may keep size and mtime, so that DataSync does not detect it.
fn edit(tree: &Path, random: &mut Rng, hidden: bool) {
    let Some(path) = random.choice(everything(tree)) else {
        return create(tree, random);
    };
    let meta = fs::symlink_metadata(&path).unwrap();
    match random.u8(..9) {
        0 => remove(&path),
        1 => age(&path, random),
        2 if !meta.is_symlink() => {
            let owner = if meta.is_dir() { 0o700 } else { 0 };
            fs::set_permissions(&path, fs::Permissions::from_mode(owner | random.u32(..0o7777))).unwrap();
        }
        3 if meta.is_symlink() => lchown(&path, Some(random.u32(..9)), None).unwrap(),
        3 => chown(&path, Some(random.u32(..9)), Some(random.u32(..9))).unwrap(),
        4 if meta.is_file() => fs::write(&path, random.alphanumeric().to_string().repeat(random.usize(..4))).unwrap(),
        5 if meta.is_file() && hidden => {
            fs::write(&path, "#".repeat(usize::try_from(meta.len()).unwrap())).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
        }
        6 => drop(fs::rename(&path, tree.join(name(random)))),
        _ => create(tree, random),
    }
}

fn case(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let trial = Trial::new();
    let tree = trial.tree();
    for _ in 0..random.usize(3..25) {
        create(&tree, &mut random);
    }
    let settings = Settings::new(&mut random);
    for orphan in ["orphan", "gone/x", "a/orphan", ".aws-datasync/state", "temp/x.tmp"] {
        if random.bool() {
            trial.s3.put("site", &format!("www/{orphan}"), "o", Seed::aged(Duration::from_mins(15)));
        }
    }
    for turn in 0..4 {
        let is_direct_sync = |turn: u64| (turn + seed).is_multiple_of(2);
        if is_direct_sync(turn) {
            let run = trial.datasync(&settings.options()).expect(0);
            run.assert_adds_up();
        } else {
            // The next direct sync re-reads objects that are younger than their files by less than the margin.
            thread::sleep(Duration::from_millis(3_200));
            settings.datasync(&tree, &trial.s3).run().unwrap();
        }
        let again = settings.datasync(&tree, &trial.s3).run().unwrap();
        assert!(again.is_nothing(), "seed {seed}, turn {turn}: left for DataSync: {again:?}");
        trial.s3.clear_log();
        let run = trial.datasync(&settings.options()).expect(0);
        assert_eq!(
            trial.count(WRITES),
            0,
            "seed {seed}, turn {turn}: left for the direct sync: {}",
            run.report["counts"]
        );
        // In later turns a file may be touched and equal, and only a read shows that.
        assert!(turn > 0 || trial.count(READS) == 0, "seed {seed}: a run with nothing to do reads single objects");
        for _ in 0..random.usize(..8) {
            edit(&tree, &mut random, is_direct_sync(turn + 1));
        }
    }
}

#[test]
fn direct_sync_and_datasync_leave_each_other_nothing() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let first = number("EFS2S3_EQUIVALENCE_SEED", 1);
    let seeds: Vec<u64> = (first..first + number("EFS2S3_EQUIVALENCE_CASES", CASES)).collect();
    for seeds in seeds.chunks(PARALLEL) {
        thread::scope(|scope| {
            for seed in seeds {
                scope.spawn(|| case(*seed));
            }
        });
    }
}
