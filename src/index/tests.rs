use std::io::Write;

use std::time::Duration;

use super::*;
use crate::index::row::{RowMetadata, Written};
use crate::object::StorageClass;
use crate::object::{ETag, Object};
use crate::shutdown::Shutdown;
use crate::source::entry::EntryKind;
use crate::source::entry::Stat;
use crate::store::Store;
use crate::time::EpochNanos;

const MARGIN: Duration = Duration::from_secs(2);
const WRITTEN: EpochNanos = EpochNanos(1_700_000_000_000_000_000);

fn stat(mtime: i128) -> Stat {
    Stat {
        kind: EntryKind::File,
        size_bytes: 3,
        mtime: EpochNanos(mtime),
        ctime: WRITTEN,
        atime: WRITTEN,
        mode: 0o100_644,
        uid: 1000,
        gid: u32::MAX,
        inode: (1, 1),
        seen_at: EpochNanos::now(),
        is_mount_point: false,
    }
}

fn object(key: &str) -> Object {
    Object {
        key: RelativeKey::new(key),
        size_bytes: 3,
        etag: ETag::new("9e107d9d372bb6826bd81d3542a419d6"),
        last_modified: WRITTEN,
        storage_class: StorageClass::Standard,
    }
}

fn row(key: &str, mtime: i128) -> Row {
    Row::of(&object(key), &stat(mtime), if mtime % 2 == 0 { RowMetadata::Seen } else { RowMetadata::Unseen }, MARGIN)
}

fn store() -> Store {
    Store::at(Some("http://minio.local:9000"), None)
}

fn scope() -> Scope {
    Scope::whole("s3://site/www".parse().unwrap())
}

/// A state in a temporary folder.
struct StateFolder {
    folder: tempfile::TempDir,
    state: State,
}

impl StateFolder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::in_folder(folder.path().to_owned(), Shutdown::default());
        Self { folder, state }
    }

    async fn open(&self) -> Index {
        Index::open(&self.state, &scope(), &store(), None).await
    }

    async fn write(&self, rows: impl IntoIterator<Item = Row>) {
        let index = self.open().await;
        rows.into_iter().for_each(|row| index.record(row));
        index.write(&self.state, Removals::Apply).await;
    }

    async fn rows(&self) -> Vec<Row> {
        let index = self.open().await;
        let mut rows = index.rows.lock().await;
        let mut found = Vec::new();
        while rows.peek().await.is_some() {
            found.extend(rows.batch.next());
        }
        found
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join(scope().file_name("index.csv.zst"))
    }
}

#[tokio::test]
async fn rows_are_read_as_they_were_recorded_whatever_their_keys() {
    let state = StateFolder::new();
    let keys = ["", " ", "a", "a\nb\r\n", "a,\"b\"", "a/", "a0", "end", "\u{1}", "é", "😀"];
    let mut rows: Vec<Row> = keys.iter().map(|key| row(key, -1)).collect();
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    state.write(rows.iter().rev().cloned()).await;
    assert_eq!(state.rows().await, rows);

    let written = Written::between(WRITTEN, WRITTEN.plus(MARGIN), MARGIN);
    let mut by_us = Row::of_written(
        &RelativeKey::new("b"),
        &ETag::new("odd \"tag"),
        written,
        &stat(7),
        RowMetadata::SeenWithContent,
        MARGIN,
    );
    assert!(matches!(by_us.written, Written::Within(from, to) if from < WRITTEN && to > WRITTEN));
    by_us.file.as_mut().unwrap().mtime = EpochNanos(i128::MIN);
    state.write([by_us.clone()]).await;
    assert_eq!(state.open().await.take_row(&RelativeKey::new("b")).await, Some(by_us));

    let unproven = Row::unproven(&RelativeKey::new("c"));
    state.write([unproven.clone()]).await;
    assert_eq!(state.open().await.take_row(&RelativeKey::new("c")).await, Some(unproven));
}

#[tokio::test]
async fn rows_between_two_calls_are_removed_and_rows_not_reached_stay() {
    let state = StateFolder::new();
    state.write(["a", "b", "c", "d", "e"].map(|key| row(key, 1))).await;
    let index = state.open().await;
    assert_eq!(index.take_row(&RelativeKey::new("b")).await, Some(row("b", 1)));
    assert_eq!(index.take_row(&RelativeKey::new("bb")).await, None);
    assert_eq!(index.take_row(&RelativeKey::new("d")).await, Some(row("d", 1)));
    index.record(row("d", 2));
    index.record(row("dd", 1));
    index.write(&state.state, Removals::Apply).await;
    let expected = [row("b", 1), row("d", 2), row("dd", 1), row("e", 1)];
    assert_eq!(state.rows().await, expected, "a and c were between two calls, e was not reached");

    let unsettled = Row { file: None, ..row("d", 2) };
    state.write([unsettled.clone()]).await;
    assert_eq!(state.rows().await, [row("b", 1), unsettled, row("dd", 1), row("e", 1)], "it fits no file");
    state.write([row("d", 2)]).await;

    let index = state.open().await;
    index.take_row(&RelativeKey::new("b")).await;
    index.remove_remaining().await;
    index.remove(&RelativeKey::new("b"));
    index.write(&state.state, Removals::Apply).await;
    assert_eq!(state.rows().await, []);
}

#[tokio::test]
async fn rows_can_be_added_without_removals() {
    let state = StateFolder::new();
    state.write(["a", "c"].map(|key| row(key, 1))).await;
    let index = state.open().await;
    index.record(row("b", 1));
    index.record(row("c", 2));
    index.record(row("d", 1));
    index.remove(&RelativeKey::new("d"));
    index.remove_remaining().await;
    index.write(&state.state, Removals::Ignore).await;
    assert_eq!(state.rows().await, [row("a", 1), row("b", 1), row("c", 1)], "the last edit of c is a removal");
}

#[tokio::test]
async fn index_without_changes_is_not_written() {
    let state = StateFolder::new();
    state.write(["a", "b"].map(|key| row(key, 1))).await;
    let before = std::fs::metadata(state.path()).unwrap().modified().unwrap();
    let index = state.open().await;
    index.take_row(&RelativeKey::new("a")).await;
    index.take_row(&RelativeKey::new("b")).await;
    index.remove_remaining().await;
    index.record(row("b", 1));
    index.remove(&RelativeKey::new("c"));
    index.write(&state.state, Removals::Apply).await;
    assert_eq!(std::fs::metadata(state.path()).unwrap().modified().unwrap(), before);
}

#[tokio::test]
async fn edits_that_exceed_memory_are_merged_in_order_and_the_last_of_a_key_counts() {
    let state = StateFolder::new();
    let key = |number: u64| format!("{:07}/{}", number * 7919 % 150_000, "x".repeat(40));
    let index = state.open().await;
    for number in 0..150_000 {
        index.record(row(&key(number), 1));
    }
    for number in (0..150_000).step_by(3) {
        index.record(row(&key(number), 2));
    }
    for number in (0..150_000).step_by(5) {
        index.remove(&RelativeKey::new(key(number)));
    }
    assert!(index.edits.lock().unwrap().chunks() > 3);
    index.write(&state.state, Removals::Apply).await;
    let mut expected: Vec<Row> = (0..150_000_u64)
        .filter(|number| number % 5 != 0)
        .map(|number| row(&key(number), if number % 3 == 0 { 2 } else { 1 }))
        .collect();
    expected.sort_by(|one, other| one.key.cmp(&other.key));
    assert!(state.rows().await == expected);
}

#[tokio::test]
async fn damaged_or_truncated_index_is_not_used_and_is_rebuilt() {
    let state = StateFolder::new();
    state.write((0..300).map(|number| row(&format!("{number:03}"), number))).await;
    let whole = std::fs::read(state.path()).unwrap();
    let damage = |bytes: &[u8]| std::fs::write(state.path(), bytes).unwrap();
    for length in (0..whole.len()).step_by(7) {
        damage(&whole[..length]);
        assert_eq!(state.rows().await, [], "truncated at {length}");
    }
    for at in (0..whole.len()).step_by(5) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        damage(&flipped);
        assert_eq!(state.rows().await, [], "damaged at {at}");
    }
    damage(&[&whole[..], b"more"].concat());
    assert_eq!(state.rows().await, []);
    state.write([row("new", 1)]).await;
    assert_eq!(state.rows().await, [row("new", 1)]);
}

#[tokio::test]
async fn index_of_another_destination_endpoint_or_schema_is_not_used() {
    let state = StateFolder::new();
    state.write([row("a", 1)]).await;
    let head = Head::new(&scope(), &store(), None);
    let file = Arc::new(File::open(state.path()).unwrap());
    let rejected = |head: Head| file::RowReader::open(&file, &head).err().unwrap().to_string();
    assert_eq!(
        rejected(Head { destination: "s3://site/ww".to_owned(), ..head.clone() }),
        "belongs to another destination"
    );
    assert_eq!(rejected(Head { store: "aws".to_owned(), ..head.clone() }), "belongs to another endpoint");
    assert!(file::RowReader::open(&file, &head).is_ok());

    let newer = sealed(&zstd::encode_all(&b"efs2s3 index,3,s3://site/www,aws,plain,9.0\n"[..], 3).unwrap());
    let rejected = file::RowReader::open(&newer, &head).err().unwrap().to_string();
    assert_eq!(rejected, "is in another format ('efs2s3 index 3')");
}

/// A file with these bytes and their trailer.
fn sealed(bytes: &[u8]) -> Arc<File> {
    let mut sum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    sum.update(bytes);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.write_all(&[0x5e, 0x2a, 0x4d, 0x18, 8, 0, 0, 0]).unwrap();
    file.write_all(&sum.finalize().to_be_bytes()).unwrap();
    Arc::new(file)
}

#[tokio::test]
async fn any_content_under_a_right_checksum_is_read_or_rejected() {
    let state = StateFolder::new();
    state.write(["a", "b,\"c\"", "d"].map(|key| row(key, 1))).await;
    let text = zstd::decode_all(File::open(state.path()).unwrap()).unwrap();
    let packed = zstd::encode_all(&text[..], 1).unwrap();
    let head = Head::new(&scope(), &store(), None);
    let mut random = fastrand::Rng::with_seed(1);
    let change = |bytes: &[u8], random: &mut fastrand::Rng| {
        let mut bytes = bytes.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..bytes.len());
            match random.u8(0..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.drain(at..(at + random.usize(0..9)).min(bytes.len()))),
                _ => drop(bytes.splice(at..at, *b"9,\n\"")),
            }
            bytes.push(b'\n');
        }
        bytes
    };
    for _ in 0..3000 {
        let changed_text = zstd::encode_all(&change(&text, &mut random)[..], 1).unwrap();
        for bytes in [changed_text, change(&packed, &mut random)] {
            let Ok(reader) = file::RowReader::open(&sealed(&bytes), &head) else {
                continue;
            };
            let rows: Vec<_> = reader.take(100).collect();
            let keys: Vec<_> = rows.iter().flatten().map(|row| &row.key).collect();
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
        }
    }
}

#[tokio::test]
async fn zstd_and_a_csv_reader_show_an_index() {
    let state = StateFolder::new();
    state.write([row("a,b", 5)]).await;
    let shown = zstd::decode_all(File::open(state.path()).unwrap()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "efs2s3 index,2,s3://site/www/,http://minio.local:9000,plain,{version}\n\
         key,size,etag,last_modified_ns,mtime_ns,ctime_ns,mode,uid,gid,inode,metadata\n\
         \"a,b\",3,9e107d9d372bb6826bd81d3542a419d6,{time},5,{time},33188,1000,4294967295,1,\nend,1\n",
        time = WRITTEN.0
    );
    assert_eq!(String::from_utf8(shown).unwrap(), expected);
}

#[tokio::test]
async fn rows_of_another_mode_do_not_show_metadata_whoever_carries_them_over() {
    let state = StateFolder::new();
    state.write(["a", "b"].map(|key| row(key, 2))).await;
    let of_other_mode = |key| Row { metadata: RowMetadata::OfOtherMode, ..row(key, 2) };
    let open = async || Index::open(&state.state, &scope(), &store(), Some(Preserve::ALL)).await;
    let index = open().await;
    assert!(index.is_of_other_mode());
    assert_eq!(index.take_row(&RelativeKey::new("a")).await, Some(of_other_mode("a")));
    index.record(row("a", 2));
    index.write(&state.state, Removals::Apply).await;
    let index = open().await;
    assert!(!index.is_of_other_mode());
    assert_eq!(index.take_row(&RelativeKey::new("a")).await, Some(row("a", 2)));
    assert_eq!(index.take_row(&RelativeKey::new("b")).await, Some(of_other_mode("b")), "the run did not reach it");
}

#[test]
fn the_row_of_a_file_that_changed_within_the_margin_or_in_the_future_fits_no_file() {
    let at = |ago: i128| Stat { ctime: EpochNanos(stat(1).seen_at.0 - ago * 1_000_000_000), ..stat(1) };
    let fits = |stat: &Stat, margin| {
        let row = Row::of(&object("a"), stat, RowMetadata::Seen, margin);
        assert!(row.fits_object(&object("a")));
        row.fits_file(stat)
    };
    assert!(!fits(&at(1), MARGIN));
    assert!(!fits(&at(-60), MARGIN));
    assert!(fits(&at(3), MARGIN));
    assert!(!fits(&at(3), Duration::from_mins(1)), "the clocks may differ by a minute");
    let seen_early = Stat { ctime: WRITTEN, seen_at: WRITTEN.plus(Duration::from_millis(1)), ..stat(1) };
    assert!(!fits(&seen_early, MARGIN), "its age counts from the stat, not from now");
    let directory = Stat { kind: EntryKind::Directory, ..at(0) };
    assert!(fits(&directory, MARGIN), "a later change shows in what the row holds");
}

#[test]
fn row_fits_an_object_by_size_etag_and_time() {
    let exact = row("a", 1);
    let later = Object { last_modified: EpochNanos(WRITTEN.0 + 1_000_000_000), ..object("a") };
    assert!(exact.fits_object(&object("a")) && !exact.fits_object(&later) && exact.has_content_of(&later));
    let other = Object { etag: ETag::new("0"), ..object("a") };
    assert!(!exact.fits_object(&other) && !exact.has_content_of(&other));
    let nameless = Object { etag: ETag::new(""), ..object("a") };
    let of_nameless = Row::of(&nameless, &stat(1), RowMetadata::Seen, MARGIN);
    assert!(!of_nameless.fits_object(&nameless), "it may be any object");
    let at = |seconds: i128| Object { last_modified: EpochNanos(WRITTEN.0 + seconds * 1_000_000_000), ..object("a") };
    let within = Row { written: Written::between(at(10).last_modified, at(11).last_modified, MARGIN), ..exact.clone() };
    assert!(within.fits_object(&at(8)) && within.fits_object(&at(13)));
    assert!(!within.fits_object(&at(7)), "an older version with the same content");
    assert!(!within.fits_object(&at(14)));
    assert_eq!((exact.made_exact(&object("a")), within.made_exact(&at(9))), (None, None));
    let long = Row { written: Written::between(at(10).last_modified, at(99).last_modified, MARGIN), ..exact.clone() };
    let expected = Row { written: Written::At(at(20).last_modified), ..exact.clone() };
    assert_eq!((long.made_exact(&at(20)), long.made_exact(&at(200))), (Some(expected), None));
    let copied = Row { written: Written::copied(EpochNanos(WRITTEN.0 + 1_500_000_000)), ..exact };
    assert!(copied.fits_object(&at(1)) && !copied.fits_object(&at(2)) && !copied.fits_object(&at(0)));
}
