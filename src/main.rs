//! The program: arguments in, exit code out.
//!
//! At its end the process exits without shutting the runtime down. A thread may be stuck forever in a read on a mount
//! that does not respond. Dropping the runtime while threads end can also crash in glibc's `pthread_detach`.

use std::io::IsTerminal;
use std::process::ExitCode as ProcessExitCode;

use efs2s3::cli::{Invocation, LogFormat};
use efs2s3::exit_code::ExitCode;
use efs2s3::progress::Progress;
use efs2s3::{command, lambda, open_files, telemetry};

/// Each call to a file system that does not respond holds a thread forever. Other files and DNS need threads too.
const MOST_BLOCKED_THREADS: usize = 8192;

fn main() -> ProcessExitCode {
    open_files::allow_as_many_as_possible();
    if lambda::is_here() {
        let progress = Progress::new(false, false);
        telemetry::init(LogFormat::Json, &progress);
        return on_runtime(lambda::serve());
    }
    let invocation = match Invocation::of_process() {
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
    on_runtime(command::run(invocation, &progress))
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ProcessExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().max_blocking_threads(MOST_BLOCKED_THREADS).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the threads of the program");
            return ExitCode::Fatal.into();
        }
    };
    let code = runtime.block_on(work);
    std::mem::forget(runtime);
    code.into()
}
