//! The edge of a node, and its part on each worker.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tidewire_auth::live::Lives;
use tidewire_auth::revocation::Revocations;
use tidewire_runtime::conn::Conn;
use tidewire_runtime::worker::{Service, Worker};
use tidewire_wire::http::framing::HeadLimits;

use crate::arrival::{self, Arrivals};
use crate::auth::authority::Authority;
use crate::auth::forward::Verdicts;
use crate::auth::headers::IdentityHeaders;
use crate::backend::Backend;
use crate::challenge::Challenges;
use crate::door::Door;
use crate::endpoint::Endpoint;
use crate::head_limits;
use crate::https_policy::HttpsPolicy;
use crate::metrics::EdgeMetrics;
use crate::pool::Pool;
use crate::rebalance::mover;
use crate::route::Route;
use crate::rules::Rules;
use crate::timeout::Timeouts;
use crate::tls::Tls;

/// What all workers of a node share, and none of them changes.
#[derive(Debug)]
pub struct Edge {
    /// The names of the listeners, by index.
    pub listeners: Vec<String>,
    /// The TLS of the listeners that have it, by index.
    pub tls: Vec<Option<Arc<Tls>>>,
    /// What each listener does for TLS, by index.
    pub https: Vec<HttpsPolicy>,
    /// How large heads may be on each listener, by index.
    pub head_limits: Vec<HeadLimits>,
    /// Whose word about clients the listeners take, by index.
    pub arrivals: Vec<Arrivals>,
    /// What stands before the listeners, by index.
    pub listener_doors: Vec<Door>,
    /// What is asked before a route is chosen.
    pub rules: Rules,
    pub routes: Vec<Route>,
    /// What stands before the routes, by index.
    pub route_doors: Vec<Door>,
    pub backends: Vec<Arc<Backend>>,
    /// Who vouches for clients, by the index that routes have for them.
    pub authorities: Vec<Authority>,
    /// What only this edge may say to servers.
    pub identity_headers: IdentityHeaders,
    pub timeouts: Timeouts,
    pub revocations: Arc<Revocations>,
    /// ACME challenges that are pending.
    pub challenges: Arc<Challenges>,
    /// Whether each request, WebSocket and connection gets a line in the log.
    pub is_logging_requests: bool,
}

impl Edge {
    pub fn listener_name(&self, index: usize) -> &str {
        self.listeners.get(index).map_or("-", String::as_str)
    }

    /// All doors, of listeners and of routes.
    pub fn doors(&self) -> impl Iterator<Item = &Door> {
        self.listener_doors.iter().chain(&self.route_doors)
    }

    pub fn route_name(&self, index: Option<usize>) -> &str {
        index.and_then(|index| self.routes.get(index)).map_or("-", |route| &route.name)
    }
}

/// The edge on one worker.
pub struct EdgeShard {
    pub edge: Arc<Edge>,
    worker: Rc<Worker>,
    /// Where WebSockets end that are not passed on, by the index that routes have for them.
    pub endpoints: Vec<Rc<dyn Endpoint>>,
    pub pool: Pool,
    /// The WebSockets whose clients have an identity.
    pub lives: Rc<Lives>,
    /// What services of forward auth have said.
    pub verdicts: Verdicts,
    pub metrics: Arc<EdgeMetrics>,
    /// Connections that were turned away and are being told.
    pub lingering: Rc<Cell<usize>>,
    /// Connections whose PROXY header is waited for.
    pub unannounced: Rc<Cell<usize>>,
    /// HTTP with clients, by listener.
    pub http: Vec<hyper::server::conn::http1::Builder>,
    /// HTTP with servers.
    pub server_http: hyper::client::conn::http1::Builder,
}

impl EdgeShard {
    pub fn new(
        edge: Arc<Edge>,
        worker: Rc<Worker>,
        endpoints: Vec<Rc<dyn Endpoint>>,
        metrics: Arc<EdgeMetrics>,
    ) -> Rc<Self> {
        let http = edge.head_limits.iter().map(head_limits::server).collect();
        let mut server_http = hyper::client::conn::http1::Builder::new();
        server_http.max_buf_size(SERVER_BYTES);
        let (pool, verdicts) = (Pool::default(), Verdicts::default());
        let lives = Rc::new(Lives::new(Arc::clone(&edge.revocations)));
        tokio::task::spawn_local(Rc::clone(&lives).watch());
        for backend in edge.backends.iter().filter(|backend| backend.moving.is_on()) {
            tokio::task::spawn_local(mover::obey(Rc::clone(&worker), Arc::clone(backend)));
        }
        let lingering = Rc::default();
        Rc::new(Self {
            edge,
            worker,
            endpoints,
            pool,
            lives,
            verdicts,
            metrics,
            lingering,
            unannounced: Rc::default(),
            http,
            server_http,
        })
    }

    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }
}

impl std::fmt::Debug for EdgeShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgeShard").field("worker", &self.worker.index()).finish_non_exhaustive()
    }
}

/// The edge as a worker's service.
#[derive(Debug)]
pub struct EdgeService(pub Rc<EdgeShard>);

impl Service for EdgeService {
    fn serve(&self, conn: Conn, listener: usize) {
        arrival::arrive(&self.0, conn, listener);
    }
}

/// Most bytes that are read of a server before a client has taken them, and of a response head.
/// hyper's own bound is 400 KiB; a client that stalls in a download costs some of these.
const SERVER_BYTES: usize = 32 * 1024;
