//! File span: a part of a file, read and written at a position of its own, so that several can share one file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A part of a file. Reads and writes move `offset`; reads end at `end`, and fail if the file ends before it.
#[derive(Clone, Debug)]
pub(crate) struct FileSpan {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) end: u64,
}

impl Read for FileSpan {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..length).unwrap_or_default(), self.offset)?;
        // A reader of records would take the end of the file for the end of the records.
        if read == 0 && length > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the temporary file was truncated"));
        }
        self.offset += u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}

impl Write for FileSpan {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.offset)?;
        self.offset += u64::try_from(written).unwrap_or_default();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_a_truncated_file_is_an_error_and_not_an_end() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut span = FileSpan { file: Arc::clone(&file), offset: 0, end: 8 };
        span.clone().write_all(b"a\nb\nc\nd\n").unwrap();
        let mut text = String::new();
        span.clone().read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\nb\nc\nd\n");
        file.set_len(4).unwrap();
        assert_eq!(span.read_to_string(&mut text).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
