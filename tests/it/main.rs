//! The program as somebody runs it: the built binary, real trees, and an S3 server in memory that fails on purpose.
//!
//! A module an area of behaviour; each test's name is the sentence that it holds the program to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test says what it expects by failing"
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
mod cases;
mod compare;
mod control;
mod delete;
mod equivalence;
mod faults;
mod filters;
mod floors;
mod foreign;
mod index;
mod lambda;
mod lease;
mod metadata;
mod names;
mod permissions;
mod property;
mod ranges;
mod reference;
mod resume;
mod run;
mod runbook;
mod scale;
mod soak;
mod torn;
mod transfer;
mod verify;
mod walk;
