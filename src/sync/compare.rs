//! Comparing content: whether a file holds what its object holds, by what S3 keeps of the object and without reading it.
//!
//! | what S3 keeps | how it is compared |
//! |---|---|
//! | ETag of one request | the MD5 of the file; if it differs, the object may be encrypted under a key: the last row |
//! | ETag of several parts | the MD5 of the parts' MD5s, for the part size that S3 tells, or for those that give as many parts; if it differs, the parts may be of several sizes: the last row |
//! | ETag that is no MD5 | the last row |
//! | checksum of the whole object | that checksum of the file; without one nobody can tell |
//!
//! What nobody can tell is uploaded by a sync, and told by reading the object where that is asked for ([`read_object`]).

use super::context::Context;
use crate::destination::checksum::{Algorithm, Checksum, Hasher, md5_of_md5s, on_pool};
use crate::destination::error::S3Error;
use crate::destination::head::Headers;
use crate::key::RelativeKey;
use crate::object::{ETag, ETagForm, Object};
use crate::source::entry::{FileEntry, Stat};
use crate::source::read::{OpenFile, ReadError};

/// How much is read at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// How often an object is read again that breaks off.
const TRIES: usize = 2;
const MIB: u64 = 1 << 20;
/// Part sizes that programs use, in MiB, for servers that do not tell: from AWS's own tools, rclone, s5cmd, `MinIO`.
const USUAL_PART_MIB: [u64; 18] = [5, 6, 7, 8, 10, 12, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512, 1024];

/// The result of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// What it found.
    pub finding: Finding,
    /// How much of the file was read.
    pub read_bytes: u64,
}

/// What a comparison found.
#[derive(Debug)]
pub enum Finding {
    /// The contents are equal; the file was this when it was read.
    Equal(Stat),
    /// The contents differ.
    Different,
    /// Nothing that S3 keeps of the object tells.
    CannotTell,
}

impl Finding {
    fn equal_if(is_equal: bool, stat: Stat) -> Self {
        if is_equal { Self::Equal(stat) } else { Self::Different }
    }
}

/// Why two contents could not be compared.
#[derive(Debug)]
pub enum CompareError {
    /// The file could not be read.
    Read(ReadError),
    /// S3 could not be asked.
    Ask(S3Error),
}

/// Compares the content of a file and an object of the same size; `headers` are the object's, where they are known.
///
/// # Errors
/// Where the file cannot be read, or S3 not be asked.
pub async fn compare(
    context: &Context,
    key: &RelativeKey,
    entry: &FileEntry,
    object: &Object,
    headers: Option<&Headers>,
) -> Result<Comparison, CompareError> {
    if object.size_bytes == 0 {
        let now = context.source.look(key, entry).await.map_err(CompareError::Read)?;
        return Ok(Comparison { finding: Finding::equal_if(now.size_bytes == 0, now), read_bytes: 0 });
    }
    match object.etag.form() {
        ETagForm::Single(md5) => {
            let digests = digest_file(context, key, entry, vec![u64::MAX], context.destination.checksum()).await?;
            if digests.parts.first().is_some_and(|parts| parts.as_slice() == [md5]) {
                return Ok(digests.equal());
            }
            by_checksum(context, key, entry, object, Some(digests), headers).await
        }
        ETagForm::Multipart(_, parts) => {
            let sizes = part_sizes(context, key, object, parts).await?;
            let digests = digest_file(context, key, entry, sizes, context.destination.checksum()).await?;
            if digests.parts.iter().any(|parts| ETag::multipart(md5_of_md5s(parts), parts.len()) == object.etag) {
                return Ok(digests.equal());
            }
            by_checksum(context, key, entry, object, Some(digests), headers).await
        }
        ETagForm::Opaque => by_checksum(context, key, entry, object, None, headers).await,
    }
}

/// The MD5 of an object's content; a body that breaks off is read once more from its beginning.
async fn digest_object(context: &Context, key: &RelativeKey) -> Result<[u8; 16], S3Error> {
    let mut tried = 0;
    loop {
        let mut hasher = Hasher::new(None);
        let read = context.destination.get_pieces(key, |piece| {
            hasher.update(piece);
            Ok(())
        });
        match read.await {
            Ok(()) => return Ok(hasher.finish().md5),
            Err(error) if error.kind.is_worth_retrying() && tried < TRIES => tried += 1,
            Err(error) => return Err(error),
        }
    }
}

/// By the stored checksum, where the ETag is none of the content; `digests` are what reading the file told already.
async fn by_checksum(
    context: &Context,
    key: &RelativeKey,
    entry: &FileEntry,
    object: &Object,
    digests: Option<Digests>,
    headers: Option<&Headers>,
) -> Result<Comparison, CompareError> {
    let read_before = digests.as_ref().map_or(0, |digests| digests.stat.size_bytes);
    let asked;
    let headers = if let Some(headers) = headers {
        headers
    } else {
        asked = context.destination.head(key).await.map_err(CompareError::Ask)?;
        &asked
    };
    let is_one_md5 = headers.etag_is_md5 && matches!(object.etag.form(), ETagForm::Single(_));
    let stored = match headers.checksum {
        Some(stored) if !is_one_md5 => stored,
        _ => {
            let finding = if is_one_md5 { Finding::Different } else { Finding::CannotTell };
            return Ok(Comparison { finding, read_bytes: read_before });
        }
    };
    let is_known = |digests: &Digests| digests.checksum.is_some_and(|known| known.algorithm() == stored.algorithm());
    let (digests, read_bytes) = if let Some(digests) = digests.filter(is_known) {
        (digests, read_before)
    } else {
        let digests = digest_file(context, key, entry, vec![u64::MAX], Some(stored.algorithm())).await?;
        let read_bytes = read_before + digests.stat.size_bytes;
        (digests, read_bytes)
    };
    Ok(Comparison { finding: Finding::equal_if(digests.checksum == Some(stored), digests.stat), read_bytes })
}

/// Compares by reading both, whole.
///
/// # Errors
/// Where the file cannot be read, or S3 not be asked.
pub async fn read_object(context: &Context, key: &RelativeKey, entry: &FileEntry) -> Result<Comparison, CompareError> {
    let stored = digest_object(context, key).await.map_err(CompareError::Ask)?;
    let digests = digest_file(context, key, entry, vec![u64::MAX], None).await?;
    let is_equal = digests.parts.first().is_some_and(|parts| parts.as_slice() == [stored]);
    let read_bytes = digests.stat.size_bytes;
    Ok(Comparison { finding: Finding::equal_if(is_equal, digests.stat), read_bytes })
}

/// The part sizes that the object may have been sent in.
async fn part_sizes(
    context: &Context,
    key: &RelativeKey,
    object: &Object,
    parts: u32,
) -> Result<Vec<u64>, CompareError> {
    let size = object.size_bytes;
    let first = context.destination.head_first_part(key).await.map_err(CompareError::Ask)?;
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

/// What reading a file once told.
#[derive(Debug)]
struct Digests {
    /// For each part size that was asked for, the MD5 of each part.
    parts: Vec<Vec<[u8; 16]>>,
    /// The checksum of the whole.
    checksum: Option<Checksum>,
    /// What the file was.
    stat: Stat,
}

impl Digests {
    fn equal(&self) -> Comparison {
        Comparison { finding: Finding::Equal(self.stat), read_bytes: self.stat.size_bytes }
    }
}

/// Reads a file piece by piece; a piece is hashed while the next one is read.
async fn digest_file(
    context: &Context,
    key: &RelativeKey,
    entry: &FileEntry,
    part_sizes: Vec<u64>,
    algorithm: Option<Algorithm>,
) -> Result<Digests, CompareError> {
    let file = context.source.open_file(key, entry).await.map_err(CompareError::Read)?;
    let size = file.stat().size_bytes;
    let mut whole = Hasher::new(algorithm);
    let mut by_parts: Vec<PartHasher> = part_sizes.into_iter().map(PartHasher::new).collect();
    let mut offset = 0;
    while offset < size {
        let length = PIECE_BYTES.min(size - offset);
        let _share = context.budget.take(length).await;
        let piece = read_piece(&file, offset, length).await?;
        (whole, by_parts) = on_pool(move || {
            if algorithm.is_some() {
                whole.update(&piece);
            }
            for parts in &mut by_parts {
                parts.update(&piece);
            }
            (whole, by_parts)
        })
        .await;
        offset += length;
    }
    file.check_unchanged().await.map_err(CompareError::Read)?;
    Ok(Digests {
        parts: by_parts.into_iter().map(PartHasher::finish).collect(),
        checksum: whole.finish().checksum,
        stat: *file.stat(),
    })
}

async fn read_piece(file: &OpenFile, offset: u64, length: u64) -> Result<bytes::Bytes, CompareError> {
    file.read(offset, usize::try_from(length).unwrap_or(usize::MAX)).await.map_err(CompareError::Read)
}

/// The MD5 of each part of what passes by.
#[derive(Debug)]
struct PartHasher {
    part_bytes: u64,
    room: u64,
    current: Hasher,
    done: Vec<[u8; 16]>,
}

impl PartHasher {
    fn new(part_bytes: u64) -> Self {
        Self { part_bytes, room: part_bytes, current: Hasher::new(None), done: Vec::new() }
    }

    fn update(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.room == 0 {
                let full = std::mem::replace(&mut self.current, Hasher::new(None));
                self.done.push(full.finish().md5);
                self.room = self.part_bytes;
            }
            let take = piece.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
            let (now, later) = piece.split_at(take);
            self.current.update(now);
            self.room -= u64::try_from(take).unwrap_or(self.room);
            piece = later;
        }
    }

    fn finish(mut self) -> Vec<[u8; 16]> {
        self.done.push(self.current.finish().md5);
        self.done
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};

    use super::*;

    #[test]
    fn parts_are_cut_where_they_end_whatever_the_pieces_are() {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for part_bytes in [1, 7, 250, 999, 1000, 1001] {
            let expected: Vec<[u8; 16]> = content.chunks(part_bytes).map(|part| Md5::digest(part).into()).collect();
            for piece_bytes in [1, 3, 250, 333, 1000] {
                let mut hasher = PartHasher::new(u64::try_from(part_bytes).unwrap());
                content.chunks(piece_bytes).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.finish(), expected, "parts of {part_bytes}, pieces of {piece_bytes}");
            }
        }
    }

    #[test]
    fn nothing_at_all_is_one_empty_part() {
        assert_eq!(PartHasher::new(u64::MAX).finish(), [<[u8; 16]>::from(Md5::digest(b""))]);
    }
}
