//! Compares the walk in S3's key order with `walkdir`, which reads and stats the same tree in one thread.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use efs2s3::filter::Filter;
use efs2s3::source::operations::Operations;
use efs2s3::source::root::Root;
use efs2s3::source::walk::{Links, WalkOptions, start};
use walkdir::WalkDir;

const FILES: usize = 50_000;

fn plant(root: &Path) {
    for number in 0..FILES {
        let folder = root.join(format!("d{:02}/e{}", number % 50, number / 50 % 10));
        if number < 500 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("f{number:06}")), "x").unwrap();
    }
}

fn walk(root: &Path, walkers: usize) -> usize {
    let options = WalkOptions {
        walkers,
        look_ahead_entries: 20_000,
        batch_entries: 1_000,
        source_timeout: Duration::from_mins(5),
        warn_after: Duration::from_secs(20),
        links: Links::Follow,
        skip_reserved: false,
        max_key_bytes: 1024,
        filter: Arc::new(Filter::default()),
        tree_range: Arc::default(),
        mount_points: Arc::default(),
        names_only: false,
    };
    let root = Arc::new(Root::open(root).unwrap());
    let mut batches = start(root, options, Arc::new(Operations::default()), Arc::default()).unwrap();
    std::iter::from_fn(|| batches.blocking_recv()).map(|batch| batch.len()).sum()
}

fn benches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    plant(folder.path());
    let mut group = criterion.benchmark_group("walk");
    group.sample_size(10).throughput(Throughput::Elements(u64::try_from(FILES).unwrap()));
    for walkers in [1, 4, 64] {
        group.bench_function(format!("in key order, {walkers} walkers"), |b| {
            b.iter(|| black_box(walk(folder.path(), walkers)));
        });
    }
    group.bench_function("walkdir", |b| {
        b.iter(|| {
            WalkDir::new(folder.path()).into_iter().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
        });
    });
    group.finish();
}

criterion_group!(walks, benches);
criterion_main!(walks);
