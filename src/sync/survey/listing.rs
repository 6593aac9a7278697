//! The listing of the destination, range by range, many in parallel.
//!
//! 1. The run requests the first page before the walk has found anything. This hides a round trip and shows S3's clock,
//!    and the run ends before it has done anything if the bucket cannot be used.
//! 2. A page that is not truncated proves that nothing follows. It serves all later ranges, so an empty or short
//!    destination costs one request, not one for each range.
//! 3. A page does not end where its range ends. Objects beyond the range belong to the next one, which lists them itself.
//! 4. A range can include any number of objects, if files were deleted or are filtered. At most [`PAGES_AHEAD`] of its
//!    pages wait until the merge takes them.
//! 5. A task lists ranges ahead of the merge. A stream that is polled only between two ranges would list one range at a
//!    time.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::range::{LONGEST_PAGES, ListingRange, RangeEntries};
use crate::destination::error::S3Error;
use crate::destination::list::{Page, PageStart};
use crate::object::Object;
use crate::source::entry::Entry;
use crate::sync::context::Context;

/// The listing of the destination.
#[derive(Debug)]
pub(super) struct Listing {
    context: Arc<Context>,
    first_page: Mutex<Option<Page>>,
    end: Mutex<Option<End>>,
}

/// How many pages of a range may wait: all of them, if source and destination agree.
const PAGES_AHEAD: usize = LONGEST_PAGES;

/// Ranges whose listings have started, in order.
#[derive(Debug)]
pub(super) struct ListedRanges {
    ranges: mpsc::Receiver<(RangeListing, Vec<Entry>)>,
    ahead: AbortOnDropHandle<()>,
}

/// The pages of one range.
#[derive(Debug)]
pub(super) struct RangeListing {
    pages: mpsc::Receiver<Vec<Object>>,
    done: AbortOnDropHandle<Result<(), S3Error>>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The last page of the destination: what later ranges would list is in it.
#[derive(Debug)]
struct End {
    found_by: usize,
    objects: Vec<Object>,
}

impl Listing {
    /// Requests the first page.
    ///
    /// # Errors
    /// Returns an error if the bucket cannot be listed.
    pub(super) async fn open(context: Arc<Context>) -> Result<Self, S3Error> {
        let after = context.source.tree_range().keys().after().clone();
        let page = context.destination.page(&PageStart::After(after)).await?;
        context.dialect.may_learn_from(&page.objects);
        // Ranges that start before the first one has ended need no request either.
        let end = page.next.is_none().then(|| End { found_by: 0, objects: page.objects.clone() });
        Ok(Self { context, first_page: Mutex::new(Some(page)), end: Mutex::new(end) })
    }

    /// Lists up to `concurrency` ranges in parallel, each from the moment at which the walk has found its bounds until
    /// the merge has taken its last page.
    pub(super) fn ranges(
        self: Arc<Self>,
        ranges: impl Stream<Item = RangeEntries> + Send + 'static,
        concurrency: usize,
    ) -> ListedRanges {
        let (sender, listed) = mpsc::channel(concurrency);
        let permits = Arc::new(Semaphore::new(concurrency));
        let ahead = tokio::spawn(async move {
            let mut ranges = std::pin::pin!(ranges);
            loop {
                // The semaphore is never closed. The permit comes first: without one, no entries wait.
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                let Some(RangeEntries { range, entries }) = ranges.next().await else {
                    return;
                };
                let listing = self.range(range, permit);
                if sender.send((listing, entries)).await.is_err() {
                    return;
                }
            }
        });
        ListedRanges { ranges: listed, ahead: AbortOnDropHandle::new(ahead) }
    }

    fn range(self: &Arc<Self>, range: ListingRange, permit: Option<OwnedSemaphorePermit>) -> RangeListing {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let listing = Arc::clone(self);
        let done = tokio::spawn(async move { listing.send_pages(&range, &sender).await });
        RangeListing { pages, done: AbortOnDropHandle::new(done), _permit: permit }
    }

    /// Sends all objects of a range, in order.
    async fn send_pages(&self, range: &ListingRange, sender: &mpsc::Sender<Vec<Object>>) -> Result<(), S3Error> {
        // The receiver is dropped only if the run ends.
        let send = async |objects| sender.send(objects).await.unwrap_or_default();
        if let Some(objects) = self.beyond_the_end(range) {
            send(objects).await;
            return Ok(());
        }
        let mut page = self.first_page(range).await?;
        loop {
            let beyond = match &range.up_to {
                Some(bound) => page.objects.split_off(page.objects.partition_point(|object| object.key <= *bound)),
                None => Vec::new(),
            };
            let is_all = !beyond.is_empty() || range.ends_with(&page.objects);
            send(page.objects).await;
            match page.next {
                None => {
                    self.record_end(range.index, beyond);
                    return Ok(());
                }
                Some(_) if is_all => return Ok(()),
                Some(next) => page = self.context.destination.page(&next).await?,
            }
        }
    }

    async fn first_page(&self, range: &ListingRange) -> Result<Page, S3Error> {
        let first = if range.index == 0 { lock(&self.first_page).take() } else { None };
        match first {
            Some(page) => Ok(page),
            None => self.context.destination.page(&PageStart::After(range.after.clone())).await,
        }
    }

    fn record_end(&self, found_by: usize, objects: Vec<Object>) {
        let mut end = lock(&self.end);
        if end.as_ref().is_none_or(|end| found_by < end.found_by) {
            *end = Some(End { found_by, objects });
        }
    }

    fn beyond_the_end(&self, range: &ListingRange) -> Option<Vec<Object>> {
        let end = lock(&self.end);
        let end = end.as_ref().filter(|end| end.found_by < range.index)?;
        Some(end.objects.iter().filter(|object| range.contains(&object.key)).cloned().collect())
    }
}

impl ListedRanges {
    /// The next range and what the walk found in it; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<(RangeListing, Vec<Entry>)> {
        let next = self.ranges.recv().await;
        // A task that panicked has not seen all: its end must not look like the end of the walk.
        if next.is_none()
            && let Err(panic) = (&mut self.ahead).await
        {
            std::panic::resume_unwind(panic.into_panic());
        }
        next
    }
}

impl RangeListing {
    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// Returns an error if the listing fails or cannot be trusted.
    pub(super) async fn next_page(&mut self) -> Result<Option<Vec<Object>>, S3Error> {
        match self.pages.recv().await {
            Some(page) => Ok(Some(page)),
            None => match (&mut self.done).await {
                Ok(result) => result.map(|()| None),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
