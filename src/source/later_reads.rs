//! The later reads of a directory: whether it still lists a name that a stat does not find.
//!
//! One `ENOENT` of a stat does not prove that a name is gone: a directory may list a name whose server is down. So the run
//! reads the directory again. A read without the name shows that the name is gone. If each read lists the name and each
//! stat after it fails, the name is there, and cannot be statted. A file that comes and goes under one name, such as a lock
//! file, is missing in one of the reads, or a stat finds it.
//!
//! One read serves all names of the directory that were missing before it, and each name that it lacks.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use super::entry::Stat;
use super::names::{KindHint, Names};
use super::operations::Operations;
use super::place::{CallError, is_absence};

/// How many reads must list a name that no stat finds. A lock file is missing in one of them.
const READS: usize = 8;
/// The most later reads of one directory. After them, the last one counts.
const MOST_READS: u64 = 32;
const BUFFER_BYTES: usize = 32 << 10;

/// The later reads of one directory.
#[derive(Debug, Default)]
pub(super) struct LaterReads {
    started: AtomicU64,
    last: Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    /// Counts from 1.
    number: u64,
    names: Names,
}

impl LaterReads {
    /// Settles what a name is whose first stat did not find it, or found another kind than the directory listed.
    pub(super) fn settle(
        &self,
        name: &[u8],
        listed: KindHint,
        first: Result<Stat, Errno>,
        stat: impl Fn() -> Result<Stat, Errno>,
        read: impl Fn() -> Result<Names, CallError>,
    ) -> Result<Stat, CallError> {
        let mut statted = first;
        for _ in 0..READS {
            match statted {
                Ok(stat) if listed.fits(stat.kind) => return Ok(stat),
                Err(errno) if !is_absence(errno) => return Err(CallError::Failed(errno)),
                Ok(_) | Err(_) => {}
            }
            let is_gone = match (self.listed_from_now_on(name, &read)?, statted) {
                (None, _) => true,
                (Some(now), Ok(stat)) => now.fits(stat.kind),
                (Some(_), Err(_)) => false,
            };
            if is_gone {
                return Err(CallError::Gone);
            }
            statted = stat();
        }
        match statted {
            Ok(stat) if listed.fits(stat.kind) => Ok(stat),
            Ok(_) => Err(CallError::OtherKind),
            Err(errno) if is_absence(errno) => Err(CallError::NotFound(errno)),
            Err(errno) => Err(CallError::Failed(errno)),
        }
    }

    /// What the directory lists the name as: in a read that starts now, unless an earlier one lacks the name.
    fn listed_from_now_on(
        &self,
        name: &[u8],
        read: impl Fn() -> Result<Names, CallError>,
    ) -> Result<Option<KindHint>, CallError> {
        let before = self.started.load(Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last {
            let listed = last.names.find(name);
            if listed.is_none() || last.number > before || last.number >= MOST_READS {
                return Ok(listed);
            }
        }
        let number = 1 + self.started.fetch_add(1, Ordering::Relaxed);
        let names = read()?;
        let listed = names.find(name);
        *last = Some(Read { number, names });
        Ok(listed)
    }
}

/// Reads all names of an open directory.
pub(super) fn names_of(operations: &Operations, directory: BorrowedFd<'_>) -> Result<Names, Errno> {
    let mut names = Names::default();
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let (mut first, mut pushed) = (true, Ok(()));
    while operations.read_names(directory, buffer.spare_capacity_mut(), first, |name, file_type| {
        pushed = pushed.and(names.push(name, file_type.into()));
    })? {
        first = false;
    }
    pushed?;
    names.sort_bare();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::source::entry::EntryKind;

    /// A directory whose reads and stats are given by their numbers, from 0 on.
    struct Odd<'a> {
        reads: LaterReads,
        lists: &'a dyn Fn(usize) -> Option<KindHint>,
        stats: &'a dyn Fn(usize) -> Result<EntryKind, Errno>,
        counts: [Cell<usize>; 2],
    }

    impl<'a> Odd<'a> {
        fn new(
            lists: &'a dyn Fn(usize) -> Option<KindHint>,
            stats: &'a dyn Fn(usize) -> Result<EntryKind, Errno>,
        ) -> Self {
            Self { reads: LaterReads::default(), lists, stats, counts: [Cell::new(0), Cell::new(0)] }
        }

        fn settle(&self, name: &str) -> Result<EntryKind, CallError> {
            let next = |count: &Cell<usize>| count.replace(count.get() + 1);
            let stat = || (self.stats)(next(&self.counts[0])).map(of_kind);
            let read = || {
                let mut names = Names::default();
                if let Some(kind) = (self.lists)(next(&self.counts[1])) {
                    names.push(name.as_bytes(), kind).unwrap();
                }
                Ok(names)
            };
            self.reads.settle(name.as_bytes(), KindHint::File, stat(), stat, read).map(|stat| stat.kind)
        }

        fn read(&self) -> usize {
            self.counts[1].get()
        }
    }

    fn of_kind(kind: EntryKind) -> Stat {
        let folder = tempfile::tempdir().unwrap();
        let stat = Operations::default().stat(
            std::os::fd::AsFd::as_fd(&std::fs::File::open(folder.path()).unwrap()),
            b".",
            super::super::operations::LastLink::Keep,
        );
        Stat { kind, ..stat.unwrap() }
    }

    const GONE: Result<EntryKind, Errno> = Err(Errno::NOENT);

    #[test]
    fn a_name_that_a_later_read_lacks_is_gone() {
        let odd = Odd::new(&|_| None, &|_| GONE);
        assert_eq!(odd.settle("a"), Err(CallError::Gone));
        assert_eq!((odd.settle("b"), odd.read()), (Err(CallError::Gone), 1), "one read serves all names that it lacks");
    }

    #[test]
    fn a_name_that_comes_and_goes_is_gone_or_found() {
        let twice = Odd::new(&|read| (read < 2).then_some(KindHint::File), &|_| GONE);
        assert_eq!((twice.settle("lock"), twice.read()), (Err(CallError::Gone), 3));
        let found = Odd::new(&|_| Some(KindHint::File), &|stat| if stat < 3 { GONE } else { Ok(EntryKind::File) });
        assert_eq!((found.settle("lock"), found.read()), (Ok(EntryKind::File), 3));
    }

    #[test]
    fn a_name_that_stays_listed_is_not_found_and_costs_a_bounded_number_of_reads() {
        let odd = Odd::new(&|_| Some(KindHint::File), &|_| GONE);
        for _ in 0..100 {
            assert_eq!(odd.settle("dead"), Err(CallError::NotFound(Errno::NOENT)));
        }
        assert_eq!(odd.read(), 32);
    }

    #[test]
    fn a_name_of_another_kind_is_gone_only_if_the_directory_lists_that_kind_too() {
        let replaced = Odd::new(&|_| Some(KindHint::Directory), &|_| Ok(EntryKind::Directory));
        assert_eq!(replaced.settle("a"), Err(CallError::Gone));
        let lies = Odd::new(&|_| Some(KindHint::File), &|_| Ok(EntryKind::Directory));
        assert_eq!(lies.settle("a"), Err(CallError::OtherKind));
    }

    #[test]
    fn another_error_is_no_absence() {
        let odd = Odd::new(&|_| Some(KindHint::File), &|stat| if stat == 0 { GONE } else { Err(Errno::IO) });
        assert_eq!(odd.settle("a"), Err(CallError::Failed(Errno::IO)));
        let unread = LaterReads::default();
        let settled = unread.settle(
            b"a",
            KindHint::File,
            Err(Errno::NOENT),
            || unreachable!(),
            || Err(CallError::Failed(Errno::IO)),
        );
        assert_eq!(settled.unwrap_err(), CallError::Failed(Errno::IO));
    }
}
