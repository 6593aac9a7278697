//! The content that a write sends. Before each retry, the run checks that its file still has this content
//! (`DESIGN.md#no-retry-of-an-old-content`).

use futures::FutureExt;
use futures::future::BoxFuture;

/// What a write sends.
pub(crate) trait SentContent: Sync {
    /// Whether the content is what its file still holds.
    fn is_current(&self) -> BoxFuture<'_, bool>;
}

/// What this process has made, and no file can change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnContent;

impl SentContent for OwnContent {
    fn is_current(&self) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }
}
