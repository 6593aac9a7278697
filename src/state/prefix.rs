//! State under a prefix of S3: conditional writes keep two writers apart.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;

use super::{Expected, Remembered, StateError, Version};
use crate::destination::error::ErrorKind;
use crate::destination::headers::ObjectHeaders;
use crate::destination::put::{ExpectedObject, NewObject};
use crate::destination::{Destination, checksum};
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::time::EpochNanos;

/// What is larger is sent in parts of this size; 10,000 of them hold 160 GB.
const PIECE_BYTES: u64 = 16 << 20;
const PIECE_STEP: usize = 16 << 20;

pub(super) async fn look(home: &Destination, name: &RelativeKey) -> Result<Option<Remembered>, StateError> {
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
    name: &RelativeKey,
    content: Bytes,
    expected: &Expected,
) -> Result<Option<Version>, StateError> {
    let over = match expected {
        Expected::Absent => ExpectedObject::Absent,
        Expected::Is(Version(etag)) => ExpectedObject::Present(ETag::new(etag)),
        Expected::Anything => ExpectedObject::Any,
    };
    let digest = checksum::digest(content.clone(), home.checksum()).await;
    let object = NewObject { key: name, headers: &headers(), content: &content, digest: &digest, expected: &over };
    let put = home.put(&object).await;
    if *expected != Expected::Anything && !home.has_conditional_writes() {
        return Err(StateError::NoConditions);
    }
    match put {
        Ok(etag) => Ok(Some(Version(etag.text()))),
        // S3 says 404 where what was to be replaced is gone.
        Err(error) if matches!(error.kind, ErrorKind::Precondition | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn read_file(home: &Destination, name: &RelativeKey) -> Result<Option<File>, StateError> {
    let mut file = tempfile::tempfile().map_err(|error| StateError::in_file("the temporary folder", error))?;
    match home.get_into(name, &mut file).await {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn publish(home: &Destination, name: &RelativeKey, file: &File) -> Result<(), StateError> {
    let unreadable = |error| StateError::in_file("the temporary folder", error);
    let file_bytes = file.metadata().map_err(unreadable)?.len();
    let piece = async |offset: u64| {
        let length = usize::try_from(PIECE_BYTES.min(file_bytes - offset)).unwrap_or_default();
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, offset).map_err(unreadable)?;
        let content = Bytes::from(content);
        Ok::<_, StateError>((content.clone(), checksum::digest(content, home.checksum()).await))
    };
    if file_bytes <= PIECE_BYTES {
        let (content, digest) = piece(0).await?;
        let (headers, expected) = (&headers(), &ExpectedObject::Any);
        home.put(&NewObject { key: name, headers, content: &content, digest: &digest, expected }).await?;
        return Ok(());
    }
    let upload = home.create_upload(name, &headers()).await?;
    let sent = async {
        let mut parts = Vec::new();
        for (number, offset) in (1..).zip((0..file_bytes).step_by(PIECE_STEP)) {
            let (content, digest) = piece(offset).await?;
            parts.push(upload.upload_part(number, content, digest).await?);
        }
        upload.complete(parts, &ExpectedObject::Any).await?;
        Ok(())
    };
    let sent = sent.await;
    if sent.is_err() {
        upload.abort().await;
    }
    sent
}

fn headers() -> ObjectHeaders {
    ObjectHeaders { content_type: "application/octet-stream".to_owned(), ..ObjectHeaders::default() }
}
