//! State in a folder: a file is written beside its place, synced, and moved into it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::StateError;

pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Bytes>, StateError> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(content) => Ok(Some(content.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Folder { path: path.display().to_string(), source }),
    }
}

pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), StateError> {
    let path = folder.join(name);
    let written = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|source| StateError::Folder { path: path.display().to_string(), source })
}

/// The path with all links in it followed, as far as it is there.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors()
        .find_map(|there| {
            let rest = path.strip_prefix(there).ok()?;
            Some(fs::canonicalize(there).ok()?.join(rest))
        })
        .unwrap_or(path)
}
