//! Service message: what a service says about an error, as this program shows it.

/// A header of each request that is signed with temporary credentials.
const TOKEN: &str = "x-amz-security-token";

/// Returns the first paragraph of the message of a service, as one line. The next one of a wrong signature repeats the
/// headers of the request, with the session token.
pub(crate) fn service_message(message: &str) -> String {
    let lines = message.lines().map(str::trim).skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    let line = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    match line.to_ascii_lowercase().find(TOKEN).and_then(|start| line.get(..start)) {
        Some(before) => format!("{before}{TOKEN}…"),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_without_a_session_token() {
        for (message, shown) in [
            ("Rate exceeded", "Rate exceeded"),
            ("", ""),
            (" one\n  and two\n", "one and two"),
            (
                "Wrong signature.\r\n\r\nThe Canonical String is\n'POST\nx-amz-security-token:secret\n'",
                "Wrong signature.",
            ),
            ("\n\nbad X-Amz-Security-Token=secret&X-Amz-Date=1", "bad x-amz-security-token…"),
        ] {
            assert_eq!(service_message(message), shown, "{message}");
        }
    }
}
