//! Another writer: a program that may write to the destination during this run. The run asks for it before the first
//! delete, because it may have started after the run.

use futures::future::BoxFuture;

use super::guard::Guard;

/// A program that may write to the destination during this run.
pub(crate) trait OtherWriter: std::fmt::Debug + Send + Sync {
    /// Returns the guard that withholds every delete now, if one does.
    fn guard(&self) -> BoxFuture<'_, Option<Guard>>;
}
