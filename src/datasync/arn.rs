//! The ARN of a DataSync task, in any partition:
//! `arn:aws-us-gov:datasync:us-gov-west-1:123456789012:task/task-0123456789abcdef0`; and the ARN of one of its
//! executions, which has `/execution/exec-0123456789abcdef0` at its end.

use std::fmt;
use std::str::FromStr;

/// The ARN of a DataSync task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskArn {
    text: String,
    region: String,
}

impl TaskArn {
    /// Returns the whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Returns the ARN of an execution of this task, if `text` is one.
    #[must_use]
    pub fn execution(&self, text: &str) -> Option<ExecutionArn> {
        let id = text.strip_prefix(&self.text)?.strip_prefix("/execution/exec-")?;
        is_id(id).then(|| ExecutionArn(text.to_owned()))
    }
}

/// The ARN of an execution of the task: only [`TaskArn::execution`] makes one, so an ARN of another task is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionArn(String);

impl ExecutionArn {
    /// Returns the whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExecutionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TaskArn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["arn", partition, "datasync", region, account, task]
                if partition.starts_with("aws")
                    && is_region(region)
                    && account.len() == 12
                    && account.bytes().all(|digit| digit.is_ascii_digit())
                    && is_task(task) =>
            {
                Ok(Self { text: text.to_owned(), region: (*region).to_owned() })
            }
            _ => Err(format!(
                "'{text}' is not an ARN of a DataSync task: write it as \
                 arn:aws:datasync:REGION:ACCOUNT:task/task-0123456789abcdef0"
            )),
        }
    }
}

fn is_region(text: &str) -> bool {
    text.contains('-') && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_task(text: &str) -> bool {
    text.strip_prefix("task/task-").is_some_and(is_id)
}

fn is_id(text: &str) -> bool {
    text.len() == 17 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for TaskArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "arn:aws-us-gov:datasync:us-gov-west-1:123456789012:task/task-0123456789abcdef0";

    #[test]
    fn task_arns_of_every_partition_parse_and_other_texts_do_not() {
        for partition in ["aws", "aws-us-gov", "aws-cn", "aws-iso"] {
            let arn: TaskArn = TASK.replace("aws-us-gov", partition).parse().unwrap();
            assert_eq!(arn.region(), "us-gov-west-1");
        }
        for wrong in [
            "",
            "task-0123456789abcdef0",
            &TASK.replace("datasync", "s3"),
            &TASK.replace("task-0123456789abcdef0", "task-0123"),
            &TASK.replace("abcdef0", "ABCDEF0"),
            &TASK.replace("us-gov-west-1", ""),
            &TASK.replace("123456789012", "1234"),
            &format!("{TASK}/execution/exec-0123456789abcdef0"),
        ] {
            assert!(wrong.parse::<TaskArn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_execution_arn_belongs_to_one_task() {
        let task: TaskArn = TASK.parse().unwrap();
        let execution = format!("{TASK}/execution/exec-0123456789abcdef1");
        assert_eq!(task.execution(&execution).unwrap().as_str(), execution);
        for wrong in [
            "",
            TASK,
            &execution.replace("abcdef0/", "abcdef2/"),
            &execution.replace("exec-", ""),
            &execution.replace("abcdef1", "ABCDEF1"),
            &format!("{execution}0"),
        ] {
            assert_eq!(task.execution(wrong), None, "{wrong}");
        }
    }
}
