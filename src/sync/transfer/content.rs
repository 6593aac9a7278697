//! Comparing content: whether a file holds what its object holds, without downloading the object.
//!
//! | what S3 stores | how it is compared |
//! |---|---|
//! | ETag of one request | the MD5 of the file; if it differs, the object may be encrypted with a key: the last row |
//! | ETag of several parts | the MD5 of the parts' MD5s, for the part size that S3 reports, or for each usual size that gives as many parts; if all differ, the parts may have several sizes: the last row |
//! | ETag that is not an MD5 | the last row |
//! | checksum of the whole object | that checksum of the file; without one, the contents are unverifiable |
//!
//! A sync uploads a file whose content is unverifiable. [`compare_with_object`] downloads the object.

use super::digest::{Digests, digest_file};
use crate::destination::checksum::{Hasher, md5_of_md5s};
use crate::destination::error::S3Error;
use crate::destination::head::HeadResponse;
use crate::destination::operation::Operation;
use crate::destination::outage::Attempts;
use crate::key::RelativeKey;
use crate::object::{ETag, ETagForm, Object};
use crate::source::entry::Stat;
use crate::sync::context::Context;
use crate::sync::job::SourceFile;
use crate::sync::verdict::StepError;

const MIB: u64 = 1 << 20;
/// Usual part sizes in MiB, for servers that do not report the part size: of AWS's own tools, rclone, s5cmd, `MinIO`.
const USUAL_PART_MIB: [u64; 18] = [5, 6, 7, 8, 10, 12, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512, 1024];

/// What a comparison of contents showed.
#[derive(Debug)]
pub(super) enum Content {
    /// The contents are equal; the file was this when the run read it.
    Equal(Stat),
    /// The contents differ.
    Different,
    /// The ETag and the stored checksum cannot show it.
    Unverifiable,
}

impl Content {
    fn equal_if(is_equal: bool, stat: Stat) -> Self {
        if is_equal { Self::Equal(stat) } else { Self::Different }
    }
}

/// Compares a file with an object of the same size; `headers` are the object's, if they are known.
pub(super) async fn compare_content(
    context: &Context,
    file: &SourceFile,
    object: &Object,
    headers: Option<&HeadResponse>,
) -> Result<Content, StepError> {
    if object.size_bytes == 0 {
        let now = context.source.re_stat(&file.key, &file.entry).await?;
        return Ok(Content::equal_if(now.size_bytes == 0, now));
    }
    let part_sizes = match object.etag.form() {
        ETagForm::Single(_) => vec![u64::MAX],
        ETagForm::Multipart(_, parts) => part_sizes(context, &file.key, object, parts).await?,
        ETagForm::Opaque => return compare_checksum(context, file, object, None, headers).await,
    };
    let digests = digest_file(context, file, part_sizes, context.destination.checksum()).await?;
    let is_equal = match object.etag.form() {
        ETagForm::Single(md5) => digests.has_md5(md5),
        ETagForm::Multipart(..) | ETagForm::Opaque => {
            digests.parts.iter().any(|parts| ETag::multipart(md5_of_md5s(parts), parts.len()) == object.etag)
        }
    };
    if is_equal {
        return Ok(Content::Equal(digests.stat));
    }
    compare_checksum(context, file, object, Some(digests), headers).await
}

/// Compares by the stored checksum. `digests` are what an earlier read of the file showed.
async fn compare_checksum(
    context: &Context,
    file: &SourceFile,
    object: &Object,
    digests: Option<Digests>,
    headers: Option<&HeadResponse>,
) -> Result<Content, StepError> {
    let fetched;
    let headers = if let Some(headers) = headers {
        headers
    } else {
        fetched = context.destination.head(&file.key).await?;
        &fetched
    };
    let is_one_md5 = headers.etag_is_md5 && matches!(object.etag.form(), ETagForm::Single(_));
    let stored = match headers.checksum {
        Some(stored) if !is_one_md5 => stored,
        _ => return Ok(if is_one_md5 { Content::Different } else { Content::Unverifiable }),
    };
    let is_known = |digests: &Digests| digests.checksum.is_some_and(|known| known.algorithm() == stored.algorithm());
    let digests = match digests.filter(is_known) {
        Some(digests) => digests,
        None => digest_file(context, file, vec![u64::MAX], Some(stored.algorithm())).await?,
    };
    Ok(Content::equal_if(digests.checksum == Some(stored), digests.stat))
}

/// Compares by reading the file and downloading the object.
pub(super) async fn compare_with_object(context: &Context, file: &SourceFile) -> Result<Content, StepError> {
    let md5 = digest_object(context, &file.key).await?;
    let digests = digest_file(context, file, vec![u64::MAX], None).await?;
    Ok(Content::equal_if(digests.has_md5(md5), digests.stat))
}

/// Returns the MD5 of an object's content.
async fn digest_object(context: &Context, key: &RelativeKey) -> Result<[u8; 16], S3Error> {
    let mut attempts = Attempts::of(Operation::Get);
    loop {
        let mut hasher = Hasher::new(None);
        let read = context.destination.get_pieces(key, |piece| {
            hasher.update(piece);
            Ok(())
        });
        match read.await {
            Ok(()) => return Ok(hasher.finish().md5),
            Err(error) => context.destination.retry(&mut attempts, error).await?,
        }
    }
}

/// Returns the part sizes in which the object may have been uploaded.
async fn part_sizes(context: &Context, key: &RelativeKey, object: &Object, parts: u32) -> Result<Vec<u64>, S3Error> {
    let size = object.size_bytes;
    let first = context.destination.head_first_part(key).await?;
    if first.parts.is_some() && first.size_bytes > 0 {
        return Ok(vec![first.size_bytes]);
    }
    let usual = USUAL_PART_MIB.iter().map(|mib| mib * MIB);
    let even = size.div_ceil(u64::from(parts)).next_multiple_of(MIB);
    let mut sizes: Vec<u64> =
        usual.chain([context.part_size, even]).filter(|part| size.div_ceil(*part) == u64::from(parts)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}
