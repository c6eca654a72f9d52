//! The process's log: lines on standard error, written by a thread of their own.
//!
//! A terminal or a pipe that blocks must not hold up a worker, so lines that find the queue full
//! are dropped.

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::log::{LogConfig, LogFormat, LogLevel};
use crate::log_escape::Escaping;

/// A log under way. What is still in the queue is written when it is dropped.
pub struct Log {
    _writer: WorkerGuard,
    dropped: ErrorCounter,
}

impl Log {
    /// Counts the lines that were dropped.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Starts the log.
/// `TIDEWIRE_LOG` sets levels by target, over those of the configuration.
pub fn start(config: &LogConfig) -> Log {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).finish(io::stderr());
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
    let writer = move || Escaping(writer.clone());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A second start, in tests, is no harm: the first log goes on.
    let _ = if is_json {
        log.json().flatten_event(true).with_current_span(false).try_init().map_err(drop)
    } else {
        log.with_ansi(is_terminal).try_init().map_err(drop)
    };
    Log { _writer: guard, dropped }
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
