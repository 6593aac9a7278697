//! A trial: a fresh tree, a fresh S3 server, runs of the program, and assertions.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fake_aws::datasync::DataSyncServer;
use fake_aws::s3::{Object, Operation, Operations, S3Server, Seed};
use serde_json::Value;
use tempfile::TempDir;

/// Writes of objects and uploads, and deletes.
pub(crate) const WRITES: [Operation; 9] = [
    Operation::PutObject,
    Operation::CopyObject,
    Operation::CreateMultipartUpload,
    Operation::UploadPart,
    Operation::UploadPartCopy,
    Operation::CompleteMultipartUpload,
    Operation::AbortMultipartUpload,
    Operation::DeleteObject,
    Operation::DeleteObjects,
];
/// Requests that read one object.
pub(crate) const READS: [Operation; 4] =
    [Operation::HeadObject, Operation::GetObject, Operation::GetObjectAttributes, Operation::GetObjectTagging];

/// The secrets in the runs' credentials, which no output may contain.
pub(crate) const SECRETS: [&str; 2] = ["trial-secret-material-5d1", "trial-token-material-8c4"];

/// Tests that wait for a failure need not wait for a minute.
const OUTAGE_TIMEOUT: &str = "10s";
const BUCKET: &str = "site";
const PREFIX: &str = "www/";

/// A fresh tree and a fresh S3 server with the bucket `site`.
pub(crate) struct Trial {
    pub(crate) folder: TempDir,
    pub(crate) s3: S3Server,
}

/// A running program.
pub(crate) struct Run {
    child: Child,
    /// Read from the start, because a full pipe would block the program.
    stderr: Option<thread::JoinHandle<String>>,
    report: PathBuf,
    started: Instant,
}

/// The result of a run that has ended.
#[derive(Debug)]
pub(crate) struct FinishedRun {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `Null` if the run wrote none.
    pub(crate) report: Value,
    pub(crate) time: Duration,
}

impl Trial {
    pub(crate) fn new() -> Self {
        Self::on(S3Server::start_blocking().unwrap())
    }

    /// A trial on this server.
    pub(crate) fn on(s3: S3Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Runs as another user write their reports here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        s3.create_bucket(BUCKET);
        Self { folder, s3 }
    }

    // --- the tree ---

    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// Writes a file below the tree and creates its parent directories. Its ctime is now.
    pub(crate) fn write(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.tree().join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a file whose mtime has this age. Its ctime is still now.
    pub(crate) fn write_aged(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>, age: Duration) -> PathBuf {
        let path = self.write(name.as_ref(), content);
        self.set_mtime(name, SystemTime::now() - age);
        path
    }

    /// Sets a file's mtime; its ctime becomes now.
    pub(crate) fn set_mtime(&self, name: impl AsRef<OsStr>, time: SystemTime) {
        let path = self.tree().join(name.as_ref());
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    pub(crate) fn write_raw_name(&self, name: &[u8], content: &[u8]) -> PathBuf {
        self.write(OsStr::from_bytes(name), content)
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.tree().join(name)).unwrap();
    }

    pub(crate) fn link(&self, target: impl AsRef<Path>, name: &str) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Waits until no file counts as recently changed: a run waits for such files or compares their content.
    pub(crate) fn settle() {
        thread::sleep(Duration::from_millis(3200));
    }

    // --- the bucket, below the prefix www/ ---

    /// Puts an object of this age, as another tool would.
    pub(crate) fn object(&self, name: &str, content: impl Into<bytes::Bytes>, age: Duration) {
        self.s3.put(BUCKET, &format!("{PREFIX}{name}"), content, Seed::aged(age));
    }

    /// The objects' contents by their names below the prefix.
    pub(crate) fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let bodies = self.s3.bodies(BUCKET, PREFIX).into_iter();
        bodies.map(|(key, body)| (key.strip_prefix(PREFIX).unwrap().to_owned(), body.to_vec())).collect()
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.objects().into_keys().collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.s3.object(BUCKET, &format!("{PREFIX}{name}")).is_some()
    }

    /// Asserts that the bucket holds exactly the tree's regular files.
    #[track_caller]
    pub(crate) fn assert_same(&self) {
        let mut files = BTreeMap::new();
        collect(&self.tree(), "", &mut files);
        let objects = self.objects();
        let missing: Vec<_> = files.keys().filter(|name| !objects.contains_key(*name)).collect();
        let extra: Vec<_> = objects.keys().filter(|name| !files.contains_key(*name)).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
        let wrong: Vec<_> = files.keys().filter(|name| files[*name] != objects[*name]).collect();
        assert!(wrong.is_empty(), "different contents: {wrong:?}");
    }

    /// An object with its headers and metadata.
    #[track_caller]
    pub(crate) fn stored(&self, name: &str) -> Object {
        self.s3.object(BUCKET, &format!("{PREFIX}{name}")).unwrap_or_else(|| panic!("no object '{name}'"))
    }

    /// The number of requests of these operations that the server has received.
    pub(crate) fn count(&self, operations: impl Into<Operations>) -> usize {
        self.s3.count(operations)
    }

    /// Waits until the server has received this many requests of an operation, for up to 30 seconds.
    #[track_caller]
    pub(crate) fn wait_for_requests(&self, operation: Operation, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.count(operation) < count {
            assert!(Instant::now() < deadline, "no such request for 30 seconds");
            thread::sleep(Duration::from_millis(5));
        }
    }

    // --- runs ---

    /// `efs2s3 sync TREE s3://site/www --mode plain` with a report and these options.
    pub(crate) fn sync(&self, options: &[&str]) -> FinishedRun {
        self.start(options).end()
    }

    /// `efs2s3 run --task-arn … --source TREE` with short timeouts, a report and these options.
    pub(crate) fn run(&self, datasync: &DataSyncServer, options: &[&str]) -> FinishedRun {
        self.start_run(datasync, options).end()
    }

    pub(crate) fn start_run(&self, datasync: &DataSyncServer, options: &[&str]) -> Run {
        let (source, task, url) = (self.tree().display().to_string(), datasync.task_arn(), datasync.url());
        let mut words = vec!["run", "--task-arn", task.as_str(), "--source", source.as_str()];
        words.extend(options);
        let environment = [
            ("AWS_ENDPOINT_URL_DATASYNC", url.as_str()),
            ("EFS2S3_POLL_INTERVAL", "100ms"),
            ("EFS2S3_QUEUE_TIMEOUT", "3s"),
            ("EFS2S3_PREPARE_TIMEOUT", "3s"),
            ("EFS2S3_STALL_TIMEOUT", "3s"),
            ("EFS2S3_TIMEOUT", "30s"),
            ("EFS2S3_CANCEL_TIMEOUT", "1s"),
        ];
        self.start_words(&words, &environment)
    }

    /// `efs2s3 sync TREE s3://site/www --mode datasync` with a report and these options.
    pub(crate) fn datasync(&self, options: &[&str]) -> FinishedRun {
        let source = self.tree().display().to_string();
        let mut words = vec!["sync", source.as_str(), "s3://site/www", "--mode", "datasync"];
        words.extend(options);
        self.run_words(&words, &[])
    }

    pub(crate) fn start(&self, options: &[&str]) -> Run {
        let source = self.tree().display().to_string();
        let mut words = vec!["sync", source.as_str(), "s3://site/www", "--mode", "plain"];
        words.extend(options);
        self.start_words(&words, &[])
    }

    /// Starts a sync with these environment variables.
    pub(crate) fn start_with(&self, options: &[&str], environment: &[(&str, &str)]) -> Run {
        let source = self.tree().display().to_string();
        let mut words = vec!["sync", source.as_str(), "s3://site/www", "--mode", "plain"];
        words.extend(options);
        self.start_words(&words, environment)
    }

    /// `efs2s3 plan TREE s3://site/www --mode plain` with these options.
    pub(crate) fn plan(&self, options: &[&str]) -> FinishedRun {
        let source = self.tree().display().to_string();
        let mut words = vec!["plan", source.as_str(), "s3://site/www", "--mode", "plain"];
        words.extend(options);
        self.run_words(&words, &[])
    }

    /// A sync to another destination.
    pub(crate) fn sync_to(&self, destination: &str, options: &[&str]) -> FinishedRun {
        let source = self.tree().display().to_string();
        let mut words = vec!["sync", source.as_str(), destination, "--mode", "plain"];
        words.extend(options);
        self.run_words(&words, &[])
    }

    /// A sync as the user `nobody`, who is subject to file modes.
    pub(crate) fn sync_as_nobody(&self, options: &[&str]) -> FinishedRun {
        let program = self.folder.path().join("program");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_efs2s3"), &program).unwrap();
        }
        let source = self.tree().display().to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command.args(["sync", source.as_str(), "s3://site/www"]).args(options);
        self.spawn(command, &[("EFS2S3_MODE", "plain")]).end()
    }

    /// Starts the program with these words, environment variables, and a report file.
    pub(crate) fn start_words(&self, words: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_efs2s3"));
        command.args(words);
        self.spawn(command, environment)
    }

    /// Runs the program with these words and environment variables to its end.
    pub(crate) fn run_words(&self, words: &[&str], environment: &[(&str, &str)]) -> FinishedRun {
        self.start_words(words, environment).end()
    }

    pub(crate) fn spawn(&self, mut command: Command, environment: &[(&str, &str)]) -> Run {
        let report = self.folder.path().join(format!("report-{:016x}.json", fastrand::u64(..)));
        let is_inherited = |name: &str| {
            let is_proxy = name.to_ascii_lowercase().ends_with("_proxy");
            is_proxy || ["AWS_", "EFS2S3_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars().filter(|(name, _)| is_inherited(name)) {
            command.env_remove(name);
        }
        command
            .env("AWS_ACCESS_KEY_ID", "AKIDTRIAL")
            .env("AWS_SECRET_ACCESS_KEY", SECRETS[0])
            .env("AWS_SESSION_TOKEN", SECRETS[1])
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", self.s3.url())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.folder.path())
            .env("EFS2S3_REPORT", &report)
            .env("EFS2S3_OUTAGE_TIMEOUT", OUTAGE_TIMEOUT)
            .envs(environment.iter().copied())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = Some(read_all(child.stderr.take().unwrap()));
        Run { child, stderr, report, started: Instant::now() }
    }
}

impl Run {
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The ID of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the read end of stdout.
    pub(crate) fn close_stdout(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Waits for the report, which the run writes before its process ends, for up to 30 seconds.
    #[track_caller]
    pub(crate) fn wait_for_report(&self) {
        wait_until("the report exists", || self.report.exists());
    }

    /// Waits until the program ends, for up to 90 seconds.
    #[track_caller]
    pub(crate) fn end(self) -> FinishedRun {
        self.end_within(Duration::from_secs(90))
    }

    /// Waits until the program ends, for up to this time.
    #[track_caller]
    pub(crate) fn end_within(mut self, time: Duration) -> FinishedRun {
        let stdout: Box<dyn Read + Send> = match self.child.stdout.take() {
            Some(pipe) => Box::new(pipe),
            None => Box::new(std::io::empty()),
        };
        let (stdout, stderr) = (read_all(stdout), self.stderr.take().unwrap());
        let deadline = self.started + time;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = self.child.kill();
                    panic!("the program does not end within {time:?}: {}", stderr.join().unwrap());
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let time = self.started.elapsed();
        let report = fs::read_to_string(&self.report).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        FinishedRun {
            code: status.code().unwrap_or(-1),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
            report,
            time,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl FinishedRun {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// A count in the report.
    #[track_caller]
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.report["counts"][name].as_u64().unwrap_or_else(|| panic!("no count '{name}': {}", self.report))
    }

    /// The number of deletes that this guard withheld.
    pub(crate) fn withheld_by(&self, guard: &str) -> u64 {
        let withheld = self.report["withheld_because"].as_array().unwrap();
        withheld.iter().find(|entry| entry["guard"] == guard).map_or(0, |entry| entry["count"].as_u64().unwrap())
    }

    /// The only failure in the report.
    #[track_caller]
    pub(crate) fn only_failure(&self) -> &Value {
        let failures = self.report["failures"].as_array().unwrap();
        assert_eq!(failures.len(), 1, "{failures:?}");
        &failures[0]
    }

    /// The keys of the failures in the report.
    pub(crate) fn failed_keys(&self) -> Vec<String> {
        let failures = self.report["failures"].as_array().unwrap();
        failures.iter().map(|failure| failure["key"].as_str().unwrap().to_owned()).collect()
    }

    /// Asserts that the counts add up, as the reference promises.
    #[track_caller]
    pub(crate) fn assert_adds_up(&self) {
        let sum = |names: &[&str]| names.iter().map(|name| self.counted(name)).sum::<u64>();
        let seen = sum(&["files", "directories", "symlinks"]);
        let accounted = sum(&["unchanged", "uploaded", "metadata_rewritten", "filtered", "skipped", "failed"]);
        assert_eq!(seen, accounted, "{}", self.report["counts"]);
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Random content.
pub(crate) fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::new().fill(&mut bytes);
    bytes
}

/// Waits until a condition is true, for up to 30 seconds.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_true() {
        assert!(Instant::now() < deadline, "not within 30 seconds: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), files);
        } else if kind.is_file() {
            files.insert(format!("{prefix}{name}"), fs::read(entry.path()).unwrap());
        }
    }
}
