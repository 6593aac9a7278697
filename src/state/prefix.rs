//! State under a prefix of S3: conditional writes keep two writers apart.

use std::time::Duration;

use bytes::Bytes;

use super::{Expected, Remembered, StateError, Version};
use crate::destination::error::ErrorKind;
use crate::destination::headers::ObjectHeaders;
use crate::destination::{self, Destination, checksum};
use crate::object::ETag;
use crate::source::entry::EpochNanos;

pub(super) async fn look(home: &Destination, name: &str) -> Result<Option<Remembered>, StateError> {
    match home.get(name).await {
        Ok(found) => {
            let since = EpochNanos::now().since(found.last_modified).unwrap_or(Duration::ZERO);
            // LastModified is cut to the second, which makes it older; the clocks may differ either way.
            let age = since.saturating_sub(home.clock_difference()).saturating_sub(Duration::from_secs(1));
            Ok(Some(Remembered { content: found.content, version: Version(found.etag.text()), age }))
        }
        Err(error) if error.kind == ErrorKind::NotFound && error.code.as_deref() != Some("NoSuchBucket") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn replace(
    home: &Destination,
    name: &str,
    content: Bytes,
    expected: &Expected,
) -> Result<Option<Version>, StateError> {
    let over = match expected {
        Expected::Absent => destination::Expected::Absent,
        Expected::Is(Version(etag)) => destination::Expected::Present(ETag::new(etag)),
        Expected::Anything => destination::Expected::Anything,
    };
    let headers = ObjectHeaders { content_type: "application/json".to_owned(), ..ObjectHeaders::default() };
    let digest = checksum::digest(content.clone(), home.checksum()).await;
    let put = home.put(name, &headers, &content, &digest, &over).await;
    if *expected != Expected::Anything && !home.writes_are_conditional() {
        return Err(StateError::NoConditions);
    }
    match put {
        Ok(etag) => Ok(Some(Version(etag.text()))),
        // S3 says 404 where what was to be replaced is gone.
        Err(error) if matches!(error.kind, ErrorKind::Precondition | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
