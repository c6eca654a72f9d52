//! `bench echo`: every connection sends a message and waits for it to come back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use serde::Serialize;
use tidewire_runtime::units::{Period, Size};
use tidewire_wire::ws::frame::Opcode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::client::{self, Client, ClientError};
use super::latency::{Percentiles, Tally};
use super::meter::Meter;
use super::report::{self, Report, Row, Run};
use super::{Common, Failures};

/// Send messages to an echo server and time their return
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Echo {
    /// Connections
    #[arg(short, long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Payload of a message
    #[arg(long, value_name = "SIZE", default_value = "64B")]
    size: Size,

    /// Messages that each connection has under way at one time
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    window: u32,

    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "5s")]
    duration: Period,

    /// How long to run before measuring
    #[arg(long, value_name = "TIME", default_value = "500ms")]
    warm_up: Period,

    /// Messages a second over all connections, evenly spaced; without it, as fast as they return.
    /// Latency then counts from when a message was due, so that a stall is seen
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,

    /// Send binary messages instead of text
    #[arg(long)]
    binary: bool,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Serialize)]
pub struct EchoReport {
    #[serde(flatten)]
    run: Run,
    size: u64,
    window: u32,
    rate_asked: Option<u32>,
    messages: u64,
    messages_per_second: f64,
    /// Payload received; as much was sent.
    bytes: u64,
    latency: Percentiles,
    /// Messages from the server when none was owed: it does more than echo.
    unasked: u64,
}

/// What the connections share.
struct Exchange {
    /// As many frames as the window holds, encoded once; the mask is drawn once for each.
    frames: BytesMut,
    frame_length: usize,
    window: usize,
    /// The time between two messages of one connection.
    interval: Option<Duration>,
    tally: Tally,
    unasked: AtomicU64,
}

impl Echo {
    pub async fn run(self, threads: usize) -> anyhow::Result<EchoReport> {
        let mut run = Run::new("echo", &self.common.url, "message");
        let fleet = self.common.open(self.connections, &mut run).await?;
        let open = fleet.clients.len();
        let exchange = Arc::new(self.exchange(open, threads));
        let start = Instant::now();
        let mut echoing = JoinSet::new();
        for (number, client) in fleet.clients.into_iter().enumerate() {
            let first = exchange
                .interval
                .map(|interval| start + interval.mul_f64(number as f64 / open as f64));
            echoing.spawn(Arc::clone(&exchange).echo(client, number, first));
        }

        let mut failures = Failures::default();
        wait(&mut echoing, start + self.warm_up.0, &mut failures).await;
        exchange.tally.clear();
        let meter = Meter::start(&self.common.watched)?;
        wait(&mut echoing, Instant::now() + self.duration.0, &mut failures).await;
        let totals = exchange.tally.totals();
        run.metered(meter.stop(totals.messages)?, threads);
        echoing.shutdown().await;

        run.failed(&failures, &format!("of {open} connections ended while measuring"));
        let unasked = exchange.unasked.load(Ordering::Relaxed);
        run.warn((unasked > 0).then(|| {
            format!("the server sent {unasked} messages that answer none of ours: it is no echo")
        }));
        Ok(EchoReport {
            size: self.size.0,
            window: self.window,
            rate_asked: self.rate,
            messages: totals.messages,
            messages_per_second: totals.messages as f64 / run.seconds(),
            bytes: totals.bytes,
            latency: totals.latency,
            unasked,
            run,
        })
    }

    fn exchange(&self, open: usize, threads: usize) -> Exchange {
        let opcode = if self.binary { Opcode::Binary } else { Opcode::Text };
        let payload = vec![b'x'; self.size.0 as usize];
        let mut frames = BytesMut::new();
        for _ in 0..self.window {
            client::encode(opcode, &payload, &mut frames);
        }
        Exchange {
            frame_length: frames.len() / self.window as usize,
            frames,
            window: self.window as usize,
            interval: self.rate.map(|rate| Duration::from_secs_f64(open as f64 / f64::from(rate))),
            tally: Tally::new(threads),
            unasked: AtomicU64::new(0),
        }
    }
}

impl Exchange {
    /// Echoes on one connection until it fails or the task is ended.
    async fn echo(
        self: Arc<Self>,
        mut client: Client,
        number: usize,
        mut due: Option<Instant>,
    ) -> ClientError {
        let mut owed = VecDeque::with_capacity(self.window);
        let mut unsent: &[u8] = &[];
        loop {
            if unsent.is_empty() {
                let messages = self.take_due(&mut owed, &mut due);
                unsent = &self.frames[..messages * self.frame_length];
            }
            // A full window waits for echoes only.
            let wake_at = due.filter(|_| owed.len() < self.window);
            let turn = client.turn(&mut unsent, |message| match owed.pop_front() {
                Some(since) => {
                    let took = Instant::now().saturating_duration_since(since);
                    self.tally.count(number, message.len() as u64, took);
                }
                None => _ = self.unasked.fetch_add(1, Ordering::Relaxed),
            });
            let turned = match wake_at {
                None => turn.await,
                Some(due) => tokio::select! {
                    turned = turn => turned,
                    () = sleep_until(due) => Ok(()),
                },
            };
            if let Err(error) = turned {
                return error;
            }
        }
    }

    /// Moves messages that are due into `owed`, as the window has room, and says how many.
    fn take_due(&self, owed: &mut VecDeque<Instant>, due: &mut Option<Instant>) -> usize {
        let room = self.window - owed.len();
        if room == 0 {
            return 0;
        }
        let now = Instant::now();
        let (Some(due), Some(interval)) = (due, self.interval) else {
            owed.extend(std::iter::repeat_n(now, room));
            return room;
        };
        let mut taken = 0;
        while taken < room && *due <= now {
            owed.push_back(*due);
            *due += interval;
            taken += 1;
        }
        taken
    }
}

/// Waits until `deadline`, or until no connection is left, noting those that end.
async fn wait(echoing: &mut JoinSet<ClientError>, deadline: Instant, failures: &mut Failures) {
    while let Ok(Some(ended)) = timeout_at(deadline, echoing.join_next()).await {
        failures.add(&ended.expect("echoing does not panic"));
    }
}

impl Report for EchoReport {
    fn run(&self) -> &Run {
        &self.run
    }

    fn rows(&self) -> Vec<Row> {
        let seconds = self.run.seconds();
        let asked = self.rate_asked.map(|rate| format!(", {rate}/s asked")).unwrap_or_default();
        let per_second = (self.bytes as f64 / seconds) as u64;
        vec![
            Row("message", format!("{}, window {}{asked}", report::bytes(self.size), self.window)),
            Row("measured", format!("{seconds:.2} s")),
            Row("echoes", report::rate(self.messages, seconds)),
            Row(
                "payload",
                format!("{} ({}/s) each way", report::bytes(self.bytes), report::bytes(per_second)),
            ),
            report::latency(&self.latency),
        ]
    }
}

const EXAMPLES: &str = "\
Examples:
  tidewire bench echo ws://127.0.0.1:9000/
  On a server that tells all clients of a topic, each connection needs one of its own:
  tidewire bench echo 'ws://127.0.0.1:8080/ws/bench-{i}' -c 1000 --pid $(pidof tidewire)
  At a fixed load:
  tidewire bench echo 'ws://127.0.0.1:8080/ws/bench-{i}' --rate 10000 --duration 30s
";
