//! The merge and the decisions for unchanged files: the computation of a run with nothing to do.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use efs2s3::key::RelativeKey;
use efs2s3::object::{ETag, Object, StorageClass};
use efs2s3::source::entry::{Entry, EntryKind, FileEntry, Found, Stat};
use efs2s3::sync::clocks::Clocks;
use efs2s3::sync::rules::{CompareBy, Rules};
use efs2s3::sync::survey::decide::{Decision, decide};
use efs2s3::sync::survey::merge::{Merge, Pair};
use efs2s3::time::EpochNanos;

const FILES: usize = 8_000;

fn sides() -> (Vec<Entry>, Vec<Object>) {
    let stat = Stat {
        kind: EntryKind::File,
        size_bytes: 1,
        mtime: EpochNanos(0),
        ctime: EpochNanos(0),
        atime: EpochNanos(0),
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        inode: (0, 0),
        seen_at: EpochNanos(0),
        is_mount_point: false,
    };
    let file = FileEntry { stat, effective_ctime: EpochNanos(0), through_link: false, link_text_md5: None };
    let key = |number| format!("images/{:03}/{number:06}.jpg", number / 100);
    let object = |number| Object {
        key: RelativeKey::new(key(number)),
        size_bytes: 1,
        etag: ETag::new("0123456789abcdef0123456789abcdef"),
        last_modified: EpochNanos(1_700_000_000_000_000_000),
        storage_class: StorageClass::Standard,
    };
    (
        (0..FILES).map(|number| Entry { key: RelativeKey::new(key(number)), found: Found::File(file) }).collect(),
        (0..FILES).map(object).collect(),
    )
}

fn kept((entries, objects): (Vec<Entry>, Vec<Object>)) -> usize {
    let rules = Rules {
        compare_by: CompareBy::TimesOrContent,
        min_age: Duration::ZERO,
        delete: true,
        overwrite: true,
        preserve: None,
        suspect: efs2s3::sync::rules::Suspect::default(),
        mode_changed: false,
    };
    let clocks = Clocks { difference: Duration::ZERO, now: EpochNanos::now(), latest: EpochNanos::now() };
    let mut merge = Merge::default();
    let is_kept = |pair: Pair| match pair {
        Pair::Entry(Entry { found: Found::File(file), .. }, Some(object)) => {
            matches!(decide(&file, &object, None, &rules, clocks), Decision::Keep(_))
        }
        Pair::Entry(..) | Pair::Orphan(_) | Pair::Covered(..) => false,
    };
    let mut pairs = merge.pairs(entries);
    pairs.add(objects);
    pairs.complete();
    pairs.filter(|pair| pair.as_ref().is_ok_and(|pair| is_kept(pair.clone()))).count()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(u64::try_from(FILES).unwrap()));
    assert_eq!(kept(sides()), FILES);
    group.bench_function("a range in which nothing changed", |b| {
        b.iter_batched(sides, |sides| black_box(kept(sides)), BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(merges, benches);
criterion_main!(merges);
