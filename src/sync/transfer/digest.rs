//! The digests of a file: its MD5 for each part size, and its checksum, from one read.

use crate::destination::checksum::{Algorithm, Checksum, Hasher, on_pool};
use crate::source::entry::{Problem, Stat};
use crate::source::read::ReadError;
use crate::source::stale::LOOKUPS;
use crate::sync::context::Context;
use crate::sync::job::SourceFile;

/// How much is read at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// What one read of a file showed.
#[derive(Debug)]
pub(super) struct Digests {
    /// For each part size, the MD5 of each part.
    pub(super) parts: Vec<Vec<[u8; 16]>>,
    /// The checksum of the whole content.
    pub(super) checksum: Option<Checksum>,
    /// What the file was.
    pub(super) stat: Stat,
}

impl Digests {
    /// Whether the file is one part with this MD5.
    pub(super) fn has_md5(&self, md5: [u8; 16]) -> bool {
        self.parts.first().is_some_and(|parts| parts.as_slice() == [md5])
    }
}

/// Reads a file piece by piece, and from the start if another client replaces it meanwhile.
pub(super) async fn digest_file(
    context: &Context,
    file: &SourceFile,
    part_sizes: Vec<u64>,
    algorithm: Option<Algorithm>,
) -> Result<Digests, ReadError> {
    for _ in 0..LOOKUPS {
        match digest_once(context, file, &part_sizes, algorithm).await {
            Err(ReadError::Stale) => {}
            done => return done,
        }
    }
    Err(ReadError::Problem(Problem::replaced_in_each_read(LOOKUPS)))
}

/// A thread hashes each piece while the next one is read.
async fn digest_once(
    context: &Context,
    file: &SourceFile,
    part_sizes: &[u64],
    algorithm: Option<Algorithm>,
) -> Result<Digests, ReadError> {
    let open = context.source.open_file(&file.key, &file.entry).await?;
    let size = open.stat().size_bytes;
    let mut whole = Hasher::new(algorithm);
    let mut by_parts: Vec<PartHasher> = part_sizes.iter().copied().map(PartHasher::new).collect();
    let mut offset = 0;
    while offset < size {
        let length = PIECE_BYTES.min(size - offset);
        let _permit = context.budget.take(length).await;
        let piece = open.read(offset, usize::try_from(length).unwrap_or(usize::MAX)).await?;
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
    let stat = open.check_unchanged().await?;
    context.count_read_for_compare(size);
    Ok(Digests {
        parts: by_parts.into_iter().map(PartHasher::finish).collect(),
        checksum: whole.finish().checksum,
        stat,
    })
}

/// The MD5 of each part of the content that passes through.
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
