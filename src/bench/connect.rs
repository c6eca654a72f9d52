//! `bench connect`: how fast a server accepts, upgrades and lets go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use super::client::{Client, ClientError};
use super::fleet;
use super::latency::{Percentiles, Tally};
use super::meter::Meter;
use super::report::{self, Report, Row, Run};
use super::target::Target;
use super::{Common, Failures};

/// Connect, upgrade and close, over and over
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Connect {
    /// Connections to open, one after the other on each of --concurrency lanes
    #[arg(short, long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// How a connection ends
    #[arg(long, value_name = "HOW", default_value = "handshake")]
    close: Close,

    /// The status that every upgrade is to be answered with, such as 429: measures what a refusal
    /// costs
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    refused: Option<u16>,

    #[command(flatten)]
    common: Common,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// Close frames both ways, then TCP ends, server first
    Handshake,
    /// TCP reset, as from a client that vanishes
    Reset,
}

#[derive(Debug, Serialize)]
pub struct ConnectReport {
    #[serde(flatten)]
    run: Run,
    upgrades: u64,
    upgrades_per_second: f64,
    /// From the first SYN to the whole 101, with the TLS handshake between them.
    latency: Percentiles,
}

/// What the lanes share.
struct Lanes {
    target: Target,
    close: Close,
    refused: Option<u16>,
    next: AtomicUsize,
    end: usize,
    tally: Tally,
}

impl Connect {
    pub async fn run(self, threads: usize) -> anyhow::Result<ConnectReport> {
        let Common { url, watched, concurrency, .. } = &self.common;
        let concurrency = (*concurrency).min(self.connections) as usize;
        let mut run = Run::new("connect", url, "upgrade");
        run.warn(fleet::allow_open_files(concurrency));
        let lanes = Arc::new(Lanes {
            target: self.common.target().await?,
            close: self.close,
            refused: self.refused,
            next: AtomicUsize::new(0),
            end: self.connections as usize,
            tally: Tally::new(threads),
        });

        let meter = Meter::start(watched)?;
        let mut running = JoinSet::new();
        for number in 0..concurrency {
            running.spawn(Arc::clone(&lanes).run(number));
        }
        let mut refused = Failures::default();
        let mut unclosed = Failures::default();
        while let Some(lane) = running.join_next().await {
            let (lane_refused, lane_unclosed) = lane.expect("a lane does not panic");
            refused.merge(&lane_refused);
            unclosed.merge(&lane_unclosed);
        }
        let totals = lanes.tally.totals();
        run.metered(meter.stop(totals.messages)?, threads);

        run.opened(self.connections as usize, totals.messages as usize, &refused)?;
        run.tls(lanes.target.tls());
        run.failed(&unclosed, "connections did not close as they should");
        Ok(ConnectReport {
            upgrades: totals.messages,
            upgrades_per_second: totals.messages as f64 / run.seconds(),
            latency: totals.latency,
            run,
        })
    }
}

impl Lanes {
    /// Takes numbers until there are no more; returns how opening and how closing failed.
    async fn run(self: Arc<Self>, lane: usize) -> (Failures, Failures) {
        let (mut refused, mut unclosed) = (Failures::default(), Failures::default());
        let mut failed_in_a_row = 0;
        while failed_in_a_row < HOPELESS_FAILURES {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                break;
            }
            let started = Instant::now();
            match Client::open(&self.target, number).await {
                Ok(client) => {
                    failed_in_a_row = 0;
                    self.tally.count(lane, 0, started.elapsed());
                    if let Err(error) = self.end(client).await {
                        unclosed.add(&error);
                    }
                }
                Err(ClientError::Refused(status)) if self.expects(&status) => {
                    failed_in_a_row = 0;
                    self.tally.count(lane, 0, started.elapsed());
                }
                Err(error) => {
                    failed_in_a_row += 1;
                    refused.add(&error);
                }
            }
        }
        (refused, unclosed)
    }

    /// Whether this status line is the refusal that is measured.
    fn expects(&self, line: &str) -> bool {
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.is_some() && status == self.refused
    }

    async fn end(&self, client: Client) -> Result<(), ClientError> {
        match self.close {
            Close::Handshake => client.close(CLOSE_LIMIT).await,
            Close::Reset => {
                drop(client);
                Ok(())
            }
        }
    }
}

impl Report for ConnectReport {
    fn run(&self) -> &Run {
        &self.run
    }

    fn rows(&self) -> Vec<Row> {
        vec![
            Row("measured", format!("{:.2} s", self.run.seconds())),
            Row("upgrades", report::rate(self.upgrades, self.run.seconds())),
            report::latency(&self.latency),
        ]
    }
}

/// A lane that fails so often in a row ends: waiting for every timeout would take hours.
const HOPELESS_FAILURES: usize = 5;
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  tidewire bench connect ws://127.0.0.1:8080/ws/echo --pid $(pidof tidewire)
  More connections than one address has ports, from clients that vanish:
  tidewire bench connect ws://127.0.0.1:8080/ws/echo -c 100000 --close reset \\
    --source 127.0.0.2 --source 127.0.0.3
";
