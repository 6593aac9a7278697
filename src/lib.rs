//! `efs2s3` copies a file tree on Amazon EFS to an S3 prefix, exactly and cheaply.
//!
//! Start reading at [`sync`], the pipeline. `DESIGN.md` shows where everything is, and gives the reasons for each
//! decision.

pub mod arenas;
mod aws;
mod boundary;
mod bucket;
pub mod cli;
pub mod command;
pub mod config;
mod counted;
pub mod datasync;
#[cfg(feature = "demo")]
pub mod demo;
mod descriptor;
mod destination;
mod device;
mod endpoint_url;
pub mod exit_code;
pub mod fence;
pub mod filter;
mod hex;
pub mod index;
pub mod key;
mod key_range;
pub mod lambda;
pub mod lease;
pub mod location;
mod log_queue;
pub mod manifest;
pub mod metadata;
mod mount_table;
mod mounts;
pub mod object;
pub mod open_files;
mod partition;
pub mod progress;
mod range_list;
mod recorded_options;
pub mod report;
mod result_file;
mod result_place;
pub mod scope;
mod sent_bytes;
mod served;
pub mod session;
pub mod shutdown;
pub mod source;
mod spool;
pub mod state;
pub mod store;
pub mod sync;
pub mod telemetry;
pub mod threads;
pub mod time;
pub mod uploads;
