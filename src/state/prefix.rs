//! State under a prefix of S3. Conditional writes exclude a second writer.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;

use super::error::StateError;
use super::record::{ExpectedVersion, StateRecord, Version};
use crate::destination::error::{ErrorKind, S3Error};
use crate::destination::headers::ObjectHeaders;
use crate::destination::put::{ExpectedObject, NewObject};
use crate::destination::sent_content::OwnContent;
use crate::destination::write_headers::WriteHeaders;
use crate::destination::{Destination, checksum};
use crate::key::RelativeKey;
use crate::object::ETag;
use crate::open_files::when_one_is_free;
use crate::time::EpochNanos;

/// A larger file is sent in parts of this size. The 10,000 parts of an upload hold 160 GB.
const PART_BYTES: u64 = 16 << 20;
const PART_STEP: usize = 16 << 20;

pub(super) async fn read(home: &Destination, name: &RelativeKey) -> Result<Option<StateRecord>, StateError> {
    match home.get(name).await {
        Ok(got) => {
            let since = EpochNanos::now().since(got.last_modified).unwrap_or(Duration::ZERO);
            // LastModified is truncated to the second, which makes it older. The clocks may differ either way.
            let age = since.saturating_sub(home.clock_difference()).saturating_sub(Duration::from_secs(1));
            Ok(Some(StateRecord { content: got.content, version: Version(got.etag.text()), age }))
        }
        Err(error) if error.kind == ErrorKind::NotFound && error.code.as_deref() != Some("NoSuchBucket") => Ok(None),
        Err(error) => Err(StateError::in_bucket(home, &error)),
    }
}

pub(super) async fn replace(
    home: &Destination,
    name: &RelativeKey,
    content: Bytes,
    expected: &ExpectedVersion,
) -> Result<Option<Version>, StateError> {
    let over = match expected {
        ExpectedVersion::Absent => ExpectedObject::Absent,
        ExpectedVersion::Is(Version(etag)) => ExpectedObject::Only(ETag::new(etag)),
        ExpectedVersion::Any => ExpectedObject::Any,
    };
    let digest = checksum::digest(content.clone(), home.checksum()).await;
    let object = NewObject {
        key: name,
        headers: &headers(home),
        content: &content,
        digest: &digest,
        expected: &over,
        source: &OwnContent,
    };
    let put = home.put(&object).await;
    if *expected != ExpectedVersion::Any && !home.has_conditional_writes() {
        return Err(StateError::NoConditions { bucket: home.bucket().to_owned(), header: "If-None-Match" });
    }
    match put {
        Ok(proof) => Ok(Some(Version(proof.etag().text()))),
        // S3 responds with 404 if the object to be replaced no longer exists.
        Err(error) if matches!(error.kind, ErrorKind::Precondition | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(StateError::in_bucket(home, &error)),
    }
}

pub(super) async fn open_file(home: &Destination, name: &RelativeKey) -> Result<Option<File>, StateError> {
    let mut file = when_one_is_free(tempfile::tempfile).map_err(StateError::in_temporary_folder)?;
    match home.get_into(name, &mut file).await {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::in_bucket(home, &error)),
    }
}

pub(super) async fn publish(home: &Destination, name: &RelativeKey, file: &File) -> Result<(), StateError> {
    let failed = |error: S3Error| StateError::in_bucket(home, &error);
    let file_bytes = file.metadata().map_err(StateError::in_temporary_folder)?.len();
    let part = async |offset: u64| {
        let length = usize::try_from(PART_BYTES.min(file_bytes - offset)).unwrap_or_default();
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, offset).map_err(StateError::in_temporary_folder)?;
        let content = Bytes::from(content);
        Ok::<_, StateError>((content.clone(), checksum::digest(content, home.checksum()).await))
    };
    if file_bytes <= PART_BYTES {
        let (content, digest) = part(0).await?;
        let (headers, expected) = (&headers(home), &ExpectedObject::Any);
        let object =
            NewObject { key: name, headers, content: &content, digest: &digest, expected, source: &OwnContent };
        home.put(&object).await.map_err(failed)?;
        return Ok(());
    }
    let upload = home.create_upload(name, &headers(home)).await.map_err(failed)?;
    let sent = async {
        let mut parts = Vec::new();
        for (number, offset) in (1..).zip((0..file_bytes).step_by(PART_STEP)) {
            let (content, digest) = part(offset).await?;
            parts.push(upload.upload_part(number, content, digest).await.map_err(failed)?);
        }
        upload.complete(parts, &ExpectedObject::Any, &OwnContent).await.map_err(failed)?;
        Ok(())
    };
    let sent = sent.await;
    if sent.is_err() {
        upload.abort().await;
    }
    sent
}

fn headers(home: &Destination) -> WriteHeaders {
    let content_type = "application/octet-stream".to_owned();
    home.write_headers(ObjectHeaders { content_type, ..ObjectHeaders::default() })
}
