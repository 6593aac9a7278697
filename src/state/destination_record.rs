//! The record of a destination: a JSON file of the state about one destination.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::State;
use super::error::StateError;
use crate::location::Location;
use crate::scope::Scope;

/// A JSON file about one destination. Without a state it holds nothing.
#[derive(Debug)]
pub(crate) struct DestinationRecord<'a> {
    state: Option<&'a State>,
    destination: String,
    name: String,
    schema: u32,
}

#[derive(Deserialize, Serialize)]
struct Envelope<T> {
    schema: u32,
    destination: String,
    #[serde(flatten)]
    content: T,
}

impl<'a> DestinationRecord<'a> {
    /// The file whose name ends with `what`.
    pub(crate) fn new(state: Option<&'a State>, destination: &Location, what: &str, schema: u32) -> Self {
        let name = Scope::whole(destination.clone()).file_name(what);
        Self { state, destination: destination.to_string(), name, schema }
    }

    /// The name in the state.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the file holds, or nothing if it is absent.
    ///
    /// # Errors
    /// Returns an error, as the rest of a sentence about the file, if it cannot be read or is not this destination's.
    pub(crate) async fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, String> {
        let Some(state) = self.state else {
            return Ok(None);
        };
        match state.read(&self.name).await {
            Ok(None) => Ok(None),
            Ok(Some(found)) => self.parse(&found.content).map(Some),
            Err(error) => Err(format!("cannot be read ({error})")),
        }
    }

    fn parse<T: DeserializeOwned>(&self, content: &[u8]) -> Result<T, String> {
        let damaged = |error: serde_json::Error| format!("is damaged ({error})");
        let envelope: Envelope<serde_json::Value> = serde_json::from_slice(content).map_err(damaged)?;
        if envelope.schema != self.schema || envelope.destination != self.destination {
            return Err("belongs to another program or destination".to_owned());
        }
        serde_json::from_value(envelope.content).map_err(damaged)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    pub(crate) async fn store(&self, content: &impl Serialize) -> Result<(), StateError> {
        let Some(state) = self.state else {
            return Ok(());
        };
        let envelope = Envelope { schema: self.schema, destination: self.destination.clone(), content };
        let content = serde_json::to_vec_pretty(&envelope).unwrap_or_default();
        state.write(&self.name, Bytes::from(content)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Shutdown;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Content {
        number: u32,
        time_ns: Option<String>,
    }

    #[tokio::test]
    async fn a_record_is_of_one_destination_and_schema() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::in_folder(folder.path().to_owned(), Shutdown::default());
        let (destination, other): (Location, Location) =
            ("s3://site/www".parse().unwrap(), "s3://site/ww-w".parse().unwrap());
        let record = DestinationRecord::new(Some(&state), &destination, "x.json", 1);
        let content = Content { number: 7, time_ns: Some("170000000000000000000".to_owned()) };
        assert_eq!(record.load::<Content>().await, Ok(None));
        record.store(&content).await.unwrap();
        assert_eq!(record.load().await, Ok(Some(content)));
        let load = async |destination, schema| {
            DestinationRecord::new(Some(&state), destination, "x.json", schema).load::<Content>().await
        };
        assert_eq!(load(&other, 1).await, Ok(None), "another file");
        assert!(load(&destination, 2).await.unwrap_err().contains("another program"));
        let empty = format!("{{\"schema\":1,\"destination\":\"{destination}\"}}");
        for damaged in ["", "{", "[]", "{\"schema\":1}", &empty] {
            std::fs::write(folder.path().join(record.name()), damaged).unwrap();
            assert!(record.load::<Content>().await.unwrap_err().contains("damaged"), "{damaged}");
        }
        let foreign = "{\"schema\":1,\"destination\":\"s3://x\",\"number\":1}";
        std::fs::write(folder.path().join(record.name()), foreign).unwrap();
        assert!(record.load::<Content>().await.unwrap_err().contains("another program"));
    }
}
