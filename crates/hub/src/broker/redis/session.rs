//! One connection to Redis, from the handshake to its loss.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, Stream};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    Value,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use super::RedisSettings;
use super::inlet::Inlet;
use crate::topic::Topic;

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// Not a loss: the hub has ended.
    #[error("the hub has ended")]
    Ended,
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("Redis closed the connection")]
    Closed,
    #[error("no answer for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Redis(#[from] RedisError),
}

/// What a command was answered with.
#[derive(Debug)]
pub(super) enum Reply {
    Subscribed(Vec<Topic>),
    Unsubscribed,
    Published(u64),
    Pong,
}

/// A connection that is up, and the commands on it that wait for their replies, in order.
pub(super) struct Session {
    connection: MultiplexedConnection,
    /// Reads and writes; polled here, so that pushes come in the keeper's task.
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    replies: FuturesOrdered<BoxFuture<'static, Result<Reply, RedisError>>>,
    asked: VecDeque<Instant>,
    inlet: Arc<Inlet>,
    /// When Redis was last heard of: a reply or a push.
    heard: Instant,
    /// How many pushes there had been then.
    pushes: u64,
    timeout: Duration,
}

impl Session {
    /// Connects and subscribes to `topics`. What Redis pushes goes into `inlet` from then on.
    pub(super) async fn establish(
        settings: RedisSettings,
        inlet: Arc<Inlet>,
        topics: Vec<Topic>,
    ) -> Result<Self, Lost> {
        let connecting = connect(&settings, Arc::clone(&inlet));
        let mut session = match timeout(settings.timeout, connecting).await {
            Ok(session) => session?,
            Err(_) => return Err(Lost::ConnectTimeout(settings.timeout)),
        };
        for batch in topics.chunks(SUBSCRIBE_NAMES_MAX) {
            session.subscribe(inlet.prefix(), batch.to_vec());
            match timeout(settings.timeout, session.reply()).await {
                Ok(Ok(Reply::Subscribed(topics))) => inlet.events.subscribed(&topics),
                Ok(Ok(_)) => debug_assert!(false, "replies come in the order of the commands"),
                Ok(Err(lost)) => return Err(lost),
                Err(_) => return Err(Lost::Silent(settings.timeout)),
            }
        }
        Ok(session)
    }

    /// Moves the connection on and waits for the next reply. May be dropped and called again.
    pub(super) async fn reply(&mut self) -> Result<Reply, Lost> {
        std::future::poll_fn(|cx| self.poll_reply(cx)).await
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Lost>> {
        let is_closed = self.driver.as_mut().poll(cx).is_ready();
        let pushes = self.inlet.pushes();
        if std::mem::replace(&mut self.pushes, pushes) != pushes {
            self.heard = Instant::now();
        }
        match Pin::new(&mut self.replies).poll_next(cx) {
            Poll::Ready(Some(Ok(reply))) => {
                self.asked.pop_front();
                self.heard = Instant::now();
                // A driver that has ended must not be polled again.
                if is_closed {
                    self.driver = Box::pin(std::future::ready(()));
                }
                Poll::Ready(Ok(reply))
            }
            Poll::Ready(Some(Err(error))) if !is_closed => Poll::Ready(Err(error.into())),
            _ if is_closed => Poll::Ready(Err(Lost::Closed)),
            _ => Poll::Pending,
        }
    }

    /// How many commands wait for their reply.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Whether the oldest command has waited too long, and nothing else was heard meanwhile.
    pub(super) fn check_alive(&self) -> Result<(), Lost> {
        match self.asked.front() {
            Some(asked) if self.heard.max(*asked).elapsed() > self.timeout => {
                Err(Lost::Silent(self.timeout))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn subscribe(&mut self, prefix: &str, topics: Vec<Topic>) {
        let channels = channels(prefix, &topics);
        let mut connection = self.connection.clone();
        self.ask(async move {
            connection.subscribe(&channels[..]).await?;
            Ok(Reply::Subscribed(topics))
        });
    }

    pub(super) fn unsubscribe(&mut self, prefix: &str, topics: &[Topic]) {
        let channels = channels(prefix, topics);
        let mut connection = self.connection.clone();
        self.ask(async move {
            connection.unsubscribe(&channels[..]).await?;
            Ok(Reply::Unsubscribed)
        });
    }

    /// Sends PUBLISH commands. An error as the reply to any of them is the end of the session:
    /// what it says (no permission, a read-only replica, no memory) concerns the next ones too.
    pub(super) fn publish(&mut self, commands: Pipeline) {
        let mut connection = self.connection.clone();
        self.ask(async move {
            let count = commands.len();
            let replies = connection.send_packed_commands(&commands, 0, count).await?;
            for reply in replies {
                if let Value::ServerError(error) = reply {
                    return Err(error.into());
                }
            }
            Ok(Reply::Published(count as u64))
        });
    }

    pub(super) fn ping(&mut self) {
        let mut connection = self.connection.clone();
        self.ask(async move {
            connection.send_packed_command(&redis::cmd("PING")).await?;
            Ok(Reply::Pong)
        });
    }

    fn ask(&mut self, command: impl Future<Output = Result<Reply, RedisError>> + Send + 'static) {
        // The first poll queues the command: here, so that the calls decide the order, and without
        // the budget of the task, which could make it wait behind a later one.
        let mut command: BoxFuture<'static, _> = Box::pin(unconstrained(command));
        match command.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => self.replies.push_back(Box::pin(std::future::ready(result))),
            Poll::Pending => self.replies.push_back(command),
        }
        self.asked.push_back(Instant::now());
    }
}

async fn connect(settings: &RedisSettings, inlet: Arc<Inlet>) -> Result<Session, Lost> {
    let url = &settings.url;
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(Lost::Connect)?;
    stream.set_nodelay(true).map_err(Lost::Connect)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30));
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(Lost::Connect)?;
    let mut who = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("tidewire", env!("CARGO_PKG_VERSION"))
        .set_db(url.database);
    if let Some(user) = &url.user {
        who = who.set_username(user);
    }
    if let Some(password) = &url.password {
        who = who.set_password(password);
    }
    let pushed_into = Arc::clone(&inlet);
    let config = AsyncConnectionConfig::new()
        // The deadline of the oldest reply is the one for all.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(2 * REPLIES_MAX)
        .set_push_sender(move |push: PushInfo| {
            pushed_into.take(push);
            Ok::<(), Infallible>(())
        });
    let (connection, driver) = MultiplexedConnection::new_with_config(&who, stream, config).await?;
    Ok(Session {
        connection,
        driver: Box::pin(driver),
        replies: FuturesOrdered::new(),
        asked: VecDeque::new(),
        pushes: inlet.pushes(),
        inlet,
        heard: Instant::now(),
        timeout: settings.timeout,
    })
}

fn channels(prefix: &str, topics: &[Topic]) -> Vec<String> {
    topics.iter().map(|topic| format!("{prefix}{topic}")).collect()
}

/// Topics in one SUBSCRIBE or UNSUBSCRIBE.
pub(super) const SUBSCRIBE_NAMES_MAX: usize = 512;

/// Commands (a batch of PUBLISH counts as one) that may wait for their reply.
pub(super) const REPLIES_MAX: usize = 128;
