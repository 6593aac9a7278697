//! A manifest: the only files that a run copies, one path per line.
//!
//! The form is DataSync's (AWS DataSync user guide, "Transferring specific files or objects by using a manifest"): CSV in
//! UTF-8 with quotes as in RFC 4180; paths relative to the source, up to 1,024 bytes each; no folders. A second column is
//! the version of an object, and has no meaning for files.

use std::collections::BTreeSet;

use crate::key::{MAX_KEY_BYTES, NotAPath, SourcePath};

/// The part of a manifest's URL that names a version of the object.
pub(crate) const VERSION_PARAMETER: &str = "?versionId=";

/// The paths of a manifest, each once, in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    paths: BTreeSet<SourcePath>,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages define the variants")]
pub enum ManifestError {
    #[error("the manifest's line {line} {wrong}")]
    Line { line: u64, wrong: String },
    #[error("the manifest names no file: write one path per line")]
    Empty,
}

impl Manifest {
    /// Reads a manifest's text.
    ///
    /// # Errors
    /// Returns an error if DataSync would refuse a line, or if there is no path.
    pub fn read(text: &[u8]) -> Result<Self, ManifestError> {
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
        let mut paths = BTreeSet::new();
        let mut record = csv::ByteRecord::new();
        loop {
            let line = reader.position().line();
            let wrong = |wrong: &str| ManifestError::Line { line, wrong: wrong.to_owned() };
            match reader.read_byte_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(wrong(&format!("is not CSV: {error}"))),
            }
            let Some(path) = record.get(0).filter(|path| !path.is_empty()) else {
                continue;
            };
            let path = std::str::from_utf8(path).map_err(|_| wrong("is not UTF-8, and so cannot be a key"))?;
            paths.insert(checked(path).map_err(|what| wrong(&what))?);
        }
        if paths.is_empty() { Err(ManifestError::Empty) } else { Ok(Self { paths }) }
    }

    /// The paths, in byte order.
    pub fn paths(&self) -> impl Iterator<Item = &SourcePath> {
        self.paths.iter()
    }
}

fn checked(path: &str) -> Result<SourcePath, String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.len() > MAX_KEY_BYTES {
        Err("has a path of more than 1,024 bytes, the longest key".to_owned())
    } else if path.ends_with('/') {
        Err("names a folder: name its files one by one".to_owned())
    } else {
        path.parse().map_err(|error: NotAPath| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Manifest::read(text.as_bytes()).unwrap().paths().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_are_read_as_csv_each_once_and_in_byte_order() {
        assert_eq!(paths("b/x\r\na-1\n\n/a.b\n\"q \"\"1\"\", 2\"\na-1,version\n"), ["a-1", "a.b", "b/x", "q \"1\", 2"]);
        assert_eq!(paths("\u{FEFF}ü"), ["ü"]);
        assert_eq!(paths("\"new\nline\""), ["new\nline"]);
    }

    #[test]
    fn what_datasync_would_refuse_is_refused_with_its_line() {
        for (text, line) in [("a\nb/", 2), ("a//b", 1), ("a\nb\n../c", 3), ("./a", 1), ("//a", 1)] {
            let error = Manifest::read(text.as_bytes()).unwrap_err();
            assert!(matches!(error, ManifestError::Line { line: found, .. } if found == line), "{text}: {error}");
        }
        assert!(Manifest::read(&[b'a', 0xE9]).unwrap_err().to_string().contains("not UTF-8"));
        assert!(Manifest::read("x".repeat(1025).as_bytes()).is_err());
        assert!(Manifest::read("x".repeat(1024).as_bytes()).is_ok());
        assert!(matches!(Manifest::read(b"\n\n"), Err(ManifestError::Empty)));
    }
}
