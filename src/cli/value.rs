//! One value of an option: read from its text, or refused with what would be right.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

/// The smallest part that S3 takes, but for the last (S3 user guide, "Multipart upload limits").
pub(crate) const MIN_PART_BYTES: u64 = 5 << 20;
/// The largest part, and the largest object that one PUT can send.
pub(crate) const MAX_PART_BYTES: u64 = 5 << 30;
const MIN_MEMORY_BYTES: u64 = 16 << 20;

/// A number that the program may choose itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// The program's choice.
    Auto,
    /// This many, one or more.
    Exactly(usize),
}

impl Amount {
    /// The number, or what the program chooses.
    #[must_use]
    pub const fn or(self, choice: usize) -> usize {
        match self {
            Self::Auto => choice,
            Self::Exactly(number) => number,
        }
    }
}

/// How many deletes one run may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxDelete {
    /// More than 100 and more than 10 % of the objects listed are refused.
    Default,
    /// So many objects.
    Count(u64),
    /// So much of the objects listed, in percent.
    Percent(f64),
}

impl FromStr for MaxDelete {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let refused = || format!("'{text}' is neither a number of objects (250) nor a share of them (5%)");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| refused())?;
            return if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(refused()) };
        }
        text.parse().map(Self::Count).map_err(|_| refused())
    }
}

/// A Content-Type for an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// The extension in lower case, without its dot.
    pub extension: String,
    /// The type, as the header holds it.
    pub value: String,
}

impl FromStr for ContentType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((extension, value)) if !extension.is_empty() && value.contains('/') => {
                Ok(Self { extension: extension.trim_start_matches('.').to_lowercase(), value: header(value)? })
            }
            _ => Err(format!("'{text}' is not EXT=TYPE, as in html=text/html")),
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

fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("'{text}' is no size: write it as 8MiB, 64KiB or 500MB"))
}

fn size_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let bytes = size(text)?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    let (least, most) = (ByteSize(least).display().iec_short(), ByteSize(most).display().iec_short());
    Err(format!("'{text}' is not between {least}B and {most}B"))
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
    humantime::parse_duration(text).map_err(|_| format!("'{text}' is no duration: write it as 500ms, 30s, 5m or 1h"))
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        some => Ok(some),
    }
}

/// A value that becomes a header: visible ASCII and blanks, so that no request is refused for it halfway.
pub(crate) fn header(text: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{}' is no header value: visible ASCII characters and blanks only", text.escape_debug()))
    }
}

pub(super) fn word(text: &str) -> Result<String, String> {
    if text.contains(' ') { Err(format!("'{text}' holds a blank")) } else { header(text) }
}

pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && !text.contains(char::is_whitespace) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("'{text}' is no URL: write it as https://host or http://host:port")),
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
        assert!(part_size("1KiB").is_err() && part_size("6GiB").is_err() && part_size("5MiB").is_ok());
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        for (text, expected) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)));
        }
        assert!(duration("soon").is_err() && positive_duration("0s").is_err());
    }

    #[test]
    fn a_limit_of_deletes_is_a_number_or_a_share() {
        assert_eq!("150".parse(), Ok(MaxDelete::Count(150)));
        assert_eq!("5%".parse(), Ok(MaxDelete::Percent(5.0)));
        for text in ["many", "101%", "-1", "-1%", "", "%", "NaN%"] {
            assert!(text.parse::<MaxDelete>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_cannot_break_out_of_its_line() {
        assert!(header("max-age=60\r\nx-evil: 1").is_err());
        assert!("html=text/html\n".parse::<ContentType>().is_ok_and(|given| given.value == "text/html"));
        assert!("html".parse::<ContentType>().is_err());
    }

    #[test]
    fn an_endpoint_is_a_url() {
        assert!(endpoint("http://127.0.0.1:9000").is_ok());
        for text in ["127.0.0.1:9000", "https://", "ftp://x", "http:///x", "http://a b"] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }
}
