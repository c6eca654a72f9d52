//! The connections of the admin listener: so many at a time, and each with a deadline for whatever
//! it waits for, so that nobody who reaches it takes the files that clients need.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Answers whoever connects, without end. Who comes when there is no place waits in the kernel's
/// queue.
pub async fn serve(listener: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    converse(stream, routes).await;
                    drop(place);
                });
            }
            // One that was gone before, or no file is left, which the listeners of clients say.
            Err(error) => {
                tracing::debug!(%error, "the admin listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one connection's requests.
async fn converse(stream: TcpStream, routes: Router) {
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    // That is also how long a connection may be idle between two requests.
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    let service = TowerToHyperService::new(routes);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // What goes wrong here is the end of it, and nobody's affair.
    if timeout(LIFE_MAX, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_MAX, connection).await;
    }
}

/// More than scrapers, probes and operators have together.
const CONNECTIONS_MAX: usize = 64;

/// For a request's head, from the end of the answer before it.
const HEAD_MAX: Duration = Duration::from_secs(10);

const HEAD_BYTES_MAX: usize = 32 << 10;

/// How long a connection goes on with another request.
const LIFE_MAX: Duration = Duration::from_secs(60);

/// For the request that is under way then: its body, and the answer to be taken.
const LAST_MAX: Duration = Duration::from_secs(10);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
