//! The user metadata in which DataSync stores a file's attributes: written in one dialect, read in every form seen.
//!
//! | key | value |
//! |---|---|
//! | `user-agent` | `aws-datasync` |
//! | `file-owner`, `file-group` | uid and gid in decimal digits |
//! | `file-permissions` | `st_mode` in octal digits, with the type: `0100644`, `0040755`, `0120777`; also seen: `100644`, `0644` |
//! | `file-mtime`, `file-atime` | nanoseconds since 1970 and `ns`; without it milliseconds, also with decimals; also seen: `seconds/nanoseconds` |
//!
//! (FSx for Lustre user guide, "POSIX metadata support"; AWS Snowball Edge guide; AWS DataSync user guide, "How DataSync
//! handles file and object metadata".) The program compares values, not texts, at the lower of the two precisions.
//! It writes the atime and does not compare it: EFS does not keep the atime up to date.

use std::collections::BTreeMap;

use crate::source::entry::Stat;
use crate::time::EpochNanos;

const USER_AGENT: (&str, &str) = ("user-agent", "aws-datasync");
const OWNER: &str = "file-owner";
const GROUP: &str = "file-group";
const PERMISSIONS: &str = "file-permissions";
const MTIME: &str = "file-mtime";
const ATIME: &str = "file-atime";

const NANOS_PER_MILLI: i128 = 1_000_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;
const PERMISSION_BITS: u32 = 0o7777;

/// Which attributes are stored and compared (DataSync's options `Mtime`, `Atime`, `Uid`, `Gid` and `PosixPermissions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Preserve {
    /// The time of the last change of the content.
    pub mtime: bool,
    /// The time of the last read.
    pub atime: bool,
    /// The owner.
    pub uid: bool,
    /// The group.
    pub gid: bool,
    /// The permissions.
    pub permissions: bool,
}

impl Preserve {
    /// All of them: DataSync's default.
    pub const ALL: Self = Self { mtime: true, atime: true, uid: true, gid: true, permissions: true };
}

/// The form in which values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The form of times.
    pub time: TimeForm,
    /// The form of permissions.
    pub mode: ModeForm,
}

/// The form of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// `1595002920000000000ns`
    Nanoseconds,
    /// `1595002920000`
    Milliseconds,
}

/// The form of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeForm {
    /// `0100644`
    SevenDigits,
    /// `100644`
    SixDigits,
    /// `0644`
    FourDigits,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { time: TimeForm::Nanoseconds, mode: ModeForm::SevenDigits }
    }
}

impl Dialect {
    /// Returns the dialect of an object that DataSync wrote; `None` if this metadata is not DataSync's.
    #[must_use]
    pub fn of(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let value = |key: &str| metadata.get(key).map(|text| text.trim());
        if value(USER_AGENT.0)? != USER_AGENT.1 {
            return None;
        }
        let time = match value(MTIME).or_else(|| value(ATIME)) {
            Some(text) if !text.ends_with("ns") && StoredTime::read(text).is_some() => TimeForm::Milliseconds,
            _ => TimeForm::Nanoseconds,
        };
        let mode = match value(PERMISSIONS).map_or(0, str::len) {
            6 => ModeForm::SixDigits,
            1..=5 => ModeForm::FourDigits,
            _ => ModeForm::SevenDigits,
        };
        Some(Self { time, mode })
    }

    /// Returns the metadata of a file.
    #[must_use]
    pub fn write(self, stat: &Stat, preserve: Preserve) -> BTreeMap<String, String> {
        let attributes = [
            (OWNER, preserve.uid, stat.uid.to_string()),
            (GROUP, preserve.gid, stat.gid.to_string()),
            (PERMISSIONS, preserve.permissions, self.mode(stat.mode)),
            (MTIME, preserve.mtime, self.time(stat.mtime)),
            (ATIME, preserve.atime, self.time(stat.atime)),
        ];
        std::iter::once((USER_AGENT.0.to_owned(), USER_AGENT.1.to_owned()))
            .chain(attributes.into_iter().filter(|(_, kept, _)| *kept).map(|(key, _, value)| (key.to_owned(), value)))
            .collect()
    }

    fn time(self, time: EpochNanos) -> String {
        match self.time {
            TimeForm::Nanoseconds => format!("{}ns", time.0),
            TimeForm::Milliseconds => time.0.div_euclid(NANOS_PER_MILLI).to_string(),
        }
    }

    fn mode(self, mode: u32) -> String {
        match self.mode {
            ModeForm::SevenDigits => format!("{mode:07o}"),
            ModeForm::SixDigits => format!("{mode:06o}"),
            ModeForm::FourDigits => format!("{:04o}", mode & PERMISSION_BITS),
        }
    }
}

/// Whether this program writes this key of user metadata.
pub(crate) fn is_attribute_key(key: &str) -> bool {
    [USER_AGENT.0, OWNER, GROUP, PERMISSIONS, MTIME, ATIME].contains(&key)
}

/// The attributes in an object's metadata; `None` for each one that is missing or cannot be parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredMetadata {
    mtime: Option<StoredTime>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

/// A time with its precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredTime {
    time: EpochNanos,
    precision_nanos: i128,
}

impl StoredMetadata {
    /// Parses an object's user metadata.
    #[must_use]
    pub fn read(metadata: &BTreeMap<String, String>) -> Self {
        let value = |key: &str| metadata.get(key).map(|text| text.trim());
        Self {
            mtime: value(MTIME).and_then(StoredTime::read),
            uid: value(OWNER).and_then(|text| text.parse().ok()),
            gid: value(GROUP).and_then(|text| text.parse().ok()),
            mode: value(PERMISSIONS).and_then(|text| u32::from_str_radix(text, 8).ok()),
        }
    }

    /// Whether every preserved attribute is stored, and equal to the file's.
    #[must_use]
    pub fn matches(&self, stat: &Stat, preserve: Preserve) -> bool {
        (!preserve.mtime || self.has_mtime_of(stat))
            && (!preserve.uid || self.uid == Some(stat.uid))
            && (!preserve.gid || self.gid == Some(stat.gid))
            && (!preserve.permissions || self.mode.is_some_and(|mode| is_same_mode(mode, stat.mode)))
    }

    /// Whether the stored mtime is equal to the file's.
    pub(crate) fn has_mtime_of(&self, stat: &Stat) -> bool {
        self.mtime.is_some_and(|stored| stored.equals(stat.mtime))
    }
}

/// The stored mode may lack the type of the file.
fn is_same_mode(stored: u32, mode: u32) -> bool {
    if stored > PERMISSION_BITS { stored == mode } else { stored == mode & PERMISSION_BITS }
}

impl StoredTime {
    fn equals(self, time: EpochNanos) -> bool {
        (self.time.0 - time.0).abs() < self.precision_nanos
    }

    fn read(text: &str) -> Option<Self> {
        if let Some(nanos) = text.strip_suffix("ns") {
            return Some(Self::precise(nanos.trim().parse().ok()?, 1));
        }
        if let Some((seconds, nanos)) = text.split_once('/') {
            let (seconds, nanos): (i64, u32) = (seconds.parse().ok()?, nanos.parse().ok()?);
            return Some(Self::precise(i128::from(seconds) * NANOS_PER_SECOND + i128::from(nanos), 1));
        }
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        if !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let millis: i64 = whole.parse().ok()?;
        // Six decimals of a millisecond are nanoseconds; further ones are ignored.
        let digits: String = decimals.chars().chain("000000".chars()).take(6).collect();
        let fraction: i128 = digits.parse().ok()?;
        let fraction = if whole.starts_with('-') { -fraction } else { fraction };
        let precision = decimals.chars().take(6).fold(NANOS_PER_MILLI, |precision, _| precision / 10);
        Some(Self::precise(i128::from(millis) * NANOS_PER_MILLI + fraction, precision))
    }

    fn precise(nanos: i128, precision_nanos: i128) -> Self {
        // No file system has times beyond this limit, and differences within it cannot overflow.
        let limit = i128::from(i64::MAX) * NANOS_PER_SECOND;
        Self { time: EpochNanos(nanos.clamp(-limit, limit)), precision_nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::entry::EntryKind;

    fn stat(mtime: i128, mode: u32) -> Stat {
        Stat {
            kind: EntryKind::File,
            size_bytes: 1,
            mtime: EpochNanos(mtime),
            ctime: EpochNanos(9),
            atime: EpochNanos(1_600_000_000_000_000_001),
            mode,
            uid: 1000,
            gid: 33,
            inode: (1, 1),
            seen_at: EpochNanos(0),
            is_mount_point: false,
        }
    }

    const MOMENT: i128 = 1_595_002_920_123_456_789;

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn has_mtime(text: &str, mtime: i128) -> bool {
        StoredMetadata::read(&metadata(&[(MTIME, text)])).has_mtime_of(&stat(mtime, 0))
    }

    #[test]
    fn values_are_written_in_the_documented_form() {
        let written = Dialect::default().write(&stat(MOMENT, 0o100_644), Preserve::ALL);
        let expected = [
            ("file-atime", "1600000000000000001ns"),
            ("file-group", "33"),
            ("file-mtime", "1595002920123456789ns"),
            ("file-owner", "1000"),
            ("file-permissions", "0100644"),
            ("user-agent", "aws-datasync"),
        ];
        assert_eq!(written.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
        let modes = [(0o040_755, "0040755"), (0o120_777, "0120777"), (0o104_711, "0104711")];
        for (mode, text) in modes {
            assert_eq!(Dialect::default().mode(mode), text);
        }
    }

    #[test]
    fn every_dialect_is_recognised_and_its_values_are_equal_when_read_back() {
        for time in [TimeForm::Nanoseconds, TimeForm::Milliseconds] {
            for mode in [ModeForm::SevenDigits, ModeForm::SixDigits, ModeForm::FourDigits] {
                for nanos in
                    [MOMENT, 0, -1, -5_500_000_000, -62_135_596_800 * NANOS_PER_SECOND, 7_000_000_000_000_000_001]
                {
                    for bits in [0o100_644, 0o040_755, 0o120_777, 0o100_000, 0o104_711] {
                        let (dialect, stat) = (Dialect { time, mode }, stat(nanos, bits));
                        let written = dialect.write(&stat, Preserve::ALL);
                        assert!(StoredMetadata::read(&written).matches(&stat, Preserve::ALL), "{written:?}");
                        assert_eq!(Dialect::of(&written), Some(dialect), "{written:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn times_are_read_in_every_form() {
        for text in ["1595002920123456789ns", "1595002920/123456789", "1595002920123.456789", " 1595002920123456789ns "]
        {
            assert!(has_mtime(text, MOMENT), "{text}");
            assert!(!has_mtime(text, MOMENT + 1), "{text} is precise");
        }
        for text in ["1595002920123", "1595002920123.4", "1595002920123.45678"] {
            assert!(has_mtime(text, MOMENT), "{text}");
        }
        assert!(!has_mtime("1595002920123", MOMENT + NANOS_PER_MILLI));
        assert!(!has_mtime("1595002920123.4", MOMENT + 100_000));
        assert!(has_mtime("-5500", -5_500_000_000) && has_mtime("-5500.25", -5_500_250_000));
        for text in
            ["", "ns", "x", "1.x", "1/", "/1", "1e9", "--1", "1..2", "99999999999999999999999999999999999999999ns"]
        {
            assert_eq!(StoredTime::read(text), None, "{text}");
        }
        // The largest numbers do not overflow.
        assert!(!has_mtime(&format!("{}ns", i128::MIN), i128::from(i64::MAX) * NANOS_PER_SECOND));
    }

    #[test]
    fn permissions_are_read_with_and_without_type_and_leading_zero() {
        let has_mode = |text: &str, mode| {
            let stored = StoredMetadata::read(&metadata(&[(PERMISSIONS, text)]));
            let only_mode = Preserve { permissions: true, mtime: false, atime: false, uid: false, gid: false };
            stored.matches(&stat(0, mode), only_mode)
        };
        for text in ["0100644", "100644", "0644", "644"] {
            assert!(has_mode(text, 0o100_644), "{text}");
            assert!(!has_mode(text, 0o100_640), "{text}");
        }
        assert!(!has_mode("0100777", 0o120_777), "a file is not a link");
        assert!(has_mode("0777", 0o120_777) && !has_mode("u=rw", 0o100_600));
    }

    #[test]
    fn an_attribute_that_is_not_preserved_is_neither_written_nor_compared() {
        let stat = stat(MOMENT, 0o100_644);
        let nothing = Preserve { mtime: false, atime: false, uid: false, gid: false, permissions: false };
        assert_eq!(Dialect::default().write(&stat, nothing).len(), 1, "only the user agent");
        assert!(StoredMetadata::default().matches(&stat, nothing));
        assert!(!StoredMetadata::default().matches(&stat, Preserve { gid: true, ..nothing }));
        let no_owner = Preserve { uid: false, ..Preserve::ALL };
        let written = Dialect::default().write(&stat, no_owner);
        assert!(!written.contains_key(OWNER) && StoredMetadata::read(&written).matches(&stat, no_owner));
        assert!(!StoredMetadata::read(&written).matches(&stat, Preserve::ALL));
    }

    #[test]
    fn only_metadata_of_datasync_has_a_dialect() {
        assert_eq!(Dialect::of(&metadata(&[(MTIME, "1595002920123")])), None);
        assert_eq!(Dialect::of(&metadata(&[("user-agent", "aws-storage-gateway"), (MTIME, "1")])), None);
        let known = metadata(&[("user-agent", "aws-datasync"), (MTIME, "1595002920123"), (PERMISSIONS, "100644")]);
        let expected = Dialect { time: TimeForm::Milliseconds, mode: ModeForm::SixDigits };
        assert_eq!(Dialect::of(&known), Some(expected));
    }
}
