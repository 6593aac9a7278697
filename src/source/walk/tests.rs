//! The walk on real trees. `tests/odd.rs` has file systems that misbehave.

mod odd;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::gauge::Gauge;
use super::*;
use crate::filter::Filter;
use crate::key::RelativeKey;
use crate::key_range::KeyRange;
use crate::source::entry::{Cover, EntryKind, Found, Nameless, SkipReason, Stat, Unknown};
use crate::source::tree_range::TreeRange;

/// A walk with everything it needs.
pub(super) struct Trial {
    pub(super) options: WalkOptions,
    pub(super) kinds_unknown: bool,
    pub(super) operations: Arc<Operations>,
    pub(super) stop: Arc<AtomicBool>,
    entries_ahead: Arc<Gauge>,
    names_held: Arc<Gauge>,
}

impl Trial {
    pub(super) fn new() -> Self {
        Self {
            options: WalkOptions {
                walkers: 4,
                look_ahead_entries: 1_000,
                batch_entries: 64,
                source_timeout: Duration::from_secs(30),
                warn_after: Duration::from_secs(5),
                links: Links::Follow,
                skip_reserved: false,
                max_key_bytes: 1_024,
                filter: Arc::default(),
                tree_range: Arc::default(),
                mount_points: Arc::default(),
                names_only: false,
            },
            kinds_unknown: false,
            operations: Arc::default(),
            stop: Arc::default(),
            entries_ahead: Arc::default(),
            names_held: Arc::default(),
        }
    }

    fn links(mut self, links: Links) -> Self {
        self.options.links = links;
        self
    }

    fn filter(mut self, include: Option<&str>, exclude: Option<&str>) -> Self {
        self.options.filter = Arc::new(Filter::new(include, exclude).unwrap());
        self
    }

    pub(super) fn start(&self, root: &Path) -> mpsc::Receiver<Vec<Entry>> {
        let root = Arc::new(Root::open(root).unwrap());
        let mut walk = WalkContext::new(root, self.options.clone(), Arc::clone(&self.operations));
        walk.kinds_unknown = self.kinds_unknown;
        walk.entries_ahead = Arc::clone(&self.entries_ahead);
        walk.names_held = Arc::clone(&self.names_held);
        start_with(walk, Arc::clone(&self.stop)).unwrap()
    }

    pub(super) fn walk(&self, root: &Path) -> Vec<Entry> {
        let mut receiver = self.start(root);
        let mut entries = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            assert!(!batch.is_empty() && batch.len() <= self.options.batch_entries + 1);
            entries.extend(batch);
        }
        let keyed: Vec<&RelativeKey> = entries
            .iter()
            .filter(|entry| !matches!(entry.found, Found::Nameless(..)))
            .map(|entry| &entry.key)
            .collect();
        assert!(keyed.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()), "{keyed:?}");
        entries
    }

    /// Readdir, stat and open calls.
    fn calls(&self) -> (u64, u64, u64) {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.operations.readdir), count(&self.operations.stat), count(&self.operations.open))
    }
}

fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        if file.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
    }
    folder
}

pub(super) fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

/// Each key, with a short form of what was found there.
pub(super) fn shown(entries: &[Entry]) -> Vec<String> {
    let short = |entry: &Entry| match &entry.found {
        Found::File(file) if file.through_link => "file through link".to_owned(),
        Found::File(_) => "file".to_owned(),
        Found::Symlink(_) => "symlink".to_owned(),
        Found::Directory(_) => "directory".to_owned(),
        Found::Special => "special".to_owned(),
        Found::Named(kind) => format!("named {kind:?}"),
        Found::Skipped(kind, reason) => format!("skipped {kind:?} {reason:?}"),
        Found::Filtered(kind) => format!("filtered {kind:?}"),
        Found::Failed(kind, problem) => format!("failed {kind:?} {} {}", problem.operation, problem.kind),
        Found::Nameless(kind, Nameless::Failed(problem, _)) => format!("nameless {kind:?} {}", problem.kind),
        Found::Nameless(kind, nameless) => format!("nameless {kind:?} {nameless:?}"),
        Found::Unknown(_, unknown) => format!("unknown {unknown:?}"),
        Found::Unread { below, problem } => format!("unknown below {below:?}: {} {}", problem.operation, problem.kind),
    };
    entries.iter().map(|entry| format!("{}: {}", entry.key.as_str().escape_debug(), short(entry))).collect()
}

#[test]
fn the_order_is_the_byte_order_of_keys_at_every_depth() {
    let names = [
        "a!",
        "a-b/x",
        "a.txt",
        "a/x",
        "a0",
        "aB",
        "aa",
        "é",
        "😀",
        "\u{e000}",
        "\u{10000}",
        "\u{1}",
        "\t",
        "\n",
        " ",
        "~",
        "\u{7f}",
        "a b/c",
        "a+b",
        "a%2Fb",
    ];
    let deep: Vec<String> = ["", "a/", "deep/b/", "deep/b!/"]
        .iter()
        .flat_map(|folder| names.iter().map(move |name| format!("{folder}{name}")))
        .collect();
    let folder = tree(&deep.iter().map(String::as_str).collect::<Vec<_>>());
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for path in &deep {
        expected.insert(path.clone());
        expected.extend(path.match_indices('/').map(|(at, _)| path[..=at].to_owned()));
    }
    for kinds_unknown in [false, true] {
        let entries = Trial { kinds_unknown, ..Trial::new() }.walk(folder.path());
        assert_eq!(keys(&entries), expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// A random tree of few names, so that keys are neighbours at all depths.
fn tree_of_neighbours(random: &mut fastrand::Rng) -> tempfile::TempDir {
    let names = ["a", "a!", "a-b", "a.txt", "a0", "b", "é"];
    let mut paths: Vec<String> = vec![String::new()];
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..40 {
        let below = random.choice(&paths).unwrap().clone();
        let path = format!("{below}{}", random.choice(&names).unwrap());
        if folder.path().join(&path).symlink_metadata().is_ok() {
            continue;
        }
        match random.u8(..10) {
            0..4 => {
                fs::create_dir(folder.path().join(&path)).unwrap();
                paths.push(path + "/");
            }
            4 => std::os::unix::fs::symlink(folder.path(), folder.path().join(&path)).unwrap(),
            _ => fs::write(folder.path().join(&path), &path).unwrap(),
        }
    }
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap();
    folder
}

#[test]
fn ranges_that_follow_one_another_see_each_entry_once_and_in_order() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tree_of_neighbours(&mut random);
        let kinds_unknown = random.bool();
        let links = *random.choice(&[Links::Keep, Links::Skip, Links::Follow]).unwrap();
        let trial = Trial { kinds_unknown, ..Trial::new() }.links(links).filter(None, Some("/b/a|*.txt"));
        let whole = trial.walk(folder.path());
        // Bounds that are keys, and bounds that are not.
        let mut bounds: BTreeSet<String> = BTreeSet::new();
        for _ in 0..random.usize(..6) {
            let key = &random.choice(&whole).unwrap().key;
            let bound =
                [key.to_string(), format!("{key}0"), key.as_str().trim_end_matches('/').to_owned(), format!("{key}/a")];
            bounds.insert(random.choice(&bound).unwrap().clone());
        }
        let mut seen: Vec<Entry> = Vec::new();
        let mut after = String::new();
        for to in bounds.iter().chain([&String::new()]) {
            let keys = KeyRange::new(
                RelativeKey::new(std::mem::replace(&mut after, to.clone())),
                RelativeKey::new(to.as_str()),
            )
            .unwrap();
            let mut trial = Trial { kinds_unknown, ..Trial::new() }.links(links).filter(None, Some("/b/a|*.txt"));
            trial.options.tree_range = Arc::new(TreeRange::of(keys.clone()));
            let (within, covers): (Vec<Entry>, Vec<Entry>) = trial
                .walk(folder.path())
                .into_iter()
                .partition(|entry| keys.contains(entry.key.as_bytes()) || matches!(entry.found, Found::Nameless(..)));
            assert!(covers.iter().all(|entry| entry.found.coverage(&entry.key).is_some()), "{covers:?}");
            seen.extend(within);
        }
        assert_eq!(shown(&seen), shown(&whole), "seed {seed}, bounds {bounds:?}");
    }
}

#[test]
fn a_range_stats_only_its_names_and_the_directories_above() {
    let files: Vec<String> =
        (0..3).flat_map(|folder| (0..50).map(move |file| format!("d{folder}/f{file:02}"))).collect();
    let folder = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let mut trial = Trial::new();
    trial.options.tree_range =
        Arc::new(TreeRange::of(KeyRange::new(RelativeKey::new("d1/f09"), RelativeKey::new("d1/f29")).unwrap()));
    assert_eq!(trial.walk(folder.path()).len(), 20);
    // The root, d1, and the files; the root and d1 are read.
    assert_eq!(trial.calls(), (2, 22, 2));
    let mut all = Trial::new();
    all.options.tree_range =
        Arc::new(TreeRange::of(KeyRange::new(RelativeKey::new("d"), RelativeKey::new("e")).unwrap()));
    assert_eq!(all.walk(folder.path()).len(), 153);
}

#[test]
fn a_walk_of_names_stats_directories_and_no_files() {
    let files: Vec<String> =
        (0..3).flat_map(|folder| (0..50).map(move |file| format!("d{folder}/f{file:02}"))).collect();
    let folder = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let mut trial = Trial::new();
    trial.options.names_only = true;
    let entries = trial.walk(folder.path());
    assert_eq!(entries.iter().filter(|entry| entry.found == Found::Named(EntryKind::File)).count(), 150);
    assert_eq!(trial.calls(), (4, 4, 4));
}

#[test]
fn an_empty_source_has_no_entries() {
    let folder = tree(&[]);
    assert!(Trial::new().walk(folder.path()).is_empty());
}

#[test]
fn the_source_may_be_a_link() {
    let folder = tree(&["real/a/b"]);
    symlink("real", folder.path().join("current")).unwrap();
    let entries = Trial::new().walk(&folder.path().join("current"));
    assert_eq!(shown(&entries), ["a/: directory", "a/b: file"]);
}

fn random_tree() -> impl Strategy<Value = Vec<String>> {
    let name = prop_oneof!["[a-b.!0-]{1,3}", "[aé😀\u{e000}\u{10000}]{1,2}", Just("x y".to_owned())]
        .prop_filter("no such name", |name| name != "." && name != "..");
    let path = prop::collection::vec(name, 1..5).prop_map(|names| names.join("/"));
    prop::collection::vec((path, any::<bool>()), 0..40)
        .prop_map(|paths| paths.into_iter().map(|(path, folder)| if folder { path + "/" } else { path }).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn random_trees_come_as_a_sorted_list_of_all_paths(
        paths in random_tree(), walkers in 1_usize..6, look_ahead in 0_usize..20, batch in 1_usize..5, kinds_unknown: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for path in &paths {
            let full = folder.path().join(path);
            // If a file and a directory have the same path, the first one stays.
            if path.ends_with('/') {
                let _ = fs::create_dir_all(full);
            } else if fs::create_dir_all(full.parent().unwrap()).is_ok() {
                let _ = fs::write(full, "");
            }
        }
        let mut expected: Vec<String> = walkdir::WalkDir::new(folder.path())
            .min_depth(1)
            .into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
                if entry.file_type().is_dir() { path + "/" } else { path }
            })
            .collect();
        expected.sort();
        let mut trial = Trial { kinds_unknown, ..Trial::new() };
        trial.options.walkers = walkers;
        trial.options.look_ahead_entries = look_ahead;
        trial.options.batch_entries = batch;
        let entries = trial.walk(folder.path());
        prop_assert_eq!(keys(&entries), expected.iter().map(String::as_str).collect::<Vec<_>>());
        let directories = u64::try_from(expected.iter().filter(|key| key.ends_with('/')).count()).unwrap() + 1;
        let all = u64::try_from(expected.len()).unwrap() + 1;
        prop_assert_eq!(trial.calls(), (directories, all, directories));
    }
}

#[test]
fn one_stat_an_entry_even_where_kinds_are_unknown() {
    let folder = tree(&["a/x", "a.txt", "a-b/y", "b", "b.txt", "c", "d/e/f"]);
    for kinds_unknown in [false, true] {
        let trial = Trial { kinds_unknown, ..Trial::new() };
        let entries = trial.walk(folder.path());
        assert_eq!(keys(&entries), ["a-b/", "a-b/y", "a.txt", "a/", "a/x", "b", "b.txt", "c", "d/", "d/e/", "d/e/f"]);
        // Five directories with the root, eleven entries and the root.
        assert_eq!(trial.calls(), (5, 12, 5));
    }
}

#[test]
fn a_stat_has_the_values_of_the_file_system() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tree(&["a"]);
    let old = std::time::UNIX_EPOCH - Duration::new(86_400, 1);
    let file = fs::File::options().write(true).open(folder.path().join("a")).unwrap();
    file.set_modified(old).unwrap();
    let metadata = file.metadata().unwrap();
    let entries = Trial::new().walk(folder.path());
    let Found::File(found) = entries[0].found else { panic!("{entries:?}") };
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    assert_eq!(found.stat.size_bytes, 1);
    assert_eq!(found.stat.mtime.0, -86_400_000_000_001);
    assert_eq!(found.stat.ctime.0, nanos(metadata.ctime(), metadata.ctime_nsec()));
    assert_eq!((found.stat.mode, found.stat.uid, found.stat.gid), (metadata.mode(), metadata.uid(), metadata.gid()));
    assert_eq!(found.stat.inode, (metadata.dev(), metadata.ino()));
    assert!(!found.through_link);
}

#[test]
fn a_directory_of_100_000_files_is_walked_within_the_look_ahead() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100_000 {
        fs::write(folder.path().join(format!("file-{number:06}")), "").unwrap();
    }
    let trial = Trial::new();
    let entries = trial.walk(folder.path());
    assert_eq!(entries.len(), 100_000);
    assert_eq!(trial.calls().1, 100_001);
    assert_eq!(trial.calls().2, 1);
    assert!(trial.entries_ahead.peak() <= 1_000 + 2 * 256, "{}", trial.entries_ahead.peak());
    assert_eq!((trial.entries_ahead.now(), trial.names_held.now()), (0, 0));
}

#[test]
fn a_hundred_thousand_empty_directories_are_walked() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100_000 {
        fs::create_dir(folder.path().join(number.to_string())).unwrap();
    }
    let trial = Trial::new();
    let entries = trial.walk(folder.path());
    assert_eq!(entries.len(), 100_000);
    assert_eq!(trial.calls().1, 100_001);
    assert!(trial.entries_ahead.peak() <= 1_000 + 2 * 256, "{}", trial.entries_ahead.peak());
}

#[test]
fn two_hundred_levels_are_walked() {
    let folder = tempfile::tempdir().unwrap();
    let deepest = "d/".repeat(200);
    fs::create_dir_all(folder.path().join(&deepest)).unwrap();
    fs::write(folder.path().join(&deepest).join("f"), "").unwrap();
    let entries = Trial::new().walk(folder.path());
    assert_eq!(entries.len(), 201);
    assert_eq!(entries[200].key.as_str(), deepest + "f");
}

#[test]
fn memory_is_bounded_by_the_look_ahead() {
    let folder = tempfile::tempdir().unwrap();
    for directory in 0..20 {
        let directory = folder.path().join(format!("d{directory:02}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..1_000 {
            fs::write(directory.join(format!("{file}")), "").unwrap();
        }
    }
    let mut trial = Trial::new();
    trial.options.look_ahead_entries = 300;
    let mut receiver = trial.start(folder.path());
    // The receiver starts late: the walk stops at its bounds.
    let deadline = Instant::now() + Duration::from_mins(1);
    while trial.entries_ahead.peak() < 300 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Less may be ahead now: the emitter goes on until the channel is full.
    assert!(trial.entries_ahead.peak() >= 300, "{}", trial.entries_ahead.peak());
    // It would go on now if it could.
    std::thread::sleep(Duration::from_millis(500));
    let mut count = 0;
    while let Some(batch) = receiver.blocking_recv() {
        count += batch.len();
    }
    assert_eq!(count, 20_020);
    assert!(trial.entries_ahead.peak() <= 300 + 2 * 256, "{}", trial.entries_ahead.peak());
    // Each walker may have started a directory before the walk reached the bound.
    assert!(trial.names_held.peak() <= 4 * 300 + 4 * 1_000 + 20, "{}", trial.names_held.peak());
    assert_eq!((trial.entries_ahead.now(), trial.names_held.now()), (0, 0));
}

#[test]
fn links_are_followed_to_files_and_directories_in_and_out_of_the_tree() {
    let outside = tree(&["out/x", "out/sub/y"]);
    let folder = tree(&["real/f", "z"]);
    let link = |to: &Path, name: &str| symlink(to, folder.path().join(name)).unwrap();
    link(Path::new("z"), "file-link");
    link(Path::new("real"), "dir-link");
    link(&outside.path().join("out"), "out-link");
    link(Path::new("nowhere"), "broken");
    link(Path::new("circle"), "circle");
    link(Path::new("z/below-a-file"), "broken-too");
    for kinds_unknown in [false, true] {
        let trial = Trial { kinds_unknown, ..Trial::new() };
        assert_eq!(
            shown(&trial.walk(folder.path())),
            [
                "broken: unknown BrokenLink",
                "broken-too: unknown BrokenLink",
                "circle: unknown BrokenLink",
                "dir-link/: directory",
                "dir-link/f: file through link",
                "file-link: file through link",
                "out-link/: directory",
                "out-link/sub/: directory",
                "out-link/sub/y: file through link",
                "out-link/x: file through link",
                "real/: directory",
                "real/f: file",
                "z: file",
            ]
        );
    }
}

#[test]
fn a_followed_link_to_a_directory_sorts_as_a_directory() {
    let folder = tree(&["real/f", "l.txt", "l-"]);
    symlink("real", folder.path().join("l")).unwrap();
    let trial = Trial::new();
    assert_eq!(keys(&trial.walk(folder.path())), ["l-", "l.txt", "l/", "l/f", "real/", "real/f"]);
    // The root, two files, two directories, a file in each, and the link itself.
    assert_eq!(trial.calls().1, 8);
}

#[test]
fn link_loops_end_where_they_close() {
    let outside = tree(&["far/x"]);
    let folder = tree(&["a/b/c"]);
    symlink("..", folder.path().join("a/b/up")).unwrap();
    symlink(folder.path(), folder.path().join("a/root")).unwrap();
    symlink(".", folder.path().join("self")).unwrap();
    symlink(outside.path().join("far"), folder.path().join("far")).unwrap();
    symlink(outside.path().join("far"), outside.path().join("far/again")).unwrap();
    assert_eq!(
        shown(&Trial::new().walk(folder.path())),
        [
            "a/: directory",
            "a/b/: directory",
            "a/b/c: file",
            "a/b/up: unknown LinkLoop",
            "a/root: unknown LinkLoop",
            "far/: directory",
            "far/again: unknown LinkLoop",
            "far/x: file through link",
            "self: unknown LinkLoop",
        ]
    );
}

#[test]
fn links_that_are_not_followed_cost_no_stat() {
    let folder = tree(&["real/f"]);
    symlink("real", folder.path().join("l")).unwrap();
    symlink("nowhere", folder.path().join("broken")).unwrap();
    let trial = Trial::new().links(Links::Skip);
    let expected = [
        "broken: skipped Symlink LinkNotFollowed",
        "l: skipped Symlink LinkNotFollowed",
        "real/: directory",
        "real/f: file",
    ];
    assert_eq!(shown(&trial.walk(folder.path())), expected);
    assert_eq!(trial.calls().1, 3);
    let unknown = Trial { kinds_unknown: true, ..Trial::new().links(Links::Skip) };
    assert_eq!(shown(&unknown.walk(folder.path())), expected);
}

#[test]
fn files_inherit_the_ctime_of_a_moved_directory_and_of_a_followed_link() {
    let folder = tree(&["site.new/sub/old", "plain/f"]);
    std::thread::sleep(Duration::from_millis(20));
    fs::rename(folder.path().join("site.new"), folder.path().join("site")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    symlink("plain", folder.path().join("current")).unwrap();
    let entries = Trial::new().walk(folder.path());
    let file = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key.as_str() == key).unwrap();
        let Found::File(file) = entry.found else { panic!("{entry:?}") };
        file
    };
    let directory = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key.as_str() == key).unwrap();
        let Found::Directory(directory) = entry.found else { panic!("{entry:?}") };
        directory.stat
    };
    assert!(directory("site/").ctime > directory("site/").mtime);
    assert_eq!(file("site/sub/old").effective_ctime, directory("site/").ctime);
    assert!(file("site/sub/old").effective_ctime > file("site/sub/old").stat.ctime);
    assert_eq!(file("plain/f").effective_ctime, file("plain/f").stat.ctime);
    assert!(file("current/f").effective_ctime > file("plain/f").stat.ctime);
    let seen_at = file("plain/f").stat.seen_at;
    assert_eq!(Stat { seen_at, ..file("current/f").stat }, file("plain/f").stat);
}

#[test]
fn specials_are_never_opened_nor_followed_into() {
    let folder = tree(&["f"]);
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    symlink("fifo", folder.path().join("to-fifo")).unwrap();
    for kinds_unknown in [false, true] {
        let trial = Trial { kinds_unknown, ..Trial::new() };
        assert_eq!(
            shown(&trial.walk(folder.path())),
            ["f: file", "fifo: special", "socket: special", "to-fifo: special"]
        );
        assert_eq!(trial.calls().2, 1);
    }
}

#[test]
fn hard_links_are_files_of_their_own() {
    let folder = tree(&["a"]);
    fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
    assert_eq!(shown(&Trial::new().walk(folder.path())), ["a: file", "b: file"]);
}

#[test]
fn a_name_that_is_not_utf8_is_shown_escaped() {
    let folder = tree(&["a", "z", "é"]);
    let path = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
    fs::write(path(b"caf\xe9.txt"), "").unwrap();
    fs::create_dir(path(b"dir\xff")).unwrap();
    fs::write(path(b"dir\xff/inside"), "").unwrap();
    fs::write(path(b"\xff"), "").unwrap();
    let trial = Trial::new();
    assert_eq!(
        shown(&trial.walk(folder.path())),
        [
            "a: file",
            r"caf\\xe9.txt: nameless File not_utf8",
            r"dir\\xff/: nameless Directory not_utf8",
            "z: file",
            "é: file",
            r"\\xff: nameless File not_utf8",
        ]
    );
    // The root and three files; only the root is opened.
    assert_eq!(trial.calls(), (1, 4, 1));
}

#[test]
fn the_rules_come_before_a_name_that_is_not_utf8() {
    let folder = tree(&["a", "target/", "z"]);
    let path = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
    fs::write(path(b"caf\xe9.bak"), "").unwrap();
    fs::create_dir(path(b"dir\xff.bak")).unwrap();
    fs::write(path(b"dir\xff.bak/inside"), "").unwrap();
    fs::create_dir(path(b"\xff.snapshot")).unwrap();
    std::os::unix::net::UnixListener::bind(path(b"socket\xff")).unwrap();
    std::os::unix::fs::symlink("nowhere", path(b"broken\xff")).unwrap();
    std::os::unix::fs::symlink(".", path(b"up\xff")).unwrap();
    std::os::unix::fs::symlink("target", path(b"link\xff")).unwrap();
    std::os::unix::fs::symlink("a", path(b"link\xff.bak")).unwrap();
    let same = |trial: &Trial| {
        let mut lines = shown(&trial.walk(folder.path()));
        lines.retain(|line| line.contains("nameless"));
        lines.sort();
        lines
    };
    for kinds_unknown in [false, true] {
        let trial = |links| {
            let mut trial = Trial { kinds_unknown, ..Trial::new() }.links(links).filter(None, Some("*.bak"));
            trial.options.skip_reserved = true;
            trial
        };
        let always = [
            r"\\xff.snapshot/: nameless Directory Skipped(ReservedPath)",
            r"caf\\xe9.bak: nameless File Filtered",
            r"dir\\xff.bak/: nameless Directory Filtered",
            r"link\\xff.bak: nameless Symlink Filtered",
            r"socket\\xff: nameless Special Special",
        ];
        for (links, others) in [
            (
                Links::Follow,
                [
                    r"broken\\xff: nameless Symlink Skipped(BrokenLink)",
                    r"link\\xff: nameless Symlink not_utf8",
                    r"up\\xff: nameless Symlink Skipped(LinkLoop)",
                ],
            ),
            (
                Links::Keep,
                [
                    r"broken\\xff: nameless Symlink not_utf8",
                    r"link\\xff: nameless Symlink not_utf8",
                    r"up\\xff: nameless Symlink not_utf8",
                ],
            ),
            (
                Links::Skip,
                [
                    r"broken\\xff: nameless Symlink Skipped(LinkNotFollowed)",
                    r"link\\xff: nameless Symlink Skipped(LinkNotFollowed)",
                    r"up\\xff: nameless Symlink Skipped(LinkNotFollowed)",
                ],
            ),
        ] {
            let mut expected = [&always[..], &others].concat();
            expected.sort_unstable();
            assert_eq!(same(&trial(links)), expected, "{links:?}, kinds unknown: {kinds_unknown}");
        }
        let included = Trial { kinds_unknown, ..Trial::new() }.filter(Some("/caf*|/dir*"), None);
        let failed: Vec<String> = same(&included).into_iter().filter(|line| line.ends_with("not_utf8")).collect();
        let expected = [r"caf\\xe9.bak: nameless File not_utf8", r"dir\\xff.bak/: nameless Directory not_utf8"];
        assert_eq!(failed, expected, "kinds unknown: {kinds_unknown}");
    }
}

#[test]
fn a_key_may_have_the_maximum_length() {
    let folder = tree(&["dd/12345", "dd/123456", "dd/1234567", "1234567/x", "12345678/x", "é23456"]);
    let mut trial = Trial::new();
    trial.options.max_key_bytes = 9;
    let entries = trial.walk(folder.path());
    assert_eq!(
        shown(&entries),
        [
            "1234567/: directory",
            "1234567/x: file",
            "12345678/: failed Directory name key_too_long",
            "dd/: directory",
            "dd/12345: file",
            "dd/123456: file",
            "dd/1234567: failed File name key_too_long",
            "é23456: file",
        ]
    );
    let Found::Failed(_, problem) = &entries[6].found else { panic!() };
    assert!(problem.message.contains("10 bytes") && problem.message.contains("only 9 fit"), "{}", problem.message);
}

#[test]
fn nfs_leftovers_are_skipped_without_a_stat() {
    let folder = tree(&[".nfs00000000021400c300000001", ".nfs0123456", ".nfsxyz12345678", ".nfs0123456789/f"]);
    let trial = Trial::new();
    assert_eq!(
        shown(&trial.walk(folder.path())),
        [
            ".nfs00000000021400c300000001: skipped File NfsLeftover",
            ".nfs0123456: file",
            ".nfs0123456789/: directory",
            ".nfs0123456789/f: file",
            ".nfsxyz12345678: file",
        ]
    );
    assert_eq!(trial.calls().1, 5);
}

#[test]
fn an_excluded_directory_is_neither_walked_nor_statted() {
    let folder = tree(&["a/f", "cache/x/y", "b.tmp", "b/cache/z", "b/keep"]);
    symlink("a", folder.path().join("cache-link")).unwrap();
    let trial = Trial::new().filter(None, Some("*/cache|*.tmp|/cache-link"));
    assert_eq!(
        shown(&trial.walk(folder.path())),
        [
            "a/: directory",
            "a/f: file",
            "b.tmp: filtered File",
            "b/: directory",
            "b/cache/: filtered Directory",
            "b/keep: file",
            "cache-link: filtered Symlink",
            "cache/: filtered Directory",
        ]
    );
    assert_eq!(trial.calls(), (3, 5, 3));
}

#[test]
fn a_directory_outside_the_includes_is_walked_for_what_may_be_below() {
    let folder = tree(&["a/b/c", "a/d/e", "a/f", "g/h", "i"]);
    symlink("a", folder.path().join("link")).unwrap();
    let trial = Trial::new().filter(Some("/a/b|/link/b"), None);
    assert_eq!(
        shown(&trial.walk(folder.path())),
        [
            "a/: directory",
            "a/b/: directory",
            "a/b/c: file",
            "a/d/: filtered Directory",
            "a/f: filtered File",
            "g/: filtered Directory",
            "i: filtered File",
            "link/: directory",
            "link/b/: directory",
            "link/b/c: file through link",
            "link/d/: filtered Directory",
            "link/f: filtered File",
        ]
    );
}

#[test]
fn a_stopped_walk_ends_with_an_unknown_root() {
    let names: Vec<String> = (0..5_000).map(|number| format!("{number:04}")).collect();
    let folder = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let trial = Trial::new();
    let mut receiver = trial.start(folder.path());
    let mut entries = receiver.blocking_recv().unwrap();
    trial.stop.store(true, Ordering::Relaxed);
    while let Some(batch) = receiver.blocking_recv() {
        entries.extend(batch);
    }
    assert!(entries.len() < 1_000, "{}", entries.len());
    let last = entries.last().unwrap();
    assert!(matches!(&last.found, Found::Unread { below, .. } if below.is_empty()), "{last:?}");
    assert!(entries.is_sorted_by(|a, b| a.key < b.key));
}

#[test]
fn dropping_the_receiver_ends_the_walk() {
    let names: Vec<String> = (0..5_000).map(|number| format!("{number:04}/f")).collect();
    let folder = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let trial = Trial::new();
    drop(trial.start(folder.path()));
    let deadline = Instant::now() + Duration::from_mins(1);
    // The last thread of the walk drops its context, one field after the other.
    while Arc::strong_count(&trial.operations) > 1 || (trial.entries_ahead.now(), trial.names_held.now()) != (0, 0) {
        assert!(Instant::now() < deadline, "{} entries are held", trial.entries_ahead.now());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn files_that_come_and_go_during_the_walk_are_never_an_error() {
    let names: Vec<String> = (0..2_000).map(|number| format!("d{}/{number:04}", number % 20)).collect();
    let folder = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (done, path) = (Arc::clone(&done), folder.path().to_owned());
        std::thread::spawn(move || {
            for number in (0..2_000).cycle() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let path = path.join(format!("d{}/{number:04}", number % 20));
                if fs::remove_file(&path).is_ok() {
                    fs::create_dir(&path).unwrap();
                } else if fs::remove_dir(&path).is_ok() {
                    symlink("nowhere", &path).unwrap();
                    fs::remove_file(&path).unwrap();
                } else {
                    fs::write(&path, "").unwrap();
                }
            }
        })
    };
    for links in [Links::Follow, Links::Skip] {
        for entry in Trial::new().links(links).walk(folder.path()) {
            assert!(
                matches!(
                    entry.found,
                    Found::File(_)
                        | Found::Directory(_)
                        | Found::Unknown(_, Unknown::BrokenLink)
                        | Found::Skipped(_, SkipReason::Vanished | SkipReason::LinkNotFollowed)
                ),
                "{entry:?}"
            );
        }
    }
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn more_links_on_a_path_than_the_system_follows_are_unknown() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..45 {
        let directory = folder.path().join(format!("pool/{number}"));
        fs::create_dir_all(&directory).unwrap();
        symlink(format!("../{}", number + 1), directory.join("l")).unwrap();
        symlink("../0/f", directory.join("g")).unwrap();
    }
    fs::write(folder.path().join("pool/0/f"), "x").unwrap();
    let followed = ["l"; 40].join("/");
    let entries = shown(&Trial::new().walk(&folder.path().join("pool/0")));
    assert_eq!(entries.iter().filter(|entry| entry.ends_with("l/: directory")).count(), 40);
    for name in ["g", "l"] {
        let unknown = format!("{followed}/{name}: unknown TooManyLinks");
        assert_eq!(
            entries.iter().filter(|entry| entry.contains("unknown")).filter(|entry| **entry == unknown).count(),
            1
        );
    }

    let folder = tempfile::tempdir().unwrap();
    for number in 0..60 {
        symlink(format!("{}", number + 1), folder.path().join(format!("{number}"))).unwrap();
    }
    fs::write(folder.path().join("60"), "x").unwrap();
    let entries = shown(&Trial::new().walk(folder.path()));
    assert!(entries.contains(&"19: unknown TooManyLinks".to_owned()), "41 links to a file: {entries:?}");
    assert!(entries.contains(&"20: file through link".to_owned()), "40 links to a file: {entries:?}");
    assert_eq!(entries.iter().filter(|entry| entry.contains("unknown")).count(), 20, "none of them is a loop");
}

#[test]
fn a_source_that_is_removed_is_unknown_and_not_empty() {
    let folder = tree(&["source/"]);
    let root = Arc::new(Root::open(&folder.path().join("source")).unwrap());
    fs::remove_dir(folder.path().join("source")).unwrap();
    let trial = Trial::new();
    let mut receiver = start(root, trial.options.clone(), Arc::default(), Arc::default()).unwrap();
    let entries = receiver.blocking_recv().unwrap();
    assert_eq!(entries.len(), 1);
    assert!(matches!(&entries[0].found, Found::Unread { below, .. } if below.is_empty()), "{entries:?}");
    let coverage = entries[0].found.coverage(&entries[0].key).unwrap();
    assert_eq!((coverage.cover, coverage.below.as_deref()), (Cover::Unread, Some("")));
    assert_eq!(receiver.blocking_recv(), None);
}
