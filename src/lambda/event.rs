//! An EventBridge event, as far as it matters here.

use serde_json::Value;

/// What the event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Start the DataSync task.
    Start,
    /// An execution changed its state: `ERROR`, `SUCCESS`, or another state before the end.
    Changed { execution_arn: String, state: String },
}

impl Event {
    /// Reads an event. Every event that is not a state change of an execution means `Start`, even an empty test event.
    pub(super) fn read(payload: &Value) -> Self {
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/source") == "aws.datasync" && text("/detail-type") == "DataSync Task Execution State Change" {
            Self::Changed { execution_arn: text("/resources/0").to_owned(), state: text("/detail/State").to_owned() }
        } else {
            Self::Start
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_change_is_distinguished_from_every_other_event() {
        let change = |state: &str| {
            json!({
                "source": "aws.datasync",
                "detail-type": "DataSync Task Execution State Change",
                "resources": ["arn:…/execution/exec-1"],
                "detail": { "State": state },
            })
        };
        for state in ["ERROR", "SUCCESS"] {
            let (execution_arn, state) = ("arn:…/execution/exec-1".to_owned(), state.to_owned());
            assert_eq!(Event::read(&change(&state)), Event::Changed { execution_arn, state });
        }
        for other in [json!({}), json!(null), json!({"source": "aws.events", "detail-type": "Scheduled Event"})] {
            assert_eq!(Event::read(&other), Event::Start, "{other}");
        }
    }
}
