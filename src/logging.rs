//! The process's log: lines on standard error, written by a thread of their own.
//!
//! A terminal or a pipe that blocks must not hold up a worker, so lines that find the queue full
//! are dropped.

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::log::{LogConfig, LogFormat, LogLevel};
use crate::log_line::{Escape, Lines};

/// Starts the log. What is still in the queue is written when the guard is dropped.
/// `TIDEWIRE_LOG` sets levels by target, over those of the configuration.
pub fn start(config: &LogConfig) -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).finish(io::stderr());
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
    let escape = match (is_json, is_terminal) {
        (true, _) => Escape::Json,
        (false, true) => Escape::Colours,
        (false, false) => Escape::Text,
    };
    let writer = Lines { inner: writer, escape };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A second start, in tests, is no harm: the first log goes on.
    let _ = if is_json {
        log.json().flatten_event(true).with_current_span(false).try_init().map_err(drop)
    } else {
        log.with_ansi(is_terminal).try_init().map_err(drop)
    };
    guard
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
