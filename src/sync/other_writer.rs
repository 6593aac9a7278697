//! Another writer: whoever may write to the destination beside this run. It is asked before the first delete, because it may
//! have started since the run began.

use futures::future::BoxFuture;

use super::guard::Guard;

/// Whoever may write to the destination beside this run.
pub(crate) trait OtherWriter: std::fmt::Debug + Send + Sync {
    /// Returns the guard that withholds every delete now, if one does.
    fn guard(&self) -> BoxFuture<'_, Option<Guard>>;
}
