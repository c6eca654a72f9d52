//! What a job found, for people (aligned rows, then warnings) or for machines (JSON).

use anyhow::bail;
use serde::Serialize;

use super::fleet::Failures;
use super::latency::Percentiles;
use super::meter::Metered;
use super::process::Usage;
use super::target::Url;
use super::tls::{Handshakes, Tls};

/// What a job can print.
pub trait Report: Serialize {
    fn run(&self) -> &Run;

    /// The rows of this job, between those that all jobs have.
    fn rows(&self) -> Vec<Row>;
}

/// A label and its figures.
pub struct Row(pub &'static str, pub String);

/// What all jobs report.
#[derive(Debug, Serialize)]
pub struct Run {
    job: &'static str,
    url: String,
    connections_asked: usize,
    connections_open: usize,
    tls: Option<Handshakes>,
    failures: Failures,
    seconds: f64,
    generator_cpu_percent: f64,
    processes: Vec<Usage>,
    warnings: Vec<String>,
    /// What CPU time is divided by; `message`, `upgrade`.
    #[serde(skip)]
    unit: &'static str,
}

impl Run {
    pub fn new(job: &'static str, url: &Url, unit: &'static str) -> Self {
        Self {
            job,
            url: url.to_string(),
            connections_asked: 0,
            connections_open: 0,
            tls: None,
            failures: Failures::default(),
            seconds: 0.0,
            generator_cpu_percent: 0.0,
            processes: Vec::new(),
            warnings: Vec::new(),
            unit,
        }
    }

    pub fn warn(&mut self, warning: Option<String>) {
        self.warnings.extend(warning);
    }

    /// Notes how many connections opened. None is no measurement but an error.
    pub fn opened(
        &mut self,
        asked: usize,
        opened: usize,
        failures: &Failures,
    ) -> anyhow::Result<()> {
        self.connections_asked = asked;
        self.connections_open = opened;
        if opened == 0 {
            let reason = failures.first_reason.as_deref().unwrap_or("none was asked for");
            let warnings: String = self.warnings.iter().map(|text| format!("; {text}")).collect();
            bail!("{}: no connection opened: {reason}{warnings}", self.url);
        }
        self.failed(failures, &format!("of {asked} connections did not open"));
        let untried = asked.saturating_sub(opened + failures.count);
        self.warn((untried > 0).then(|| format!("gave up: {untried} connections were not tried")));
        Ok(())
    }

    /// Notes the TLS handshakes, if there were any.
    pub fn tls(&mut self, tls: Option<&Tls>) {
        self.tls = tls.and_then(Tls::handshakes);
    }

    /// Notes failures, `what` saying of which kind.
    pub fn failed(&mut self, failures: &Failures, what: &str) {
        self.warn(failures.warning(what));
        self.failures.merge(failures);
    }

    /// Notes what was used, and warns if the generator was the slower side.
    pub fn metered(&mut self, metered: Metered, threads: usize) {
        self.seconds = metered.wall.as_secs_f64();
        self.generator_cpu_percent = metered.generator_percent(threads);
        if self.generator_cpu_percent > BOTTLENECK_PERCENT {
            self.warnings.push(format!(
                "the generator used {:.0} % of its {threads} thread(s): the server may be faster \
                 than shown; give --threads more",
                self.generator_cpu_percent
            ));
        }
        self.processes = metered.processes;
    }

    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// Prints to standard output; warnings of the human form go last, where they are read.
pub fn print(report: &impl Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    let run = report.run();
    println!("{} {}", run.job, run.url);
    let mut rows = vec![Row("connections", connections(run))];
    rows.extend(run.tls.as_ref().map(|tls| Row("TLS", tls.describe())));
    rows.extend(report.rows());
    rows.push(Row("generator", format!("CPU {:.0} %", run.generator_cpu_percent)));
    rows.extend(run.processes.iter().map(|usage| Row("process", process(usage, run.unit))));
    for Row(label, figures) in rows {
        println!("  {label:<LABEL_WIDTH$}{figures}");
    }
    for warning in &run.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}

fn connections(run: &Run) -> String {
    let (open, asked) = (run.connections_open, run.connections_asked);
    if open == asked { count(open as u64) } else { format!("{open} of {asked} opened") }
}

fn process(usage: &Usage, unit: &str) -> String {
    let mut text =
        format!("{}   CPU {:.2} s ({:.0} %)", usage.pid, usage.cpu_seconds, usage.cpu_percent);
    if let Some(cost) = usage.cpu_us_per_unit {
        text.push_str(&format!("   {cost:.2} us/{unit}"));
    }
    if let (Some(before), Some(after)) = (usage.memory_before, usage.memory_after) {
        text.push_str(&format!("   memory {} -> {}", bytes(before), bytes(after)));
    }
    text
}

/// `"1,234,567"`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `"1.5 MiB"`.
pub fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes @ ..1024.0 => format!("{bytes} B"),
        bytes @ ..1048576.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes @ ..1073741824.0 => format!("{:.1} MiB", bytes / 1048576.0),
        bytes => format!("{:.2} GiB", bytes / 1073741824.0),
    }
}

/// `"1,000 (200/s)"`.
pub fn rate(number: u64, seconds: f64) -> String {
    format!("{} ({}/s)", count(number), count((number as f64 / seconds).round() as u64))
}

pub fn latency(latency: &Percentiles) -> Row {
    Row("latency", latency.to_string())
}

const BOTTLENECK_PERCENT: f64 = 90.0;
const LABEL_WIDTH: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [(12, "12 B"), (1536, "1.5 KiB"), (3 << 19, "1.5 MiB")] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(rate(5000, 2.0), "5,000 (2,500/s)");
    }
}
