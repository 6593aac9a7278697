//! Result lines on their way to a file or to stdout. A thread writes them, so that a stop request need not wait for a
//! reader that does not read. No line is dropped before a stop request.

use std::io::{self, BufWriter, Write};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::progress::Progress;
use crate::result_file::ResultFile;
use crate::shutdown::Shutdown;

/// How many lines wait for a reader.
const MOST_LINES: usize = 1024;

/// Lines that a thread writes in order.
#[derive(Debug)]
pub(super) struct ResultLines {
    messages: mpsc::Sender<Message>,
    /// Closed by the error of a write, or by the end of the lines.
    ended: oneshot::Receiver<io::Result<()>>,
    shutdown: Shutdown,
}

#[derive(Debug)]
enum Message {
    Line(String),
    /// The lines are complete.
    Publish,
}

impl ResultLines {
    /// Stdout without a buffer, so that each line appears immediately.
    pub(super) fn stdout() -> BufWriter<ResultFile> {
        BufWriter::with_capacity(0, ResultFile::Stdout)
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// Returns an error if the system starts no thread.
    pub(super) fn start(file: BufWriter<ResultFile>, progress: Progress, shutdown: Shutdown) -> io::Result<Self> {
        let (messages, lines) = mpsc::channel(MOST_LINES);
        let (end, ended) = oneshot::channel();
        thread::Builder::new().spawn(move || end.send(write_all(file, lines, &progress)))?;
        Ok(Self { messages, ended, shutdown })
    }

    /// Writes a line. Waits for the reader if it is far behind; after a stop request, the line is dropped then.
    ///
    /// # Errors
    /// Returns an error if an earlier line could not be written.
    pub(super) async fn write(&mut self, line: String) -> io::Result<()> {
        self.send(Message::Line(line)).await
    }

    /// Waits until all lines are written, and gives the file its name.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written to its end.
    pub(super) async fn publish(mut self) -> io::Result<()> {
        self.send(Message::Publish).await?;
        self.end().await
    }

    /// Waits until the lines are written. The file does not appear. After a stop request, the wait is short.
    ///
    /// # Errors
    /// Returns an error if a line could not be written.
    pub(super) async fn end(self) -> io::Result<()> {
        drop(self.messages);
        tokio::select! {
            biased;
            ended = self.ended => ended.unwrap_or_else(|_| Err(panicked())),
            () = self.shutdown.grace_is_over() => Ok(()),
        }
    }

    async fn send(&mut self, message: Message) -> io::Result<()> {
        let is_sent = tokio::select! {
            biased;
            sent = self.messages.send(message) => sent.is_ok(),
            () = self.shutdown.requested() => true,
        };
        if is_sent { Ok(()) } else { (&mut self.ended).await.unwrap_or_else(|_| Err(panicked())) }
    }
}

fn write_all(
    mut file: BufWriter<ResultFile>,
    mut messages: mpsc::Receiver<Message>,
    progress: &Progress,
) -> io::Result<()> {
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Line(line) if matches!(file.get_ref(), ResultFile::Stdout) => {
                progress.around_results(|| file.write_all((line + "\n").as_bytes()))?;
            }
            Message::Line(line) => file.write_all((line + "\n").as_bytes())?,
            Message::Publish => return file.into_inner()?.publish(),
        }
    }
    Ok(())
}

fn panicked() -> io::Error {
    io::Error::other("the thread that writes the lines panicked")
}
