//! The program: arguments in, exit code out.
//!
//! At its end the process exits without shutting the runtime down. A thread may be stuck forever in a read on a mount
//! that does not respond. Dropping the runtime while threads end can also crash in glibc's `pthread_detach`.

use std::io::IsTerminal;
use std::num::NonZero;
use std::process::ExitCode as ProcessExitCode;
use std::time::Duration;

use efs2s3::cli::{Invocation, LogFormat};
use efs2s3::exit_code::ExitCode;
use efs2s3::progress::Progress;
use efs2s3::{arenas, command, lambda, open_files, telemetry, threads};

/// Each call to a file system that does not respond holds a thread forever. Other files and DNS need threads too.
const MOST_BLOCKED_THREADS: usize = 8192;
/// Besides the threads of the runtime: a call to the file system, a name lookup, the results, the walk and one walker.
const OTHER_THREADS: usize = 6;
/// The runtime, and what a run needs at the same time.
const FEWEST_THREADS: usize = 4;
/// Longer than any run.
const FOREVER: Duration = Duration::from_hours(24 * 365);

fn main() -> ProcessExitCode {
    arenas::limit();
    open_files::allow_as_many_as_possible();
    if lambda::is_here() {
        let stderr = telemetry::init(LogFormat::Json, Progress::new(false, false));
        return stderr.during(|| on_runtime(lambda::serve()));
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
    let stderr = telemetry::init(invocation.cli.global.log_format, progress.clone());
    stderr.during(|| on_runtime(command::run(invocation, &progress)))
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ProcessExitCode {
    let wanted = threads::affordable(std::thread::available_parallelism().map_or(1, NonZero::get));
    // The runtime panics if it cannot start a thread.
    let startable = threads::startable(wanted + OTHER_THREADS);
    if startable < FEWEST_THREADS {
        tracing::error!(
            "cannot start the threads of the program: the system allows only {startable} more, and a run needs \
             {FEWEST_THREADS}. Raise the limit on threads (ulimit -u, ulimit -v, or the pids limit of the container)"
        );
        return ExitCode::Fatal.into();
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let most_blocked = threads::affordable(MOST_BLOCKED_THREADS);
    runtime.enable_all().max_blocking_threads(most_blocked);
    let is_limited = startable < wanted + OTHER_THREADS || most_blocked < MOST_BLOCKED_THREADS;
    // Always set: tokio ends the process if its own variable is not a number.
    let workers = if is_limited { startable.saturating_sub(OTHER_THREADS) } else { wanted };
    runtime.worker_threads(workers.max(1));
    if is_limited {
        // A thread that ended might not be replaceable.
        runtime.thread_keep_alive(FOREVER);
    }
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the threads of the program");
            return ExitCode::Fatal.into();
        }
    };
    if is_limited {
        runtime.spawn_blocking(|| {});
    }
    let code = runtime.block_on(work);
    std::mem::forget(runtime);
    code.into()
}
