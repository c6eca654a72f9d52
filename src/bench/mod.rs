//! `tidewire bench`: a load generator for any WebSocket server.
//!
//! Each job opens connections, does one kind of work on them, and says what it cost the server's
//! process: CPU time for each message, delivery or upgrade, and memory for each connection. A job
//! is a file beside this one with its options, its run and its report, and one line in `Job`.

mod client;
mod connect;
mod echo;
mod fanout;
mod fleet;
mod idle;
mod latency;
mod meter;
mod process;
mod publisher;
mod report;
mod stamp;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod tickets;
mod tls;

use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::runtime;

use self::fleet::{Failures, Fleet};
use self::process::Watched;
use self::target::{Connecting, Target, Url};

/// Measure any WebSocket server: echo latency, idle memory, connects, fan-out
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Bench {
    #[command(subcommand)]
    job: Job,

    /// Print the figures as JSON
    #[arg(long, global = true)]
    json: bool,

    /// Threads of the generator
    #[arg(long, global = true, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

#[derive(clap::Subcommand, Debug)]
enum Job {
    Echo(echo::Echo),
    Idle(idle::Idle),
    Connect(connect::Connect),
    Fanout(fanout::Fanout),
}

/// What every job needs to know.
#[derive(clap::Args, Clone, Debug)]
struct Common {
    /// WebSocket server, such as ws://127.0.0.1:8080/ws/echo or wss://example.com/chat
    ///
    /// `{i}` becomes the connection's number, `{token}` its line of --tokens; in --header and
    /// --subprotocol, too.
    #[arg(value_name = "URL")]
    url: Url,

    #[command(flatten)]
    watched: Watched,

    /// Connections that are being opened at one time
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,

    #[command(flatten, next_help_heading = "Connecting")]
    connecting: Connecting,
}

/// Runs the job and prints what it found.
pub fn run(bench: Bench) -> anyhow::Result<()> {
    let Bench { job, json, threads } = bench;
    let threads = usize::from(threads);
    match job {
        Job::Echo(echo) => report::print(&block_on(threads, echo.run(threads))?, json),
        Job::Idle(idle) => report::print(&block_on(threads, idle.run(threads))?, json),
        Job::Connect(connect) => report::print(&block_on(threads, connect.run(threads))?, json),
        Job::Fanout(fanout) => report::print(&block_on(threads, fanout.run(threads))?, json),
    }
}

/// One thread runs without the cost of work stealing, which a generator of load feels.
fn block_on<T>(threads: usize, job: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = match threads {
        1 => runtime::Builder::new_current_thread().enable_all().build(),
        threads => {
            runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
        }
    };
    runtime.context("cannot start the generator's threads")?.block_on(job)
}

impl Common {
    /// What the job connects to.
    async fn target(&self) -> anyhow::Result<Target> {
        if self.connecting.has_tls_options() && !self.url.is_tls() {
            bail!("{} is not TLS, and TLS options were given: write it as wss://", self.url);
        }
        Target::resolve(&self.url, &self.connecting).await
    }

    /// Opens `connections` connections, or as many as will; none is an error.
    async fn open(&self, connections: u32, report: &mut report::Run) -> anyhow::Result<Fleet> {
        // A process that is not there is told now, not after thousands of connections.
        self.watched.sample()?;
        let connections = connections as usize;
        report.warn(fleet::allow_open_files(connections));
        let target = Arc::new(self.target().await?);
        let fleet = Fleet::open(&target, connections, self.concurrency as usize).await;
        report.opened(connections, fleet.clients.len(), &fleet.failures)?;
        report.tls(target.tls());
        Ok(fleet)
    }
}

const EXAMPLES: &str = "\
Examples:
  How long does an echo take, and what does it cost process 1234?
    tidewire bench echo 'ws://127.0.0.1:8080/ws/bench-{i}' --connections 100 --pid 1234
  The same at a load that the server can carry, 10,000 messages a second:
    tidewire bench echo 'ws://127.0.0.1:8080/ws/bench-{i}' --rate 10000
  What does a connection that says nothing cost?
    tidewire bench idle ws://127.0.0.1:8080/ws/echo --connections 4000 --pid 1234
  How fast are connections accepted?
    tidewire bench connect ws://127.0.0.1:8080/ws/echo --connections 10000 --concurrency 50
  One publisher, a thousand subscribers:
    tidewire bench fanout ws://127.0.0.1:8080/ws/news --subscribers 1000 --rate 1000
  What does a TLS handshake cost, and a resumed one?
    tidewire bench connect wss://127.0.0.1:8443/ws/echo --ca ca.pem --pid 1234
    tidewire bench connect wss://127.0.0.1:8443/ws/echo --ca ca.pem --pid 1234 --resume
  With a token for each connection:
    tidewire bench echo wss://example.com/chat --tokens tokens.txt \
      --header 'Authorization: Bearer {token}'
";
