//! A proven page: a page of a list that shows that it is whole, and that it is the requested one.
//!
//! What a page lacks does not exist for the run, so a part of a page or a page of another request deletes, hides uploads
//! or reports a match. A gateway or a cache can send either with status 200. Each list that S3 returns passes through
//! [`Claims::prove`], which refuses what is certainly wrong. A server may leave out what S3 repeats from the request.

use std::fmt::Display;

use percent_encoding::percent_decode_str;

use super::document::WholeDocument;
use super::error::{ErrorKind, S3Error};
use super::operation::Operation;
use super::proof::{IN_ITS_PLACE, Unproven};
use crate::bucket::Bucket;

/// A page of a list, whole and as requested.
#[derive(Debug)]
pub(super) struct ProvenPage<E, N> {
    entries: Vec<E>,
    next: Option<N>,
}

/// What a response says about itself.
#[derive(Debug)]
pub(super) struct Claims<'a, E, N> {
    pub(super) document: Option<WholeDocument>,
    pub(super) repeated: &'a [Repeated<'a>],
    pub(super) is_truncated: Option<bool>,
    /// How many entries the page has, if the server sends the number.
    pub(super) count: Option<i32>,
    pub(super) entries: Vec<E>,
    /// Where the next page starts, if the response shows it.
    pub(super) next: Option<N>,
}

/// A parameter of the request that the response repeats.
#[derive(Debug)]
pub(super) struct Repeated<'a> {
    name: &'static str,
    requested: &'a str,
    received: Option<&'a str>,
    is_required: bool,
    /// Whether another value will do.
    any: bool,
}

impl<'a> Repeated<'a> {
    /// Every server repeats this parameter.
    pub(super) const fn always(name: &'static str, requested: &'a str, received: Option<&'a str>) -> Self {
        Self { name, requested, received, is_required: true, any: false }
    }

    /// Some servers leave this parameter out.
    pub(super) const fn or_missing(name: &'static str, requested: &'a str, received: Option<&'a str>) -> Self {
        Self { name, requested, received, is_required: false, any: false }
    }

    /// The bucket. The one behind an access point may be repeated in its place.
    pub(super) fn bucket(bucket: &'a Bucket, received: Option<&'a str>, is_required: bool) -> Self {
        let any = bucket.is_named_otherwise();
        Self { name: "bucket", requested: bucket.as_str(), received, is_required, any }
    }

    fn check(&self) -> Result<(), String> {
        let Self { name, requested, received, is_required, any } = self;
        match received.unwrap_or_default() {
            "" if *is_required && !requested.is_empty() => Err(format!("the response names no {name}: {IN_ITS_PLACE}")),
            "" => Ok(()),
            // Some servers encode it, and some do not, whatever `EncodingType` says.
            received if received == *requested || decode(received).is_ok_and(|received| received == *requested) => {
                Ok(())
            }
            _ if *any => Ok(()),
            received => Err(format!("the response is about the {name} '{received}', not '{requested}'")),
        }
    }
}

impl<E, N> Claims<'_, E, N> {
    /// Checks the claims. `is_named` shows whether an entry has what identifies it.
    pub(super) fn prove(self, is_named: impl Fn(&E) -> bool) -> Result<ProvenPage<E, N>, Unproven> {
        self.check(is_named).map_err(|cause| Unproven::missing(untrusted(cause)))
    }

    fn check(self, is_named: impl Fn(&E) -> bool) -> Result<ProvenPage<E, N>, String> {
        let Self { document, repeated, is_truncated, count, entries, next } = self;
        self::whole(document)?;
        repeated.iter().try_for_each(Repeated::check)?;
        if !entries.iter().all(is_named) {
            return Err("an entry has no name".to_owned());
        }
        if let Some(count) = count
            && usize::try_from(count) != Ok(entries.len())
        {
            return Err(format!("the page has {} entries, and says that it has {count}", entries.len()));
        }
        match (is_truncated, next) {
            (None, _) => Err("the page does not say whether it is the last one".to_owned()),
            (Some(false), _) => Ok(ProvenPage { entries, next: None }),
            (Some(true), Some(next)) => Ok(ProvenPage { entries, next: Some(next) }),
            (Some(true), None) => Err("the page is truncated, and does not say where the next one starts".to_owned()),
        }
    }
}

fn whole(document: Option<WholeDocument>) -> Result<(), String> {
    document.map(|_| ()).ok_or_else(|| "the response is cut off: its document has no end".to_owned())
}

impl<E, N> ProvenPage<E, N> {
    /// Returns the entries, and where the next page starts. `None`: this is the last page.
    pub(super) fn into_parts(self) -> (Vec<E>, Option<N>) {
        (self.entries, self.next)
    }
}

/// The error of a list whose pages do not fit each other.
pub(super) fn distrust(operation: Operation, cause: impl Display) -> S3Error {
    S3Error::local(operation, ErrorKind::Unusable, untrusted(cause))
}

fn untrusted(cause: impl Display) -> String {
    format!("cannot trust this listing: {cause}")
}

/// Decodes a key. S3 encodes keys like a form, with `+` for a space; other servers write `%20`.
pub(super) fn decode(key: &str) -> Result<String, String> {
    let key = key.replace('+', " ");
    percent_decode_str(&key).decode_utf8().map(Into::into).map_err(|_| format!("the key '{key}' is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims<'a>(repeated: &'a [Repeated<'a>]) -> Claims<'a, &'static str, &'static str> {
        Claims {
            document: Some(WholeDocument::sample()),
            repeated,
            is_truncated: Some(false),
            count: Some(2),
            entries: vec!["a", "b"],
            next: None,
        }
    }

    fn refused(claims: Claims<'_, &str, &str>) -> Option<String> {
        claims.prove(|entry| !entry.is_empty()).err().map(|unproven| unproven.message)
    }

    #[test]
    fn a_whole_page_is_proven() {
        assert_eq!(refused(claims(&[])), None);
        assert_eq!(refused(Claims { count: None, ..claims(&[]) }), None, "not every server counts");
        let more = Claims { is_truncated: Some(true), next: Some("c"), ..claims(&[]) };
        assert_eq!(more.prove(|_| true).unwrap().into_parts().1, Some("c"));
        let last = Claims { next: Some("c"), ..claims(&[]) };
        assert_eq!(last.prove(|_| true).unwrap().into_parts().1, None, "the last page may repeat a marker");
    }

    #[test]
    fn a_page_that_lacks_something_is_refused() {
        for (wrong, says) in [
            (Claims { document: None, ..claims(&[]) }, "cut off"),
            (Claims { is_truncated: None, ..claims(&[]) }, "whether it is the last one"),
            (Claims { is_truncated: Some(true), ..claims(&[]) }, "where the next one starts"),
            (Claims { count: Some(3), ..claims(&[]) }, "has 2 entries, and says that it has 3"),
            (Claims { count: Some(-1), ..claims(&[]) }, "says that it has -1"),
            (Claims { entries: vec!["a", ""], ..claims(&[]) }, "no name"),
        ] {
            let message = refused(wrong).unwrap();
            assert!(message.starts_with("cannot trust this listing: ") && message.contains(says), "{message}");
        }
    }

    #[test]
    fn what_a_page_repeats_must_be_the_request() {
        let bucket = |text| Bucket::split(text).unwrap().0;
        let (site, alias) = (bucket("site"), bucket("point-abc-s3alias"));
        let point = bucket("arn:aws:s3:us-east-1:123456789012:accesspoint/point");
        for fits in [
            Repeated::bucket(&site, Some("site"), true),
            Repeated::always("prefix", "", None),
            Repeated::always("prefix", "www/a b/", Some("www/a+b/")),
            Repeated::always("prefix", "www/a b/", Some("www/a%20b/")),
            Repeated::always("prefix", "www/a%2Bb/", Some("www/a%2Bb/")),
            Repeated::bucket(&alias, Some("elsewhere"), true),
            Repeated::bucket(&point, Some("elsewhere"), true),
            Repeated::or_missing("start", "www/a", None),
            Repeated::or_missing("start", "", Some("")),
        ] {
            assert_eq!(refused(claims(&[fits])), None);
        }
        for (wrong, says) in [
            (Repeated::bucket(&site, Some("elsewhere"), true), "about the bucket 'elsewhere', not 'site'"),
            (Repeated::bucket(&site, None, true), "names no bucket"),
            (Repeated::always("prefix", "www/", Some("")), "names no prefix"),
            (Repeated::always("prefix", "www/", Some("other/")), "about the prefix 'other/'"),
            (Repeated::or_missing("start", "www/a", Some("www/b")), "about the start 'www/b'"),
            (Repeated::or_missing("start", "", Some("www/b")), "about the start 'www/b'"),
        ] {
            let message = refused(claims(&[wrong])).unwrap();
            assert!(message.contains(says), "{message}");
        }
    }
}
