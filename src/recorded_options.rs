//! Recorded options: options by name, with their values as text, as a config file, the settings of a DataSync task or the
//! header of a plan hold them.
//!
//! They take effect as defaults of the command line. So clap checks them as it checks the command line, which beats them
//! without another rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What separates the patterns of a filter.
pub(crate) const PATTERN_SEPARATOR: &str = "|";

/// Options by name, such as `max_delete`, with the values of each.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct RecordedOptions(BTreeMap<String, Vec<String>>);

impl RecordedOptions {
    /// Reads the options of a config file, whose names may have `-` for `_`.
    ///
    /// # Errors
    /// Returns the name of an option whose value is a table or a date.
    pub(crate) fn from_toml(table: toml::Table) -> Result<Self, String> {
        let read = |(name, value): (String, toml::Value)| {
            let name = name.replace('-', "_");
            let values = texts(&value);
            values.map(|values| (name.clone(), values)).ok_or(name)
        };
        table.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn values(&self, name: &str) -> Option<&[String]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Returns the values of an option as one text: patterns separated as DataSync does, others by commas.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let separator = if matches!(name, "include" | "exclude") { PATTERN_SEPARATOR } else { "," };
        self.values(name).filter(|values| !values.is_empty()).map(|values| values.join(separator))
    }

    /// Returns these options without some of them.
    pub(crate) fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    /// Returns these options with another value of one.
    pub(crate) fn with(mut self, name: &str, value: String) -> Self {
        self.0.insert(name.to_owned(), vec![value]);
        self
    }

    /// Returns these options and `others`, which win.
    pub(crate) fn overridden_by(mut self, others: &Self) -> Self {
        self.0.extend(others.0.clone());
        self
    }
}

impl FromIterator<(String, Vec<String>)> for RecordedOptions {
    fn from_iter<T: IntoIterator<Item = (String, Vec<String>)>>(options: T) -> Self {
        Self(options.into_iter().collect())
    }
}

impl<'a> FromIterator<(&'a str, String)> for RecordedOptions {
    fn from_iter<T: IntoIterator<Item = (&'a str, String)>>(options: T) -> Self {
        options.into_iter().map(|(name, value)| (name.to_owned(), vec![value])).collect()
    }
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(yes) => Some(vec![yes.to_string()]),
        toml::Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        toml::Value::Table(_) | toml::Value::Datetime(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_same_from_toml_and_from_json() {
        let toml = "max-delete = 500\ndelete = true\ncontent_type = [\"a=b\", \"c=d\"]\n".parse().unwrap();
        let json = r#"{"content_type":["a=b","c=d"],"delete":["true"],"max_delete":["500"]}"#;
        let options = RecordedOptions::from_toml(toml).unwrap();
        assert_eq!(serde_json::to_string(&options).unwrap(), json);
        assert_eq!(serde_json::from_str::<RecordedOptions>(json).unwrap(), options);
        assert_eq!(options.get("content_type"), Some("a=b,c=d".to_owned()));
        assert_eq!(
            RecordedOptions::from_toml("some-date = 2026-01-01\n".parse().unwrap()),
            Err("some_date".to_owned())
        );
    }

    #[test]
    fn given_options_override_recorded_ones() {
        let recorded: RecordedOptions =
            [("mode", "plain".to_owned()), ("retries", "5".to_owned())].into_iter().collect();
        let given = [("retries", "0".to_owned())].into_iter().collect();
        let options = recorded.overridden_by(&given);
        assert_eq!((options.get("mode"), options.get("retries")), (Some("plain".to_owned()), Some("0".to_owned())));
        assert_eq!(options.without(&["mode", "retries"]), RecordedOptions::default());
    }
}
