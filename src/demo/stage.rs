//! The stage of the demo: a tree, the servers, and the program, which each step runs as a user would.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fake_aws::s3::S3Server;
use serde_json::Value;

use super::tree::AssetTree;

/// How long [`Stage::kill_when`] waits for its condition.
const KILL_TIMEOUT: Duration = Duration::from_mins(1);

/// The reason why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot read the report: {0}")]
    Report(#[from] serde_json::Error),
    #[error("{0}")]
    Unexpected(String),
}

/// A tree, a bucket on the server, and stdout.
pub(super) struct Stage {
    pub(super) tree: AssetTree,
    pub(super) server: S3Server,
    pub(super) bucket: &'static str,
    folder: tempfile::TempDir,
    out: io::Stdout,
}

/// The expected result of a step.
pub(super) struct Expected<'a> {
    pub(super) exit_code: i64,
    pub(super) counts: &'a [(&'a str, i64)],
}

impl Stage {
    /// Creates a tree and a bucket.
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

    /// Starts a command like [`Self::step`], and kills it as soon as the condition holds.
    pub(super) fn kill_when(&mut self, words: &[&str], holds: impl Fn() -> bool) -> Result<(), DemoError> {
        let (words, shown) = self.on_tree(words);
        self.print(&format!("\n$ efs2s3 {shown}      … and kill -9"))?;
        let mut run = self.command(&words)?.spawn()?;
        let deadline = Instant::now() + KILL_TIMEOUT;
        while !holds() && Instant::now() < deadline && run.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        run.kill()?;
        run.wait()?;
        ensure(holds(), "the run ended before the demo could kill it")
    }

    /// Runs a command on the tree and the bucket that writes no report, and shows its output.
    pub(super) fn show_output(&mut self, words: &[&str]) -> Result<(), DemoError> {
        let (words, shown) = self.on_tree(words);
        self.print(&format!("\n$ efs2s3 {shown}"))?;
        let output = self.command(&words)?.output()?;
        self.show_lines(&String::from_utf8_lossy(&output.stdout))?;
        ensure(output.status.success(), "the exit code is not 0")
    }

    /// Runs commands on the tree and the bucket in parallel. Each must end with exit code 0.
    pub(super) fn run_parallel(&mut self, runs: &[Vec<String>]) -> Result<(), DemoError> {
        let mut started = Vec::new();
        for words in runs {
            let (words, shown) = self.on_tree(&words.iter().map(String::as_str).collect::<Vec<_>>());
            self.print(&format!("$ efs2s3 {shown} &"))?;
            started.push(self.command(&words)?.spawn()?);
        }
        for mut run in started {
            ensure(run.wait()?.success(), "the exit code is not 0")?;
        }
        Ok(())
    }

    /// Adds the tree, the bucket and plain mode to a command. Also returns the command to show.
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

    /// Runs the program, shows its output and report, and checks the exit code and the counts.
    pub(super) fn program(
        &mut self,
        shown: &str,
        words: &[impl AsRef<OsStr>],
        environment: &[(&str, &str)],
        expected: &Expected<'_>,
    ) -> Result<Value, DemoError> {
        let report_path = self.folder.path().join("report.json");
        self.print(&format!("\n$ efs2s3 {shown}"))?;
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

    /// Shows the first lines of a plan or a range list.
    pub(super) fn show_lines(&mut self, lines: &str) -> Result<(), DemoError> {
        for line in lines.lines().take(4) {
            writeln!(self.out, "  {line}")?;
        }
        if lines.lines().count() > 4 {
            writeln!(self.out, "  … {} lines in total", lines.lines().count())?;
        }
        Ok(())
    }

    /// Shows the most important fields of a report.
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

    /// Compares the objects in the bucket with the files in the tree, byte by byte.
    pub(super) fn matches(&mut self) -> Result<(), DemoError> {
        let expected = self.tree.contents()?;
        let found = self.server.bodies(self.bucket, "www/");
        let same = found.len() == expected.len()
            && expected
                .iter()
                .all(|(name, content)| found.get(&format!("www/{name}")).is_some_and(|body| body == content));
        ensure(same, "the objects in the bucket differ from the files in the tree")?;
        self.print(&format!("  Compared byte by byte: {} objects equal {} files.", found.len(), expected.len()))
    }

    pub(super) fn title(&mut self, text: &str) -> Result<(), DemoError> {
        writeln!(self.out, "\n\n== {text}")?;
        Ok(())
    }

    pub(super) fn print(&mut self, text: &str) -> Result<(), DemoError> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }
}

/// Waits until the next run can rely on the times of files and objects. A run checks an object one by one if it was
/// written within seconds of the last change of its file.
pub(super) fn settle() {
    std::thread::sleep(Duration::from_millis(3500));
}

/// Returns an error with this message unless the condition holds.
pub(super) fn ensure(holds: bool, otherwise: &str) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::Unexpected(otherwise.to_owned())) }
}
