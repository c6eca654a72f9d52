//! An edge with a route of each kind, on a worker of its own, whose servers are in memory.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http::header::HeaderValue;
use serde_json::json;
use tidewire_auth::forward::Forward;
use tidewire_auth::method::Method;
use tidewire_auth::revocation::Revocations;
use tidewire_runtime::memory::{MemoryStream, Network, pair};
use tidewire_runtime::socket::Socket;
use tidewire_runtime::worker::{Service, Worker};

use super::rules::rules;
use super::stub::Stub;
use crate::address_rules::AddressRules;
use crate::arrival::Arrivals;
use crate::auth::access::Access;
use crate::auth::authority::{Asked, Authority, Check};
use crate::auth::headers::IdentityHeaders;
use crate::backend::Backend;
use crate::cors::Cors;
use crate::cross_site::CrossSite;
use crate::door::Door;
use crate::end::{Party, Reason};
use crate::head_limits::HttpConfig;
use crate::https_policy::HttpsPolicy;
use crate::limits::quota::{ArrivalLimitsConfig, Quotas};
use crate::limits::turnstile::Turnstile;
use crate::limits::{Limits, LimitsConfig};
use crate::metrics::EdgeMetrics;
use crate::origin::OriginConfig;
use crate::pings::{PingConfig, Pings};
use crate::redirect::{RedirectConfig, RespondConfig};
use crate::route::{Matcher, Route, Target};
use crate::rules::changes::Changes;
use crate::rules::condition::Condition;
use crate::service::{Edge, EdgeService, EdgeShard};
use crate::static_files::{Page, StaticFiles};
use crate::timeout::Timeouts;

/// What holds on all routes.
#[derive(Clone, Copy, Debug)]
pub enum Limited {
    Default,
    Strict,
    Off,
    /// So little that a few frames are too much.
    Narrow,
}

impl Limited {
    fn config(self) -> serde_json::Value {
        match self {
            Self::Default => json!({ "profile": "default" }),
            Self::Strict => json!({ "profile": "strict" }),
            Self::Off => json!({ "profile": "off" }),
            Self::Narrow => json!({
                "profile": "strict", "lifetime": "2s", "stall": "1s", "compression": "refuse",
                "client": {
                    "max_frame": "64B", "max_message": "96B", "max_fragments": 3,
                    "opcodes": ["text"], "messages": "4/s", "over_rate": "close",
                },
                "server": {
                    "max_frame": "64B", "messages": "4/s", "control": "2/s",
                },
            }),
        }
    }
}

/// Whether the edge pings both sides of every WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinging {
    Yes,
    No,
}

impl Pinging {
    fn pings(self) -> Pings {
        let config = match self {
            Self::Yes => json!({ "client": "400ms", "server": "600ms", "pong": "900ms" }),
            Self::No => json!({}),
        };
        let config: PingConfig = serde_json::from_value(config).expect("they are pings");
        Pings::new(&config)
    }
}

/// A running edge.
pub struct Rig {
    pub worker: Rc<Worker>,
    edge: Arc<Edge>,
    metrics: Arc<EdgeMetrics>,
    service: EdgeService,
    dialled: Rc<RefCell<Vec<Dialled>>>,
    capacity: usize,
    clients: u64,
    pub pinging: Pinging,
    _network: Network,
}

/// A connection that the edge has made to a server.
pub struct Dialled {
    pub address: SocketAddr,
    pub stream: MemoryStream,
}

impl Rig {
    /// What is on its way to a peer is at most `capacity` bytes.
    pub fn new(capacity: usize, limits: Limited, pinging: Pinging) -> Self {
        let edge = Arc::new(edge(limits, pinging.pings()));
        let metrics = EdgeMetrics::new(edge.routes.len(), edge.authorities.len());
        let metrics = Arc::new(metrics.with_rules(edge.rules.0.len()));
        let worker = Worker::alone();
        let endpoints = vec![Rc::new(Stub) as Rc<_>];
        let shard =
            EdgeShard::new(Arc::clone(&edge), Rc::clone(&worker), endpoints, Arc::clone(&metrics));
        let dialled = Rc::<RefCell<Vec<Dialled>>>::default();
        let network = Network::new(Box::new({
            let dialled = Rc::clone(&dialled);
            move |address| {
                if address.port() == REFUSING {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (near, stream) = pair(capacity);
                dialled.borrow_mut().push(Dialled { address, stream });
                Ok(near)
            }
        }));
        let service = EdgeService(shard);
        Self {
            worker,
            edge,
            metrics,
            service,
            dialled,
            capacity,
            clients: 0,
            pinging,
            _network: network,
        }
    }

    /// A client's end of a new connection.
    pub fn connect(&mut self) -> MemoryStream {
        self.clients += 1;
        let (near, far) = pair(self.capacity);
        let conn =
            self.worker.accept(Socket::from_memory(near), CLIENT.parse().expect("an address"));
        self.service.serve(conn, 0);
        far
    }

    /// The connections to servers that have been made since the last call.
    pub fn dialled(&self) -> Vec<Dialled> {
        self.dialled.take()
    }

    /// Whether every client's connection has ended and all that was held for clients is given
    /// back.
    pub fn is_idle(&self) -> bool {
        let is_held = |backend: &Arc<Backend>| {
            backend.queued() > 0 || backend.servers().iter().any(|server| server.current() > 0)
        };
        self.worker.metrics().connections.value() == 0 && !self.edge.backends.iter().any(is_held)
    }

    /// The rules that have held for some request, by index.
    pub fn met_rules(&self) -> impl Iterator<Item = usize> {
        let counted = self.metrics.rules.iter().enumerate();
        counted.filter(|(_, hits)| hits.value() > 0).map(|(index, _)| index)
    }

    /// The ends that there were.
    pub fn ends(&self) -> impl Iterator<Item = (Party, Reason)> {
        let all = Party::ALL.iter().flat_map(|&by| Reason::ALL.iter().map(move |&why| (by, why)));
        all.filter(|&(by, reason)| self.metrics.ends(by, reason).value() > 0)
    }

    /// What holds once it is idle.
    pub fn check_counts(&self) {
        let ends = |reason: Reason| {
            Party::ALL.iter().map(|&by| self.metrics.ends(by, reason).value()).sum::<u64>()
        };
        let ended: u64 = Reason::ALL.iter().map(|&reason| ends(reason)).sum();
        assert_eq!(ended, self.clients, "each connection ends once");
        assert_eq!(ends(Reason::Internal), 0, "a fault of ours");
        for door in self.edge.doors() {
            for (per, census, _) in door.turnstile.census() {
                assert_eq!(census.held, 0, "whoever is gone is not counted: {per}");
            }
        }
        for route in &self.metrics.routes {
            assert_eq!(route.open.value(), 0, "WebSockets are counted out");
        }
    }
}

fn edge(limits: Limited, pings: Pings) -> Edge {
    let timeouts = timeouts();
    let backend = |index, name: &str, ports: &[u16]| {
        let server = |port: &u16| json!({ "name": port.to_string(), "address": format!("10.0.0.1:{port}"), "maxconn": 3 });
        let servers: Vec<_> = ports.iter().map(server).collect();
        let config = json!({ "name": name, "server": servers, "retries": 1, "queue": 1 });
        let config = serde_json::from_value(config).expect("the configuration is good");
        Arc::new(Backend::new(index, &config, &timeouts))
    };
    let backends = vec![
        backend(0, "app", &[80, 81]),
        backend(1, "auth", &[AUTH]),
        backend(2, "down", &[REFUSING]),
    ];
    let authorities = vec![keys(), asked(&backends[1])];
    let routes = routes(&backends, limits, pings);
    let door = |name: &str, quotas: &Quotas| {
        Door::new(AddressRules::default(), Turnstile::new(name.to_owned(), quotas))
    };
    let of_listener = Quotas::of_listener(&ArrivalLimitsConfig::default(), (None, None));
    Edge {
        listeners: vec!["public".to_owned()],
        tls: vec![None],
        https: vec![HttpsPolicy::default()],
        arrivals: vec![Arrivals::default()],
        listener_doors: vec![door("public", &of_listener)],
        route_doors: routes.iter().map(|it| door(&it.name, &it.limits.quotas)).collect(),
        head_limits: vec![HttpConfig::default().limits()],
        rules: rules(),
        routes,
        identity_headers: IdentityHeaders::of(&authorities),
        authorities,
        backends,
        timeouts,
        revocations: Arc::new(Revocations::new(10)),
        challenges: Arc::default(),
        is_logging_requests: true,
    }
}

/// Short, and none like another, so that each of them is met.
fn timeouts() -> Timeouts {
    let timeouts = json!({
        "connect": "1s", "client": "1500ms", "server": "1200ms", "tunnel": "3s",
        "http_request": "1s", "http_keep_alive": "2s", "queue": "500ms",
        "client_fin": "700ms", "server_fin": "800ms",
    });
    serde_json::from_value(timeouts).expect("the timeouts are good")
}

fn routes(backends: &[Arc<Backend>], limits: Limited, pings: Pings) -> Vec<Route> {
    let limits: LimitsConfig = serde_json::from_value(limits.config()).expect("they are limits");
    let limits = Limits::resolve(&limits, &LimitsConfig::default());
    let route = |path: &str, target| {
        let path_pattern = path.parse().expect("it is a pattern");
        let matcher = Matcher { path: path_pattern, condition: Condition::default() };
        let cross_site = CrossSite::default();
        Route {
            name: path.to_owned(),
            matcher,
            access: None,
            target,
            cross_site,
            limits: limits.clone(),
            pings,
            changes: Changes::default(),
            is_guard: false,
        }
    };
    let app = |index: usize| Target::Backend(Arc::clone(&backends[index]));
    let access = |auth| Some(Access { auths: vec![auth], ..Access::default() });
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/balance");
    let files = StaticFiles::dir(&files, &"/files/*".parse().expect("it is a pattern"));
    let page = Page {
        content: Bytes::from_static(b"<p>"),
        media_type: HeaderValue::from_static("text/html"),
        policy: None,
    };
    let to = "https://{host}/moved{path}{query}".to_owned();
    let origin = json!({ "allow": ["https://*.app.test", "http://[::1]:*"], "null": true });
    let cors = json!({ "credentials": true, "headers": ["x-a"], "expose": ["x-b"] });
    let cross_site = CrossSite {
        origin: serde_json::from_value::<OriginConfig>(origin).expect("it is one"),
        cors: Cors::new(&serde_json::from_value(cors).expect("it is one")).ok(),
    };
    vec![
        Route { access: access(0), is_guard: true, ..route("/key/{room}", app(0)) },
        Route { access: access(1), is_guard: true, ..route("/asked/*", app(0)) },
        Route { cross_site, ..route("/api/*", app(0)) },
        route("/down", app(2)),
        route("/hub/{topic}", Target::Endpoint(0)),
        route("/files/*", Target::Static(files)),
        route("/page", Target::Static(StaticFiles::Page(page))),
        route("/old/*", Target::Redirect(RedirectConfig { to, status: 308 })),
        route("/gone", Target::Respond(RespondConfig { status: 410, body: "gone\n".into() })),
        route("/*", app(0)),
    ]
}

fn keys() -> Authority {
    let config = json!({ "name": "keys", "api_key": { "key": "0123456789abcdef" } });
    let config = serde_json::from_value(config).expect("the configuration is good");
    let method = Method::new(&config, Path::new("/")).expect("no file is needed");
    let template = "{sub}".parse().expect("it is a template");
    Authority {
        name: "keys".to_owned(),
        check: Check::Method(Arc::new(method.expect("there is a method"))),
        headers: vec![("x-user".parse().expect("it is a name"), template)],
    }
}

fn asked(backend: &Arc<Backend>) -> Authority {
    let config = json!({
        "backend": "auth", "response_headers": ["x-user", "x-groups"], "subject": "x-user",
        "expires": "x-expires", "timeout": "1s", "cache": "1s",
    });
    let config = serde_json::from_value(config).expect("the configuration is good");
    let asked = Asked {
        forward: Forward::new(&config).expect("the configuration is good"),
        backend: Arc::clone(backend),
        is_right: AtomicBool::new(true),
    };
    Authority {
        name: "asked".to_owned(),
        check: Check::Forward(Box::new(asked)),
        headers: Vec::new(),
    }
}

/// The port of the service that is asked who clients are.
pub const AUTH: u16 = 90;

/// Nobody listens there.
const REFUSING: u16 = 99;

/// Where all clients come from.
pub const CLIENT: &str = "192.0.2.7:4000";
