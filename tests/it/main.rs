//! Tests of the whole program: the built binary, real trees, and an S3 server in memory that injects faults.
//!
//! Each module tests one area. The name of a test states the behaviour that it requires.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[path = "../support/name_lists.rs"]
mod name_lists;
#[path = "../support/odd_fs.rs"]
mod odd_fs;
#[path = "../support/trial.rs"]
mod trial;
#[path = "../support/within.rs"]
mod within;

mod apply;
mod aws_settings;
mod cases;
mod changes;
mod compare;
mod control;
mod credentials;
mod delete;
mod environment;
mod equivalence;
mod execution;
mod faults;
mod filters;
mod floors;
mod gone;
mod guarded;
mod guards;
mod headers;
mod hosts;
mod in_front;
mod index;
mod lambda;
mod lease;
mod lost_state;
mod metadata;
mod mounts;
mod names;
mod network;
mod outage;
mod pages;
mod permissions;
mod places;
mod proof;
mod property;
mod ranges;
mod reference;
mod renamed;
mod resume;
mod returned;
mod run;
mod runbook;
mod scale;
mod settings;
mod soak;
mod source;
mod stale;
mod suspect;
mod task;
mod torn;
mod transfer;
mod unread;
mod untrusted;
mod verify;
mod walk;
