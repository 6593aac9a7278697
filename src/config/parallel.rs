//! How much a run does in parallel: what the options ask for, as far as the limit on open files allows it.

use std::sync::Once;

use crate::cli::Amount;
use crate::open_files::Shares;

/// Enough for a bucket that takes 3,500 writes per second at about 50 ms each; the run learns the limit in force.
const CONCURRENCY: usize = 256;
/// AWS advises at least 64 threads per client (EFS user guide, "Performance tips").
const WALKERS: usize = 64;

/// Below this limit on open files, a run with the defaults is slower, and warns.
const ENOUGH_FILES: usize = 1024;

/// The most requests in flight.
pub(super) fn requests(asked: Amount) -> usize {
    static LOGGED: Once = Once::new();
    let shares = Shares::of_process();
    at_most(shares, shares.requests, asked, CONCURRENCY, "--concurrency", &LOGGED)
}

/// The threads of the walk.
pub(super) fn walkers(asked: Amount) -> usize {
    static LOGGED: Once = Once::new();
    let shares = Shares::of_process();
    at_most(shares, shares.walkers, asked, WALKERS, "--walkers", &LOGGED)
}

/// Returns what is asked for, or `most` if the limit on open files allows no more, with a warning.
fn at_most(shares: Shares, most: usize, asked: Amount, usual: usize, option: &str, logged: &Once) -> usize {
    let Shares { limit, .. } = shares;
    match asked {
        Amount::Exactly(number) if number > most => logged.call_once(|| {
            tracing::warn!(
                "{option} {number} needs more than {limit} open files, the hard limit (ulimit -Hn): using {most}"
            );
        }),
        Amount::Auto if limit < ENOUGH_FILES => logged.call_once(|| {
            tracing::warn!(
                "the hard limit on open files (ulimit -Hn) is {limit}, and makes the run slower: using {option} {most}, \
                 not {usual}. Raise it to {ENOUGH_FILES} or more"
            );
        }),
        Amount::Exactly(_) | Amount::Auto => {}
    }
    asked.or(usual).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_reduces_what_an_option_asks_for() {
        let shares = |requests| Shares { limit: 1024, requests, walkers: 64, directories: 128 };
        let at_most = |most, asked| at_most(shares(most), most, asked, 256, "--concurrency", &Once::new());
        assert_eq!((at_most(1000, Amount::Auto), at_most(53, Amount::Auto)), (256, 53));
        assert_eq!((at_most(1000, Amount::Exactly(300)), at_most(53, Amount::Exactly(300))), (300, 53));
        assert_eq!(at_most(53, Amount::Exactly(2)), 2);
    }
}
