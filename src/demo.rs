//! `efs2s3 demo`: the whole flow on embedded servers for S3 and DataSync, told step by step.
//!
//! Each step runs this same program as a user would, over HTTP, and shows the command, what it says, and what its report
//! holds. A step that does not end as it should ends the demo with 1.

mod direct;
mod first;
mod kept;
mod shared;
mod stage;
mod tree;

use crate::exit_code::ExitCode;
use fake_aws::s3::S3Server;
use stage::{DemoError, Stage};

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
    tokio::task::spawn_blocking(move || {
        direct::tell(&mut Stage::open(server.clone(), "site")?)?;
        first::tell(&mut Stage::open(server.clone(), "assets")?)?;
        kept::tell(&mut Stage::open(server.clone(), "archive")?)?;
        shared::tell(&mut Stage::open(server, "mirror")?)
    })
    .await
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
