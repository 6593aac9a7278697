//! A device: an existing pipe, terminal, descriptor or other place that is written to directly and never replaced.
//!
//! It is opened once, before the command contacts anything, and neither the open nor a write waits without a limit.

use std::fs::{File, FileType};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::descriptor::Descriptor;

/// How long a reader may take to read, or a writer to write.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An open device. Clones write to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Device(Arc<File>);

/// Why a place that is not a regular file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("is a directory: name a file")]
    Directory,
    #[error("is a socket or a block device: name a file or a pipe")]
    NotWritten,
    #[error("is a pipe that no process reads: start its reader first")]
    NoReader,
    #[error("cannot be opened: {0}")]
    Io(#[from] io::Error),
}

impl Device {
    /// Opens what is at a path, which is not a regular file.
    ///
    /// # Errors
    /// Returns an error if it cannot be written, or if it is a pipe without a reader.
    pub(crate) fn open(path: &Path, kind: FileType) -> Result<Self, DeviceError> {
        if kind.is_dir() {
            return Err(DeviceError::Directory);
        }
        if kind.is_socket() || kind.is_block_device() {
            return Err(DeviceError::NotWritten);
        }
        // Without a reader, a pipe that is opened without waiting gives ENXIO.
        match options().write(true).open(path) {
            Ok(file) => Ok(Self(Arc::new(file))),
            Err(error) if kind.is_fifo() && error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                Err(DeviceError::NoReader)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Device {
    /// The file behind a descriptor.
    ///
    /// # Errors
    /// Returns an error if the descriptor is not open for writing.
    pub(crate) fn behind(descriptor: Descriptor) -> Result<Self, DeviceError> {
        Ok(Self(Arc::new(descriptor.duplicate()?)))
    }
}

impl Write for Device {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&*self.0).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&self.0, PollFlags::OUT, "its reader has not read for 30 seconds")?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options() -> std::fs::OpenOptions {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = File::options();
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    options
}

/// Waits until the device is ready.
fn wait(file: &File, for_what: PollFlags, message: &'static str) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(30), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(file.as_fd(), for_what)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads a file, or what a process writes into a pipe.
///
/// # Errors
/// Returns an error if the file cannot be read, or if the pipe delivers nothing for 30 seconds.
pub(crate) fn read_input(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = options().read(true).open(path)?;
    let mut content = Vec::new();
    if file.metadata()?.is_file() {
        io::Read::read_to_end(&mut file, &mut content)?;
        return Ok(content);
    }
    let mut piece = vec![0; 1 << 16];
    loop {
        // A pipe without a writer would look like an empty file.
        wait(&file, PollFlags::IN, "no process has written to it for 30 seconds")?;
        match io::Read::read(&mut file, &mut piece) {
            Ok(0) => return Ok(content),
            Ok(length) => content.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads an input on a thread of its own, so that a stop request need not wait for a pipe.
///
/// # Errors
/// As [`read_input`].
pub(crate) async fn read_input_aside(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_input(&path)).await;
    read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType as NodeType, Mode, mknodat};

    use super::*;

    fn open(path: &Path) -> Result<Device, DeviceError> {
        Device::open(path, path.metadata().unwrap().file_type())
    }

    #[test]
    fn a_pipe_is_written_with_a_reader_and_refused_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, NodeType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(matches!(open(&pipe), Err(DeviceError::NoReader)));
        let reading = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        let mut device = loop {
            if let Ok(device) = open(&pipe) {
                break device;
            }
        };
        let content = vec![b'x'; 1 << 18];
        device.write_all(&content).unwrap();
        drop(device);
        assert_eq!(reading.join().unwrap(), content);
    }

    #[test]
    fn a_directory_a_socket_and_a_closed_pipe_are_no_place() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(open(folder.path()), Err(DeviceError::Directory)));
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(open(&socket), Err(DeviceError::NotWritten)));
        open(Path::new("/dev/null")).unwrap().write_all(b"gone").unwrap();
    }

    #[test]
    fn an_input_is_a_file_or_what_a_process_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        std::fs::write(&file, "whole").unwrap();
        assert_eq!(read_input(&file).unwrap(), b"whole");
        mknodat(CWD, &pipe, NodeType::Fifo, Mode::RWXU, 0).unwrap();
        let writing = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "written").unwrap()
        });
        assert_eq!(read_input(&pipe).unwrap(), b"written");
        writing.join().unwrap();
    }
}
