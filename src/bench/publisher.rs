//! The one connection of `bench fanout` that publishes, on a thread of its own.
//!
//! Its pace must not depend on how busy the subscribers keep the other threads, and tokio's timer
//! has steps of a millisecond: the last stretch before a message is due is slept by the thread.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidewire_wire::ws::frame::Opcode;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::client::{self, Client, ClientError};
use super::stamp::{self, Phase};
use super::target::Target;

/// The publisher; dropping it ends its thread.
pub struct Publisher {
    orders: mpsc::Sender<Order>,
}

/// Messages to publish, evenly spaced.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    pub phase: Phase,
    /// A second.
    pub rate: u32,
    pub duration: Duration,
    pub size: usize,
    pub opcode: Opcode,
}

/// What became of a burst.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    pub messages: u64,
    /// The longest that a message left after it was due.
    pub late_max: Duration,
}

struct Order {
    burst: Burst,
    done: oneshot::Sender<Result<Published, ClientError>>,
}

impl Publisher {
    /// Connects as connection `number`; messages are stamped with the time since `clock`.
    pub async fn open(
        target: Arc<Target>,
        number: usize,
        clock: Instant,
    ) -> Result<Self, ClientError> {
        let (orders, taken) = mpsc::channel(1);
        let (opened, is_open) = oneshot::channel();
        thread::Builder::new().name("publisher".to_owned()).spawn(move || {
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(opened.send(Err(error.into()))),
            };
            // The pace matters more than the readers; without the right to it, ordinary priority.
            let _ = rustix::process::nice(PRIORITY);
            runtime.block_on(async {
                match Client::open(&target, number).await {
                    Ok(client) => {
                        // Unheard only if the job is over.
                        let _ = opened.send(Ok(()));
                        serve(client, taken, clock).await;
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            });
        })?;
        is_open.await.unwrap_or(Err(ClientError::Ended))?;
        Ok(Self { orders })
    }

    pub async fn publish(&self, burst: Burst) -> Result<Published, ClientError> {
        let (done, published) = oneshot::channel();
        if self.orders.send(Order { burst, done }).await.is_err() {
            return Err(ClientError::Ended);
        }
        published.await.unwrap_or(Err(ClientError::Ended))
    }
}

/// Carries out bursts; between them it reads what comes to it, for it may be a subscriber too.
async fn serve(mut client: Client, mut orders: mpsc::Receiver<Order>, clock: Instant) {
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(Order { burst, done }) = order else { return };
                let published = burst.publish(&mut client, clock).await;
                // Unheard only if the job is over.
                let _ = done.send(published);
            }
            received = client.receive(|_| {}) => {
                if received.is_err() {
                    return;
                }
            }
        }
    }
}

impl Burst {
    /// How many messages it has.
    pub fn messages(&self) -> u64 {
        (f64::from(self.rate) * self.duration.as_secs_f64()).round() as u64
    }

    /// Publishes until the burst is over. What the server did not take in time is not sent later:
    /// then fewer messages were published than the burst has, and a frame may have been cut.
    async fn publish(self, client: &mut Client, clock: Instant) -> Result<Published, ClientError> {
        let start = Instant::now();
        let mut published = Published::default();
        let mut payload = Vec::with_capacity(self.size);
        let mut frame = BytesMut::new();
        for number in 0..self.messages() {
            let due = start + Duration::from_secs_f64(number as f64 / f64::from(self.rate));
            wait_until(due, client).await?;
            let now = Instant::now();
            if now > start + self.duration + GRACE {
                break;
            }
            published.late_max = published.late_max.max(now - due);
            stamp::write(&mut payload, self.phase, now - clock, self.size);
            frame.clear();
            client::encode(self.opcode, &payload, &mut frame);
            let mut unsent: &[u8] = &frame;
            let sending = async {
                while !unsent.is_empty() {
                    client.turn(&mut unsent, |_| {}).await?;
                }
                Ok::<_, ClientError>(())
            };
            let left = (start + self.duration + GRACE).saturating_duration_since(now);
            match timeout(left, sending).await {
                Ok(sent) => sent?,
                Err(_) => break,
            }
            published.messages += 1;
        }
        Ok(published)
    }
}

/// Reads until `due` is near, then sleeps the thread: nothing else runs on it.
async fn wait_until(due: Instant, client: &mut Client) -> Result<(), ClientError> {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let coarse = left.saturating_sub(TIMER_STEP);
        let pause = async {
            match coarse {
                Duration::ZERO => tokio::task::yield_now().await,
                coarse => tokio::time::sleep(coarse).await,
            }
        };
        tokio::select! {
            received = client.receive(|_| {}) => received?,
            () = pause => {}
        }
        if coarse.is_zero() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            return Ok(());
        }
    }
}

const PRIORITY: i32 = -10;
const TIMER_STEP: Duration = Duration::from_millis(2);
/// How long a burst may run past its end when the server takes messages slowly.
const GRACE: Duration = Duration::from_millis(500);
