//! A page of a listing: proven, decoded and checked: in order, under the prefix, after the requested key.
//!
//! The next page is requested by continuation token, not by `start-after`. S3 may return a truncated page with few keys
//! or none, and only the token continues from there.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object as Listed};

use super::Destination;
use super::document::WholeDocument;
use super::error::S3Error;
use super::head::last_modified;
use super::idle_timeout::Activity;
use super::operation::Operation;
use super::proof::Unproven;
use super::proven_page::{Claims, ProvenPage, Repeated, decode, distrust};
use crate::bucket::Bucket;
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
    /// Every key of the page comes after this key.
    pub(crate) fn lower_bound(&self) -> &RelativeKey {
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
            .bucket(self.bucket.as_str())
            .prefix(self.prefix.object_key(prefix))
            .encoding_type(EncodingType::Url)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let request = match start {
            PageStart::After(key) if key.is_root() => request,
            PageStart::After(key) => request.start_after(self.prefix.object_key(key)),
            PageStart::Token(ContinuationToken { token, .. }) => request.continuation_token(token),
        };
        let requested =
            Requested { bucket: &self.bucket, prefix: self.prefix.object_key(prefix), start, within: &self.prefix };
        let attempt = async |activity: Activity| {
            let response = request.clone().customize().interceptor(activity.clone()).send().await?;
            Ok((response, activity.document()))
        };
        let read = |(response, document)| requested.prove(response, document);
        let page = self.sender.send(Operation::List, attempt, read).await?;
        let page = requested.read(page).map_err(|cause| distrust(Operation::List, cause))?;
        if let Some(latest) = page.objects.iter().map(|object| object.last_modified).max() {
            self.clock.observe_object(latest);
        }
        Ok(page)
    }
}

/// The page that a request is about.
struct Requested<'a> {
    bucket: &'a Bucket,
    prefix: ObjectKey,
    start: &'a PageStart,
    /// The prefix of the destination.
    within: &'a Prefix,
}

/// A page whose keys are not decoded yet. A truncated page without a token continues after its last key.
struct EncodedPage {
    page: ProvenPage<Listed, Option<String>>,
    is_encoded: bool,
}

impl Requested<'_> {
    fn prove(
        &self,
        mut response: ListObjectsV2Output,
        document: Option<WholeDocument>,
    ) -> Result<EncodedPage, Unproven> {
        let entries = response.contents.take().unwrap_or_default();
        let token = response.next_continuation_token.take().filter(|token| !token.is_empty());
        let grouped = response.common_prefixes().first().and_then(|group| group.prefix());
        let start_after = match self.start {
            PageStart::After(key) if key.is_root() => Some(ObjectKey::new("")),
            PageStart::After(key) => Some(self.within.object_key(key)),
            // Some servers turn the token into the key after which the page starts.
            PageStart::Token(_) => None,
        };
        let token_of_page = match (self.start, &start_after) {
            (PageStart::Token(ContinuationToken { token, .. }), _) => token,
            // Some servers turn that key into the token.
            (PageStart::After(_), start) => start.as_ref().map_or("", ObjectKey::as_str),
        };
        let mut repeated = vec![
            Repeated::bucket(self.bucket, response.name(), true),
            Repeated::always("prefix", self.prefix.as_str(), response.prefix()),
            Repeated::or_missing("delimiter", "", response.delimiter()),
            // Keys below a common prefix are not in the page.
            Repeated::or_missing("common prefix", "", grouped),
            Repeated::or_missing("continuation token", token_of_page, response.continuation_token()),
        ];
        if let Some(start) = &start_after {
            repeated.push(Repeated::or_missing("start", start.as_str(), response.start_after()));
        }
        let page = Claims {
            document,
            repeated: &repeated,
            is_truncated: response.is_truncated(),
            count: response.key_count(),
            next: (token.is_some() || !entries.is_empty()).then_some(token),
            entries,
        };
        let page = page.prove(|object| object.key().is_some_and(|key| !key.is_empty()))?;
        Ok(EncodedPage { page, is_encoded: response.encoding_type() == Some(&EncodingType::Url) })
    }

    fn read(&self, EncodedPage { page, is_encoded }: EncodedPage) -> Result<Page, String> {
        let (lower_bound, prefix) = (self.start.lower_bound(), self.within);
        let (listed, next) = page.into_parts();
        let mut objects: Vec<Object> = Vec::with_capacity(listed.len());
        // Each object of the response is dropped as soon as it is read: many pages arrive in parallel.
        for listed in listed {
            let key = listed.key().unwrap_or_default();
            let key = ObjectKey::new(if is_encoded { decode(key)? } else { key.to_owned() });
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
            let size = listed
                .size()
                .and_then(|size| u64::try_from(size).ok())
                .ok_or_else(|| format!("'{key}' has no size"))?;
            objects.push(Object {
                key: relative,
                size_bytes: size,
                etag: ETag::new(listed.e_tag().unwrap_or_default()),
                last_modified: last_modified(listed.last_modified()),
                storage_class: StorageClass::named(listed.storage_class().map_or("", |class| class.as_str())),
            });
        }
        let last = objects.last().map(|object| &object.key);
        let next = match (next, last) {
            (Some(Some(token)), last) => Some(self.start.next(&token, last)?),
            (Some(None), Some(last)) => Some(PageStart::After(last.clone())),
            (Some(None) | None, _) => None,
        };
        Ok(Page { objects, next })
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;
    use aws_sdk_s3::types::CommonPrefix;

    use super::*;

    fn response(keys: &[&str], encoded: bool) -> ListObjectsV2Output {
        let listed = |key: &&str| {
            Listed::builder().key(*key).size(1).e_tag("\"x\"").last_modified(DateTime::from_secs(7)).build()
        };
        ListObjectsV2Output::builder()
            .name("site")
            .prefix("www/")
            .set_contents(Some(keys.iter().map(listed).collect()))
            .set_encoding_type(encoded.then_some(EncodingType::Url))
            .is_truncated(false)
            .build()
    }

    fn page(response: ListObjectsV2Output, start: &PageStart) -> Result<Page, String> {
        let location: crate::location::Location = "s3://site/www".parse().unwrap();
        let within = &location.prefix;
        let site = Bucket::split("site").unwrap().0;
        let requested = Requested { bucket: &site, prefix: ObjectKey::new("www/"), start, within };
        let proven = requested.prove(response, Some(WholeDocument::sample())).map_err(|unproven| unproven.message)?;
        requested.read(proven)
    }

    fn keys(response: &ListObjectsV2Output, after: &str) -> Result<Vec<String>, String> {
        page(response.clone(), &PageStart::After(RelativeKey::new(after)))
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
        let mut truncated = response(&["www/a", "www/b"], false);
        truncated.is_truncated = Some(true);
        let start = PageStart::After(RelativeKey::default());
        let next = page(truncated.clone(), &start).unwrap().next;
        assert!(matches!(next, Some(PageStart::After(key)) if key.as_str() == "b"));
        truncated.contents = None;
        assert!(page(truncated, &start).is_err());
    }

    #[test]
    fn a_page_of_another_request_is_refused() {
        let with = |change: &dyn Fn(&mut ListObjectsV2Output), after: &str| {
            let mut response = response(&["www/c"], true);
            change(&mut response);
            keys(&response, after)
        };
        let text = |text: &str| Some(text.to_owned());
        assert!(with(&|page| page.start_after = text("www/a+b"), "a b").is_ok());
        assert!(with(&|page| page.start_after = None, "a b").is_ok());
        assert!(with(&|page| page.key_count = Some(1), "").is_ok());
        for (what, wrong) in [
            ("a later start", with(&|page| page.start_after = text("www/b"), "a")),
            ("a start", with(&|page| page.start_after = text("www/b"), "")),
            ("a delimiter", with(&|page| page.delimiter = text("/"), "")),
            ("a bucket", with(&|page| page.name = text("other"), "")),
            ("a prefix", with(&|page| page.prefix = text("other/"), "")),
            ("a count", with(&|page| page.key_count = Some(2), "")),
            ("an empty key", with(&|page| page.contents = Some(vec![Listed::builder().key("").size(1).build()]), "")),
            (
                "a common prefix",
                with(&|page| page.common_prefixes = Some(vec![CommonPrefix::builder().prefix("www/d/").build()]), ""),
            ),
        ] {
            assert!(
                wrong.as_ref().is_err_and(|error| error.contains("cannot trust this listing")),
                "{what}: {wrong:?}"
            );
        }
        // A server may turn a token into a start.
        let start = PageStart::After(RelativeKey::default()).next("token", Some(&RelativeKey::new("a"))).unwrap();
        let mut later = response(&["www/c"], true);
        later.start_after = text("www/a");
        assert!(page(later, &start).is_ok());
    }

    #[test]
    fn a_page_of_another_token_is_refused() {
        let first = PageStart::After(RelativeKey::default());
        let after = PageStart::After(RelativeKey::new("a"));
        let token = first.next("1ue+/x==", Some(&RelativeKey::new("a"))).unwrap();
        for (start, repeated, fits) in [
            (&token, None, true),
            (&token, Some(""), true),
            (&token, Some("1ue+/x=="), true),
            (&token, Some("1ue%2B%2Fx%3D%3D"), true),
            (&token, Some("1ue+/y=="), false),
            (&first, Some(""), true),
            (&first, Some("1ue+/x=="), false),
            // A server may turn a start into a token.
            (&after, Some("www/a"), true),
            (&after, Some("www/b"), false),
        ] {
            let mut response = response(&["www/c"], true);
            response.continuation_token = repeated.map(str::to_owned);
            let read = page(response, start);
            assert_eq!(read.is_ok(), fits, "{start:?}, {repeated:?}: {read:?}");
            assert!(fits || read.unwrap_err().contains("about the continuation token"), "{repeated:?}");
        }
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
}
