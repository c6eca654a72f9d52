//! A node for tests: real workers that answer handshakes and hand the connections to the hub.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use tidewire_hub::broker::memory::MemoryBroker;
use tidewire_hub::close::ClientEnd;
use tidewire_hub::config::HubConfig;
use tidewire_hub::hub::Hub;
use tidewire_hub::pass::Applicant;
use tidewire_hub::route::{HubRoute, TopicRoute};
use tidewire_hub::shard::Shard;
use tidewire_hub::topic::Topic;
use tidewire_runtime::conn::{Conn, Upgraded};
use tidewire_runtime::listener::{Address, ListenOptions, Listener};
use tidewire_runtime::units::{Period, Size};
use tidewire_runtime::worker::{Service, Worker, Workers};
use tidewire_wire::ws::handshake::{Classified, accept_key, classify};

use super::client::Client;
use super::until;

/// A running node. Stopped when dropped.
pub struct TestNode {
    pub hub: Arc<Hub>,
    pub address: SocketAddr,
    ends: Mutex<mpsc::Receiver<ClientEnd>>,
    workers: Option<Workers>,
    /// Makes the end of the next client panic.
    pub panics: Arc<AtomicBool>,
}

impl TestNode {
    /// Routes are `/ws/{topic}`, and `/others/{topic}` with `to_sender = false`, and
    /// `/reply/{topic}` with a reply.
    pub fn start(config: HubConfig, memory: &MemoryBroker, workers: usize) -> Self {
        assert_eq!(config.faults(), []);
        let runtime = tokio::runtime::Handle::current();
        let hub = Hub::start(config, memory, &runtime, workers);
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = Listener::bind(0, &any, workers, ListenOptions::default()).unwrap();
        let address = listener.address().tcp().unwrap();
        let (sender, ends) = mpsc::channel();
        let panics = Arc::new(AtomicBool::new(false));
        let (for_workers, may_panic) = (hub.clone(), panics.clone());
        let build = move |worker: &Rc<Worker>| -> Rc<dyn Service> {
            let shard = for_workers.shard(worker);
            Rc::new(HubService {
                shard,
                routes: ROUTES.map(|(prefix, text)| {
                    let route: TopicRoute = toml::from_str(text).unwrap();
                    (prefix, Arc::new(route.into()))
                }),
                ends: sender.clone(),
                panics: may_panic.clone(),
            })
        };
        let workers = Workers::spawn("test", workers, vec![listener], &(Arc::new(build) as _));
        Self { hub, address, ends: Mutex::new(ends), workers: Some(workers.unwrap()), panics }
    }

    pub async fn client(&self, path: &str) -> Client {
        Client::connect(self.address, path).await
    }

    pub async fn client_v1(&self, path: &str) -> Client {
        Client::connect_v1(self.address, path).await
    }

    pub fn clients(&self) -> u64 {
        self.sum(|metrics| metrics.clients.value())
    }

    pub fn sum(&self, of: impl Fn(&tidewire_hub::metrics::HubMetrics) -> u64) -> u64 {
        self.hub.metrics().iter().map(|metrics| of(metrics)).sum()
    }

    /// How the next client ended.
    pub async fn end(&self) -> ClientEnd {
        let mut end = None;
        until("the end of a client", || {
            end = self.ends.lock().unwrap().try_recv().ok();
            end.is_some()
        })
        .await;
        end.unwrap()
    }

    pub fn drain(&self, deadline: Duration) {
        self.workers.as_ref().unwrap().drainer().drain(deadline);
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let workers = self.workers.take().unwrap();
        workers.drainer().stop();
        workers.join();
    }
}

/// A config for tests: the defaults, in a hurry, but for a Redis that is busy for a while.
pub fn config(node: &str) -> HubConfig {
    HubConfig {
        node: Some(node.to_owned()),
        broker_timeout: Period::from_secs(5),
        unsubscribe_delay: Period::from_millis(100),
        queue: Size(256 << 10),
        ..HubConfig::default()
    }
}

struct HubService {
    shard: Rc<Shard>,
    routes: [(&'static str, Arc<HubRoute>); 3],
    ends: mpsc::Sender<ClientEnd>,
    panics: Arc<AtomicBool>,
}

impl Service for HubService {
    fn serve(&self, conn: Conn, _listener: usize) {
        let (shard, routes) = (self.shard.clone(), self.routes.clone());
        let (ends, panics) = (self.ends.clone(), self.panics.clone());
        tokio::task::spawn_local(async move {
            let Some((upgraded, admission)) = handshake(conn, &shard, &routes).await else {
                return;
            };
            let done = move |end| {
                let _ = ends.send(end);
                assert!(!panics.swap(false, Ordering::Relaxed), "a panic, as ordered");
            };
            admission.start(upgraded, Box::new(done));
        });
    }
}

/// Answers a handshake the shortest way.
async fn handshake(
    mut conn: Conn,
    shard: &Rc<Shard>,
    routes: &[(&str, Arc<HubRoute>)],
) -> Option<(Upgraded, tidewire_hub::admission::Admission)> {
    let mut bytes = Vec::new();
    let (path, headers, length) = loop {
        let mut buffer = [0; 4096];
        let read = poll_fn(|cx| conn.socket.poll_read(cx, &mut buffer)).await.ok()?;
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(head) = parse_head(&bytes) {
            break head;
        }
        if read == 0 {
            return None;
        }
    };
    let Classified::WebSocket(offer) = classify(&Method::GET, Version::HTTP_11, &headers) else {
        return None;
    };
    let offered: Vec<_> = offer.subprotocols.iter().filter_map(|it| it.to_str().ok()).collect();
    let (route, topic) =
        routes.iter().find_map(|(prefix, route)| Some((route, path.strip_prefix(prefix)?)))?;
    let topic = route.config.topic(|name| (name == "topic").then_some(topic)).unwrap();
    let admission = shard
        .admit(topic, route.clone(), Applicant { subprotocols: &offered, ..Applicant::default() })
        .await
        .ok()?;
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        std::str::from_utf8(&accept_key(&offer.key)).unwrap()
    );
    if let Some(subprotocol) = admission.subprotocol() {
        answer += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    answer += "\r\n";
    assert_eq!(conn.socket.try_write(answer.as_bytes()).ok()?, answer.len());
    // The client has its 101: what is published now must reach it.
    tokio::task::yield_now().await;
    Some((Upgraded { conn, leftover: Bytes::from(bytes.split_off(length)) }, admission))
}

fn parse_head(bytes: &[u8]) -> Option<(String, HeaderMap, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).unwrap() else { return None };
    let mut map = HeaderMap::new();
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(header.value).unwrap());
    }
    Some((request.path.unwrap().to_owned(), map, length))
}

/// A topic, as a test needs it.
pub fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

const ROUTES: [(&str, &str); 3] = [
    ("/ws/", "topic = '{topic}'"),
    ("/others/", "topic = '{topic}'\nto_sender = false"),
    ("/reply/", "topic = '{topic}'\nreply = '{node}: {message}'"),
];
