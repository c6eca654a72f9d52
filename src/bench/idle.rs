//! `bench idle`: what a connection costs that says nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use serde::Serialize;
use tidewire_runtime::units::{Period, Size};
use tidewire_wire::ws::frame::Opcode;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::client::{self, Client, ClientError};
use super::meter::Meter;
use super::process::Watched;
use super::report::{self, Report, Row, Run};
use super::{Common, Failures};

/// Open connections, leave them idle, and show the memory that each of them costs
///
/// Memory is the process's own (PSS); what the kernel holds for its sockets is not in it. A few
/// connections are opened and closed before the first look, so that what a server allocates once
/// does not count against the connections.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Idle {
    /// Connections
    #[arg(short, long, value_name = "N", default_value_t = 4000,
          value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Look again after every connection has echoed one message of this size
    #[arg(long, value_name = "SIZE")]
    echo_bytes: Option<Size>,

    /// Longest wait for the memory to settle, before each look
    #[arg(long, value_name = "TIME", default_value = "10s")]
    settle: Period,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Serialize)]
pub struct IdleReport {
    #[serde(flatten)]
    run: Run,
    echo_bytes: Option<u64>,
    /// Memory of the watched processes together, in bytes: before, and with all connections.
    memory: Option<Memory>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    before: u64,
    idle: u64,
    per_connection: f64,
    after_echo: Option<u64>,
    per_connection_after_echo: Option<f64>,
}

/// What the connections share when they echo once.
struct EchoOnce {
    frame: BytesMut,
    may_start: watch::Receiver<bool>,
    permits: Semaphore,
    echoed: mpsc::UnboundedSender<()>,
}

impl Idle {
    pub async fn run(self, threads: usize) -> anyhow::Result<IdleReport> {
        let watched = &self.common.watched;
        let mut run = Run::new("idle", &self.common.url, "connection");
        run.warn(watched.is_empty().then(|| "no --pid: memory is not measured".to_owned()));
        let before = self.before(&mut run).await?;

        let meter = Meter::start(watched)?;
        let fleet = self.common.open(self.connections, &mut run).await?;
        let open = fleet.clients.len();
        let (start, may_start) = watch::channel(false);
        let (echoed, mut echoes) = mpsc::unbounded_channel();
        let once = self.echo_once(may_start, echoed);
        let mut living = JoinSet::new();
        for client in fleet.clients {
            living.spawn(live(client, Arc::clone(&once)));
        }
        let idle = self.settled(&mut run).await?;
        let mut after_echo = None;
        if self.echo_bytes.is_some() {
            start.send_replace(true);
            let missing = missing_echoes(&mut echoes, open).await;
            run.warn((missing > 0).then(|| {
                format!(
                    "{missing} connections had no echo within {ECHO_LIMIT:?}: is it an echo server?"
                )
            }));
            after_echo = self.settled(&mut run).await?;
        }
        run.metered(meter.stop(open as u64)?, threads);
        run.failed(&ended(&mut living), &format!("of {open} connections ended while idle"));

        let per_connection = |memory: u64, before| (memory as f64 - before as f64) / open as f64;
        let memory = before.zip(idle).map(|(before, idle)| Memory {
            before,
            idle,
            per_connection: per_connection(idle, before),
            after_echo,
            per_connection_after_echo: after_echo.map(|memory| per_connection(memory, before)),
        });
        Ok(IdleReport { run, echo_bytes: self.echo_bytes.map(|size| size.0), memory })
    }

    /// The memory before the connections, with what the server sets up once out of the way.
    async fn before(&self, run: &mut Run) -> anyhow::Result<Option<u64>> {
        if self.common.watched.is_empty() {
            return Ok(None);
        }
        let mut unreported = Run::new("idle", &self.common.url, "connection");
        let first = self.common.open(FIRST_CONNECTIONS, &mut unreported).await?;
        drop(first);
        self.settled(run).await
    }

    /// The memory when it has stopped moving.
    async fn settled(&self, run: &mut Run) -> anyhow::Result<Option<u64>> {
        let watched = &self.common.watched;
        if watched.is_empty() {
            sleep(SETTLE_STEP).await;
            return Ok(None);
        }
        let (memory, is_settled) = settle(watched, self.settle.0).await?;
        run.warn((!is_settled).then(|| {
            format!("the memory was still moving after {}; give --settle more", self.settle)
        }));
        Ok(Some(memory))
    }

    fn echo_once(
        &self,
        may_start: watch::Receiver<bool>,
        echoed: mpsc::UnboundedSender<()>,
    ) -> Arc<EchoOnce> {
        let mut frame = BytesMut::new();
        let size = self.echo_bytes.map_or(0, |size| size.0 as usize);
        client::encode(Opcode::Text, &vec![b'x'; size], &mut frame);
        let permits = Semaphore::new(self.common.concurrency as usize);
        Arc::new(EchoOnce { frame, may_start, permits, echoed })
    }
}

/// One connection: idle, one echo when that starts, idle again; pings are answered throughout.
async fn live(mut client: Client, once: Arc<EchoOnce>) -> ClientError {
    let mut may_start = once.may_start.clone();
    let permit = {
        let started = async {
            may_start.wait_for(|started| *started).await.ok()?;
            once.permits.acquire().await.ok()
        };
        tokio::pin!(started);
        loop {
            tokio::select! {
                permit = &mut started => break permit,
                received = client.receive(|_| {}) => match received {
                    Ok(()) => {}
                    Err(error) => return error,
                },
            }
        }
    };
    if permit.is_some() {
        let mut unsent: &[u8] = &once.frame;
        let mut is_echoed = false;
        while !is_echoed {
            if let Err(error) = client.turn(&mut unsent, |_| is_echoed = true).await {
                return error;
            }
        }
        // The job may have stopped counting.
        let _ = once.echoed.send(());
    }
    drop(permit);
    loop {
        if let Err(error) = client.receive(|_| {}).await {
            return error;
        }
    }
}

/// Waits for `expected` echoes, and says how many did not come.
async fn missing_echoes(echoes: &mut mpsc::UnboundedReceiver<()>, expected: usize) -> usize {
    let deadline = Instant::now() + ECHO_LIMIT;
    for missing in (1..=expected).rev() {
        if !matches!(timeout_at(deadline, echoes.recv()).await, Ok(Some(()))) {
            return missing;
        }
    }
    0
}

/// Looks every `SETTLE_STEP` until `STILL_LOOKS` looks in a row agree, or `limit` is over.
async fn settle(watched: &Watched, limit: Duration) -> anyhow::Result<(u64, bool)> {
    let mut looks = vec![watched.memory()?];
    let watching = async {
        loop {
            sleep(SETTLE_STEP).await;
            looks.push(watched.memory()?);
            let recent = &looks[looks.len().saturating_sub(STILL_LOOKS)..];
            let (low, high) = (recent.iter().min(), recent.iter().max());
            let moved = high.zip(low).map_or(0, |(high, low)| high - low);
            if recent.len() == STILL_LOOKS && moved <= STILL_BYTES {
                return anyhow::Ok(());
            }
        }
    };
    let watched = timeout(limit, watching).await;
    let is_settled = watched.is_ok();
    watched.unwrap_or(Ok(()))?;
    Ok((*looks.last().expect("there was a first look"), is_settled))
}

/// How the connections that are over ended.
fn ended(living: &mut JoinSet<ClientError>) -> Failures {
    let mut failures = Failures::default();
    while let Some(ended) = living.try_join_next() {
        failures.add(&ended.expect("living does not panic"));
    }
    failures
}

impl Report for IdleReport {
    fn run(&self) -> &Run {
        &self.run
    }

    fn rows(&self) -> Vec<Row> {
        let Some(memory) = self.memory else {
            return Vec::new();
        };
        let each = |bytes: f64| format!("{:.2} KiB per connection", bytes / 1024.0);
        let mut rows = vec![
            Row("before", report::bytes(memory.before)),
            Row(
                "idle",
                format!("{}   {}", report::bytes(memory.idle), each(memory.per_connection)),
            ),
        ];
        if let (Some(size), Some(after), Some(growth)) =
            (self.echo_bytes, memory.after_echo, memory.per_connection_after_echo)
        {
            let size = report::bytes(size);
            rows.push(Row(
                "after echo",
                format!("{}   {} (each has echoed {size})", report::bytes(after), each(growth)),
            ));
        }
        rows
    }
}

const FIRST_CONNECTIONS: u32 = 20;
const ECHO_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_STEP: Duration = Duration::from_millis(250);
const STILL_LOOKS: usize = 5;
const STILL_BYTES: u64 = 64 * 1024;

const EXAMPLES: &str = "\
Examples:
  tidewire bench idle ws://127.0.0.1:8080/ws/echo --pid $(pidof tidewire)
  Is memory given back when large messages have passed?
  tidewire bench idle ws://127.0.0.1:8080/ws/echo --echo-bytes 60KB --pid $(pidof tidewire)
";
