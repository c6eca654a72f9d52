//! The front door: takes clients in, reads their HTTP, chooses where they go, and moves what they
//! say.
//!
//! ```text
//!   session ─> route ─> target ─┬─ backend: lease ─> exchange ─> tunnel     (WebSocket)
//!   (HTTP/1.1, one client)      ├─ backend: lease ─> forward ─> pool        (plain HTTP)
//!                               ├─ endpoint: a WebSocket that ends here     (the hub, by the binary)
//!                               └─ static files, redirect, fixed answer
//! ```
//!
//! After a 101 no HTTP code runs: the two sockets go to a new task, [`tunnel`], and everything that
//! HTTP needed is dropped. Everything of one client happens on one thread, in one task.

pub mod access_log;
pub mod address;
pub mod address_rules;
pub mod answer;
pub mod arrival;
pub mod auth;
pub mod backend;
pub mod bad_answer;
pub mod balance;
pub mod caller;
pub mod challenge;
mod choice;
pub mod client_address;
pub mod client_body;
mod closing;
pub mod connector;
pub mod cors;
pub mod cross_site;
pub mod dial;
pub mod discovery;
pub mod door;
pub mod ejection;
pub mod end;
pub mod endpoint;
pub mod exchange;
pub mod fault;
mod flow;
mod former;
pub mod forward;
pub mod framing;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handover;
pub mod head_limits;
pub mod health;
pub mod host;
pub mod hsts;
pub mod http_io;
pub mod https_policy;
pub mod hygiene;
mod inspector;
mod last_word;
pub mod limits;
mod linger;
pub mod metrics;
pub mod network;
pub mod network_set;
pub mod onward;
pub mod origin;
pub mod origin_pattern;
pub mod path;
mod patience;
pub mod peer_set;
pub mod pings;
pub mod pool;
pub mod proxy_header;
pub mod queue;
pub mod rebalance;
pub mod redirect;
pub mod route;
pub mod rules;
pub mod send_proxy;
pub mod server;
pub mod server_state;
pub mod server_tls;
pub mod service;
pub mod session;
pub mod source_range;
pub mod static_files;
pub mod stick;
pub mod timeout;
pub mod tls;
pub mod trusted_proxies;
pub mod tunnel;
mod upkeep;
mod wait;
pub mod weight;
mod words;
mod written;
