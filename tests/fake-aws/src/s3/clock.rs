//! The server's clock, and S3's time formats.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

/// Returns the host's time plus `offset_seconds`.
pub(super) fn now(offset_seconds: i64) -> SystemTime {
    let host = SystemTime::now();
    let offset = Duration::from_secs(offset_seconds.unsigned_abs());
    let moved = if offset_seconds < 0 { host.checked_sub(offset) } else { host.checked_add(offset) };
    moved.unwrap_or(host)
}

/// Formats a time for `Date` and `Last-Modified`: `Tue, 15 Nov 1994 08:12:31 GMT`.
pub(super) fn http_date(time: SystemTime) -> String {
    whole_seconds(time).fmt(Format::HttpDate).unwrap_or_default()
}

/// Formats a time for XML: `2006-02-03T16:45:09.000Z`. S3 writes milliseconds there, but stores whole seconds.
pub(super) fn iso(time: SystemTime) -> String {
    let mut text = whole_seconds(time).fmt(Format::DateTime).unwrap_or_default();
    if text.pop().is_some() {
        text.push_str(".000Z");
    }
    text
}

/// Parses the time of an `x-amz-date` header, such as `20130524T000000Z`.
pub(super) fn amz_date(text: &str) -> Option<SystemTime> {
    let (day, time) = text.split_once('T')?;
    let iso = format!(
        "{}-{}-{}T{}:{}:{}Z",
        day.get(0..4)?,
        day.get(4..6)?,
        day.get(6..8)?,
        time.get(0..2)?,
        time.get(2..4)?,
        time.get(4..6)?,
    );
    let parsed = DateTime::from_str(&iso, Format::DateTime).ok()?;
    SystemTime::try_from(parsed).ok()
}

/// Returns the absolute difference of two times.
pub(super) fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap_or_default()
}

fn whole_seconds(time: SystemTime) -> DateTime {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    DateTime::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_floored_to_whole_seconds_in_both_formats() {
        let time = UNIX_EPOCH + Duration::from_millis(1_369_353_600_999);
        assert_eq!(iso(time), "2013-05-24T00:00:00.000Z");
        assert_eq!(http_date(time), "Fri, 24 May 2013 00:00:00 GMT");
    }

    #[test]
    fn an_amz_date_is_read_and_nonsense_is_not() {
        let time = UNIX_EPOCH + Duration::from_hours(380_376);
        assert_eq!(amz_date("20130524T000000Z"), Some(time));
        assert_eq!(amz_date("yesterday"), None);
    }
}
