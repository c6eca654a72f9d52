//! `bench fanout`: one publisher, many subscribers of one topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::BytesMut;
use serde::Serialize;
use tidewire_runtime::units::{Period, Size};
use tidewire_wire::ws::frame::Opcode;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::{self, Client, ClientError};
use super::latency::{Percentiles, Tally, Totals};
use super::meter::Meter;
use super::publisher::{Burst, Published, Publisher};
use super::report::{self, Report, Row, Run};
use super::stamp::{self, Finder, Phase};
use super::target::{Target, Url};
use super::{Common, Failures};

/// Publish to many subscribers and time the deliveries
///
/// A message is stamped with its time; a subscriber finds the stamp in what it receives, also
/// inside a text or JSON that the server wraps around it.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Fanout {
    /// Where the publisher connects, if not where the subscribers do: another node
    #[arg(long, value_name = "URL")]
    publish_url: Option<Url>,

    /// Subscribers
    #[arg(short, long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,

    /// Message that each subscriber sends first, for servers that want a command to subscribe
    #[arg(long, value_name = "TEXT")]
    subscribe: Option<String>,

    /// Messages published a second, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,

    /// Payload of a message; it holds a stamp of 26 bytes
    #[arg(long, value_name = "SIZE", default_value = "64B")]
    size: Size,

    /// How long to publish
    #[arg(long, value_name = "TIME", default_value = "5s")]
    duration: Period,

    /// Longest wait for deliveries that are still under way
    #[arg(long, value_name = "TIME", default_value = "2s")]
    drain: Period,

    /// Send binary messages instead of text
    #[arg(long)]
    binary: bool,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Serialize)]
pub struct FanoutReport {
    #[serde(flatten)]
    run: Run,
    size: u64,
    rate_asked: u32,
    published: u64,
    publisher_late_max_us: f64,
    expected: u64,
    delivered: u64,
    delivered_percent: f64,
    deliveries_per_second: f64,
    /// From the publisher's write to the subscriber's read.
    latency: Percentiles,
}

impl Fanout {
    pub async fn run(self, threads: usize) -> anyhow::Result<FanoutReport> {
        if self.size.0 < stamp::LENGTH as u64 {
            bail!("--size {}: each message carries a stamp of {} bytes", self.size, stamp::LENGTH);
        }
        let mut run = Run::new("fanout", &self.common.url, "delivery");
        let fleet = self.common.open(self.subscribers, &mut run).await?;
        let open = fleet.clients.len();
        let deliveries = Arc::new(Deliveries::new(threads));
        let mut subscribed = JoinSet::new();
        for (number, client) in fleet.clients.into_iter().enumerate() {
            subscribed.spawn(Arc::clone(&deliveries).take(client, number, self.subscribe_frame()));
        }
        let publish_url = self.publish_url.as_ref().unwrap_or(&self.common.url);
        let target = Arc::new(Target::resolve(publish_url, &self.common.connecting).await?);
        let publisher = Publisher::open(target, open, deliveries.clock).await;
        let publisher = publisher.context("the publisher did not connect")?;
        // A server may subscribe after its 101, at a broker: the first messages may miss some.
        sleep(SUBSCRIBING).await;
        let warm_up = self.burst(Phase::WarmUp);
        let warmed_up = publisher.publish(warm_up).await.context(PUBLISHER_ENDED)?;
        if warmed_up.messages < warm_up.messages() {
            bail!(
                "the server does not take even {} messages from the publisher",
                warm_up.messages()
            );
        }
        let expected = warmed_up.messages * open as u64;
        deliveries.wait(Phase::WarmUp, expected, self.drain.0).await;

        let meter = Meter::start(&self.common.watched)?;
        let published = publisher.publish(self.burst(Phase::Measured)).await;
        let published = published.context(PUBLISHER_ENDED)?;
        let expected = published.messages * open as u64;
        deliveries.wait(Phase::Measured, expected, self.drain.0).await;
        let totals = deliveries.measured.totals();
        run.metered(meter.stop(totals.messages)?, threads);

        let mut failures = Failures::default();
        while let Some(ended) = subscribed.try_join_next() {
            failures.add(&ended.expect("subscribers do not panic"));
        }
        run.failed(&failures, &format!("of {open} subscribers ended while measuring"));
        run.warn(
            (totals.messages == 0).then(|| {
                "no subscriber received a published message: is this one topic?".to_owned()
            }),
        );
        Ok(self.report(run, published, expected, &totals))
    }

    fn report(
        self,
        mut run: Run,
        published: Published,
        expected: u64,
        totals: &Totals,
    ) -> FanoutReport {
        let asked = self.burst(Phase::Measured).messages();
        run.warn((published.messages < asked).then(|| {
            format!(
                "published {} of {asked}: the server did not take them in time",
                published.messages
            )
        }));
        FanoutReport {
            size: self.size.0,
            rate_asked: self.rate,
            published: published.messages,
            publisher_late_max_us: published.late_max.as_secs_f64() * 1e6,
            expected,
            delivered: totals.messages,
            delivered_percent: 100.0 * totals.messages as f64 / expected.max(1) as f64,
            deliveries_per_second: totals.messages as f64 / run.seconds(),
            latency: totals.latency,
            run,
        }
    }

    fn burst(&self, phase: Phase) -> Burst {
        let (rate, duration) = match phase {
            Phase::WarmUp => WARM_UP,
            Phase::Measured => (self.rate, self.duration.0),
        };
        Burst { phase, rate, duration, size: self.size.0 as usize, opcode: self.opcode() }
    }

    fn opcode(&self) -> Opcode {
        if self.binary { Opcode::Binary } else { Opcode::Text }
    }

    fn subscribe_frame(&self) -> BytesMut {
        let mut frame = BytesMut::new();
        if let Some(text) = &self.subscribe {
            client::encode(Opcode::Text, text.as_bytes(), &mut frame);
        }
        frame
    }
}

/// What all subscribers have received.
struct Deliveries {
    clock: Instant,
    warm_up: AtomicU64,
    measured: Tally,
}

impl Deliveries {
    fn new(threads: usize) -> Self {
        Self { clock: Instant::now(), warm_up: AtomicU64::new(0), measured: Tally::new(threads) }
    }

    /// Takes what one subscriber receives until its connection ends.
    async fn take(
        self: Arc<Self>,
        mut client: Client,
        number: usize,
        subscribe: BytesMut,
    ) -> ClientError {
        let mut unsent: &[u8] = &subscribe;
        let mut finder = Finder::default();
        loop {
            let mut now = None;
            let turn = client.turn(&mut unsent, |message| {
                let now = *now.get_or_insert_with(|| self.clock.elapsed());
                match finder.find(message) {
                    Some((Phase::Measured, sent)) => {
                        self.measured.count(number, message.len() as u64, now.saturating_sub(sent));
                    }
                    Some((Phase::WarmUp, _)) => _ = self.warm_up.fetch_add(1, Ordering::Relaxed),
                    // An answer to `--subscribe`, or whatever else the server says.
                    None => {}
                }
            });
            if let Err(error) = turn.await {
                return error;
            }
        }
    }

    /// Waits until all `expected` have come, or none came for `QUIET`, or `limit` is over.
    async fn wait(&self, phase: Phase, expected: u64, limit: Duration) {
        let end = Instant::now() + limit;
        let (mut seen, mut last_change) = (0, Instant::now());
        while Instant::now() < end && last_change.elapsed() < QUIET {
            let delivered = match phase {
                Phase::WarmUp => self.warm_up.load(Ordering::Relaxed),
                Phase::Measured => self.measured.messages(),
            };
            if delivered >= expected {
                return;
            }
            if delivered != seen {
                (seen, last_change) = (delivered, Instant::now());
            }
            sleep(LOOK_STEP).await;
        }
    }
}

impl Report for FanoutReport {
    fn run(&self) -> &Run {
        &self.run
    }

    fn rows(&self) -> Vec<Row> {
        let late = self.publisher_late_max_us / 1e3;
        vec![
            Row("message", format!("{}, {}/s asked", report::bytes(self.size), self.rate_asked)),
            Row("measured", format!("{:.2} s", self.run.seconds())),
            Row(
                "published",
                format!("{}, at most {late:.1} ms late", report::count(self.published)),
            ),
            Row(
                "delivered",
                format!(
                    "{} of {} ({:.2} %), {}/s",
                    report::count(self.delivered),
                    report::count(self.expected),
                    self.delivered_percent,
                    report::count(self.deliveries_per_second as u64),
                ),
            ),
            report::latency(&self.latency),
        ]
    }
}

/// Messages a second, and for how long: enough for every code path, too few to leave a backlog.
const WARM_UP: (u32, Duration) = (100, Duration::from_millis(200));
const PUBLISHER_ENDED: &str = "the publisher's connection ended";
const SUBSCRIBING: Duration = Duration::from_millis(300);
const QUIET: Duration = Duration::from_millis(500);
const LOOK_STEP: Duration = Duration::from_millis(20);

const EXAMPLES: &str = "\
Examples:
  tidewire bench fanout ws://127.0.0.1:8080/ws/news --pid $(pidof tidewire)
  From one node to the subscribers of another:
  tidewire bench fanout ws://10.0.0.3:3000/ws/news --publish-url ws://10.0.0.2:3000/ws/news
  A server that wants to be told the topic:
  tidewire bench fanout ws://127.0.0.1:9000/ --subscribe '{\"subscribe\":\"news\"}'
";
