//! The dialect of the metadata that the run writes: the one that DataSync's objects in this bucket have.
//!
//! The run learns it late. A rewrite takes it from the headers of the object that it rewrites. Before it writes the
//! first new object, the run sends a HEAD for up to [`SAMPLES`] objects of the listing's first page. A run with nothing
//! to write sends none.

use std::sync::{Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::destination::Destination;
use crate::key::RelativeKey;
use crate::metadata::Dialect;
use crate::object::Object;

/// How many objects are asked for, at most.
const SAMPLES: usize = 4;

/// The dialect in use, known or yet to be learnt.
#[derive(Debug, Default)]
pub(crate) struct DialectInUse {
    known: OnceCell<Dialect>,
    samples: Mutex<Vec<RelativeKey>>,
}

impl DialectInUse {
    /// A dialect that the command line chose.
    pub(crate) fn fixed(dialect: Dialect) -> Self {
        Self { known: OnceCell::new_with(Some(dialect)), samples: Mutex::default() }
    }

    /// Keeps some of these keys, from which the run may learn later.
    pub(crate) fn may_learn_from(&self, objects: &[Object]) {
        let step = objects.len().div_ceil(SAMPLES).max(1);
        let keys = objects.iter().step_by(step).map(|object| object.key.clone());
        *self.samples.lock().unwrap_or_else(PoisonError::into_inner) = keys.collect();
    }

    /// The dialect to write in.
    pub(crate) async fn get(&self, destination: &Destination) -> Dialect {
        *self.known.get_or_init(|| self.learn(destination)).await
    }

    async fn learn(&self, destination: &Destination) -> Dialect {
        let samples = std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        for key in samples {
            // The run learns nothing from an object that it cannot read.
            let Ok(headers) = destination.head(&key).await else {
                continue;
            };
            if let Some(dialect) = Dialect::of(&headers.stored.metadata) {
                tracing::debug!(%key, ?dialect, "learned the dialect of metadata from this object");
                return dialect;
            }
        }
        Dialect::default()
    }
}
