//! One value of an option, read from its text. An error shows how to write the value.

use std::ffi::OsStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

use crate::endpoint_url::EndpointUrl;

pub(super) use crate::destination::headers::header_value;
use crate::key::SourcePath;

/// The smallest part that S3 accepts, except for the last (S3 user guide, "Multipart upload limits").
pub(crate) const MIN_PART_BYTES: u64 = 5 << 20;
/// The largest part, and the largest object of one PUT.
pub(crate) const MAX_PART_BYTES: u64 = 5 << 30;
const MIN_MEMORY_BYTES: u64 = 16 << 20;

/// A number that the program may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// The program chooses.
    Auto,
    /// This number, at least 1.
    Exactly(usize),
}

impl Amount {
    /// Returns the number, or `choice` for `auto`.
    pub(crate) const fn or(self, choice: usize) -> usize {
        match self {
            Self::Auto => choice,
            Self::Exactly(number) => number,
        }
    }
}

pub(super) fn amount(text: &str) -> Result<Amount, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(Amount::Exactly(number)),
        _ if text == "auto" => Ok(Amount::Auto),
        _ => Err(format!("'{text}' is neither 'auto' nor a number from 1 to 10000")),
    }
}

/// Reads a number of ranges, up to the largest array job of AWS Batch.
pub(super) fn parts(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err(format!("'{text}' is not a number from 1 to 10000")),
    }
}

fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("'{text}' is not a size: write it as 8MiB, 64KiB or 500MB"))
}

fn size_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let bytes = size(text)?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    let (least, most) = (ByteSize(least).display().iec(), ByteSize(most).display().iec());
    Err(format!("'{text}' is not between {least} and {most}"))
}

pub(super) fn part_size(text: &str) -> Result<u64, String> {
    size_within(text, MIN_PART_BYTES, MAX_PART_BYTES)
}

pub(super) fn threshold(text: &str) -> Result<u64, String> {
    size_within(text, 1, MAX_PART_BYTES)
}

pub(super) fn memory(text: &str) -> Result<u64, String> {
    size_within(text, MIN_MEMORY_BYTES, 1 << 50)
}

pub(super) fn positive_size(text: &str) -> Result<u64, String> {
    size_within(text, 1, 1 << 50)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("'{text}' is not a duration: write it as 500ms, 30s, 5m or 1h"))
}

/// Reads the time to live of a lease. A shorter lease could expire while a request is retried.
pub(super) fn lease_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if ttl < Duration::from_secs(1) { Err("a lease is valid for at least 1s".to_owned()) } else { Ok(ttl) }
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        some => Ok(some),
    }
}

/// Reads a path of the source.
pub(super) fn source_path(text: &str) -> Result<SourcePath, String> {
    text.parse().map_err(|error| format!("'{text}' {error}"))
}

pub(super) fn word(text: &str) -> Result<String, String> {
    if text.contains(' ') { Err(format!("'{text}' contains a space")) } else { header_value(text) }
}

/// Reads an endpoint. clap's own errors would repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint;

impl TypedValueParser for Endpoint {
    type Value = EndpointUrl;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, text: &OsStr) -> Result<EndpointUrl, Error> {
        text.to_string_lossy().parse().map_err(|error| {
            Error::raw(ErrorKind::ValueValidation, format!("--endpoint-url: {error}\n")).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_with_their_unit() {
        assert_eq!(size("8MiB"), Ok(8 << 20));
        assert_eq!(size("64KiB"), Ok(64 << 10));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert!(size("many").is_err() && size("-1MiB").is_err() && size("").is_err());
        assert!(part_size("1KiB").is_err() && part_size("5MiB").is_ok());
        assert_eq!(part_size("6GiB"), Err("'6GiB' is not between 5.0 MiB and 5.0 GiB".to_owned()));
        assert_eq!(threshold("6GiB"), Err("'6GiB' is not between 1 B and 5.0 GiB".to_owned()));
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        for (text, expected) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)));
        }
        assert!(duration("soon").is_err() && positive_duration("0s").is_err());
    }
}
