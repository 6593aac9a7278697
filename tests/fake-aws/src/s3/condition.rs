//! A condition: an `ETag` that a request compares with the object before it takes effect.

use super::object::Object;
use super::refusal::Refusal;
use super::request::Request;
use super::settings::{ConditionalWrites, Settings};

/// Whether a condition matches the `ETag` of an object. The condition is `*` or an `ETag` with or without quotes.
pub(super) fn matches(condition: &str, etag: &str) -> bool {
    let condition = condition.trim();
    condition == "*" || condition.trim_matches('"') == etag
}

/// Checks `If-None-Match` and `If-Match` of a write.
///
/// | condition | no object | another `ETag` | the same `ETag` |
/// |---|---|---|---|
/// | `If-None-Match: *` | written | 412 | 412 |
/// | `If-Match: <etag>` | 404 | 412 | written |
pub(super) fn of_write(request: &Request, existing: Option<&Object>, settings: &Settings) -> Result<(), Refusal> {
    let if_none_match = request.header("if-none-match");
    let if_match = request.header("if-match");
    if if_none_match.is_none() && if_match.is_none() {
        return Ok(());
    }
    match settings.conditional_writes {
        ConditionalWrites::On => {}
        ConditionalWrites::Ignored => return Ok(()),
        ConditionalWrites::NotImplemented => return Err(Refusal::not_implemented("conditions")),
    }
    if if_none_match.is_some_and(|value| value.trim() != "*") {
        return Err(Refusal::not_implemented("If-None-Match with an ETag"));
    }
    if if_none_match.is_some() && existing.is_some() {
        return Err(Refusal::precondition_failed());
    }
    match (if_match, existing) {
        (Some(_), None) => Err(Refusal::no_such_key()),
        (Some(etag), Some(object)) if !matches(etag, &object.etag) => Err(Refusal::precondition_failed()),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// Checks `If-Match` and `If-None-Match` of a read.
pub(super) fn of_read(request: &Request, object: &Object) -> Result<(), Refusal> {
    if request.header("if-match").is_some_and(|etag| !matches(etag, &object.etag)) {
        return Err(Refusal::precondition_failed());
    }
    if request.header("if-none-match").is_some_and(|etag| matches(etag, &object.etag)) {
        let etag = format!("\"{}\"", object.etag);
        return Err(Refusal::new(304, "NotModified", "Not Modified").with("ETag", &etag));
    }
    Ok(())
}

/// Checks `x-amz-copy-source-if-match` of a copy.
pub(super) fn of_source(request: &Request, source: &Object) -> Result<(), Refusal> {
    let fails = request.header("x-amz-copy-source-if-match").is_some_and(|etag| !matches(etag, &source.etag));
    if fails {
        return Err(Refusal::precondition_failed());
    }
    Ok(())
}

/// Checks the `ETag` of a delete. A missing object matches no `ETag`.
pub(super) fn of_delete(etag: Option<&str>, existing: Option<&Object>, settings: &Settings) -> Result<(), Refusal> {
    match (etag.filter(|_| settings.conditional_delete), existing) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refusal::no_such_key()),
        (Some(etag), Some(object)) if matches(etag, &object.etag) => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::precondition_failed()),
    }
}
