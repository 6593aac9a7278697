#![doc = include_str!("../README.md")]

#[cfg(test)]
mod client;
pub mod datasync;
mod listener;
pub mod s3;
