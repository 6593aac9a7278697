//! A file whose content or metadata a write sends.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::destination::sent_content::SentContent;
use crate::source::entry::Stat;
use crate::sync::context::Context;
use crate::sync::job::SourceFile;

/// A file, and the stat of what the run sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentFile<'a> {
    pub(super) context: &'a Context,
    pub(super) file: &'a SourceFile,
    pub(super) stat: &'a Stat,
}

impl SentContent for SentFile<'_> {
    fn is_current(&self) -> BoxFuture<'_, bool> {
        let Self { context, file, stat } = *self;
        async move {
            let now = context.source.re_stat(&file.key, &file.entry).await;
            now.is_ok_and(|now| now.is_same_content(stat))
        }
        .boxed()
    }
}
