//! The program: arguments in, exit code out.
//!
//! At its end the process exits without shutting the runtime down. A thread may be stuck forever in a read on a mount
//! that does not respond. Dropping the runtime while threads end can also crash in glibc's `pthread_detach`.

use std::io::IsTerminal;
use std::process::ExitCode as ProcessExitCode;

use efs2s3::cli::{Invocation, LogFormat};
use efs2s3::exit_code::ExitCode;
use efs2s3::progress::Progress;
use efs2s3::{command, lambda, telemetry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Each call on a file system that gives no answer keeps a thread for ever; other files and DNS go on beside many of them.
const MOST_BLOCKED_THREADS: usize = 8192;

fn main() -> ProcessExitCode {
    if lambda::is_here() {
        let progress = Progress::new(false, false);
        telemetry::init(LogFormat::Json, &progress);
        return on_runtime(lambda::serve());
    }
    let invocation = match Invocation::read(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => {
            let _ = error.print();
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success };
            return code.into();
        }
    };
    let is_terminal = std::io::stderr().is_terminal();
    let progress = Progress::new(invocation.cli.global.progress.applies(is_terminal), is_terminal);
    telemetry::init(invocation.cli.global.log_format, &progress);
    allow_open_files();
    on_runtime(command::run(invocation, &progress))
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ProcessExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().max_blocking_threads(MOST_BLOCKED_THREADS).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the system gives no threads to run on");
            return ExitCode::Fatal.into();
        }
    };
    let code = runtime.block_on(work);
    // A thread may be stuck in a read on a mount whose server is away: nothing waits for it. Nor is the runtime taken
    // apart: glibc's pthread_detach looks at a thread that may have ended and gone in this very moment, and crashes.
    std::mem::forget(runtime);
    code.into()
}

/// Takes as many open files as may be had: walkers, uploads and connections each need one, and the usual 1,024 are few.
fn allow_open_files() {
    let limits = getrlimit(Resource::Nofile);
    // Where it is refused, the limit that is there must do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
}
