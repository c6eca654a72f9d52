//! The process's log: lines on standard error, written by a thread of their own.
//!
//! A terminal or a pipe that blocks must not hold up a worker, so lines that find the queue full
//! are dropped.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::log::{LogConfig, LogFormat, LogLevel};
use crate::log_escape::Escaping;

/// A log under way. What is still in the queue is written when it is dropped, for as long as it is
/// taken.
pub struct Log {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
    queued: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl Log {
    /// Counts the lines that were dropped.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }

    fn is_written(&self) -> bool {
        let queued = self.queued.load(Ordering::Acquire);
        self.written.load(Ordering::Acquire) + self.dropped.dropped_lines() >= queued
    }
}

impl Drop for Log {
    /// The guard itself waits for a second and no longer, which a drain's worth of lines may take
    /// where somebody reads slowly.
    fn drop(&mut self) {
        let (mut written, mut since) = (0, Instant::now());
        while !self.is_written() && since.elapsed() < TAKEN_WITHIN {
            let now = self.written.load(Ordering::Acquire);
            if now != written {
                (written, since) = (now, Instant::now());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Counts the lines that pass.
#[derive(Debug)]
struct Counting<W> {
    writer: W,
    lines: Arc<AtomicUsize>,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    /// Each line is written by one call, on both sides of the queue.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let result = self.writer.write_all(line);
        self.lines.fetch_add(1, Ordering::AcqRel);
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Starts the log.
/// `TIDEWIRE_LOG` sets levels by target, over those of the configuration.
pub fn start(config: &LogConfig) -> Log {
    let (queued, written) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let stderr = Counting { writer: io::stderr(), lines: Arc::clone(&written) };
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).finish(stderr);
    let dropped = writer.error_counter();
    let filter = EnvFilter::builder()
        .with_default_directive(level(config.level).into())
        .with_env_var("TIDEWIRE_LOG")
        .from_env_lossy();
    let is_terminal = io::stderr().is_terminal();
    let is_json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    };
    let lines = Arc::clone(&queued);
    let writer = move || Escaping(Counting { writer: writer.clone(), lines: Arc::clone(&lines) });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A second start, in tests, is no harm: the first log goes on.
    let _ = if is_json {
        log.json().flatten_event(true).with_current_span(false).try_init().map_err(drop)
    } else {
        log.with_ansi(is_terminal).try_init().map_err(drop)
    };
    Log { _writer: guard, dropped, queued, written }
}

fn level(level: LogLevel) -> tracing::Level {
    match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    }
}

/// Lines that may wait to be written; the queue's memory is taken at the start.
const LINES: usize = 8192;

/// How long whoever reads the log may take none of its last lines.
const TAKEN_WITHIN: Duration = Duration::from_secs(3);

const LOOK_AGAIN: Duration = Duration::from_millis(2);
