//! A running node: workers that serve what a plan says, its hub, its probes.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tidewire_auth::method::Method;
use tidewire_auth::revocation::Revocations;
use tidewire_edge::address_rules;
use tidewire_edge::auth::authority::{Asked, Authority, Check};
use tidewire_edge::auth::headers::IdentityHeaders;
use tidewire_edge::backend::{Backend, BackendConfig};
use tidewire_edge::discovery::{Discovery, DiscoveryView};
use tidewire_edge::door::Door;
use tidewire_edge::endpoint::Endpoint;
use tidewire_edge::health;
use tidewire_edge::limits::turnstile::Turnstile;
use tidewire_edge::metrics::EdgeMetrics;
use tidewire_edge::rebalance;
use tidewire_edge::route::{Route, Target};
use tidewire_edge::rules::Rules;
use tidewire_edge::server_tls::{self, ServerTls};
use tidewire_edge::service::{Edge, EdgeService, EdgeShard};
use tidewire_edge::static_files::StaticFiles;
use tidewire_edge::tls::{self, Tls};
use tidewire_hub::broker::BrokerState;
use tidewire_hub::broker::memory::MemoryBroker;
use tidewire_hub::hub::Hub;
use tidewire_hub::route::HubRoute;
use tidewire_runtime::listener::{Address, Listener};
use tidewire_runtime::metrics::WorkerMetrics;
use tidewire_runtime::worker::{BuildService, Drainer, Service, Worker, Workers};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::acme::Acme;
use crate::acme::metrics::AcmeMetrics;
use crate::endpoints::{HubEndpoint, client_limits};
use crate::page;
use crate::plan::auth::{AuthCheck, AuthPlan};
use crate::plan::{Plan, RoutePlan, TargetPlan};
use crate::revocations::Revoker;

/// A running node.
pub struct Node {
    workers: Workers,
    /// What goes on on the control plane: health probes, keys that are read again.
    probes: Vec<JoinHandle<()>>,
    /// Keeps the certificates that an authority issues.
    _acme: Option<Acme>,
    drain_deadline: Duration,
    /// The addresses of its listeners, with the ports that the system chose.
    pub addresses: Vec<Address>,
    pub view: Arc<NodeView>,
}

/// What of a node can be looked at from outside.
#[derive(Debug)]
pub struct NodeView {
    pub name: String,
    pub edge: Arc<Edge>,
    /// By worker.
    pub edge_metrics: Vec<Arc<EdgeMetrics>>,
    /// By worker.
    pub worker_metrics: Vec<Arc<WorkerMetrics>>,
    pub hub: Option<Arc<Hub>>,
    pub revoker: Arc<Revoker>,
    pub acme_metrics: Arc<AcmeMetrics>,
    /// How servers are found, by the index of their backend.
    pub discoveries: Vec<(usize, Arc<DiscoveryView>)>,
    /// How clients say who they are.
    pub methods: Vec<Arc<Method>>,
    is_draining: AtomicBool,
}

impl Node {
    /// Starts to serve on `listeners`, which [`bind`] has bound. `memory` is the broker of hubs
    /// whose plan says `memory`; nodes of one process that share it hear each other. `control` runs
    /// what is rare.
    ///
    /// # Errors
    /// When something that is kept in files cannot be read, or a thread not be started.
    pub fn start(
        name: &str,
        plan: Plan,
        listeners: Vec<Listener>,
        memory: &MemoryBroker,
        control: &Handle,
    ) -> anyhow::Result<Self> {
        let count = plan.workers.get();
        let addresses = listeners.iter().map(|it| it.address().clone()).collect();
        let drain_deadline = plan.drain_deadline.0;
        let hub = plan.hub.clone().map(|config| Hub::start(config, memory, control, count));
        let (revocation, hub_config) = (plan.revocation.clone(), plan.hub.clone());
        let acme = plan.acme.clone();
        let kept: Vec<_> = plan.auths.iter().filter_map(|auth| auth.keep(control)).collect();
        let methods = plan.auths.iter().filter_map(|auth| auth.method().cloned()).collect();
        let mut plan = plan;
        let searches: Vec<_> = plan.backends.iter_mut().map(|it| it.search()).collect();
        let (edge, topics) = assemble(plan);
        let edge = Arc::new(edge);
        let (discoveries, searching) = search(searches, &edge.backends, control);
        let revoker = Revoker::start(
            revocation,
            Arc::clone(&edge.revocations),
            hub.clone().zip(hub_config).as_ref(),
            control,
        )?;
        let edge_metrics: Vec<_> = (0..count)
            .map(|_| {
                let metrics = EdgeMetrics::new(edge.routes.len(), edge.authorities.len());
                Arc::new(metrics.with_rules(edge.rules.0.len()))
            })
            .collect();
        let build = Build {
            edge: Arc::clone(&edge),
            hub: hub.clone(),
            topics,
            metrics: edge_metrics.clone(),
        };
        let build: BuildService = Arc::new(move |worker| build.service(worker));
        let workers = Workers::spawn(name, count, listeners, &build).context("cannot start")?;
        let mut probes = health::watch::spawn(&edge.backends, control);
        probes.extend(rebalance::control::spawn(&edge.backends, control));
        probes.extend(kept);
        probes.extend(searching);
        probes.extend(tls::watch::spawn(&edge.tls, control));
        probes.extend(server_tls::spawn(&edge.backends, control));
        probes.extend(address_rules::spawn(edge.doors().map(|door| &door.addresses), control));
        let acme_metrics = Arc::default();
        let acme = Acme::start(acme, &acme_metrics)?;
        let view = Arc::new(NodeView {
            name: name.to_owned(),
            edge,
            edge_metrics,
            worker_metrics: workers.metrics().to_vec(),
            hub,
            revoker,
            acme_metrics,
            discoveries,
            methods,
            is_draining: AtomicBool::new(false),
        });
        Ok(Self { workers, probes, _acme: acme, drain_deadline, addresses, view })
    }

    pub fn drainer(&self) -> Drainer {
        self.workers.drainer()
    }

    /// Stops accepting, lets every connection end in good order within the plan's deadline, and
    /// returns when the node has ended.
    pub fn drain(self, control: &Handle) {
        self.view.is_draining.store(true, Ordering::Relaxed);
        self.workers.drainer().drain(self.drain_deadline);
        self.workers.join();
        self.probes.iter().for_each(JoinHandle::abort);
        self.view.revoker.stop();
        if let Some(hub) = &self.view.hub {
            control.block_on(hub.flush(FLUSH_TIME));
        }
    }
}

impl NodeView {
    /// Has the files of TLS read again.
    pub fn ask_for_reload(&self) {
        self.edge.tls.iter().flatten().for_each(|tls| Tls::ask_for_reload(tls));
        self.edge.doors().for_each(|door| door.addresses.ask_for_reload());
        self.discoveries.iter().for_each(|(_, view)| view.ask());
        let servers = self.edge.backends.iter().filter_map(|backend| backend.tls.as_ref());
        servers.for_each(ServerTls::ask_for_reload);
    }

    /// Whether no more clients should come, and those who are here may stay.
    pub fn wants_to_drain(&self) -> bool {
        let is_away = |hub: &Arc<Hub>| !matches!(hub.state().broker, BrokerState::Connected);
        self.is_draining.load(Ordering::Relaxed) || self.hub.as_ref().is_some_and(is_away)
    }

    /// Why clients should not be sent here now; empty when they should.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_draining.load(Ordering::Relaxed) {
            reasons.push(format!("{}: drains", self.name));
        }
        if let Some(hub) = &self.hub {
            match hub.state().broker {
                BrokerState::Connected => {}
                BrokerState::Connecting => {
                    reasons.push(format!("{}: connecting to the broker", self.name));
                }
                BrokerState::Away { since, why } => {
                    let seconds = since.elapsed().as_secs();
                    reasons.push(format!("{}: broker away for {seconds} s: {why}", self.name));
                }
            }
        }
        let down = self.edge.backends.iter().filter(|backend| !backend.has_up());
        reasons.extend(
            down.map(|backend| format!("{}: backend {}: no server is up", self.name, backend.name)),
        );
        reasons
    }
}

/// Binds what the plan listens on, which may take rights that the process does not keep.
///
/// # Errors
/// When an address cannot be bound.
pub fn bind(plan: &Plan) -> anyhow::Result<Vec<Listener>> {
    let (listeners, workers) = (&plan.listeners, plan.workers.get());
    let mut bound = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        for address in &listener.bind {
            let socket = Listener::bind(index, address, workers, listener.sockets);
            let socket = socket.with_context(|| {
                format!("listener `{}` cannot listen on {address}", listener.name)
            })?;
            bound.push(socket);
        }
    }
    Ok(bound)
}

/// Looks for the servers of those backends that find them, for as long as the node runs. Waits a
/// moment for the first answers, so that the first clients find servers. What can be seen of each,
/// by the index of its backend, and the tasks.
#[expect(clippy::type_complexity, reason = "two lists, taken apart at once")]
fn search(
    searches: Vec<Option<(Discovery, BackendConfig)>>,
    backends: &[Arc<Backend>],
    control: &Handle,
) -> (Vec<(usize, Arc<DiscoveryView>)>, Vec<JoinHandle<()>>) {
    let (mut views, mut tasks) = (Vec::new(), Vec::new());
    let (begun, has_begun) = std::sync::mpsc::channel::<()>();
    let mut patience = Duration::ZERO;
    for (index, search) in searches.into_iter().enumerate() {
        let Some((discovery, config)) = search else { continue };
        patience = patience.max(discovery.patience());
        let (view, backend) = (Arc::<DiscoveryView>::default(), Arc::clone(&backends[index]));
        views.push((index, Arc::clone(&view)));
        let begun = begun.clone();
        let has_begun = move || drop(begun);
        tasks.push(control.spawn(discovery.run(backend, config, view, has_begun)));
    }
    drop(begun);
    // Over when all have begun, as nobody has the other end any more then.
    let _ = has_begun.recv_timeout(patience);
    (views, tasks)
}

/// Turns a plan into the edge that serves it, and the topics of its hub routes, to which the edge's
/// endpoints refer by index.
fn assemble(plan: Plan) -> (Edge, Vec<Arc<HubRoute>>) {
    let backends = plan.backends.into_iter().enumerate().map(|(index, backend)| {
        let mut made = Backend::new(index, &backend.config, &plan.timeouts);
        made.tls = backend.tls;
        made.connector.look_at_sources();
        Arc::new(made)
    });
    let backends: Vec<_> = backends.collect();
    let mut topics = Vec::new();
    let routes = plan.routes.into_iter().map(|mut route| {
        let turnstile = Turnstile::new(format!("route `{}`", route.name), &route.limits.quotas);
        let door = Door::new(std::mem::take(&mut route.addresses), turnstile);
        (assemble_route(route, &backends, &mut topics), door)
    });
    let (routes, route_doors) = routes.unzip();
    let authorities: Vec<_> =
        plan.auths.into_iter().map(|auth| assemble_authority(auth, &backends)).collect();
    let tls = plan.listeners.iter().map(|listener| listener.tls.clone()).collect();
    let head_limits = plan.listeners.iter().map(|listener| listener.head_limits).collect();
    let (mut arrivals, listeners) = (Vec::new(), plan.listeners.into_iter());
    let listeners = listeners.map(|listener| {
        arrivals.push(listener.arrivals);
        let turnstile = Turnstile::new(format!("listener `{}`", listener.name), &listener.quotas);
        (listener.name, (listener.https, Door::new(listener.addresses, turnstile)))
    });
    let (listeners, (https, listener_doors)) = listeners.unzip();
    let challenges = plan.acme.as_ref().map(|acme| Arc::clone(&acme.wanted.challenges));
    let edge = Edge {
        tls,
        listeners,
        https,
        head_limits,
        arrivals,
        listener_doors,
        routes,
        rules: Rules(plan.rules),
        route_doors,
        backends,
        identity_headers: IdentityHeaders::of(&authorities),
        authorities,
        timeouts: plan.timeouts,
        revocations: Arc::new(Revocations::new(plan.revocation.max)),
        challenges: challenges.unwrap_or_default(),
        is_logging_requests: plan.log.requests,
    };
    (edge, topics)
}

fn assemble_authority(auth: AuthPlan, backends: &[Arc<Backend>]) -> Authority {
    let check = match auth.check {
        AuthCheck::Method(method) => Check::Method(method),
        AuthCheck::Forward { forward, backend } => Check::Forward(Box::new(Asked {
            forward: *forward,
            backend: Arc::clone(&backends[backend]),
            is_right: AtomicBool::new(true),
        })),
    };
    let headers = auth.config.headers.into_iter();
    let headers = headers.filter_map(|(name, template)| Some((name.parse().ok()?, template)));
    Authority { name: auth.config.name, check, headers: headers.collect() }
}

fn assemble_route(
    route: RoutePlan,
    backends: &[Arc<Backend>],
    topics: &mut Vec<Arc<HubRoute>>,
) -> Route {
    let target = match route.target {
        TargetPlan::Backend(index) => Target::Backend(Arc::clone(&backends[index])),
        TargetPlan::Hub(config) => {
            let limits = client_limits(&route.limits);
            topics.push(Arc::new(HubRoute { config, limits }));
            Target::Endpoint(topics.len() - 1)
        }
        TargetPlan::Dir(dir) => Target::Static(StaticFiles::dir(&dir, &route.matcher.path)),
        TargetPlan::Page(builtin) => Target::Static(StaticFiles::Page(page::builtin(builtin))),
        TargetPlan::Redirect(redirect) => Target::Redirect(redirect),
        TargetPlan::Respond(respond) => Target::Respond(respond),
    };
    Route {
        name: route.name,
        matcher: route.matcher,
        access: route.access,
        target,
        cross_site: route.cross_site,
        limits: route.limits,
        pings: route.pings,
        changes: route.changes,
        is_guard: route.is_guard,
    }
}

/// What every worker builds its service from.
struct Build {
    edge: Arc<Edge>,
    hub: Option<Arc<Hub>>,
    topics: Vec<Arc<HubRoute>>,
    metrics: Vec<Arc<EdgeMetrics>>,
}

impl Build {
    fn service(&self, worker: &Rc<Worker>) -> Rc<dyn Service> {
        let shard = self.hub.as_ref().map(|hub| hub.shard(worker));
        let endpoint = |route: &Arc<HubRoute>| {
            let shard = shard.clone().expect("a plan with a hub route has a hub");
            Rc::new(HubEndpoint { shard, route: Arc::clone(route) }) as Rc<dyn Endpoint>
        };
        let endpoints = self.topics.iter().map(endpoint).collect();
        let metrics = Arc::clone(&self.metrics[worker.index()]);
        let edge = Arc::clone(&self.edge);
        Rc::new(EdgeService(EdgeShard::new(edge, Rc::clone(worker), endpoints, metrics)))
    }
}

/// How long the broker has to take the last messages when the node ends.
const FLUSH_TIME: Duration = Duration::from_secs(2);
