//! Random trees, edits and faults: each report is true, and a run without faults repairs everything.
//!
//! The seed of a case determines its mode, whether it has a state, the dialect of its server, its tree, edits and troubles.
//! A few cases run the program. Most run the same pipeline within this process, where dropping a run kills it. Those mostly
//! wait for files to settle, so hundreds of them run in parallel.
//!
//! `EFS2S3_PROPERTY_CASES` is the number of cases, and `EFS2S3_PROPERTY_SEED` is the seed of the first one. To repeat a case
//! that failed, set its seed and one case. `EFS2S3_PROPERTY_SHRINKS` is the number of smaller versions of it to try.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use fake_aws::s3::{ConditionalWrites, Fault, ListingDialect, Operation, Rule, Seed};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::trial::{FinishedRun, Trial, WRITES};
use crate::within;

/// Cases that run the program, one process for each run.
const CASES: u64 = 6;
const PARALLEL: usize = 6;
const CASES_WITHIN: u64 = 500;
const PARALLEL_WITHIN: usize = 250;
const DELETES: [Operation; 2] = [Operation::DeleteObject, Operation::DeleteObjects];
const OPTIONS: [&str; 14] = [
    "--walkers",
    "2",
    "--lease-ttl",
    "1s",
    "--delete",
    "--max-delete",
    "100%",
    "--allow-empty-source",
    "--retries",
    "2",
    "--part-size",
    "5MiB",
    "--multipart-threshold",
    "5MiB",
];
/// Awkward in their order or their bytes. They are few, so that edits often meet the same name.
const NAMES: [&str; 14] =
    ["a", "a-b", "a.b", "a b", "a+b", "a%2Bb", "a!", "a0", "é", "\u{e000}", "😀", "\"'&<?#=*[\\", "\u{1}\r\n", " ~ "];
const SIZES: [usize; 6] = [0, 1, 8, 8, 1000, (5 << 20) + 1];

/// How many of the names one story uses.
const NAMES_PER_STORY: usize = 5;

/// Two directories that exist at first, each with a file of the same name and size.
const ALIKE: [usize; 2] = [0, 2];

/// A path, as indices into the names of the story.
type Names = Vec<usize>;

#[derive(Clone, Debug)]
enum Edit {
    /// Creates or overwrites a file, with one of the [`SIZES`].
    Write(Names, usize),
    /// Overwrites a file with content of the same size. Then sets the mtime to what it was, or to an hour ago.
    Rewrite(usize, Option<bool>),
    /// Removes a file, a link or a whole directory.
    Remove(usize),
    Rename(usize, Names),
    /// Swaps the two directories that have equal names and sizes below them.
    SwapAlike,
    Chmod(usize, bool),
    /// Creates a link to a path in the tree (relative or absolute), or to nothing.
    Link(Names, Option<usize>, bool),
    HardLink(usize, Names),
}

#[derive(Clone, Debug)]
enum Trouble {
    /// This many uploads fail.
    Puts(Fault, u64),
    /// Every upload of a key with this name fails.
    PutsOf(usize, Fault),
    /// This many requests of multipart uploads fail.
    Parts(Fault, u64),
    /// After this many listings, this many fail.
    Lists(u64, Fault, u64),
    /// This many deletes fail.
    Deletes(Fault, u64),
    /// A writer rewrites a file when the first upload starts.
    ConcurrentRewrite(usize),
    /// The run gets this signal after this many ms.
    Stop(&'static str, u64),
}

#[derive(Clone, Debug)]
struct Round {
    edits: Vec<Edit>,
    troubles: Vec<Trouble>,
}

#[derive(Clone, Debug)]
struct Story {
    mode: &'static str,
    with_state: bool,
    first_name: usize,
    seeds: Vec<(Names, usize, Option<usize>)>,
    conditional_writes: ConditionalWrites,
    listing: ListingDialect,
    kms: bool,
    page_size: usize,
    rounds: Vec<Round>,
}

// --- random stories ---

fn names() -> impl Strategy<Value = Names> {
    prop::collection::vec(0..NAMES_PER_STORY, 1..=3)
}

fn edit() -> impl Strategy<Value = Edit> {
    let pick = || any::<u16>().prop_map(usize::from);
    let size = prop_oneof![20 => 0..SIZES.len() - 1, 1 => Just(SIZES.len() - 1)];
    prop_oneof![
        6 => (names(), size).prop_map(|(names, size)| Edit::Write(names, size)),
        4 => (pick(), any::<Option<bool>>()).prop_map(|(pick, back)| Edit::Rewrite(pick, back)),
        2 => pick().prop_map(Edit::Remove),
        3 => (pick(), names()).prop_map(|(pick, names)| Edit::Rename(pick, names)),
        3 => Just(Edit::SwapAlike),
        1 => (pick(), any::<bool>()).prop_map(|(pick, tight)| Edit::Chmod(pick, tight)),
        1 => (names(), prop::option::weighted(0.8, pick()), any::<bool>())
            .prop_map(|(names, target, absolute)| Edit::Link(names, target, absolute)),
        1 => (pick(), names()).prop_map(|(pick, names)| Edit::HardLink(pick, names)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop::sample::select(vec![
        Fault::status(500, "InternalError"),
        Fault::status(503, "SlowDown"),
        Fault::status(403, "AccessDenied"),
        Fault::status(400, "InvalidRequest"),
        Fault::ErrorInside200("InternalError"),
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::TruncatedBody,
        Fault::CorruptBody,
        Fault::WrongEtag,
    ])
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let backwards = Fault::page(|mut keys, more| {
        keys.reverse();
        (keys, more)
    });
    let listing = prop_oneof![3 => fault(), 1 => Just(backwards)];
    prop_oneof![
        4 => (fault(), 1..5_u64).prop_map(|(fault, times)| Trouble::Puts(fault, times)),
        3 => (0..NAMES_PER_STORY, fault()).prop_map(|(name, fault)| Trouble::PutsOf(name, fault)),
        1 => (fault(), 1..5_u64).prop_map(|(fault, times)| Trouble::Parts(fault, times)),
        2 => (0..3_u64, listing, 1..6_u64).prop_map(|(skip, fault, times)| Trouble::Lists(skip, fault, times)),
        2 => (fault(), 1..5_u64).prop_map(|(fault, times)| Trouble::Deletes(fault, times)),
        1 => any::<u16>().prop_map(|pick| Trouble::ConcurrentRewrite(pick.into())),
        1 => (prop::sample::select(vec!["-TERM", "-KILL"]), 0..4000_u64)
            .prop_map(|(signal, after)| Trouble::Stop(signal, after)),
    ]
}

fn story() -> impl Strategy<Value = Story> {
    let round = (prop::collection::vec(edit(), 0..8), prop::collection::vec(trouble(), 0..3));
    let round = round.prop_map(|(edits, troubles)| Round { edits, troubles });
    let conditional = vec![
        ConditionalWrites::On,
        ConditionalWrites::On,
        ConditionalWrites::Ignored,
        ConditionalWrites::NotImplemented,
    ];
    let listing = vec![ListingDialect::S3, ListingDialect::Percent];
    (
        (prop::sample::select(vec!["plain", "datasync"]), any::<bool>(), 0..NAMES.len()),
        prop::collection::vec((names(), 0..SIZES.len() - 1, prop::option::of(1..9_usize)), 0..6),
        prop::sample::select(conditional),
        prop::sample::select(listing),
        prop::bool::weighted(0.2),
        prop::sample::select(vec![1, 3, 1000]),
        prop::collection::vec(edit(), 4..16),
        prop::collection::vec(round, 1..4),
    )
        .prop_map(
            |(
                (mode, with_state, first_name),
                seeds,
                conditional_writes,
                listing,
                kms,
                page_size,
                edits,
                mut rounds,
            )| {
                let alike = ALIKE.map(|name| Edit::Write(vec![name, 1], 2));
                rounds[0].edits.splice(0..0, alike.into_iter().chain(edits));
                Story { mode, with_state, first_name, seeds, conditional_writes, listing, kms, page_size, rounds }
            },
        )
}

// --- the tree ---

struct World {
    trial: Trial,
    how: How,
    mode: &'static str,
    with_state: bool,
    names: [&'static str; NAMES_PER_STORY],
    /// Makes every content of 8 bytes or more unique.
    version: AtomicU64,
    /// Every content that a key ever had.
    history: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// Device and inode of each directory that was moved.
    moved: BTreeSet<(u64, u64)>,
    /// Whether a run was killed: it records nothing of what it wrote.
    any_killed: bool,
}

/// How a case runs a sync.
#[derive(Clone)]
enum How {
    /// As a process.
    Program,
    /// Within this process.
    Within(tokio::runtime::Handle),
}

/// The expected content of the bucket.
#[derive(Debug, Default)]
struct Expected {
    files: BTreeMap<String, Vec<u8>>,
    /// Broken links and loops. Objects at or below these keys may stay.
    loose_links: BTreeSet<String>,
}

/// The tree and the bucket when a run started.
struct Before {
    expected: Expected,
    names: BTreeSet<String>,
    uploads: usize,
}

impl World {
    fn content(&self, size: usize) -> Vec<u8> {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        version.to_le_bytes().into_iter().cycle().take(size).collect()
    }

    fn path(&self, names: &[usize]) -> PathBuf {
        names.iter().fold(self.trial.tree(), |path, name| path.join(self.names[*name]))
    }

    /// Picks a path in the tree, without following links.
    fn pick(&self, pick: usize) -> Option<PathBuf> {
        let mut all = Vec::new();
        collect(&self.trial.tree(), &mut all);
        all.sort();
        let place = pick.checked_rem(all.len())?;
        Some(all.swap_remove(place))
    }

    fn pick_file(&self, pick: usize) -> Option<PathBuf> {
        let mut all = Vec::new();
        collect(&self.trial.tree(), &mut all);
        all.retain(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()));
        all.sort();
        let place = pick.checked_rem(all.len())?;
        Some(all.swap_remove(place))
    }

    /// Makes the edit. Returns `None` if the tree does not allow it.
    fn edit(&mut self, edit: &Edit) -> Option<()> {
        match edit {
            Edit::Write(names, size) => {
                let path = self.path(names);
                fs::create_dir_all(path.parent()?).ok()?;
                fs::write(path, self.content(SIZES[*size])).ok()
            }
            Edit::Rewrite(pick, back) => {
                let path = self.pick_file(*pick)?;
                let meta = path.metadata().ok()?;
                let before = meta.modified().ok()?;
                fs::write(&path, self.content(usize::try_from(meta.len()).ok()?)).ok()?;
                let time = match back {
                    None => return Some(()),
                    Some(true) => before,
                    Some(false) => SystemTime::now() - Duration::from_hours(1),
                };
                fs::File::options().write(true).open(path).ok()?.set_modified(time).ok()
            }
            Edit::Remove(pick) => {
                let path = self.pick(*pick)?;
                if path.symlink_metadata().ok()?.is_dir() {
                    fs::remove_dir_all(path).ok()
                } else {
                    fs::remove_file(path).ok()
                }
            }
            Edit::Rename(pick, names) => {
                let (from, to) = (self.pick(*pick)?, self.path(names));
                fs::create_dir_all(to.parent()?).ok()?;
                fs::rename(&from, &to).ok()?;
                self.record_move(&to)
            }
            Edit::SwapAlike => {
                let [one, other] = ALIKE.map(|name| self.path(&[name]));
                if one.is_symlink() || other.is_symlink() || !one.is_dir() || !other.is_dir() {
                    return None;
                }
                let aside = self.trial.folder.path().join("aside");
                fs::rename(&one, &aside).ok()?;
                fs::rename(&other, &one).ok()?;
                fs::rename(&aside, &other).ok()?;
                self.record_move(&one)?;
                self.record_move(&other)
            }
            Edit::Chmod(pick, tight) => {
                let path = self.pick(*pick).filter(|path| !path.is_symlink())?;
                let mode = if *tight { 0o700 } else { 0o755 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).ok()
            }
            Edit::Link(names, target, absolute) => {
                let path = self.path(names);
                let target = match target.map(|pick| self.pick(pick)) {
                    None | Some(None) => PathBuf::from("nowhere"),
                    Some(Some(target)) if *absolute => target,
                    Some(Some(target)) => {
                        let up: PathBuf = names.iter().skip(1).map(|_| "..").collect();
                        up.join(target.strip_prefix(self.trial.tree()).ok()?)
                    }
                };
                fs::create_dir_all(path.parent()?).ok()?;
                symlink(target, path).ok()
            }
            Edit::HardLink(pick, names) => {
                let (from, to) = (self.pick_file(*pick)?, self.path(names));
                fs::create_dir_all(to.parent()?).ok()?;
                fs::hard_link(from, to).ok()
            }
        }
    }

    fn record_move(&mut self, path: &Path) -> Option<()> {
        let meta = path.symlink_metadata().ok()?;
        if meta.is_dir() {
            self.moved.insert((meta.dev(), meta.ino()));
        }
        Some(())
    }

    /// Renews the ctime of each moved directory. Without a state, or after a kill, a run misses a move if an entry was
    /// created in the directory since.
    fn renew_moved_ctimes(&self) {
        if self.with_state && !self.any_killed {
            return;
        }
        let mut all = Vec::new();
        collect(&self.trial.tree(), &mut all);
        for path in all {
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() && self.moved.contains(&(meta.dev(), meta.ino())) {
                fs::set_permissions(path, meta.permissions()).unwrap();
            }
        }
    }

    /// The expected content of the bucket. Adds it to the history.
    fn expected(&mut self) -> Expected {
        let mut expected = Expected::default();
        if self.mode == "plain" {
            collect_followed(&self.trial.tree(), "", &mut Vec::new(), &mut expected);
        } else {
            collect_entries(&self.trial.tree(), "", &mut expected);
        }
        for (key, content) in &expected.files {
            self.history.entry(key.clone()).or_default().insert(content.clone());
        }
        expected
    }
}

fn collect(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        all.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), all);
        }
    }
}

/// Collects all files by their keys, and follows links unless they are loops.
fn collect_followed(folder: &Path, prefix: &str, above: &mut Vec<(u64, u64)>, expected: &mut Expected) {
    let meta = folder.metadata().unwrap();
    above.push((meta.dev(), meta.ino()));
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let key = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        let path = entry.path();
        match path.metadata() {
            Ok(meta) if meta.is_dir() && !(path.is_symlink() && above.contains(&(meta.dev(), meta.ino()))) => {
                collect_followed(&path, &format!("{key}/"), above, expected);
            }
            Ok(meta) if meta.is_file() => {
                expected.files.insert(key, fs::read(&path).unwrap());
            }
            _ => {
                expected.loose_links.insert(key);
            }
        }
    }
    above.pop();
}

/// Collects all files, links and directories by their keys, without following links.
fn collect_entries(folder: &Path, prefix: &str, expected: &mut Expected) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let key = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            collect_entries(&path, &format!("{key}/"), expected);
            expected.files.insert(format!("{key}/"), Vec::new());
        } else if kind.is_symlink() {
            expected.files.insert(key, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes());
        } else {
            expected.files.insert(key, fs::read(&path).unwrap());
        }
    }
}

// --- the runs ---

fn set_up(trial: &Trial, names: &[&str], troubles: &[Trouble]) {
    let multipart = [Operation::CreateMultipartUpload, Operation::UploadPart, Operation::CompleteMultipartUpload];
    for trouble in troubles {
        let rule = match trouble {
            Trouble::Puts(fault, times) => Rule::on(Operation::PutObject).times(*times).does(fault.clone()),
            Trouble::PutsOf(name, fault) => {
                let of = Rule::on(Operation::PutObject).key_contains(names[*name]).always();
                of.does(fault.clone())
            }
            Trouble::Parts(fault, times) => Rule::on(multipart).times(*times).does(fault.clone()),
            Trouble::Lists(skip, fault, times) => {
                Rule::on(Operation::ListObjectsV2).skip(*skip).times(*times).does(fault.clone())
            }
            Trouble::Deletes(fault, times) => Rule::on(DELETES).times(*times).does(fault.clone()),
            Trouble::ConcurrentRewrite(_) | Trouble::Stop(..) => continue,
        };
        trial.s3.rule(rule);
    }
}

fn run(world: &World, troubles: &[Trouble]) -> FinishedRun {
    let trial = &world.trial;
    trial.s3.clear_rules();
    trial.s3.clear_log();
    for trouble in troubles {
        if let Trouble::ConcurrentRewrite(pick) = trouble
            && let Some(path) = world.pick_file(*pick)
        {
            let content = world.content(usize::try_from(path.metadata().unwrap().len()).unwrap());
            // In place: a writer that is delayed after a truncation would leave an empty file.
            let hook = move || {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&content, 0).unwrap();
            };
            trial.s3.rule(Rule::on(Operation::PutObject).does(Fault::before(hook)));
        }
    }
    set_up(trial, &world.names, troubles);
    let (source, state) = (trial.tree().display().to_string(), trial.folder.path().join("state").display().to_string());
    let mut words = vec!["sync", &source, "s3://site/www", "--mode", world.mode];
    words.extend(OPTIONS);
    if world.with_state {
        words.extend(["--state", &state]);
    }
    match &world.how {
        How::Program => run_program(trial, &words, troubles),
        How::Within(runtime) => runtime.block_on(within::run_on(&trial.s3, &words, stop(troubles))),
    }
}

/// The signal that stops the run, and when the run gets it.
fn stop(troubles: &[Trouble]) -> Option<(&'static str, Duration)> {
    troubles.iter().find_map(|trouble| {
        if let Trouble::Stop(signal, after) = trouble { Some((*signal, Duration::from_millis(*after))) } else { None }
    })
}

fn run_program(trial: &Trial, words: &[&str], troubles: &[Trouble]) -> FinishedRun {
    loop {
        let run = trial.start_words(words, &[]);
        if let Some((signal, after)) = stop(troubles) {
            thread::sleep(after);
            run.signal(signal);
        }
        let ended = run.end();
        // The lease of a killed run expires on its own.
        if ended.code != 11 {
            return ended;
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// Checks what holds after every run, with or without faults.
fn check(world: &mut World, run: &FinishedRun, troubles: &[Trouble], before: &Before) {
    let after = world.expected();
    let objects = world.trial.objects();
    let stopped = stop(troubles).is_some();
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!([0, 1, 3].contains(&run.code) || stopped, "exit {}: {}", run.code, run.stderr);

    for (name, content) in &objects {
        let known = world.history.get(name).is_some_and(|contents| contents.contains(content));
        let long = content.len();
        assert!(known, "'{name}' holds {long} bytes that its file never had: {:?}", &content[..long.min(32)]);
    }
    for name in before.names.iter().filter(|name| before.expected.files.contains_key(*name)) {
        assert!(objects.contains_key(name), "'{name}' is lost, although its file existed throughout: {}", run.stderr);
    }
    let written = world.trial.s3.requests([Operation::PutObject, Operation::CompleteMultipartUpload]);
    let written: BTreeSet<String> = written.into_iter().map(|request| request.key).collect();
    for request in world.trial.s3.requests(DELETES) {
        let batch = String::from_utf8_lossy(&request.document).into_owned();
        let both = written.iter().find(|key| **key == request.key || batch.contains(&format!("<Key>{key}</Key>")));
        assert_eq!(both, None, "one run wrote and deleted a key");
    }
    if run.report.is_null() {
        assert!(stopped, "no report: {}", run.stderr);
        return;
    }
    assert_eq!(run.report["exit_code"], run.code);
    if [0, 3, 143].contains(&run.code) {
        run.assert_adds_up();
    }
    // If a response to CreateMultipartUpload is lost, the run cannot know the upload.
    let response_lost = troubles.iter().any(|trouble| matches!(trouble, Trouble::Parts(..)));
    let open = world.trial.s3.uploads().len();
    assert!(open <= before.uploads || response_lost || run.code == 1, "an upload is unfinished");
    let rewritten = troubles.iter().any(|trouble| matches!(trouble, Trouble::ConcurrentRewrite(_)));
    if [0, 3].contains(&run.code) && !rewritten {
        let named = named(run);
        let wrong: Vec<String> = differences(&after, &objects);
        let unnamed: Vec<_> = wrong.iter().filter(|name| !named.contains(&format!("www/{name}"))).collect();
        assert!(
            unnamed.is_empty(),
            "exit {}, and the report does not name these wrong keys: {unnamed:?}: {}",
            run.code,
            run.stderr
        );
    }
}

/// The keys that the report names as failed or withheld.
fn named(run: &FinishedRun) -> BTreeSet<String> {
    let mut named: BTreeSet<String> = run.failed_keys().into_iter().collect();
    for withheld in run.report["withheld_because"].as_array().unwrap() {
        named.extend(withheld["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
    }
    named
}

fn differences(expected: &Expected, objects: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let wrong = expected.files.iter().filter(|(name, content)| objects.get(*name) != Some(content));
    let loose = |name: &str| {
        let links = expected.loose_links.iter();
        links
            .clone()
            .any(|link| name == link || name.strip_prefix(link.as_str()).is_some_and(|rest| rest.starts_with('/')))
    };
    let extra = objects.keys().filter(|name| !expected.files.contains_key(*name) && !loose(name));
    wrong.map(|(name, _)| name).chain(extra).cloned().collect()
}

fn run_story(story: &Story, how: How) {
    let trial = match &how {
        How::Program => Trial::new(),
        How::Within(runtime) => Trial::on(runtime.block_on(fake_aws::s3::S3Server::start()).unwrap()),
    };
    trial.s3.settings(|settings| {
        settings.conditional_writes = story.conditional_writes;
        settings.listing = story.listing;
        settings.kms = story.kms;
        settings.page_size = story.page_size;
    });
    let mut world = World {
        trial,
        how,
        mode: story.mode,
        with_state: story.with_state,
        names: std::array::from_fn(|place| NAMES[(story.first_name + place) % NAMES.len()]),
        version: AtomicU64::new(1 << 56 | 1),
        history: BTreeMap::new(),
        moved: BTreeSet::new(),
        any_killed: false,
    };
    for (names, size, parts) in &story.seeds {
        let name: Vec<&str> = names.iter().map(|name| world.names[*name]).collect();
        let (name, content) = (name.join("/"), world.content(SIZES[*size]));
        let seed = Seed::aged(Duration::from_secs(100));
        let seed = parts.map_or(seed.clone(), |part_bytes| seed.in_parts_of(part_bytes));
        world.trial.s3.put("site", &format!("www/{name}"), content.clone(), seed);
        world.history.entry(name).or_default().insert(content);
    }
    for round in &story.rounds {
        for edit in &round.edits {
            world.edit(edit);
        }
        world.renew_moved_ctimes();
        let before =
            Before { expected: world.expected(), names: world.trial.names(), uploads: world.trial.s3.uploads().len() };
        let ended = run(&world, &round.troubles);
        world.any_killed |= ended.report.is_null();
        check(&mut world, &ended, &round.troubles, &before);
    }
    world.edit(&Edit::SwapAlike);
    world.renew_moved_ctimes();
    let expected = world.expected();
    let ended = run(&world, &[]).expect(0);
    assert_eq!(differences(&expected, &world.trial.objects()), Vec::<String>::new(), "{}", ended.stderr);
    run(&world, &[]).expect(0);
    assert_eq!(world.trial.count(WRITES), 0, "a second run writes nothing");
    if world.with_state {
        assert_eq!(world.trial.s3.uploads().len(), 0, "no run resumes or aborts this upload");
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Runs the case of this seed. Returns the error if it fails.
fn run_seed(seed: u64, how: &How) -> Option<String> {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: number("EFS2S3_PROPERTY_SHRINKS", 0).try_into().unwrap(),
        ..Config::default()
    };
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(&story(), |story| {
        run_story(&story, how.clone());
        Ok(())
    });
    let error = result.err()?;
    Some(format!("EFS2S3_PROPERTY_SEED={seed} EFS2S3_PROPERTY_CASES=1 fails: {error}"))
}

fn run_seeds(cases: u64, parallel: usize, how: &How) {
    let first = number("EFS2S3_PROPERTY_SEED", 1);
    let last = first + number("EFS2S3_PROPERTY_CASES", cases);
    let next = AtomicU64::new(first);
    let failures: Vec<String> = thread::scope(|scope| {
        let worker = || {
            let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            seeds.take_while(|seed| *seed < last).filter_map(|seed| run_seed(seed, how)).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..parallel).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn reports_stay_true_under_faults_and_a_clean_run_converges() {
    run_seeds(CASES, PARALLEL, &How::Program);
}

#[test]
fn reports_stay_true_and_runs_converge_within_this_process() {
    within::with_credentials("property::reports_stay_true_and_runs_converge_within_this_process", || {
        let runtime = within::runtime();
        run_seeds(CASES_WITHIN, PARALLEL_WITHIN, &How::Within(runtime.handle().clone()));
    });
}
