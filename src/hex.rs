//! Hexadecimal: bytes as text with two lower-case digits for each.

use std::fmt::Write;

/// Returns the hexadecimal digits of `bytes`.
pub(crate) fn hex<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> String {
    bytes.into_iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
