//! The listing of the destination, range by range, many at once.
//!
//! 1. The first page is asked for before the walk has found anything: it hides a round trip, tells S3's clock, and a
//!    bucket that cannot be used ends the run before it has begun.
//! 2. A page that is not truncated proves that nothing follows: what it holds serves all later ranges, and an empty or
//!    short destination costs one request, not one a range.
//! 3. A page does not end where its range ends: what is beyond belongs to the next range, which lists for itself.

use std::sync::{Arc, Mutex, PoisonError};

use super::context::Context;
use super::range::Range;
use crate::destination::error::S3Error;
use crate::destination::list::{Page, PageStart};
use crate::object::Object;

/// The listing of the destination.
#[derive(Debug)]
pub struct Listing {
    context: Arc<Context>,
    first_page: Mutex<Option<Page>>,
    end: Mutex<Option<End>>,
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
        let page = context.destination.page(&PageStart::After(String::new())).await?;
        context.dialect.may_learn_from(&page.objects);
        Ok(Self { context, first_page: Mutex::new(Some(page)), end: Mutex::new(None) })
    }

    /// All objects of a range, in order.
    ///
    /// # Errors
    /// Where the listing fails or cannot be trusted.
    pub async fn range(&self, range: &Range) -> Result<Vec<Object>, S3Error> {
        if let Some(objects) = self.beyond_the_end(range) {
            return Ok(objects);
        }
        let mut objects = Vec::new();
        let mut page = self.begin(range).await?;
        loop {
            let beyond = match &range.up_to {
                Some(bound) => page.objects.split_off(page.objects.partition_point(|object| object.key <= *bound)),
                None => Vec::new(),
            };
            objects.append(&mut page.objects);
            match page.next {
                None => {
                    self.ends(range.index, beyond);
                    return Ok(objects);
                }
                Some(_) if !beyond.is_empty() || has_all(&objects, range) => return Ok(objects),
                Some(next) => page = self.context.destination.page(&next).await?,
            }
        }
    }

    async fn begin(&self, range: &Range) -> Result<Page, S3Error> {
        let first = if range.index == 0 { lock(&self.first_page).take() } else { None };
        match first {
            Some(page) => Ok(page),
            None => self.context.destination.page(&PageStart::After(range.after.clone())).await,
        }
    }

    fn ends(&self, found_by: usize, objects: Vec<Object>) {
        let mut end = lock(&self.end);
        if end.as_ref().is_none_or(|end| found_by < end.found_by) {
            *end = Some(End { found_by, objects });
        }
    }

    fn beyond_the_end(&self, range: &Range) -> Option<Vec<Object>> {
        let end = lock(&self.end);
        let end = end.as_ref().filter(|end| end.found_by < range.index)?;
        let is_within = |object: &&Object| {
            object.key > range.after && range.up_to.as_ref().is_none_or(|bound| object.key <= *bound)
        };
        Some(end.objects.iter().filter(is_within).cloned().collect())
    }
}

/// Whether the last object is the range's last key: then nothing more can be in it.
fn has_all(objects: &[Object], range: &Range) -> bool {
    objects.last().is_some_and(|last| range.up_to.as_ref() == Some(&last.key))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
