//! An EventBridge event, as far as it matters here.

use serde_json::Value;

/// What the event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Start the DataSync task.
    Start,
    /// An execution changed its state: `ERROR`, `SUCCESS`, or another state before the end.
    Changed { execution_arn: String, state: String },
    /// An event of DataSync that this program cannot read, for this reason.
    Unreadable(String),
}

/// The states of an execution (DataSync user guide, "Monitoring with EventBridge"; API reference,
/// `DescribeTaskExecution`).
const STATES: [&str; 10] = [
    "QUEUED",
    "INITIALIZING",
    "LAUNCHING",
    "LAUNCHED",
    "PREPARING",
    "TRANSFERRING",
    "VERIFYING",
    "CANCELLING",
    "SUCCESS",
    "ERROR",
];

impl Event {
    /// Reads an event. Every event that is not DataSync's means `Start`, even an empty test event.
    pub(super) fn read(payload: &Value) -> Self {
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/source") != "aws.datasync" {
            return Self::Start;
        }
        let (kind, execution_arn, state) = (text("/detail-type"), text("/resources/0"), text("/detail/State"));
        if kind != "DataSync Task Execution State Change" {
            Self::Unreadable(format!("its detail-type is '{kind}'"))
        } else if !execution_arn.contains("/execution/") {
            Self::Unreadable(format!("its first resource '{execution_arn}' is not the ARN of an execution"))
        } else if !STATES.contains(&state) {
            Self::Unreadable(format!("its detail has the unknown State '{state}'"))
        } else {
            Self::Changed { execution_arn: execution_arn.to_owned(), state: state.to_owned() }
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

    #[test]
    fn an_unknown_event_of_datasync_is_unreadable() {
        let known = json!({
            "source": "aws.datasync",
            "detail-type": "DataSync Task Execution State Change",
            "resources": ["arn:…/execution/exec-1"],
            "detail": { "State": "ERROR" },
        });
        assert!(matches!(Event::read(&known), Event::Changed { .. }));
        for (field, value) in [
            ("detail-type", json!("DataSync Task State Change")),
            ("resources", json!([])),
            ("resources", json!(["arn:…:task/task-1"])),
            ("detail", json!({})),
            ("detail", json!({ "State": "error" })),
            ("detail", json!({ "State": 7 })),
        ] {
            let mut event = known.clone();
            event[field] = value;
            assert!(matches!(Event::read(&event), Event::Unreadable(_)), "{event}");
        }
    }
}
