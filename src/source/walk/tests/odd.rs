//! Sources that misbehave: directories without permission, and file systems that fail, lie or hang (through FUSE).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::{Instant, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags, KernelConfig, ReplyAttr,
    ReplyDirectory, ReplyEntry, Request,
};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    StatFails,
    StatHangs,
    StatIsSlow,
    /// The stat has no response before [`TOGETHER`] such stats are in flight.
    StatWaitsForOthers,
    ReaddirFails,
    ReaddirFailsInTheMiddle,
    ReaddirHangs,
    /// The first reading fails with ESTALE.
    ReaddirStaleOnce,
    ReaddirStale,
    /// The directory shows the other kind.
    KindLies,
    NameTooLong,
}

const TOGETHER: usize = 48;

/// The stats that wait for others; `None` once there were enough.
type Waiting = Arc<Mutex<Option<Vec<(FileAttr, ReplyEntry)>>>>;

/// A tree of directories and empty files, some with a fault.
struct Odd {
    /// By inode number less 2: path, without a slash at the end, and whether it is a directory.
    nodes: Vec<(String, bool)>,
    faults: HashMap<String, Fault>,
    /// Calls without a response, kept here because dropping one would respond to it.
    hanging: Hanging,
    /// Whether the faults have ended, so that the mount can be removed.
    faults_ended: Arc<AtomicBool>,
    stale: AtomicUsize,
    waiting: Waiting,
}

type Hanging = Arc<Mutex<Vec<Box<dyn std::any::Any + Send>>>>;

struct Mounted {
    folder: tempfile::TempDir,
    hanging: Hanging,
    waiting: Waiting,
    faults_ended: Arc<AtomicBool>,
    session: Option<fuser::BackgroundSession>,
}

impl Mounted {
    fn new(nodes: &[&str], faults: &[(&str, Fault)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hanging = Hanging::default();
        let waiting = Waiting::new(Mutex::new(Some(Vec::new())));
        let faults_ended = Arc::new(AtomicBool::new(false));
        let odd = Odd {
            nodes: nodes.iter().map(|path| (path.trim_end_matches('/').to_owned(), path.ends_with('/'))).collect(),
            faults: faults.iter().map(|(path, fault)| ((*path).to_owned(), *fault)).collect(),
            hanging: Arc::clone(&hanging),
            faults_ended: Arc::clone(&faults_ended),
            stale: AtomicUsize::new(0),
            waiting: Arc::clone(&waiting),
        };
        let session = fuser::spawn_mount(odd, folder.path(), &fuser::Config::default()).unwrap();
        Self { folder, hanging, waiting, faults_ended, session: Some(session) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How many calls hang.
    fn hanging(&self) -> usize {
        self.hanging.lock().unwrap().len()
    }

    fn release(&self) {
        self.hanging.lock().unwrap().clear();
        drop(self.waiting.lock().unwrap().take());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.faults_ended.store(true, Ordering::Relaxed);
        self.release();
        // Some walkers may not have ended: the mount ends with the last of them.
        let status = std::process::Command::new("umount").arg("-l").arg(self.folder.path()).status();
        assert!(status.unwrap().success() || std::thread::panicking());
        drop(self.session.take());
    }
}

impl Odd {
    fn fault(&self, path: &str) -> Option<Fault> {
        self.faults.get(path).copied().filter(|_| !self.faults_ended.load(Ordering::Relaxed))
    }

    fn reply_together(&self, attributes: FileAttr, reply: ReplyEntry) {
        let mut waiting = self.waiting.lock().unwrap();
        let Some(stats) = &mut *waiting else {
            return reply.entry(&Duration::ZERO, &attributes, Generation(0));
        };
        stats.push((attributes, reply));
        if stats.len() == TOGETHER {
            for (attributes, reply) in waiting.take().unwrap() {
                reply.entry(&Duration::ZERO, &attributes, Generation(0));
            }
        }
    }

    fn path_of(&self, inode: INodeNo) -> &str {
        match inode.0 {
            1 => "",
            other => &self.nodes[usize::try_from(other).unwrap() - 2].0,
        }
    }

    fn find(&self, path: &str) -> Option<FileAttr> {
        let index = self.nodes.iter().position(|(known, _)| known == path)?;
        Some(self.attributes(INodeNo(u64::try_from(index).unwrap() + 2)))
    }

    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let directory = inode.0 == 1 || self.nodes[usize::try_from(inode.0).unwrap() - 2].1;
        FileAttr {
            ino: inode,
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: if directory { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 512,
        }
    }

    fn children(&self, parent: &str) -> Vec<(String, FileAttr)> {
        let inside = |path: &str| match parent {
            "" => Some(path.to_owned()),
            _ => path.strip_prefix(parent).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned),
        };
        self.nodes
            .iter()
            .filter_map(|(path, _)| Some((inside(path).filter(|name| !name.contains('/'))?, self.find(path)?)))
            .collect()
    }
}

impl Filesystem for Odd {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS).unwrap();
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let parent = self.path_of(parent);
        let name = name.to_str().unwrap();
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        match (self.fault(&path), self.find(&path)) {
            (Some(Fault::StatFails), _) => reply.error(Errno::EIO),
            (Some(Fault::NameTooLong), _) => reply.error(Errno::ENAMETOOLONG),
            (Some(Fault::StatHangs), _) => self.hanging.lock().unwrap().push(Box::new(reply)),
            (Some(Fault::StatWaitsForOthers), Some(attributes)) => self.reply_together(attributes, reply),
            (Some(Fault::StatIsSlow), Some(attributes)) => {
                std::thread::sleep(Duration::from_millis(20));
                reply.entry(&Duration::ZERO, &attributes, Generation(0));
            }
            (_, Some(attributes)) => reply.entry(&Duration::ZERO, &attributes, Generation(0)),
            (_, None) => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &self.attributes(inode));
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let path = self.path_of(inode);
        match self.fault(path) {
            Some(Fault::ReaddirFails) => return reply.error(Errno::EIO),
            Some(Fault::ReaddirFailsInTheMiddle) if offset > 0 => return reply.error(Errno::EIO),
            Some(Fault::ReaddirStale) => return reply.error(Errno::ESTALE),
            Some(Fault::ReaddirStaleOnce) if self.stale.fetch_add(1, Ordering::Relaxed) == 0 => {
                return reply.error(Errno::ESTALE);
            }
            Some(Fault::ReaddirHangs) => {
                return self.hanging.lock().unwrap().push(Box::new(reply));
            }
            _ => {}
        }
        for (index, (name, attributes)) in
            self.children(path).into_iter().enumerate().skip(usize::try_from(offset).unwrap())
        {
            let full = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let kind = match (self.fault(&full), attributes.kind) {
                (Some(Fault::KindLies), FileType::Directory) => FileType::RegularFile,
                (Some(Fault::KindLies), _) => FileType::Directory,
                (_, kind) => kind,
            };
            if reply.add(attributes.ino, u64::try_from(index).unwrap() + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

fn with_short_timeouts() -> Trial {
    let mut trial = Trial::new();
    trial.options.source_timeout = Duration::from_millis(500);
    trial.options.warn_after = Duration::from_millis(200);
    trial
}

#[test]
fn a_directory_that_cannot_be_read_is_unknown_and_the_others_are_walked() {
    let mounted = Mounted::new(&["a/", "a/f", "bad/", "bad/f", "z"], &[("bad", Fault::ReaddirFails)]);
    assert_eq!(
        shown(&Trial::new().walk(mounted.path())),
        ["a/: directory", "a/f: file", "bad/: unknown below \"bad/\": readdir io_error", "z: file"]
    );
}

#[test]
fn an_error_in_the_middle_of_a_directory_makes_all_of_it_unknown() {
    let names: Vec<String> = (0..2_000).map(|number| format!("bad/{number:04}-{}", "x".repeat(100))).collect();
    let nodes: Vec<&str> = ["bad/", "z"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mounted = Mounted::new(&nodes, &[("bad", Fault::ReaddirFailsInTheMiddle)]);
    assert_eq!(
        shown(&Trial::new().walk(mounted.path())),
        ["bad/: unknown below \"bad/\": readdir io_error", "z: file"]
    );
}

#[test]
fn a_root_that_cannot_be_read_is_unknown() {
    let mounted = Mounted::new(&["a"], &[("", Fault::ReaddirFails)]);
    assert_eq!(shown(&Trial::new().walk(mounted.path())), [": unknown below \"\": readdir io_error"]);
}

#[test]
fn a_stale_directory_is_looked_up_again() {
    let mounted = Mounted::new(&["once/", "once/f", "z"], &[("once", Fault::ReaddirStaleOnce)]);
    let trial = Trial::new();
    assert_eq!(shown(&trial.walk(mounted.path())), ["once/: directory", "once/f: file", "z: file"]);
    assert_eq!(trial.calls().2, 3);

    let mounted = Mounted::new(&["always/", "always/f", "z"], &[("always", Fault::ReaddirStale)]);
    let trial = Trial::new();
    assert_eq!(shown(&trial.walk(mounted.path())), ["always/: unknown below \"always/\": readdir stale", "z: file"]);
    // The root once, and the directory three times.
    assert_eq!(trial.calls().2, 4);
}

#[test]
fn a_stat_that_fails_concerns_a_file_alone_and_all_below_a_directory() {
    let faults = [("bad-file", Fault::StatFails), ("bad-dir", Fault::StatFails), ("long", Fault::NameTooLong)];
    let mounted = Mounted::new(&["a", "bad-dir/", "bad-dir/f", "bad-file", "long/", "z"], &faults);
    assert_eq!(
        shown(&Trial::new().walk(mounted.path())),
        [
            "a: file",
            "bad-dir/: unknown below \"bad-dir/\": stat io_error",
            "bad-file: failed File stat io_error",
            "long/: failed Directory stat name_too_long",
            "z: file",
        ]
    );
    let unknown = Trial { kinds_unknown: true, ..Trial::new() };
    assert_eq!(
        shown(&unknown.walk(mounted.path()))[1..3],
        ["bad-dir: unknown below \"bad-dir/\": stat io_error", "bad-file: unknown below \"bad-file/\": stat io_error",]
    );
}

#[test]
fn a_kind_that_differs_at_each_stat_is_unknown() {
    let mounted = Mounted::new(&["d/", "d/f", "f", "z"], &[("d", Fault::KindLies), ("f", Fault::KindLies)]);
    assert_eq!(
        shown(&Trial::new().walk(mounted.path())),
        ["d: unknown below \"d/\": stat other", "f/: unknown below \"f/\": stat other", "z: file",]
    );
}

#[test]
fn a_stat_that_hangs_makes_that_name_unknown_and_the_rest_is_delivered() {
    let nodes = ["a/", "a/f", "b", "stuck-dir/", "stuck-dir/f", "stuck-file", "y/", "y/f", "z"];
    let mounted = Mounted::new(&nodes, &[("stuck-dir", Fault::StatHangs), ("stuck-file", Fault::StatHangs)]);
    let started = Instant::now();
    let trial = with_short_timeouts();
    assert_eq!(
        shown(&trial.walk(mounted.path())),
        [
            "a/: directory",
            "a/f: file",
            "b: file",
            "stuck-dir/: unknown below \"stuck-dir/\": stat timed_out",
            "stuck-file: failed File stat timed_out",
            "y/: directory",
            "y/f: file",
            "z: file",
        ]
    );
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(mounted.hanging(), 2);
}

#[test]
fn a_stat_that_hangs_makes_the_rest_of_its_directory_unknown() {
    let names: Vec<String> = (0..8).map(|number| format!("d/stuck{number}")).collect();
    let nodes: Vec<&str> = ["a", "d/", "d/f", "z"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let faults: Vec<(&str, Fault)> = names.iter().map(|name| (name.as_str(), Fault::StatHangs)).collect();
    let mounted = Mounted::new(&nodes, &faults);
    let trial = with_short_timeouts();
    assert_eq!(
        shown(&trial.walk(mounted.path())),
        [
            "a: file",
            "d/: directory",
            "d/f: file",
            "d/stuck0: failed File stat timed_out",
            "d/stuck1: failed File stat timed_out",
            "d/stuck2: failed File stat timed_out",
            "d/stuck3: unknown below \"d/\": stat timed_out",
            "z: file",
        ]
    );
    // Late responses change nothing, and the walk holds nothing afterwards.
    mounted.release();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Arc::strong_count(&trial.operations) > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((trial.entries_ahead.now(), trial.names_held.now()), (0, 0));
}

#[test]
fn the_stats_of_one_directory_are_in_flight_together_on_a_slow_file_system() {
    let names: Vec<String> = (0..64).map(|number| format!("s/d{number:02}")).collect();
    let directories: Vec<String> = names.iter().map(|name| format!("{name}/")).collect();
    let nodes: Vec<&str> = ["s/"].into_iter().chain(directories.iter().map(String::as_str)).collect();
    let together = names.iter().map(|name| (name.as_str(), Fault::StatWaitsForOthers));
    let faults: Vec<(&str, Fault)> = [("s", Fault::StatIsSlow)].into_iter().chain(together).collect();
    let mounted = Mounted::new(&nodes, &faults);
    let mut trial = Trial::new();
    trial.options.walkers = 64;
    trial.options.source_timeout = Duration::from_secs(20);
    let entries = trial.walk(mounted.path());
    assert_eq!(shown(&entries)[64], "s/d63/: directory");
    assert!(entries.iter().all(|entry| matches!(entry.found, Found::Directory(_))), "{:?}", shown(&entries));
}

#[test]
fn hanging_directories_are_unknown_after_one_timeout() {
    let nodes = ["a/", "a/f", "s1/", "s1/f", "s2/", "s2/f", "z/", "z/f"];
    let mounted = Mounted::new(&nodes, &[("s1", Fault::ReaddirHangs), ("s2", Fault::ReaddirHangs)]);
    let started = Instant::now();
    assert_eq!(
        shown(&with_short_timeouts().walk(mounted.path())),
        [
            "a/: directory",
            "a/f: file",
            "s1/: unknown below \"s1/\": readdir timed_out",
            "s2/: unknown below \"s2/\": readdir timed_out",
            "z/: directory",
            "z/f: file",
        ]
    );
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn if_all_walkers_hang_the_rest_is_unknown_after_one_timeout() {
    let names: Vec<String> = (0..50).map(|number| format!("d{number:02}/")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).chain(["z"]).collect();
    let faults: Vec<(&str, Fault)> =
        names.iter().map(|name| (name.trim_end_matches('/'), Fault::ReaddirHangs)).collect();
    let mounted = Mounted::new(&nodes, &faults);
    let started = Instant::now();
    let entries = with_short_timeouts().walk(mounted.path());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(entries.len(), 51);
    assert!(entries[..50].iter().all(|entry| matches!(entry.found, Found::Unread { .. })));
    assert_eq!(shown(&entries)[50], "z: file");
    assert_eq!(mounted.hanging(), 4);
}

#[test]
fn entries_before_a_hang_are_emitted_before_the_timeout() {
    let mounted = Mounted::new(&["a", "s/", "z"], &[("s", Fault::ReaddirHangs)]);
    let mut trial = Trial::new();
    trial.options.source_timeout = Duration::from_mins(1);
    let mut receiver = trial.start(mounted.path());
    let started = Instant::now();
    assert_eq!(shown(&receiver.blocking_recv().unwrap()), ["a: file"]);
    assert!(started.elapsed() < Duration::from_secs(30));
    // A stop ends the walk although a walker hangs.
    trial.stop.store(true, Ordering::Relaxed);
    assert_eq!(shown(&receiver.blocking_recv().unwrap()).len(), 1);
    assert_eq!(receiver.blocking_recv(), None);
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// Runs the test of this name again as a user without privileges, because root may read everything; true in that run.
fn as_nobody(test: &str) -> bool {
    const MARK: &str = "EFS2S3_TEST_AS_NOBODY";
    if std::env::var_os(MARK).is_some() || !rustix::process::geteuid().is_root() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(copy)
        .args(["--exact", &format!("{}::{test}", module_path!().split_once("::").unwrap().1), "--nocapture"])
        .env(MARK, "1")
        .current_dir("/")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[test]
fn without_permission_a_directory_is_unknown_and_a_file_is_still_seen() {
    if !as_nobody("without_permission_a_directory_is_unknown_and_a_file_is_still_seen") {
        return;
    }
    let folder = tree(&["a", "no-list/f", "no-search/f", "no-search/sub/g", "secret", "z"]);
    let far = tree(&["hidden/f"]);
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    symlink(far.path().join("hidden/f"), folder.path().join("link")).unwrap();
    allow(&far.path().join("hidden"), 0o000);
    allow(&folder.path().join("secret"), 0o000);
    allow(&folder.path().join("no-list"), 0o300);
    allow(&folder.path().join("no-search"), 0o600);
    let entries = Trial::new().walk(folder.path());
    for restored in [folder.path().join("no-list"), folder.path().join("no-search"), far.path().join("hidden")] {
        allow(&restored, 0o700);
    }
    assert_eq!(
        shown(&entries),
        [
            "a: file",
            "link: unknown below \"link/\": stat permission_denied",
            "no-list/: unknown below \"no-list/\": open permission_denied",
            "no-search/: directory",
            "no-search/f: failed File stat permission_denied",
            "no-search/sub/: unknown below \"no-search/sub/\": stat permission_denied",
            "secret: file",
            "z: file",
        ]
    );
}

#[test]
fn a_source_that_may_not_be_read_is_refused() {
    if !as_nobody("a_source_that_may_not_be_read_is_refused") {
        return;
    }
    let folder = tree(&["closed/"]);
    let closed = folder.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o300)).unwrap();
    let error = Root::open(&closed).unwrap_err();
    assert!(matches!(error, crate::source::root::RootError::PermissionDenied { .. }), "{error}");
}
