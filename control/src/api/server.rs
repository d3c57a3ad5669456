//! The server: one thread with a small runtime, and blocking threads on demand for the backend's work.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;

use super::Backend;
use super::proto::weft_server::WeftServer;
use super::service::Service;
use super::socket::{self, SocketError, SocketFile};

/// Requests that are at work in the backend at the same time; further ones wait.
const MAX_REQUESTS: usize = 8;
/// Largest request: some 100,000 FDB entries in one batch.
const MAX_REQUEST_BYTES: usize = 32 << 20;
/// How long a stop waits for requests that are under way.
const STOP_TIMEOUT: Duration = Duration::from_millis(300);

/// A socket that is bound but does not answer yet: binding comes first at start, before anything that a second
/// weftd would disturb.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
}

impl Server {
    /// Takes the socket at `path` (mode 0660). A live one is an error, a stale one is replaced.
    pub fn bind(path: &Path) -> Result<Server, SocketError> {
        let (listener, file) = socket::bind(path)?;
        Ok(Server { listener, file })
    }

    /// Starts to answer, on threads that inherit the caller's affinity.
    pub fn start(self, backend: Arc<dyn Backend>) -> io::Result<ServerHandle> {
        let Server { listener, file } = self;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_REQUESTS)
            .thread_name("weft-api-call")
            .build()?;
        let incoming = {
            let _context = runtime.enter();
            UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("weft-api".to_owned()).spawn(move || {
            let service = WeftServer::new(Service { backend }).max_decoding_message_size(MAX_REQUEST_BYTES);
            let result = runtime.block_on(async move {
                let (announce, announced) = oneshot::channel::<()>();
                let signal = async move {
                    // A handle that was dropped stops the server as well.
                    let _ = stopped.await;
                    let _ = announce.send(());
                };
                let serve = tonic::transport::Server::builder()
                    .serve_with_incoming_shutdown(service, incoming, signal);
                // Clients that keep their connection open must not delay the end.
                let deadline = async move {
                    let _ = announced.await;
                    tokio::time::sleep(STOP_TIMEOUT).await;
                };
                tokio::select! {
                    result = serve => result.map_err(io::Error::other),
                    () = deadline => Ok(()),
                }
            });
            runtime.shutdown_timeout(STOP_TIMEOUT);
            result
        })?;
        Ok(ServerHandle { stop: Some(stop), thread: Some(thread), _file: file })
    }
}

/// A running server. Dropping it stops the server and removes the socket.
#[derive(Debug)]
pub struct ServerHandle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    _file: SocketFile,
}

impl ServerHandle {
    /// Takes no more requests, gives those under way up to 0.6 s, and removes the socket. The error is what ended
    /// the server before, if something did.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    /// Whether the server ended by itself, which only an error brings about; [`ServerHandle::stop`] tells it.
    pub fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the API's thread panicked")),
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
