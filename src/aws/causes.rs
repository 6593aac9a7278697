//! The causes of an error of the SDK, for a reader: one line, without the debug text of the SDK's types.

/// Returns the messages of an error and of its causes, from the outside. A message that repeats its cause, and one that
/// is debug text, is left out.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for error in std::iter::successors(Some(error), |error| error.source()) {
        let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let is_repeated = messages.last().is_some_and(|last| last.contains(&text));
        if !is_repeated && !is_debug_text(&text) {
            messages.push(text);
        }
    }
    messages
}

/// Whether a message of the SDK shows the fields of its types.
fn is_debug_text(text: &str) -> bool {
    ["(Unhandled(", " { ", "likely a bug in the SDK"].iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn debug_text_and_repetitions_are_left_out() {
        let root = Link("connection refused", None);
        let debug = Link("(Unhandled(Unhandled { source: DispatchFailure }))", Some(Box::new(root)));
        let error =
            Link("cannot send: dispatch\n failure", Some(Box::new(Link("dispatch failure", Some(Box::new(debug))))));
        assert_eq!(causes(&error), ["cannot send: dispatch failure", "connection refused"]);
    }
}
