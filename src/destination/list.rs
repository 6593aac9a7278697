//! A page of a listing, decoded and checked: in order, under the prefix, after the requested key.
//!
//! The next page is requested by continuation token, not by `start-after`. S3 may return a truncated page with few keys
//! or none, and only the token continues from there.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::operation::Operation;
use crate::key::{ObjectKey, Prefix, RelativeKey};
use crate::object::{ETag, Object, StorageClass};
use crate::time::EpochNanos;

/// Up to 1,000 objects, in ascending order of their keys.
#[derive(Debug)]
pub struct Page {
    /// The objects, by their keys below the prefix.
    pub objects: Vec<Object>,
    /// How to ask for what follows; nothing follows where there is none.
    pub next: Option<PageStart>,
}

/// Where a page begins.
#[derive(Clone, Debug)]
pub enum PageStart {
    /// Behind this key below the prefix; at the prefix's first key where it is empty.
    After(RelativeKey),
    /// Where the page before ended; every key is behind this one.
    Token(String, RelativeKey),
}

impl PageStart {
    fn lower_bound(&self) -> &RelativeKey {
        match self {
            Self::After(key) | Self::Token(_, key) => key,
        }
    }
}

impl Destination {
    /// One page of the listing.
    ///
    /// # Errors
    /// Where S3 does not answer, or answers with what cannot be: keys out of order, outside the prefix, before the start.
    pub async fn page(&self, start: &PageStart) -> Result<Page, S3Error> {
        self.page_of(&RelativeKey::default(), start).await
    }

    /// All keys that begin like this, in order. For a few.
    ///
    /// # Errors
    /// As for [`Self::page`].
    pub async fn keys(&self, beginning: &str) -> Result<Vec<RelativeKey>, S3Error> {
        let beginning = RelativeKey::new(beginning);
        let (mut keys, mut start) = (Vec::new(), Some(PageStart::After(RelativeKey::default())));
        while let Some(from) = start {
            let page = self.page_of(&beginning, &from).await?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            start = page.next;
        }
        Ok(keys)
    }

    async fn page_of(&self, beginning: &RelativeKey, start: &PageStart) -> Result<Page, S3Error> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.prefix.object_key(beginning))
            .encoding_type(EncodingType::Url)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let request = match start {
            PageStart::After(key) if key.is_root() => request,
            PageStart::After(key) => request.start_after(self.prefix.object_key(key)),
            PageStart::Token(token, _) => request.continuation_token(token),
        };
        let answer = self
            .sender
            .send(Operation::List, 0, |progress| request.clone().customize().interceptor(progress).send())
            .await?;
        read_page(&answer, &self.prefix, start.lower_bound()).map_err(|what| {
            S3Error::local(Operation::List, ErrorKind::Unusable, format!("this listing cannot be trusted: {what}"))
        })
    }
}

fn read_page(answer: &ListObjectsV2Output, prefix: &Prefix, lower_bound: &RelativeKey) -> Result<Page, String> {
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let mut objects: Vec<Object> = Vec::with_capacity(answer.contents().len());
    for listed in answer.contents() {
        let key = listed.key().ok_or("an object without a key")?;
        let key = ObjectKey::new(if encoded { decode(key)? } else { key.to_owned() });
        let relative =
            prefix.relative(&key).ok_or_else(|| format!("'{key}' is not under the prefix that was asked for"))?;
        let before = objects.last().map_or(lower_bound, |object| &object.key);
        // The prefix's own key, listed first, is the one that may be empty.
        let first = before.is_root() && objects.is_empty();
        if relative <= *before && !(first && relative.is_root()) {
            return Err(format!(
                "'{key}' comes after '{}': the server does not list in byte order",
                prefix.object_key(before)
            ));
        }
        let size =
            listed.size().and_then(|size| u64::try_from(size).ok()).ok_or_else(|| format!("'{key}' has no size"))?;
        objects.push(Object {
            key: relative,
            size_bytes: size,
            etag: ETag::new(listed.e_tag().unwrap_or_default()),
            // Without a date everything is newer, and so compared by content.
            last_modified: EpochNanos(
                listed.last_modified().map_or(i128::MIN / 2, aws_sdk_s3::primitives::DateTime::as_nanos),
            ),
            storage_class: StorageClass::named(listed.storage_class().map_or("", |class| class.as_str())),
        });
    }
    let next = if answer.is_truncated().unwrap_or(false) {
        let last = objects.last().map_or(lower_bound, |object| &object.key).clone();
        match answer.next_continuation_token() {
            Some(token) if !token.is_empty() => Some(PageStart::Token(token.to_owned(), last)),
            _ if objects.is_empty() => return Err("it says that more follows, and not where".to_owned()),
            _ => Some(PageStart::After(last)),
        }
    } else {
        None
    };
    Ok(Page { objects, next })
}

/// S3 encodes keys as a form does: a blank as `+`. Others write `%20`, which reads the same.
fn decode(key: &str) -> Result<String, String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().map(Into::into).map_err(|_| format!("the key '{key}' is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;
    use aws_sdk_s3::types::Object as Listed;

    use super::*;

    fn answer(keys: &[&str], encoded: bool) -> ListObjectsV2Output {
        let listed = |key: &&str| {
            Listed::builder().key(*key).size(1).e_tag("\"x\"").last_modified(DateTime::from_secs(7)).build()
        };
        ListObjectsV2Output::builder()
            .set_contents(Some(keys.iter().map(listed).collect()))
            .set_encoding_type(encoded.then_some(EncodingType::Url))
            .build()
    }

    fn keys(answer: &ListObjectsV2Output, after: &str) -> Result<Vec<String>, String> {
        let location: crate::location::Location = "s3://site/www".parse().unwrap();
        read_page(answer, &location.prefix, &RelativeKey::new(after))
            .map(|page| page.objects.into_iter().map(|object| object.key.into()).collect())
    }

    #[test]
    fn keys_are_decoded_only_where_the_answer_says_so() {
        assert_eq!(keys(&answer(&["www/a+b", "www/a%20c", "www/a%2Bb"], true), "").unwrap(), ["a b", "a c", "a+b"]);
        assert_eq!(keys(&answer(&["www/a%2Bb", "www/a+b"], false), "").unwrap(), ["a%2Bb", "a+b"]);
    }

    #[test]
    fn a_listing_that_steps_back_or_repeats_is_refused() {
        for wrong in [&["www/b", "www/a"][..], &["www/a", "www/a"], &["www/a/x", "www/a!"]] {
            assert!(keys(&answer(wrong, false), "").unwrap_err().contains("byte order"));
        }
    }

    #[test]
    fn a_key_outside_what_was_asked_for_is_refused() {
        assert!(keys(&answer(&["www2/a"], false), "").unwrap_err().contains("not under the prefix"));
        assert!(keys(&answer(&["www/a"], false), "a").is_err());
        assert!(keys(&answer(&["www/a"], false), "b").is_err());
    }

    #[test]
    fn the_prefix_itself_may_be_an_object() {
        assert_eq!(keys(&answer(&["www/", "www/a"], false), "").unwrap(), ["", "a"]);
        assert!(keys(&answer(&["www/", "www/"], false), "").is_err());
    }

    #[test]
    fn more_without_a_token_goes_on_behind_the_last_key() {
        let location: crate::location::Location = "s3://site".parse().unwrap();
        let mut page = answer(&["a", "b"], false);
        page.is_truncated = Some(true);
        assert!(
            matches!(read_page(&page, &location.prefix, &RelativeKey::default()).unwrap().next, Some(PageStart::After(key)) if key.as_str() == "b")
        );
        page.contents = None;
        assert!(read_page(&page, &location.prefix, &RelativeKey::default()).is_err());
    }
}
