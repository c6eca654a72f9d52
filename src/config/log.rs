//! What is written to the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How a line is written.
    pub format: LogFormat,
    /// The least important lines that are written.
    pub level: LogLevel,
    /// Whether the end of each request and connection is a line.
    pub requests: bool,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `text` on a terminal, `json` otherwise.
    Auto,
    /// For people.
    #[default]
    Text,
    /// One object a line, for programs.
    Json,
}

/// How important a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Look now.
    Error,
    /// Look this week.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Each frame of it.
    Trace,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: LogLevel::default(), requests: true }
    }
}
