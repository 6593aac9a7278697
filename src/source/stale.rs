//! A stale handle (`ESTALE`): the file server no longer has a file or directory that this client still refers to, because
//! another client replaced or removed it. The path may lead to a new file by now, or nowhere.
//!
//! A call that starts from a path is made again. A call on an open file or directory cannot succeed any more: its caller
//! opens the path again. Both end after [`LOOKUPS`].

use rustix::io::Errno;

/// How many times the run looks a path up if a stale handle ends each call.
pub(crate) const LOOKUPS: usize = 3;

/// Makes a call that looks up a path, and makes it again while it ends in a stale handle.
pub(super) fn looked_up<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..LOOKUPS {
        match call() {
            Err(Errno::STALE) => {}
            result => return result,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_made_again_only_while_it_ends_in_a_stale_handle() {
        for (results, calls, expected) in [
            (vec![Ok(1)], 1, Ok(1)),
            (vec![Err(Errno::IO), Ok(1)], 1, Err(Errno::IO)),
            (vec![Err(Errno::STALE), Err(Errno::NOENT)], 2, Err(Errno::NOENT)),
            (vec![Err(Errno::STALE), Err(Errno::STALE), Ok(1)], 3, Ok(1)),
            (vec![Err(Errno::STALE); 4], LOOKUPS, Err(Errno::STALE)),
        ] {
            let mut made = 0;
            let mut results = results.into_iter();
            let result = looked_up(|| {
                made += 1;
                results.next().unwrap()
            });
            assert_eq!((result, made), (expected, calls));
        }
    }
}
