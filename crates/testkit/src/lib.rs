//! What tests of the real program need: the program and other real servers as child processes,
//! clients that see every byte, and servers that are named for what they do wrong.
//!
//! All of it blocks, so that a test reads from top to bottom. Every wait is for an event and has a
//! deadline; every child is stopped by its handle when the test drops it.

pub mod acme;
pub mod article;
pub mod attack;
pub mod backend;
pub mod browser;
pub mod certs;
pub mod child;
pub mod child_socket;
pub mod deadline;
pub mod dns;
pub mod haproxy;
pub mod http;
pub mod neighbour;
pub mod nginx;
pub mod node_app;
pub mod peer;
pub mod port;
pub mod python;
pub mod raw_frame;
pub mod redis;
pub mod rig;
pub mod rss;
pub mod script;
pub mod secure;
pub mod skip;
pub mod store;
pub mod template;
pub mod tidewire;
pub mod tls;
pub mod token;
pub mod unix_door;
pub mod websocket;
pub mod witness;
