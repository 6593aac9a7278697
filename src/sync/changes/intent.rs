//! An intent: a change that the run is about to request.
//!
//! It exists before the request is sent, and ends in one of two ways. If S3 has refused the request, it leaves no line. In
//! every other case its drop writes the line: after a proof, after a request whose outcome is unknown, and if the work is
//! aborted. So no change can be missing because a response is.

use std::sync::Arc;

use super::pending::Slot;
use super::{Message, Writer};
use crate::destination::error::S3Error;

/// A change that the run is about to request.
#[must_use = "dropping it writes its line"]
#[derive(Debug)]
pub(crate) struct Intent(Option<Noted>);

/// The line of an intent, if there is a changes file.
#[derive(Debug)]
struct Noted {
    writer: Arc<Writer>,
    line: Vec<u8>,
    slot: Option<Slot>,
}

impl Intent {
    /// The intent of a run without a changes file.
    pub(super) const fn unnoted() -> Self {
        Self(None)
    }

    pub(super) const fn new(writer: Arc<Writer>, line: Vec<u8>, slot: Option<Slot>) -> Self {
        Self(Some(Noted { writer, line, slot }))
    }

    /// Ends with the result of the request, which it returns.
    pub(crate) fn end<T>(self, result: Result<T, S3Error>) -> Result<T, S3Error> {
        match &result {
            Err(error) if !error.may_have_effect => self.changed_nothing(),
            _ => drop(self),
        }
        result
    }

    /// Ends without a line: S3 has not carried out the request.
    pub(crate) fn changed_nothing(mut self) {
        if let Some(Noted { writer, slot: Some(slot), .. }) = self.0.take() {
            writer.pass_on(Message::Ended { slot: Some(slot), line: None });
        }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if let Some(Noted { writer, line, slot }) = self.0.take() {
            writer.pass_on(Message::Ended { slot, line: Some(line) });
        }
    }
}
