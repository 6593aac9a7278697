//! A number with its noun, such as "1 file" and "2 files".

/// Returns the number with the form of the noun that fits it.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
