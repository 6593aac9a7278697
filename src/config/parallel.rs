//! How much a run does in parallel: what the options ask for, as far as the limit on open files allows it.

use std::sync::Once;

use crate::cli::Amount;
use crate::open_files::Shares;

/// Enough for a bucket that takes 3,500 writes per second at about 50 ms each; the run learns the limit in force.
const CONCURRENCY: usize = 256;
/// AWS advises at least 64 threads per client (EFS user guide, "Performance tips").
const WALKERS: usize = 64;

/// The most requests in flight.
pub(super) fn requests(asked: Amount) -> usize {
    static LOGGED: Once = Once::new();
    at_most(Shares::of_process().requests, asked, CONCURRENCY, "--concurrency", &LOGGED)
}

/// The threads of the walk.
pub(super) fn walkers(asked: Amount) -> usize {
    static LOGGED: Once = Once::new();
    at_most(Shares::of_process().walkers, asked, WALKERS, "--walkers", &LOGGED)
}

fn at_most(most: usize, asked: Amount, usual: usize, option: &str, logged: &Once) -> usize {
    let number = asked.or(usual);
    if number > most && asked != Amount::Auto {
        logged.call_once(|| {
            tracing::warn!(
                option,
                "the limit on open files allows {most}, not {number}, and the run uses {most}: raise the limit (ulimit -n)"
            );
        });
    }
    number.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_reduces_what_an_option_asks_for() {
        let at_most = |most, asked| at_most(most, asked, 256, "--concurrency", &Once::new());
        assert_eq!((at_most(1000, Amount::Auto), at_most(53, Amount::Auto)), (256, 53));
        assert_eq!((at_most(1000, Amount::Exactly(300)), at_most(53, Amount::Exactly(300))), (300, 53));
        assert_eq!(at_most(53, Amount::Exactly(2)), 2);
    }
}
