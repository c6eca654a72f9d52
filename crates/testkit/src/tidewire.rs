//! The program itself, as a person or a service manager runs it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::child::{Child, Ended, Signal};
use crate::deadline::{DEADLINE, LOOK_AGAIN, until};
use crate::http::{Response, get};
use crate::store;

/// A running `tidewire`.
#[derive(Debug)]
pub struct Tidewire {
    pub child: Child,
    /// Where clients connect.
    address: SocketAddr,
    admin: SocketAddr,
    directory: Option<TempDir>,
}

/// The program, with arguments to come. `TIDEWIRE_BIN` names another build of it.
pub fn command() -> Command {
    let built = store::profile_dir().join("tidewire");
    let program = std::env::var_os("TIDEWIRE_BIN").map_or(built, PathBuf::from);
    let mut command = Command::new(program);
    command.env_remove("TIDEWIRE_LOG").env_remove("TIDEWIRE_BROKER");
    // Memory is measured, which pages of 2 MiB would make coarse.
    command.env("MIMALLOC_ALLOW_THP", "0");
    command
}

/// The configuration of an edge before these servers, named `server1` and so on, with `more`
/// behind it.
pub fn edge(servers: &[SocketAddr], more: &str) -> String {
    let named = |(index, address): (usize, &SocketAddr)| (format!("server{}", index + 1), *address);
    let servers: Vec<_> = servers.iter().enumerate().map(named).collect();
    let servers: Vec<_> = servers.iter().map(|(name, it)| (name.as_str(), *it, "")).collect();
    edge_of(&servers, more)
}

/// The configuration of an edge before servers of these names, addresses and further keys, each
/// with its comma, with `more` behind it.
pub fn edge_of(servers: &[(&str, SocketAddr, &str)], more: &str) -> String {
    let server = |(name, address, more): &(&str, SocketAddr, &str)| {
        format!("  {{ name = \"{name}\", address = \"{address}\"{more} }},\n")
    };
    let servers: String = servers.iter().map(server).collect();
    format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"

[[route]]
backend = "nodes"

[[backend]]
name = "nodes"
server = [
{servers}]
{more}"#
    )
}

/// The configuration of a hub node whose topics are at `/ws/{topic}`, with `more` of its `[hub]`.
pub fn hub(name: &str, hub: &str) -> String {
    format!(
        r#"
[[listen]]
name = "node"
bind = "127.0.0.1:0"

[hub]
node = "{name}"
{hub}

[[route]]
path = "/ws/{{topic}}"
hub = {{ topic = "{{topic}}", reply = "Received: {{message}}" }}
"#
    )
}

impl Tidewire {
    /// Runs a configuration, and waits until it serves. It gets an admin listener if it has none.
    #[track_caller]
    pub fn run(config: &str) -> Self {
        Self::run_by(command(), config)
    }

    /// As [`Tidewire::run`], by a command that takes its arguments, such as one that sets limits.
    #[track_caller]
    pub fn run_by(command: Command, config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::run_in(command, directory, config)
    }

    /// As [`Tidewire::run_by`], with the configuration in a directory that has its other files.
    #[track_caller]
    pub fn run_in(mut command: Command, directory: TempDir, config: &str) -> Self {
        let file = directory.path().join("tidewire.toml");
        let admin = "\n[admin]\nbind = \"127.0.0.1:0\"\n";
        let admin = if config.contains("[admin]") { "" } else { admin };
        // The kernel shows what tests look at (memory, open files) to root only, unless dumps are
        // allowed.
        let is_closed = !rustix::process::geteuid().is_root() && !config.contains("[process]");
        let process = if is_closed { "\n[process]\ncore_dumps = true\n" } else { "" };
        fs::write(&file, format!("{config}{admin}{process}"))
            .expect("a directory can be written to");
        command.arg("run").arg("-c").arg(&file);
        let mut child = Child::spawn(command);
        let admin = child.line("the admin listener is there", |line| {
            line.contains("/healthz").then(|| address_in(line))?
        });
        let address = child.line("a listener is there", |line| {
            line.contains("listening").then(|| address_in(line))?
        });
        Self { child, address, admin, directory: Some(directory) }
    }

    /// Runs `tidewire up` on a port that the system chooses, and waits until it serves.
    #[track_caller]
    pub fn up(arguments: &[&str]) -> Self {
        Self::up_by(command(), arguments)
    }

    /// As [`Tidewire::up`], by a command that takes its arguments.
    #[track_caller]
    pub fn up_by(mut command: Command, arguments: &[&str]) -> Self {
        command.args(["up", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = Child::spawn(command);
        let address = child.line("it says where the page is", |line| {
            line.trim().strip_prefix("page").and_then(address_in)
        });
        let admin = child.line("it says where metrics are", |line| {
            line.trim().strip_prefix("metrics").and_then(address_in)
        });
        Self { child, address, admin, directory: None }
    }

    /// The directory of its configuration.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.as_ref().expect("it was run from a file").path()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators ask.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The answer of its `/readyz`.
    #[track_caller]
    pub fn readiness(&self) -> Response {
        get(self.admin, "/readyz")
    }

    /// Waits until it says that clients can be sent to it.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        until("it is ready", || (self.readiness().status == 200).then_some(()));
    }

    /// All that its `/metrics` says.
    #[track_caller]
    pub fn metrics(&self) -> String {
        get(self.admin, "/metrics").expect(200).text()
    }

    /// The sum of a metric over those of its lines that have all of `labels`, such as
    /// `server="a"`: as it is now. What has just been seen may be counted a moment later, for
    /// which [`Self::expect_metric`] waits.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let found = sum_of(&text, name, labels);
        found.unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{text}"))
    }

    /// Waits until a metric is `expected`, and no more than that.
    #[track_caller]
    pub fn expect_metric(&self, name: &str, labels: &[&str], expected: f64) {
        let found = self.metric_that_reaches(expected, name, labels);
        assert_eq!(found, expected, "{name} with {labels:?}");
    }

    /// Waits until a metric is `least`, or more.
    #[track_caller]
    pub fn expect_metric_at_least(&self, name: &str, labels: &[&str], least: f64) {
        self.metric_that_reaches(least, name, labels);
    }

    #[track_caller]
    fn metric_that_reaches(&self, least: f64, name: &str, labels: &[&str]) -> f64 {
        let start = Instant::now();
        loop {
            let text = self.metrics();
            match sum_of(&text, name, labels) {
                Some(found) if found >= least => return found,
                found if start.elapsed() > DEADLINE => {
                    panic!("{name} with {labels:?} is {found:?} instead of {least} in\n{text}")
                }
                _ => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// The first line of the log, now or later, that has all of `parts`.
    #[track_caller]
    pub fn log_line(&mut self, parts: &[&str]) -> String {
        self.child.line(&format!("a line with {parts:?}"), |line| {
            parts.iter().all(|part| line.contains(part)).then(|| line.to_owned())
        })
    }

    /// Asks it to end, as Ctrl-C does.
    #[track_caller]
    pub fn interrupt(&self) {
        self.child.signal(Signal::INT);
    }

    /// Asks it to end, as a service manager does.
    #[track_caller]
    pub fn terminate(&self) {
        self.child.signal(Signal::TERM);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.child.wait()
    }

    /// The processor time that it uses while `time` passes.
    pub fn cpu_time_during(&self, time: Duration) -> Duration {
        let before = self.child.cpu_time();
        std::thread::sleep(time);
        self.child.cpu_time() - before
    }
}

/// The sum over the lines of `metrics` that are of this metric and have all of `labels`.
fn sum_of(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, with) = series.split_once('{').unwrap_or((series, ""));
        let fits = found == name && labels.iter().all(|label| with.contains(label));
        fits.then(|| value.parse::<f64>().expect("a value is a number"))
    };
    metrics.lines().filter_map(value).reduce(|sum, value| sum + value)
}

/// The first `127.0.0.1:PORT` in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    format!("127.0.0.1:{port}").parse().ok()
}
