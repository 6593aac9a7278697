//! `efs2s3 demo`: shows what the program does, step by step, on embedded S3 and DataSync servers.
//!
//! Each step runs this program as a user would, and shows the command, its output and its report. If a step has another
//! result than expected, the demo ends with exit code 1.

mod datasync;
mod direct;
mod ranges;
mod stage;
mod state;
mod tree;

use fake_aws::s3::S3Server;

use crate::exit_code::ExitCode;
use stage::{DemoError, Stage};

/// Runs the demo.
pub async fn run() -> ExitCode {
    match run_steps().await {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            tracing::error!("the demo failed: {error}");
            ExitCode::Fatal
        }
    }
}

async fn run_steps() -> Result<(), DemoError> {
    let server = S3Server::start().await?;
    tokio::task::spawn_blocking(move || {
        direct::run(&mut Stage::open(server.clone(), "site")?)?;
        datasync::run(&mut Stage::open(server.clone(), "assets")?)?;
        state::run(&mut Stage::open(server.clone(), "archive")?)?;
        ranges::run(&mut Stage::open(server, "mirror")?)
    })
    .await
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
