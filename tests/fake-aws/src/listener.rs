//! A listener: accepts connections on a free port of 127.0.0.1 until its last handle is dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The handle of a listener. The listener stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    _running: Arc<oneshot::Sender<()>>,
}

impl Listener {
    /// Listens on the current Tokio runtime, and serves each connection on a task.
    pub(crate) async fn start<S, F>(state: Arc<S>, serve: fn(TcpStream, Arc<S>) -> F) -> io::Result<Self>
    where
        S: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, accepting) = Self::bind(state, serve).await?;
        tokio::spawn(accepting);
        Ok(listener)
    }

    /// Listens on a new thread with a runtime of its own.
    pub(crate) fn start_thread<S, F>(
        name: &'static str,
        state: Arc<S>,
        serve: fn(TcpStream, Arc<S>) -> F,
    ) -> io::Result<Self>
    where
        S: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let started = runtime.worker_threads(2).thread_name(name).enable_all().build().and_then(|runtime| {
                let (listener, accepting) = runtime.block_on(Self::bind(state, serve))?;
                Ok((runtime, listener, accepting))
            });
            match started {
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
                Ok((runtime, listener, accepting)) => {
                    let _ = sender.send(Ok(listener));
                    runtime.block_on(accepting);
                    // Does not wait for a hook that still runs.
                    runtime.shutdown_background();
                }
            }
        })?;
        receiver.recv().map_err(io::Error::other)?
    }

    /// The endpoint, `http://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn bind<S, F>(
        state: Arc<S>,
        serve: fn(TcpStream, Arc<S>) -> F,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send)>
    where
        S: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (running, stop) = oneshot::channel();
        Ok((Self { address, _running: Arc::new(running) }, accept(listener, state, serve, stop)))
    }
}

/// Serves connections until the sender of `stop` is dropped.
async fn accept<S, F>(
    listener: TcpListener,
    state: Arc<S>,
    serve: fn(TcpStream, Arc<S>) -> F,
    mut stop: oneshot::Receiver<()>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without this, a small response can wait 40 ms for the acknowledgement of the previous one.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream, Arc::clone(&state)));
                }
                // The usual cause is that the process has no free file descriptor at the moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
}
