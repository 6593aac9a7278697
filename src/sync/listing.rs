//! The listing of the destination, range by range, many at once.
//!
//! 1. The first page is asked for before the walk has found anything: it hides a round trip, tells S3's clock, and a
//!    bucket that cannot be used ends the run before it has begun.
//! 2. A page that is not truncated proves that nothing follows: what it holds serves all later ranges, and an empty or
//!    short destination costs one request, not one a range.
//! 3. A page does not end where its range ends: what is beyond belongs to the next range, which lists for itself.
//! 4. A range may hold any number of objects, where files are gone or filtered: its pages wait until they are taken, and
//!    only [`PAGES_AHEAD`] of them.
//! 5. Ranges are listed ahead of the merge by a task that nothing else holds up. A stream that is polled only between two
//!    ranges would list one range at a time.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::context::Context;
use super::range::{Bounds, LONGEST_PAGES, Range};
use crate::destination::error::S3Error;
use crate::destination::list::{Page, PageStart};
use crate::object::Object;
use crate::source::entry::Entry;

/// The listing of the destination.
#[derive(Debug)]
pub struct Listing {
    context: Arc<Context>,
    first_page: Mutex<Option<Page>>,
    end: Mutex<Option<End>>,
}

/// How many pages of a range may wait: all of a range that is as it should be, so that these never wait for one another.
const PAGES_AHEAD: usize = LONGEST_PAGES;

/// Ranges whose listings have started, in order.
#[derive(Debug)]
pub struct ListedRanges {
    ranges: mpsc::Receiver<(RangeListing, Vec<Entry>)>,
    _ahead: AbortOnDropHandle<()>,
}

/// The pages of one range.
#[derive(Debug)]
pub struct RangeListing {
    pages: mpsc::Receiver<Vec<Object>>,
    done: AbortOnDropHandle<Result<(), S3Error>>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The last page, found by a range: what later ranges would find is in it.
#[derive(Debug)]
struct End {
    found_by: usize,
    objects: Vec<Object>,
}

impl Listing {
    /// Asks for the first page.
    ///
    /// # Errors
    /// Where the bucket cannot be listed.
    pub async fn open(context: Arc<Context>) -> Result<Self, S3Error> {
        let after = context.source.section().keys().after().clone();
        let page = context.destination.page(&PageStart::After(after)).await?;
        context.dialect.may_learn_from(&page.objects);
        // Ranges that start beside the first one find here that they need no request.
        let end = page.next.is_none().then(|| End { found_by: 0, objects: page.objects.clone() });
        Ok(Self { context, first_page: Mutex::new(Some(page)), end: Mutex::new(end) })
    }

    /// Lists up to `concurrency` ranges in parallel, each from the moment at which the walk has found its bounds until
    /// the merge has taken its last page.
    pub fn ranges(
        self: Arc<Self>,
        ranges: impl Stream<Item = Range> + Send + 'static,
        concurrency: usize,
    ) -> ListedRanges {
        let (sender, listed) = mpsc::channel(concurrency);
        let permits = Arc::new(Semaphore::new(concurrency));
        let ahead = tokio::spawn(async move {
            let mut ranges = std::pin::pin!(ranges);
            while let Some(range) = ranges.next().await {
                // The semaphore is never closed.
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                let listing = self.range(range.bounds, permit);
                if sender.send((listing, range.entries)).await.is_err() {
                    return;
                }
            }
        });
        ListedRanges { ranges: listed, _ahead: AbortOnDropHandle::new(ahead) }
    }

    fn range(self: &Arc<Self>, bounds: Bounds, permit: Option<OwnedSemaphorePermit>) -> RangeListing {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let listing = Arc::clone(self);
        let done = tokio::spawn(async move { listing.send_pages(&bounds, &sender).await });
        RangeListing { pages, done: AbortOnDropHandle::new(done), _permit: permit }
    }

    /// Sends all objects of a range, in order.
    async fn send_pages(&self, bounds: &Bounds, sender: &mpsc::Sender<Vec<Object>>) -> Result<(), S3Error> {
        // Nobody takes pages any more only where the run is ending.
        let send = async |objects| sender.send(objects).await.unwrap_or_default();
        if let Some(objects) = self.beyond_the_end(bounds) {
            send(objects).await;
            return Ok(());
        }
        let mut page = self.begin(bounds).await?;
        loop {
            let beyond = match &bounds.up_to {
                Some(bound) => page.objects.split_off(page.objects.partition_point(|object| object.key <= *bound)),
                None => Vec::new(),
            };
            let is_all = !beyond.is_empty() || bounds.end_with(&page.objects);
            send(page.objects).await;
            match page.next {
                None => {
                    self.ends(bounds.index, beyond);
                    return Ok(());
                }
                Some(_) if is_all => return Ok(()),
                Some(next) => page = self.context.destination.page(&next).await?,
            }
        }
    }

    async fn begin(&self, bounds: &Bounds) -> Result<Page, S3Error> {
        let first = if bounds.index == 0 { lock(&self.first_page).take() } else { None };
        match first {
            Some(page) => Ok(page),
            None => self.context.destination.page(&PageStart::After(bounds.after.clone())).await,
        }
    }

    fn ends(&self, found_by: usize, objects: Vec<Object>) {
        let mut end = lock(&self.end);
        if end.as_ref().is_none_or(|end| found_by < end.found_by) {
            *end = Some(End { found_by, objects });
        }
    }

    fn beyond_the_end(&self, bounds: &Bounds) -> Option<Vec<Object>> {
        let end = lock(&self.end);
        let end = end.as_ref().filter(|end| end.found_by < bounds.index)?;
        Some(end.objects.iter().filter(|object| bounds.hold(&object.key)).cloned().collect())
    }
}

impl ListedRanges {
    /// The next range and what the walk found in it; none after the last.
    pub async fn next(&mut self) -> Option<(RangeListing, Vec<Entry>)> {
        self.ranges.recv().await
    }
}

impl RangeListing {
    /// The next page; none after the last.
    ///
    /// # Errors
    /// Where the listing fails or cannot be trusted.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Object>>, S3Error> {
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
