//! The files of `examples/article`, with ports that are free in place of their own.
//!
//! Each replacement is of a text that must be there, so that a test is one of the files that a
//! person copies, and of nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::port::{free_port, loopback};
use crate::template::filled;
use crate::tidewire::Tidewire;

/// A file or folder of the example.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/article").join(name)
}

/// The first machine: the edge, before these two servers.
#[track_caller]
pub fn edge(servers: [SocketAddr; 2]) -> Tidewire {
    let [first, second] = servers.map(|server| server.to_string());
    Tidewire::run(&with_ports(
        "edge.toml",
        &[
            ("127.0.0.1:8080", "127.0.0.1:0"),
            ("127.0.0.1:9090", "127.0.0.1:0"),
            ("127.0.0.1:3001", &first),
            ("127.0.0.1:3002", &second),
        ],
    ))
}

/// The second and the third machine: the hub nodes, once they have reached Redis.
///
/// Their ports are not those of outgoing connections: nobody else gets them when a node is killed.
/// A Redis that is busy for a while is not away: who kills it is seen at once all the same.
#[track_caller]
pub fn nodes(redis_url: &str) -> [Tidewire; 2] {
    let nodes = [1, 2].map(|number| {
        let node = loopback(free_port()).to_string();
        let broker = format!("broker_timeout = \"15s\"\nbroker = \"{redis_url}\"");
        Tidewire::run(&with_ports(
            &format!("server{number}.toml"),
            &[
                (&format!("127.0.0.1:300{number}"), &node),
                (&format!("127.0.0.1:909{number}"), "127.0.0.1:0"),
                ("broker = \"redis://127.0.0.1:6379\"", &broker),
            ],
        ))
    });
    nodes.iter().for_each(Tidewire::wait_until_ready);
    nodes
}

/// HAProxy's configuration, before these two servers; `{port}` is where it is to listen.
#[track_caller]
pub fn haproxy(servers: [SocketAddr; 2]) -> String {
    let [first, second] = servers.map(|server| server.to_string());
    let ports = [
        ("127.0.0.1:8081", "127.0.0.1:{port}"),
        ("127.0.0.1:3001", first.as_str()),
        ("127.0.0.1:3002", &second),
    ];
    with_ports("haproxy.cfg", &ports)
}

#[track_caller]
fn with_ports(name: &str, ports: &[(&str, &str)]) -> String {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|it| panic!("{path:?}: {it}"));
    filled(name, &text, ports)
}
