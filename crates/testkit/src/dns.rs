//! A real dnsmasq with records of its own, which can be changed and taken away; and a name server
//! that does what none should.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;

use crate::child::Child;
use crate::deadline::until;
use crate::port::{free_port, loopback};
use crate::skip;

/// A running name server for the names under `test`. What it says is true for a second.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    directory: TempDir,
    child: Option<Child>,
}

impl NameServer {
    /// Starts one with these records, a line each: `host-record=NAME,ADDRESS` or
    /// `srv-host=NAME,TARGET,PORT,PRIORITY,WEIGHT`. `None`, said aloud, when there is no such
    /// program.
    #[track_caller]
    pub fn start(records: &str) -> Option<Self> {
        if !skip::has("dnsmasq") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self { address: loopback(free_port()), directory, child: None };
        server.serve(records);
        Some(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it say this from now on.
    #[track_caller]
    pub fn serve(&mut self, records: &str) {
        self.stop();
        let file = self.directory.path().join("dnsmasq.conf");
        let port = self.address.port();
        let config = format!(
            "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n\
             no-daemon\npid-file\nlocal=/test/\nlocal-ttl=1\n{records}\n"
        );
        std::fs::write(&file, config).expect("a temporary directory can be written to");
        let mut command = Command::new("dnsmasq");
        command.arg(format!("--conf-file={}", file.display()));
        let mut child = Child::spawn(command);
        until("dnsmasq listens", || {
            assert!(!child.has_ended(), "dnsmasq: {:#?}", child.stderr());
            std::net::TcpStream::connect(self.address).ok()
        });
        self.child = Some(child);
    }

    /// It is away: who asks gets no answer.
    pub fn stop(&mut self) {
        self.child = None;
    }
}

/// A name server that says of each question what a test wants, by UDP only: an answer
/// has 512 bytes at most.
#[derive(Debug)]
pub struct PartlyAnswers {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
    Other,
}

/// What is said to it.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Addresses of the name that was asked for; without any, that there is none.
    Addresses(Vec<IpAddr>),
    /// The services of a name: where they are, and at which port. The addresses come along.
    Services(Vec<(String, u16)>, Vec<(String, IpAddr)>),
    Fails,
    Silence,
}

impl PartlyAnswers {
    /// Starts one. Each question has a thread of its own, in which `script` may wait.
    pub fn start(script: impl Fn(&str, Kind) -> Reply + Send + Sync + 'static) -> Self {
        let socket = UdpSocket::bind(loopback(0)).expect("any port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let is_over = Arc::<AtomicBool>::default();
        let (script, over) = (Arc::new(script), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Some(question) = Question::read(&packet[..length]) else { continue };
                let (script, socket) = (Arc::clone(&script), socket.try_clone());
                thread::spawn(move || {
                    let reply = script(&question.name, question.kind);
                    if let (Some(packet), Ok(socket)) = (question.packet(&reply), socket) {
                        let _ = socket.send_to(&packet, from);
                    }
                });
            }
        });
        Self { address, is_over }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PartlyAnswers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that receives.
        if let Ok(socket) = UdpSocket::bind(loopback(0)) {
            let _ = socket.send_to(&[], self.address);
        }
    }
}

struct Question {
    id: [u8; 2],
    /// As it was written, to be said again.
    bytes: Vec<u8>,
    name: String,
    kind: Kind,
}

impl Question {
    fn read(packet: &[u8]) -> Option<Self> {
        let mut rest = packet.get(HEADER_BYTES..)?;
        let mut labels = Vec::new();
        while let (&length, after) = rest.split_first()?
            && length > 0
        {
            let (label, after) = after.split_at_checked(length.into())?;
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
            rest = after;
        }
        let end = packet.len() - rest.len() + 5;
        let kind = match rest.get(1..3)? {
            [0, 1] => Kind::A,
            [0, 28] => Kind::Aaaa,
            [0, 33] => Kind::Srv,
            _ => Kind::Other,
        };
        let bytes = packet.get(HEADER_BYTES..end)?.to_vec();
        Some(Self { id: [packet[0], packet[1]], bytes, name: labels.join("."), kind })
    }

    fn packet(&self, reply: &Reply) -> Option<Vec<u8>> {
        let (mut code, mut answers, mut along) = (0, Vec::new(), Vec::new());
        match reply {
            Reply::Silence => return None,
            Reply::Fails => code = 2,
            Reply::Addresses(all) => {
                answers.extend(all.iter().map(|&it| address_record(&ASKED, it)));
            }
            Reply::Services(services, addresses) => {
                answers.extend(services.iter().map(|(target, port)| {
                    let data = [&[0, 1, 0, 1], &port.to_be_bytes()[..], &name(target)].concat();
                    record(&ASKED, 33, &data)
                }));
                along.extend(addresses.iter().map(|(host, it)| address_record(&name(host), *it)));
            }
        }
        let counts = [1, answers.len() as u16, 0, along.len() as u16];
        let counts: Vec<u8> = counts.into_iter().flat_map(u16::to_be_bytes).collect();
        let head = [&self.id[..], &[0x85, 0x80 | code], &counts, &self.bytes].concat();
        Some([head, answers.concat(), along.concat()].concat())
    }
}

fn address_record(host: &[u8], address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(it) => record(host, 1, &it.octets()),
        IpAddr::V6(it) => record(host, 28, &it.octets()),
    }
}

/// A record that is true for a second.
fn record(host: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16).to_be_bytes();
    [host, &[0, kind, 0, 1, 0, 0, 0, 1], &length, data].concat()
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|it| [&[it.len() as u8], it.as_bytes()].concat());
    labels.chain([0]).collect()
}

const HEADER_BYTES: usize = 12;

/// The name that was asked for, by where it is written.
const ASKED: [u8; 2] = [0xc0, HEADER_BYTES as u8];
