//! Index file: CSV, compressed with zstd.
//!
//! ```text
//! efs2s3 index,2,s3://site/www/,aws,datasync mtime uid gid permissions,0.1.0
//!     format, schema, destination, store, mode, program
//! key,size,etag,last_modified_ns,mtime_ns,ctime_ns,mode,uid,gid,inode,metadata
//! img/a.png,1234,9e107d9d372bb6826bd81d3542a419d6,1700000000000000000,…     two times with `..`: written in this interval
//! end,1
//! ```
//!
//! The compressed data is followed by a skippable frame (RFC 8878, 3.1.2) with the CRC-64/NVME of everything before it.
//! The reader checks it before it uses any row, without decompressing. `zstdcat` and any CSV reader show the file, and
//! a row takes about 60 bytes on disk. `SQLite` would be a second storage engine on a network file system. A binary format
//! would need a tool to read it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use crc_fast::CrcAlgorithm;
use csv::{ByteRecord, StringRecord};

use super::row::{FileState, Row, RowMetadata, Written};
use crate::key::RelativeKey;
use crate::metadata::Preserve;
use crate::object::ETag;
use crate::scope::Scope;
use crate::spool::FileSpan;
use crate::store::Store;
use crate::time::EpochNanos;

const NAME: &str = "efs2s3 index";
const SCHEMA: &str = "2";
const COLUMNS: [&str; 11] =
    ["key", "size", "etag", "last_modified_ns", "mtime_ns", "ctime_ns", "mode", "uid", "gid", "inode", "metadata"];
const END: &str = "end";
const SEEN: &str = "seen";
const SEEN_WITH_CONTENT: &str = "seen with content";
const UNSEEN: &str = "";
const OF_OTHER_MODE: &str = "other mode";
/// The columns of a row that fits no file. The mode of each file has the bits of its type.
const NO_FILE: FileState = FileState { mtime: EpochNanos(0), ctime: EpochNanos(0), mode: 0, uid: 0, gid: 0, inode: 0 };
/// zstd's default.
const LEVEL: i32 = 3;

/// The magic number and the length of a skippable frame.
const TRAILER_HEAD: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 8, 0, 0, 0];
const TRAILER_BYTES: u64 = 16;

/// What the rows of an index describe.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The destination, with its key range if the run has one.
    pub(super) destination: String,
    /// The servers that hold the bucket.
    pub(super) store: String,
    /// The mode, and the attributes that it stores as metadata.
    pub(super) mode: String,
}

/// Why an index cannot be used: the end of a sentence that starts with "the index".
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error("cannot be read ({0})")]
    Io(#[from] io::Error),
    #[error("is damaged or truncated")]
    Checksum,
    /// The checksum is right, but the content is not an index.
    #[error("is damaged ({0})")]
    Content(&'static str),
    /// A newer program wrote it, or another program.
    #[error("is in another format ('{0}')")]
    Format(String),
    #[error("belongs to another {0}")]
    Foreign(&'static str),
}

impl Head {
    /// `preserve` is what the mode stores as metadata.
    pub(super) fn new(scope: &Scope, store: &Store, preserve: Option<Preserve>) -> Self {
        let mode = match preserve {
            None => "plain".to_owned(),
            Some(Preserve { mtime, atime, uid, gid, permissions }) => {
                let stored =
                    [(mtime, "mtime"), (atime, "atime"), (uid, "uid"), (gid, "gid"), (permissions, "permissions")];
                let stored = stored.into_iter().filter_map(|(is_stored, name)| is_stored.then_some(name));
                std::iter::once("datasync").chain(stored).collect::<Vec<_>>().join(" ")
            }
        };
        Self { destination: scope.to_string(), store: store.to_string(), mode }
    }
}

impl From<csv::Error> for Damage {
    fn from(error: csv::Error) -> Self {
        Self::Io(error.into())
    }
}

/// Writes an index.
pub(super) struct RowWriter<W: Write> {
    rows: csv::Writer<zstd::Encoder<'static, Summed<W>>>,
    count: u64,
}

/// Reads the rows of an index. The first error ends them.
pub(super) struct RowReader {
    rows: csv::Reader<zstd::Decoder<'static, BufReader<FileSpan>>>,
    record: StringRecord,
    count: u64,
    last_key: Option<RelativeKey>,
    ended: bool,
    /// Whether a run in another mode wrote the index (`DESIGN.md#change-of-mode`).
    pub(super) is_of_other_mode: bool,
}

/// Passes on what is written, and computes its checksum.
struct Summed<W> {
    inner: W,
    sum: crc_fast::Digest,
}

impl<W: Write> RowWriter<W> {
    pub(super) fn new(inner: W, head: &Head) -> io::Result<Self> {
        let sum = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
        let encoder = zstd::Encoder::new(Summed { inner, sum }, LEVEL)?;
        let mut rows = csv::WriterBuilder::new().flexible(true).from_writer(encoder);
        rows.write_record([NAME, SCHEMA, &head.destination, &head.store, &head.mode, env!("CARGO_PKG_VERSION")])?;
        rows.write_record(COLUMNS)?;
        Ok(Self { rows, count: 0 })
    }

    /// Writes a row, if there is one.
    pub(super) fn write(&mut self, row: Option<&Row>) -> io::Result<()> {
        let Some(row) = row else {
            return Ok(());
        };
        self.count += 1;
        Ok(self.rows.write_record(fields(row).iter())?)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.rows.write_record([END, &self.count.to_string()])?;
        let encoder = self.rows.into_inner().map_err(csv::IntoInnerError::into_error)?;
        let Summed { mut inner, sum } = encoder.finish()?;
        inner.write_all(&TRAILER_HEAD)?;
        inner.write_all(&sum.finalize().to_be_bytes())?;
        inner.flush()
    }
}

impl RowReader {
    /// Checks the whole file, and prepares to read its rows.
    pub(super) fn open(file: &Arc<File>, head: &Head) -> Result<Self, Damage> {
        let content = FileSpan { file: Arc::clone(file), offset: 0, end: checked(file)? };
        let decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(1 << 16, content))?;
        let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(decoder);
        let mut record = StringRecord::new();
        rows.read_record(&mut record)?;
        let mut fields = record.iter();
        match (fields.next(), fields.next()) {
            (Some(NAME), Some(SCHEMA)) => {}
            (Some(name), schema) => return Err(Damage::Format(format!("{name} {}", schema.unwrap_or_default()))),
            (None, _) => return Err(Damage::Content("empty")),
        }
        if fields.next() != Some(&head.destination) {
            return Err(Damage::Foreign("destination"));
        }
        if fields.next() != Some(&head.store) {
            return Err(Damage::Foreign("endpoint"));
        }
        let is_of_other_mode = fields.next() != Some(&head.mode);
        rows.read_record(&mut record)?;
        if record.iter().ne(COLUMNS) {
            return Err(Damage::Content("other columns"));
        }
        Ok(Self { rows, record, count: 0, last_key: None, ended: false, is_of_other_mode })
    }

    fn read(&mut self) -> Result<Option<Row>, Damage> {
        if !self.rows.read_record(&mut self.record)? {
            return Err(Damage::Content("no end"));
        }
        if self.record.len() == 2 {
            let is_whole = self.record.get(0) == Some(END) && self.record.get(1) == Some(&self.count.to_string());
            return if is_whole { Ok(None) } else { Err(Damage::Content("rows are missing")) };
        }
        let mut row = row_of(&self.record).ok_or(Damage::Content("a line is not a row"))?;
        if self.is_of_other_mode {
            row.metadata = RowMetadata::OfOtherMode;
        }
        if self.last_key.as_ref().is_some_and(|last| *last >= row.key) {
            return Err(Damage::Content("rows are out of order"));
        }
        self.count += 1;
        self.last_key = Some(row.key.clone());
        Ok(Some(row))
    }
}

impl Iterator for RowReader {
    type Item = Result<Row, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Returns the length of the content before the trailer, in bytes, if the trailer's checksum is right.
fn checked(file: &Arc<File>) -> Result<u64, Damage> {
    let file_bytes = file.metadata()?.len();
    let content_bytes = file_bytes.checked_sub(TRAILER_BYTES).ok_or(Damage::Checksum)?;
    let mut content = FileSpan { file: Arc::clone(file), offset: 0, end: content_bytes };
    let mut sum = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut buffer = vec![0; 1 << 18];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            length => sum.update(buffer.get(..length).unwrap_or_default()),
        }
    }
    let mut trailer = Vec::new();
    FileSpan { end: file_bytes, ..content }.read_to_end(&mut trailer)?;
    let expected: Vec<u8> = TRAILER_HEAD.into_iter().chain(sum.finalize().to_be_bytes()).collect();
    if trailer == expected { Ok(content_bytes) } else { Err(Damage::Checksum) }
}

/// Returns a row as the fields of a record.
pub(super) fn fields(row: &Row) -> ByteRecord {
    let written = match row.written {
        Written::At(time) => time.0.to_string(),
        Written::Within(from, to) => format!("{}..{}", from.0, to.0),
        Written::Unproven => String::new(),
    };
    let FileState { mtime, ctime, mode, uid, gid, inode } = row.file.unwrap_or(NO_FILE);
    let numbers = [
        mtime.0.to_string(),
        ctime.0.to_string(),
        mode.to_string(),
        uid.to_string(),
        gid.to_string(),
        inode.to_string(),
    ];
    let mut record = ByteRecord::with_capacity(row.key.as_str().len() + 160, COLUMNS.len());
    record.push_field(row.key.as_bytes());
    record.push_field(row.size_bytes.to_string().as_bytes());
    record.push_field(row.etag.text().as_bytes());
    record.push_field(written.as_bytes());
    for number in &numbers {
        record.push_field(number.as_bytes());
    }
    let metadata = match row.metadata {
        RowMetadata::SeenWithContent => SEEN_WITH_CONTENT,
        RowMetadata::Seen => SEEN,
        RowMetadata::Unseen => UNSEEN,
        RowMetadata::OfOtherMode => OF_OTHER_MODE,
    };
    record.push_field(metadata.as_bytes());
    record
}

/// Returns the row that a record holds.
pub(super) fn row_of(record: &StringRecord) -> Option<Row> {
    if record.len() != COLUMNS.len() {
        return None;
    }
    let mut fields = record.iter();
    let (key, size, etag, written) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let time = |text: &str| Some(EpochNanos(text.parse().ok()?));
    Some(Row {
        key: RelativeKey::new(key),
        size_bytes: size.parse().ok()?,
        etag: ETag::new(etag),
        written: match written.split_once("..") {
            Some((from, to)) => Written::Within(time(from)?, time(to)?),
            None if written.is_empty() => Written::Unproven,
            None => Written::At(time(written)?),
        },
        file: Some(FileState {
            mtime: time(fields.next()?)?,
            ctime: time(fields.next()?)?,
            mode: fields.next()?.parse().ok()?,
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
            inode: fields.next()?.parse().ok()?,
        })
        .filter(|file| *file != NO_FILE),
        metadata: match fields.next()? {
            SEEN_WITH_CONTENT => RowMetadata::SeenWithContent,
            SEEN => RowMetadata::Seen,
            UNSEEN => RowMetadata::Unseen,
            OF_OTHER_MODE => RowMetadata::OfOtherMode,
            _ => return None,
        },
    })
}
