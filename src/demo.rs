//! `efs2s3 demo`: the whole flow on an embedded S3 server, told step by step.
//!
//! Each step runs this same program as a user would, over HTTP, and shows the command, what it says, and what its report
//! holds. A step that does not end as it should ends the demo with 1.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

pub mod datasync;
pub mod s3;
mod tree;

use crate::exit_code::ExitCode;
use s3::S3Server;
use tree::AssetTree;

const BUCKET: &str = "site";

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the report cannot be read: {0}")]
    Report(#[from] serde_json::Error),
    #[error("{0}")]
    Unexpected(String),
}

/// Runs the demo.
pub async fn run() -> ExitCode {
    match tell().await {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            tracing::error!("the demo did not go as it should: {error}");
            ExitCode::Fatal
        }
    }
}

async fn tell() -> Result<(), DemoError> {
    let server = S3Server::start().await?;
    server.create_bucket(BUCKET);
    tokio::task::spawn_blocking(move || Story::begin(server)?.tell())
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// The demo's tree, its server, and where it speaks to.
struct Story {
    folder: tempfile::TempDir,
    tree: AssetTree,
    server: S3Server,
    out: io::Stdout,
}

/// What a step must come to.
struct Expected<'a> {
    exit_code: i64,
    counts: &'a [(&'a str, i64)],
}

impl Story {
    fn begin(server: S3Server) -> Result<Self, DemoError> {
        let folder = tempfile::tempdir()?;
        let tree = AssetTree::create(&folder.path().join("assets"))?;
        Ok(Self { folder, tree, server, out: io::stdout() })
    }

    fn tell(mut self) -> Result<(), DemoError> {
        let files = self.tree.files();
        self.say(&format!("A site's assets: {files} files in {} folders, served from an S3 bucket.", tree::FOLDERS))?;

        self.title("First sync: everything goes up, one large file in parts")?;
        self.step(&["sync", "--delete"], &Expected { exit_code: 0, counts: &[("uploaded", files), ("failed", 0)] })?;
        self.matches()?;

        self.title("Nothing changed: a listing, and no request a file")?;
        let report = self.step(
            &["sync", "--delete"],
            &Expected { exit_code: 0, counts: &[("unchanged", files), ("uploaded", 0)] },
        )?;
        let requests =
            |name: &str| report.pointer(&format!("/requests/{name}")).and_then(Value::as_u64).unwrap_or(u64::MAX);
        ensure(
            requests("put") + requests("head") + requests("get") == 0,
            "a run with nothing to do asked for single objects",
        )?;

        self.title("An editor's day: pages changed, one restored with its old date, one only touched, a folder renamed, some deleted")?;
        let day = self.tree.edit()?;
        self.say("What would be done (`plan` writes nothing):")?;
        self.step(
            &["plan", "--delete"],
            &Expected { exit_code: 0, counts: &[("uploaded", day.uploads), ("deleted", day.deletes)] },
        )?;
        self.step(
            &["sync", "--delete"],
            &Expected { exit_code: 0, counts: &[("uploaded", day.uploads), ("deleted", day.deletes)] },
        )?;
        self.matches()?;

        self.title("A folder with half of the site is moved away by mistake: no mass deletion")?;
        let lost = self.tree.lose_images()?;
        self.step(
            &["sync", "--delete"],
            &Expected { exit_code: 3, counts: &[("deleted", 0), ("deletes_withheld", lost)] },
        )?;
        self.say("It was meant? Then with the flag that the message names:")?;
        self.step(
            &["sync", "--delete", "--max-delete", &lost.to_string()],
            &Expected { exit_code: 0, counts: &[("deleted", lost)] },
        )?;
        self.matches()?;

        self.title("The file system is not mounted: the folder is there, and empty")?;
        self.tree.unmount()?;
        let objects = self.server.keys(BUCKET, "").len();
        self.step(
            &["sync", "--delete", "--max-delete", "100%"],
            &Expected { exit_code: 3, counts: &[("deleted", 0)] },
        )?;
        ensure(self.server.keys(BUCKET, "").len() == objects, "an empty source deleted something")?;
        self.say(&format!("\nAll {objects} objects are still there."))
    }

    /// Runs the program, shows what a user would see, and checks what came of it.
    fn step(&mut self, words: &[&str], expected: &Expected<'_>) -> Result<Value, DemoError> {
        let report_path = self.folder.path().join("report.json");
        let (command, options) = words.split_first().unwrap_or((&"sync", &[]));
        let source = self.tree.root().display().to_string();
        self.say(&format!("\n$ efs2s3 {command} {source} s3://{BUCKET}/www {}", options.join(" ")))?;
        let output = Command::new(std::env::current_exe()?)
            .args([command, source.as_str(), "s3://site/www", "--mode", "plain"])
            .args(options)
            .arg("--report")
            .arg(&report_path)
            .args(["--endpoint-url", &self.server.url()])
            .env("AWS_ACCESS_KEY_ID", "demo")
            .env("AWS_SECRET_ACCESS_KEY", "demo")
            .env("AWS_REGION", "us-east-1")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        self.show_plan(&String::from_utf8_lossy(&output.stdout))?;
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

    /// The plan's lines: enough of them to see what they are.
    fn show_plan(&mut self, lines: &str) -> Result<(), DemoError> {
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
    fn matches(&mut self) -> Result<(), DemoError> {
        let expected = self.tree.contents()?;
        let found = self.server.bodies(BUCKET, "www/");
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

    fn title(&mut self, text: &str) -> Result<(), DemoError> {
        writeln!(self.out, "\n\n== {text}")?;
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), DemoError> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::Unexpected(otherwise.to_owned())) }
}
