//! An event of EventBridge, as far as it matters here.

use serde_json::Value;

/// What an event calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The DataSync task is to be started.
    Start,
    /// An execution has changed its state.
    Changed {
        /// Its ARN.
        execution: String,
        /// The state: `ERROR`, `SUCCESS`, and others before its end.
        state: String,
    },
}

impl Event {
    /// Anything that is no state change of an execution, an empty test event too, means to start.
    pub(super) fn read(payload: &Value) -> Self {
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/source") == "aws.datasync" && text("/detail-type") == "DataSync Task Execution State Change" {
            Self::Changed { execution: text("/resources/0").to_owned(), state: text("/detail/State").to_owned() }
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
    fn a_state_change_is_told_from_everything_else() {
        let change = |state: &str| {
            json!({
                "source": "aws.datasync",
                "detail-type": "DataSync Task Execution State Change",
                "resources": ["arn:…/execution/exec-1"],
                "detail": { "State": state },
            })
        };
        for state in ["ERROR", "SUCCESS"] {
            let (execution, state) = ("arn:…/execution/exec-1".to_owned(), state.to_owned());
            assert_eq!(Event::read(&change(&state)), Event::Changed { execution, state });
        }
        for other in [json!({}), json!(null), json!({"source": "aws.events", "detail-type": "Scheduled Event"})] {
            assert_eq!(Event::read(&other), Event::Start, "{other}");
        }
    }
}
