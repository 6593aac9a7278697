//! `efs2s3 demo`: the whole flow on an embedded S3 server, told step by step.

pub mod s3;

use crate::exit_code::ExitCode;

/// Runs the demo.
pub async fn run() -> ExitCode {
    ExitCode::Success
}
