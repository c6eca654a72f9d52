//! Servers that are found: by the addresses of a name, by the records of a service, in a file.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::child::Signal;
use tidewire_testkit::deadline::{DEADLINE, until};
use tidewire_testkit::dns::{Kind, NameServer, PartlyAnswers, Reply};
use tidewire_testkit::http::{Request, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::websocket::WebSocket;

/// An edge whose one backend has this in its table.
fn edge(backend: &str) -> Tidewire {
    Tidewire::run(&format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
backend = "nodes"
[admin]
bind = "127.0.0.1:0"
[[backend]]
name = "nodes"
retries = 0
{backend}
"#
    ))
}

/// The servers that answer a few requests in a row.
fn answering(edge: &Tidewire) -> BTreeSet<String> {
    (0..8)
        .map(|_| get(edge.address(), "/"))
        .map(|answer| if answer.status == 200 { answer.text() } else { answer.status.to_string() })
        .collect()
}

#[track_caller]
fn until_answering(edge: &Tidewire, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
    until(&format!("{expected:?} answer"), || (answering(edge) == expected).then_some(()));
}

fn dns(server: &NameServer, source: &str, more: &str) -> String {
    asking(server.address(), source, &format!(", timeout = \"5s\"{more}"))
}

fn asking(nameserver: SocketAddr, source: &str, more: &str) -> String {
    format!("discovery = {{ {source}, nameserver = [\"{nameserver}\"]{more} }}")
}

/// Two servers on one port, one of them on IPv6.
fn on_one_port() -> (Backend, Backend) {
    let v4 = Backend::start(script::answers(200, "v4"));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.address().port()));
    (v4, Backend::start_at(v6, script::answers(200, "v6")))
}

const BOTH: &str = "host-record=nodes.test,127.0.0.1\nhost-record=nodes.test,::1";
const V4: &str = "host-record=nodes.test,127.0.0.1";

#[test]
fn the_addresses_of_a_name_are_servers_for_as_long_as_it_has_them() {
    let Some(mut names) = NameServer::start(BOTH) else { return };
    let (v4, _v6) = on_one_port();
    let source = format!("dns = \"nodes.test:{}\"", v4.address().port());
    let mut edge = edge(&dns(&names, &source, ""));
    // The first answer is there before the first client.
    assert_eq!(answering(&edge), ["v4", "v6"].map(str::to_owned).into());
    names.serve(V4);
    until_answering(&edge, &["v4"]);
    edge.log_line(&["servers have changed", "gone: [::1]:"]);
    names.serve(BOTH);
    until_answering(&edge, &["v4", "v6"]);
    edge.expect_metric_at_least("edge_discovery_lookups_total", &["result=\"found\""], 3.0);
}

#[test]
fn a_websocket_stays_on_a_server_that_is_gone_from_the_name() {
    let Some(mut names) = NameServer::start("host-record=nodes.test,127.0.0.1") else { return };
    let server = Backend::start(script::echoes);
    let port = server.address().port();
    let mut edge = edge(&dns(&names, &format!("dns = \"nodes.test:{port}\""), ", hold = \"0s\""));
    let mut client = WebSocket::connect(edge.address(), "/");
    client.expect_echo("before");
    names.serve("");
    edge.log_line(&["the name of the servers has no records any more"]);
    until("nobody new gets in", || (get(edge.address(), "/").status == 503).then_some(()));
    client.expect_echo("after");
}

#[test]
fn the_records_of_a_service_say_port_weight_and_priority() {
    let servers = ["a", "b", "c"].map(|name| Backend::start(script::answers(200, name)));
    let [a, b, c] = servers.each_ref().map(|server| server.address().port());
    let hosts = "host-record=one.test,127.0.0.1";
    let service = "srv-host=_ws._tcp.chat.test,one.test";
    let records = format!("{hosts}\n{service},{a},10,3\n{service},{b},10,1\n{service},{c},20,1");
    let Some(names) = NameServer::start(&records) else { return };
    let edge = edge(&dns(&names, "srv = \"_ws._tcp.chat.test\"", ""));
    let mut said: Vec<String> = (0..8).map(|_| get(edge.address(), "/").text()).collect();
    said.sort();
    assert_eq!(said.concat(), "aaaaaabb");
    let label = format!("server=\"one.test:{a}\"");
    assert_eq!(edge.metric("edge_server_up", &[&label]), 1.0);
}

#[test]
fn while_nobody_answers_the_servers_stay() {
    let Some(mut names) = NameServer::start(V4) else { return };
    let server = Backend::start(script::answers(200, "v4"));
    let port = server.address().port();
    let more = ", hold = \"0s\", max_interval = \"1s\"";
    let mut edge = edge(&dns(&names, &format!("dns = \"nodes.test:{port}\""), more));
    names.stop();
    edge.log_line(&["servers are as before: they cannot be looked up"]);
    until_answering(&edge, &["v4"]);
    edge.expect_metric_at_least("edge_discovery_lookups_total", &["result=\"failed\""], 1.0);
    names.serve(V4);
    edge.log_line(&["servers can be looked up again"]);
}

#[test]
fn sighup_has_names_looked_up_now() {
    let Some(mut names) = NameServer::start(V4) else { return };
    let (v4, _v6) = on_one_port();
    let source = format!("dns = \"nodes.test:{}\"", v4.address().port());
    let more = ", min_interval = \"1h\", max_interval = \"1h\", hold = \"0s\"";
    let edge = edge(&dns(&names, &source, more));
    let expect_lookups = |count| edge.expect_metric("edge_discovery_lookups_total", &[], count);
    until_answering(&edge, &["v4"]);
    expect_lookups(1.0);
    names.serve(BOTH);
    edge.child.signal(Signal::HUP);
    until_answering(&edge, &["v4", "v6"]);
    expect_lookups(2.0);
}

#[test]
fn a_node_whose_names_cannot_be_looked_up_starts_and_finds_them_later() {
    let Some(mut names) = NameServer::start("") else { return };
    names.stop();
    let server = Backend::start(script::answers(200, "v4"));
    let port = server.address().port();
    let edge = edge(&dns(&names, &format!("dns = \"nodes.test:{port}\""), ""));
    assert_eq!(get(edge.address(), "/").status, 503);
    let ready = edge.readiness().expect(503).text();
    assert!(ready.contains("backend nodes: no server is up"), "{ready}");
    names.serve(V4);
    until_answering(&edge, &["v4"]);
    edge.readiness().expect(200);
}

#[test]
fn servers_that_are_found_are_probed_until_they_are_gone() {
    let Some(mut names) = NameServer::start(V4) else { return };
    let v4 = Backend::start(script::answers(200, "v4"));
    let port = v4.address().port();
    let more = ", check = true";
    let check = "\ncheck = { interval = \"50ms\", fall = 1, rise = 1 }";
    let backend = dns(&names, &format!("dns = \"nodes.test:{port}\""), more) + check;
    let mut edge = edge(&backend);
    until_answering(&edge, &["v4"]);
    // Nobody is there on IPv6.
    names.serve(BOTH);
    edge.log_line(&["server is down", "[::1]:"]);
    until_answering(&edge, &["v4"]);
    let failures = || edge.metric("edge_server_check_failures_total", &[]);
    until("it is probed again and again", || (failures() > 2.0).then_some(()));
    names.serve(V4);
    edge.log_line(&["servers have changed", "gone: [::1]:"]);
    until("it is counted no more", || (!edge.metrics().contains("server=\"[::1]:")).then_some(()));
    let _v6 = Backend::start_at(
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        script::answers(200, "v6"),
    );
    names.serve(BOTH);
    until_answering(&edge, &["v4", "v6"]);
}

const LOCAL_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOCAL_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn one_kind_of_address_is_enough_when_the_other_cannot_be_looked_up() {
    for (broken, why) in [(Reply::Fails, "Server Failure"), (Reply::Silence, "no answer in time")] {
        let names = PartlyAnswers::start(move |_, kind| match kind {
            Kind::A => Reply::Addresses(vec![LOCAL_V4]),
            _ => broken.clone(),
        });
        let server = Backend::start(script::answers(200, "v4"));
        let source = format!("dns = \"nodes.test:{}\"", server.address().port());
        let more = ", timeout = \"2s\", max_interval = \"1s\"";
        let mut edge = edge(&asking(names.address(), &source, more));
        until_answering(&edge, &["v4"]);
        edge.log_line(&["WARN", "some servers cannot be looked up", "AAAA records of", why]);
        edge.expect_metric_at_least("edge_discovery_lookups_total", &["result=\"found\""], 2.0);
    }
}

#[test]
fn the_addresses_of_a_kind_that_cannot_be_looked_up_any_more_stay() {
    let is_broken = Arc::<AtomicBool>::default();
    let broken = Arc::clone(&is_broken);
    let names = PartlyAnswers::start(move |_, kind| match (kind, broken.load(Ordering::SeqCst)) {
        (Kind::A, false) => Reply::Addresses(vec![LOCAL_V4]),
        (Kind::A, true) => Reply::Addresses(Vec::new()),
        (_, false) => Reply::Addresses(vec![LOCAL_V6]),
        (_, true) => Reply::Fails,
    });
    let (v4, _v6) = on_one_port();
    let source = format!("dns = \"nodes.test:{}\"", v4.address().port());
    let mut edge = edge(&asking(names.address(), &source, ", hold = \"0s\""));
    until_answering(&edge, &["v4", "v6"]);
    is_broken.store(true, Ordering::SeqCst);
    edge.log_line(&["some servers cannot be looked up"]);
    until_answering(&edge, &["v6"]);
    is_broken.store(false, Ordering::SeqCst);
    edge.log_line(&["servers can be looked up again"]);
    until_answering(&edge, &["v4", "v6"]);
}

#[test]
fn a_host_that_cannot_be_looked_up_costs_a_service_no_other() {
    let (a, b) =
        (Backend::start(script::answers(200, "a")), Backend::start(script::answers(200, "b")));
    let ports = [a.address().port(), b.address().port()];
    let is_well = Arc::<AtomicBool>::default();
    let well = Arc::clone(&is_well);
    let names = PartlyAnswers::start(move |name, kind| match (name, kind) {
        (_, Kind::Srv) => {
            let service = |host: &str, port| (format!("{host}.test"), port);
            Reply::Services(vec![service("a", ports[0]), service("b", ports[1])], Vec::new())
        }
        ("b.test", _) if !well.load(Ordering::SeqCst) => Reply::Fails,
        (_, Kind::A) => Reply::Addresses(vec![LOCAL_V4]),
        _ => Reply::Addresses(Vec::new()),
    });
    let mut edge = edge(&asking(names.address(), "srv = \"_ws._tcp.chat.test\"", ""));
    until_answering(&edge, &["a"]);
    edge.log_line(&["some servers cannot be looked up", "records of b.test", "and 1 more"]);
    is_well.store(true, Ordering::SeqCst);
    until_answering(&edge, &["a", "b"]);
}

#[test]
fn the_hosts_of_a_service_are_looked_up_at_the_same_time() {
    const HOSTS: usize = 12;
    let server = Backend::start(script::answers(200, "a"));
    let port = server.address().port();
    let asked = (Mutex::new(BTreeSet::new()), Condvar::new());
    // Nobody is told anything before all have been asked for.
    let names = PartlyAnswers::start(move |name, kind| {
        if kind == Kind::Srv {
            let hosts = (0..HOSTS).map(|index| (format!("{index}.test"), port));
            return Reply::Services(hosts.collect(), Vec::new());
        }
        let mut questions = asked.0.lock().unwrap();
        questions.insert((name.to_owned(), kind));
        asked.1.notify_all();
        let is_short = |all: &mut BTreeSet<_>| all.len() < 2 * HOSTS;
        drop(asked.1.wait_timeout_while(questions, DEADLINE, is_short).unwrap());
        match kind {
            Kind::A => Reply::Addresses(vec![LOCAL_V4]),
            _ => Reply::Addresses(Vec::new()),
        }
    });
    let more = ", timeout = \"10s\"";
    let edge = edge(&asking(names.address(), "srv = \"_ws._tcp.chat.test\"", more));
    until_answering(&edge, &["a"]);
    edge.expect_metric("edge_discovery_lookups_total", &["result=\"failed\""], 0.0);
}

#[test]
fn addresses_that_come_with_the_records_of_a_service_are_not_asked_for() {
    let server = Backend::start(script::answers(200, "a"));
    let port = server.address().port();
    let names = PartlyAnswers::start(move |_, kind| match kind {
        Kind::Srv => {
            let along = vec![("one.test".to_owned(), LOCAL_V4)];
            Reply::Services(vec![("one.test".to_owned(), port)], along)
        }
        Kind::A => Reply::Fails,
        _ => Reply::Addresses(Vec::new()),
    });
    let edge = edge(&asking(names.address(), "srv = \"_ws._tcp.chat.test\"", ""));
    until_answering(&edge, &["a"]);
    edge.expect_metric("edge_discovery_lookups_total", &["result=\"failed\""], 0.0);
}

/// A file of servers.
struct ServersFile(tempfile::TempDir);

impl ServersFile {
    fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().expect("a temporary directory"));
        file.write(text);
        file
    }

    /// Puts another one in its place.
    fn write(&self, text: &str) {
        let next = self.0.path().join("next");
        std::fs::write(&next, text).expect("the directory can be written to");
        std::fs::rename(next, self.0.path().join("servers.toml")).expect("it can be put there");
    }

    /// The same, and has `edge` read it, which says what has changed.
    #[track_caller]
    fn change(&self, edge: &mut Tidewire, text: &str, what: &str) {
        self.write(text);
        edge.child.signal(Signal::HUP);
        // All of what has changed: such a line is not to be taken for a longer one before it.
        let end = format!("change={what}");
        edge.child.line(&end, |line| line.ends_with(&end).then_some(()));
    }

    fn discovery(&self) -> String {
        format!("discovery = {{ file = \"{}\" }}", self.0.path().join("servers.toml").display())
    }
}

fn listed(name: &str, server: &Backend, more: &str) -> String {
    format!("[[server]]\nname = \"{name}\"\naddress = \"{}\"\n{more}\n", server.address())
}

#[test]
fn a_file_of_servers_is_read_again_and_a_wrong_one_changes_nothing() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(script::answers(200, name)));
    let file = ServersFile::new(&listed("a", &a, ""));
    let mut edge = edge(&file.discovery());
    until_answering(&edge, &["a"]);
    file.change(&mut edge, &(listed("a", &a, "") + &listed("b", &b, "")), "new: b");
    until_answering(&edge, &["a", "b"]);
    file.write(&listed("b", &b, "").replace(':', ";"));
    edge.child.signal(Signal::HUP);
    edge.log_line(&["servers are as before: they cannot be looked up", "line 3"]);
    until_answering(&edge, &["a", "b"]);
    file.write(&(listed("a", &a, "") + &listed("b", &b, "") + &listed("c", &a, "")));
    edge.child.signal(Signal::HUP);
    edge.log_line(&["left out, as others have the names or addresses of these", "servers=\"c\""]);
    file.change(&mut edge, &listed("b", &b, ""), "gone: a");
    until_answering(&edge, &["b"]);
}

#[test]
fn a_server_that_is_edited_or_away_for_a_moment_keeps_its_clients_and_what_was_set() {
    let servers = ["a", "b"].map(|name| Backend::start(script::serves(name)));
    let [a, b] = &servers;
    let file = ServersFile::new(&(listed("a", a, "") + &listed("b", b, "")));
    let mut edge = edge(&format!("{}\nbalance = \"leastconn\"", file.discovery()));
    let mut clients: Vec<_> = (0..6).map(|_| WebSocket::connect(edge.address(), "/")).collect();
    let connections = |edge: &Tidewire| {
        ["server=\"a\"", "server=\"b\""]
            .map(|label| edge.metric("edge_server_connections", &[label]))
    };
    assert_eq!(connections(&edge), [3.0, 3.0]);
    let admin = format!("http://{}", edge.admin());
    let set = ["servers", "set", "nodes/a", "maintenance", "--admin", &admin];
    assert!(command().args(set).status().expect("it can be run").success());
    let is_as_it_was = |edge: &Tidewire| {
        assert_eq!(connections(edge), [3.0, 3.0]);
        let labels = ["server=\"a\"", "state=\"maintenance\""];
        assert_eq!(edge.metric("edge_server_state", &labels), 1.0);
    };
    let edited = listed("a", a, "maxconn = 100\nbackup = true") + &listed("b", b, "maxconn = 3");
    file.change(&mut edge, &edited, "other weights or settings");
    is_as_it_was(&edge);
    file.change(&mut edge, &listed("b", b, "maxconn = 3"), "gone: a");
    file.change(&mut edge, &edited, "new: a");
    is_as_it_was(&edge);
    clients.iter_mut().for_each(|client| client.expect_echo("still here"));
}

#[test]
fn a_checked_server_that_comes_gets_clients_after_its_first_good_probe() {
    let a = Backend::start(script::answers(200, "a"));
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let new = Backend::start(move |request: &Request, peer: &mut Peer| {
        match well.load(Ordering::SeqCst) {
            true => script::answers(200, "new")(request, peer),
            false => script::answers(503, "not yet")(request, peer),
        }
    });
    let file = ServersFile::new(&listed("a", &a, "check = true"));
    // It would take an hour to be found ill by `fall`, and to be found well by `rise`.
    let check = "check = { type = \"http\", interval = \"1h\", down_interval = \"50ms\", \
                 rise = 1, fall = 1000 }";
    let mut edge = edge(&format!("{}\n{check}", file.discovery()));
    assert_eq!(answering(&edge), ["a".to_owned()].into(), "one that was there has clients at once");
    let both = listed("a", &a, "check = true") + &listed("new", &new, "check = true");
    file.change(&mut edge, &both, "new: new");
    assert_eq!(answering(&edge), ["a".to_owned()].into());
    edge.log_line(&["server is down", "server=\"new\"", "status 503"]);
    assert_eq!(answering(&edge), ["a".to_owned()].into());
    is_well.store(true, Ordering::SeqCst);
    until_answering(&edge, &["a", "new"]);
}
