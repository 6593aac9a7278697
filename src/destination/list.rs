//! A page of a listing, decoded and checked: in order, under the prefix, after the requested key.
//!
//! The next page is requested by continuation token, not by `start-after`. S3 may return a truncated page with few keys
//! or none, and only the token continues from there.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::head::last_modified;
use super::operation::Operation;
use super::proof::IN_ITS_PLACE;
use crate::key::{ObjectKey, Prefix, RelativeKey};
use crate::object::{ETag, Object, StorageClass};

/// Up to 1,000 objects, in ascending order of their keys.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// Where the next page starts. `None`: this is the last page.
    pub(crate) next: Option<PageStart>,
}

/// Where a page starts.
#[derive(Clone, Debug)]
pub(crate) enum PageStart {
    /// After this key. If it is empty: at the first key of the prefix.
    After(RelativeKey),
    /// At a continuation token.
    Token(ContinuationToken),
}

/// A token of the server, and what the next page must advance beyond.
#[derive(Clone, Debug)]
pub(crate) struct ContinuationToken {
    token: String,
    /// Every key of the page comes after this key.
    after: RelativeKey,
    /// The tokens of the pages without a key just before this page.
    without_keys: Vec<String>,
}

/// How many pages in a row may have no key. S3 sends such pages where it skips delete markers.
const MOST_PAGES_WITHOUT_KEYS: usize = 1000;

impl PageStart {
    fn lower_bound(&self) -> &RelativeKey {
        match self {
            Self::After(key) | Self::Token(ContinuationToken { after: key, .. }) => key,
        }
    }

    /// Returns where the page after this one starts, at a token of the server; `last` is the last key of this page.
    fn next(&self, token: &str, last: Option<&RelativeKey>) -> Result<Self, String> {
        let (current, mut without_keys) = match self {
            Self::After(_) => (None, Vec::new()),
            Self::Token(ContinuationToken { token, without_keys, .. }) => (Some(token), without_keys.clone()),
        };
        if current.is_some_and(|current| current == token) || without_keys.iter().any(|earlier| earlier == token) {
            return Err("the server repeats a continuation token, so the listing would never end".to_owned());
        }
        match last {
            Some(_) => without_keys.clear(),
            None => without_keys.extend(current.cloned()),
        }
        if without_keys.len() >= MOST_PAGES_WITHOUT_KEYS {
            return Err(format!("{MOST_PAGES_WITHOUT_KEYS} truncated pages in a row have no key"));
        }
        let after = last.unwrap_or_else(|| self.lower_bound()).clone();
        Ok(Self::Token(ContinuationToken { token: token.to_owned(), after, without_keys }))
    }
}

impl Destination {
    /// Requests one page of the listing.
    ///
    /// # Errors
    /// Returns an error if the response has keys out of order, outside the prefix or before the start.
    pub(crate) async fn page(&self, start: &PageStart) -> Result<Page, S3Error> {
        self.page_of(&RelativeKey::default(), start).await
    }

    /// Requests all keys with this prefix (relative to the destination), in order. Only for a few keys.
    pub(crate) async fn keys(&self, prefix: &str) -> Result<Vec<RelativeKey>, S3Error> {
        let prefix = RelativeKey::new(prefix);
        let (mut keys, mut start) = (Vec::new(), Some(PageStart::After(RelativeKey::default())));
        while let Some(from) = start {
            let page = self.page_of(&prefix, &from).await?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            start = page.next;
        }
        Ok(keys)
    }

    async fn page_of(&self, prefix: &RelativeKey, start: &PageStart) -> Result<Page, S3Error> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.prefix.object_key(prefix))
            .encoding_type(EncodingType::Url)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let request = match start {
            PageStart::After(key) if key.is_root() => request,
            PageStart::After(key) => request.start_after(self.prefix.object_key(key)),
            PageStart::Token(ContinuationToken { token, .. }) => request.continuation_token(token),
        };
        let send = |activity| request.clone().customize().interceptor(activity).send();
        let response = self.sender.send(Operation::List, send, Ok).await?;
        let page = check_subject(&response, &self.bucket, self.prefix.object_key(prefix).as_str())
            .and_then(|()| read_page(response, &self.prefix, start))
            .map_err(|cause| {
                S3Error::local(Operation::List, ErrorKind::Unusable, format!("cannot trust this listing: {cause}"))
            })?;
        if let Some(latest) = page.objects.iter().map(|object| object.last_modified).max() {
            self.clock.observe_object(latest);
        }
        Ok(page)
    }
}

/// Checks that a page is of the requested bucket and prefix.
fn check_subject(response: &ListObjectsV2Output, bucket: &str, prefix: &str) -> Result<(), String> {
    // An access point may respond with the name of its bucket.
    let is_access_point = bucket.ends_with("-s3alias");
    match response.name().unwrap_or_default() {
        "" => return Err(format!("the response names no bucket: {IN_ITS_PLACE}")),
        name if name == bucket || is_access_point => {}
        name => return Err(format!("the response is about the bucket '{name}', not '{bucket}'")),
    }
    let listed = response.prefix().unwrap_or_default();
    if listed == prefix || decode(listed).is_ok_and(|listed| listed == prefix) {
        return Ok(());
    }
    Err(format!("the response is about the prefix '{listed}', not '{prefix}'"))
}

fn read_page(mut response: ListObjectsV2Output, prefix: &Prefix, start: &PageStart) -> Result<Page, String> {
    let lower_bound = start.lower_bound();
    let encoded = response.encoding_type() == Some(&EncodingType::Url);
    let contents = response.contents.take().unwrap_or_default();
    let mut objects: Vec<Object> = Vec::with_capacity(contents.len());
    // Each object of the response is dropped as soon as it is read: many pages arrive in parallel.
    for listed in contents {
        let key = listed.key().ok_or("an object without a key")?;
        let key = ObjectKey::new(if encoded { decode(key)? } else { key.to_owned() });
        let relative = prefix.relative(&key).ok_or_else(|| format!("'{key}' is not under the requested prefix"))?;
        let before = objects.last().map_or(lower_bound, |object| &object.key);
        // Only the first key can be empty: it is the prefix itself.
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
            last_modified: last_modified(listed.last_modified()),
            storage_class: StorageClass::named(listed.storage_class().map_or("", |class| class.as_str())),
        });
    }
    let next = if response.is_truncated().unwrap_or(false) {
        let last = objects.last().map(|object| &object.key);
        Some(match (response.next_continuation_token().filter(|token| !token.is_empty()), last) {
            (Some(token), last) => start.next(token, last)?,
            (None, Some(last)) => PageStart::After(last.clone()),
            (None, None) => {
                return Err("the page is truncated, but contains neither a key nor a continuation token".to_owned());
            }
        })
    } else {
        None
    };
    Ok(Page { objects, next })
}

/// Decodes a key. S3 encodes keys like a form, with `+` for a space; other servers write `%20`.
fn decode(key: &str) -> Result<String, String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().map(Into::into).map_err(|_| format!("the key '{key}' is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;
    use aws_sdk_s3::types::Object as Listed;

    use super::*;

    fn response(keys: &[&str], encoded: bool) -> ListObjectsV2Output {
        let listed = |key: &&str| {
            Listed::builder().key(*key).size(1).e_tag("\"x\"").last_modified(DateTime::from_secs(7)).build()
        };
        ListObjectsV2Output::builder()
            .set_contents(Some(keys.iter().map(listed).collect()))
            .set_encoding_type(encoded.then_some(EncodingType::Url))
            .build()
    }

    fn keys(response: &ListObjectsV2Output, after: &str) -> Result<Vec<String>, String> {
        let location: crate::location::Location = "s3://site/www".parse().unwrap();
        read_page(response.clone(), &location.prefix, &PageStart::After(RelativeKey::new(after)))
            .map(|page| page.objects.into_iter().map(|object| object.key.into()).collect())
    }

    #[test]
    fn keys_are_decoded_only_if_the_response_says_that_they_are_encoded() {
        assert_eq!(keys(&response(&["www/a+b", "www/a%20c", "www/a%2Bb"], true), "").unwrap(), ["a b", "a c", "a+b"]);
        assert_eq!(keys(&response(&["www/a%2Bb", "www/a+b"], false), "").unwrap(), ["a%2Bb", "a+b"]);
    }

    #[test]
    fn a_listing_out_of_order_or_with_a_repeated_key_is_refused() {
        for wrong in [&["www/b", "www/a"][..], &["www/a", "www/a"], &["www/a/x", "www/a!"]] {
            assert!(keys(&response(wrong, false), "").unwrap_err().contains("byte order"));
        }
    }

    #[test]
    fn a_key_outside_the_requested_range_is_refused() {
        assert!(keys(&response(&["www2/a"], false), "").unwrap_err().contains("not under the requested prefix"));
        assert!(keys(&response(&["www/a"], false), "a").is_err());
        assert!(keys(&response(&["www/a"], false), "b").is_err());
    }

    #[test]
    fn the_prefix_itself_can_be_an_object() {
        assert_eq!(keys(&response(&["www/", "www/a"], false), "").unwrap(), ["", "a"]);
        assert!(keys(&response(&["www/", "www/"], false), "").is_err());
    }

    #[test]
    fn a_truncated_page_without_a_token_continues_after_its_last_key() {
        let location: crate::location::Location = "s3://site".parse().unwrap();
        let mut page = response(&["a", "b"], false);
        page.is_truncated = Some(true);
        let start = PageStart::After(RelativeKey::default());
        let next = read_page(page.clone(), &location.prefix, &start).unwrap().next;
        assert!(matches!(next, Some(PageStart::After(key)) if key.as_str() == "b"));
        page.contents = None;
        assert!(read_page(page, &location.prefix, &start).is_err());
    }

    #[test]
    fn a_page_must_advance_beyond_the_tokens_before_it() {
        let first = PageStart::After(RelativeKey::default());
        let key = RelativeKey::new("a");
        let a = first.next("a", None).unwrap();
        assert!(a.next("a", None).is_err() && a.next("a", Some(&key)).is_err(), "the same token");
        let b = a.next("b", None).unwrap();
        assert!(b.next("a", None).is_err(), "a circle of tokens");
        let c = b.next("c", Some(&key)).unwrap();
        assert_eq!(c.lower_bound(), &key);
        let mut start = Ok(c);
        let mut pages = 0;
        while let Ok(next) = start {
            start = next.next(&format!("token {pages}"), None);
            pages += 1;
        }
        assert_eq!(pages, MOST_PAGES_WITHOUT_KEYS, "new tokens without a key end too");
    }

    #[test]
    fn a_page_of_another_bucket_or_prefix_is_refused() {
        let page = |name: &str, prefix: &str| {
            let (name, prefix) = (Some(name.to_owned()), Some(prefix.to_owned()));
            ListObjectsV2Output::builder().set_name(name).set_prefix(prefix).build()
        };
        assert_eq!(check_subject(&page("site", "www/a b/"), "site", "www/a b/"), Ok(()));
        assert_eq!(check_subject(&page("site", "www/a+b/"), "site", "www/a b/"), Ok(()));
        assert_eq!(check_subject(&page("elsewhere", ""), "point-abc-s3alias", ""), Ok(()));
        for (name, prefix) in [("elsewhere", "www/"), ("site", "other/"), ("site", ""), ("", "www/")] {
            assert!(check_subject(&page(name, prefix), "site", "www/").is_err(), "{name} {prefix}");
        }
    }
}
