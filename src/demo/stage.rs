//! The stage of the demo: a tree, the server, and the program that is run on them as a user would.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::tree::AssetTree;
use fake_aws::s3::S3Server;

/// How long a step is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the report cannot be read: {0}")]
    Report(#[from] serde_json::Error),
    #[error("{0}")]
    Unexpected(String),
}

/// The demo's tree, its server, and where it speaks to.
pub(super) struct Stage {
    pub(super) tree: AssetTree,
    pub(super) server: S3Server,
    pub(super) bucket: &'static str,
    folder: tempfile::TempDir,
    out: io::Stdout,
}

/// What a step must come to.
pub(super) struct Expected<'a> {
    pub(super) exit_code: i64,
    pub(super) counts: &'a [(&'a str, i64)],
}

impl Stage {
    /// A fresh tree, and a bucket of its own.
    pub(super) fn open(server: S3Server, bucket: &'static str) -> Result<Self, DemoError> {
        server.create_bucket(bucket);
        let folder = tempfile::tempdir()?;
        let tree = AssetTree::create(&folder.path().join("assets"))?;
        Ok(Self { tree, server, bucket, folder, out: io::stdout() })
    }

    /// Runs a command of the direct sync in plain mode on the tree and the bucket.
    pub(super) fn step(&mut self, words: &[&str], expected: &Expected<'_>) -> Result<Value, DemoError> {
        let (words, shown) = self.on_tree(words);
        self.program(&shown, &words, &[], expected)
    }

    /// Begins a command as [`Self::step`] does, and kills it as soon as this holds.
    pub(super) fn kill_when(&mut self, words: &[&str], holds: impl Fn() -> bool) -> Result<(), DemoError> {
        let (words, shown) = self.on_tree(words);
        self.say(&format!("\n$ efs2s3 {shown}      … and kill -9"))?;
        let mut run = self.command(&words)?.spawn()?;
        let deadline = Instant::now() + PATIENCE;
        while !holds() && Instant::now() < deadline && run.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        run.kill()?;
        run.wait()?;
        ensure(holds(), "it never came to what it was to be killed at")
    }

    /// Runs a command on the tree and the bucket that ends without a report.
    pub(super) fn look(&mut self, words: &[&str]) -> Result<(), DemoError> {
        let (words, shown) = self.on_tree(words);
        self.say(&format!("\n$ efs2s3 {shown}"))?;
        let output = self.command(&words)?.output()?;
        self.show_lines(&String::from_utf8_lossy(&output.stdout))?;
        ensure(output.status.success(), "it did not end with 0")
    }

    /// Runs commands on the tree and the bucket at the same time; each must end with 0.
    pub(super) fn side_by_side(&mut self, runs: &[Vec<String>]) -> Result<(), DemoError> {
        let mut started = Vec::new();
        for words in runs {
            let (words, shown) = self.on_tree(&words.iter().map(String::as_str).collect::<Vec<_>>());
            self.say(&format!("$ efs2s3 {shown} &"))?;
            started.push(self.command(&words)?.spawn()?);
        }
        for mut run in started {
            ensure(run.wait()?.success(), "it did not end with 0")?;
        }
        Ok(())
    }

    /// A command with the tree, the bucket and plain mode, and how it is shown.
    fn on_tree(&self, words: &[&str]) -> (Vec<String>, String) {
        let (command, options) = words.split_first().unwrap_or((&"sync", &[]));
        let (source, destination) = (self.tree.root().display().to_string(), format!("s3://{}/www", self.bucket));
        let shown = format!("{command} {source} {destination} {}", options.join(" "));
        let words = [&[command, source.as_str(), &destination, "--mode", "plain"], options].concat();
        (words.into_iter().map(str::to_owned).collect(), shown)
    }

    fn command(&self, words: &[impl AsRef<OsStr>]) -> Result<Command, DemoError> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(words)
            .args(["--endpoint-url", &self.server.url()])
            .env("AWS_ACCESS_KEY_ID", "demo")
            .env("AWS_SECRET_ACCESS_KEY", "demo")
            .env("AWS_REGION", "us-east-1")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        Ok(command)
    }

    /// Runs the program, shows what a user would see, and checks what came of it.
    pub(super) fn program(
        &mut self,
        shown: &str,
        words: &[impl AsRef<OsStr>],
        environment: &[(&str, &str)],
        expected: &Expected<'_>,
    ) -> Result<Value, DemoError> {
        let report_path = self.folder.path().join("report.json");
        self.say(&format!("\n$ efs2s3 {shown}"))?;
        let mut command = self.command(words)?;
        command.arg("--report").arg(&report_path).envs(environment.iter().copied());
        let output = command.output()?;
        self.show_lines(&String::from_utf8_lossy(&output.stdout))?;
        let report: Value = serde_json::from_slice(&std::fs::read(&report_path)?)?;
        self.show(&report)?;
        let code = i64::from(output.status.code().unwrap_or(-1));
        ensure(code == expected.exit_code, &format!("exit code {code} instead of {}", expected.exit_code))?;
        for (name, count) in expected.counts {
            let found = report.pointer(&format!("/counts/{name}")).and_then(Value::as_i64);
            ensure(found == Some(*count), &format!("{name}: {found:?} instead of {count}"))?;
        }
        Ok(report)
    }

    /// A path beside the tree.
    pub(super) fn beside(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Lines of a plan or of ranges: enough of them to see what they are.
    pub(super) fn show_lines(&mut self, lines: &str) -> Result<(), DemoError> {
        for line in lines.lines().take(4) {
            writeln!(self.out, "  {line}")?;
        }
        if lines.lines().count() > 4 {
            writeln!(self.out, "  … {} lines in all", lines.lines().count())?;
        }
        Ok(())
    }

    /// The part of the report that a person looks at first.
    fn show(&mut self, report: &Value) -> Result<(), DemoError> {
        if let Some(datasync) = report.get("datasync").filter(|datasync| !datasync.is_null()) {
            let part = |name| datasync.get(name).and_then(Value::as_str).unwrap_or_default();
            writeln!(self.out, "  report datasync: {} ({})", part("verdict"), part("evidence"))?;
        }
        let route = report.get("route").and_then(Value::as_str).unwrap_or_default();
        writeln!(self.out, "  report route: {route}")?;
        for section in ["counts", "requests"] {
            let entries = report.get(section).and_then(Value::as_object).into_iter().flatten();
            let shown: Vec<String> =
                entries.filter(|(_, count)| **count != 0).map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(self.out, "  report {section}: {}", shown.join(", "))?;
        }
        for withheld in report.get("withheld_because").and_then(Value::as_array).into_iter().flatten() {
            let part = |name| withheld.get(name).map(ToString::to_string).unwrap_or_default();
            writeln!(self.out, "  report withheld: guard {}, {} deletes", part("guard"), part("count"))?;
        }
        Ok(())
    }

    /// Compares the bucket with the tree, byte for byte.
    pub(super) fn matches(&mut self) -> Result<(), DemoError> {
        let expected = self.tree.contents()?;
        let found = self.server.bodies(self.bucket, "www/");
        let same = found.len() == expected.len()
            && expected
                .iter()
                .all(|(name, content)| found.get(&format!("www/{name}")).is_some_and(|body| body == content));
        ensure(same, "the bucket does not hold what the tree holds")?;
        self.say(&format!(
            "  Compared: {} objects hold what {} files hold, byte for byte.",
            found.len(),
            expected.len()
        ))
    }

    pub(super) fn title(&mut self, text: &str) -> Result<(), DemoError> {
        writeln!(self.out, "\n\n== {text}")?;
        Ok(())
    }

    pub(super) fn say(&mut self, text: &str) -> Result<(), DemoError> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }
}

/// Lets times grow apart: what was written within seconds of its file's last change is looked at one by one.
pub(super) fn settle() {
    std::thread::sleep(Duration::from_millis(3500));
}

/// Ends the demo unless this holds.
pub(super) fn ensure(holds: bool, otherwise: &str) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::Unexpected(otherwise.to_owned())) }
}
