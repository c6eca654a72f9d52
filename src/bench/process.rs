//! CPU time and memory of the processes under test, and of the generator itself.
//!
//! On Linux they come from `/proc`: CPU time of all threads, and PSS, which counts a page shared
//! by n processes as one nth. Elsewhere `ps` gives CPU time and resident memory.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

/// The processes named with `--pid`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Watched {
    /// Process to measure, on this machine; may be repeated (for NGINX: the workers)
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
}

/// What one process has used at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub cpu: Duration,
    /// `None` where it may not be read: another user's process.
    pub memory_bytes: Option<u64>,
}

/// What one process used between two samples.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    pub pid: u32,
    pub cpu_seconds: f64,
    /// CPU time over wall time: 100 is one core.
    pub cpu_percent: f64,
    /// CPU time for each unit of work: a message, an upgrade, a delivery.
    pub cpu_us_per_unit: Option<f64>,
    pub memory_before: Option<u64>,
    pub memory_after: Option<u64>,
}

impl Watched {
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    pub fn sample(&self) -> anyhow::Result<Vec<Sample>> {
        self.pids.iter().map(|pid| Sample::of(*pid)).collect()
    }

    /// The memory of all processes together.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let samples = self.sample()?;
        let memory: Option<u64> = samples.iter().map(|sample| sample.memory_bytes).sum();
        memory.context(
            "the memory of the process may not be read: run as root; its user may, too, when it \
             allows core dumps (of tidewire: `process.core_dumps`)",
        )
    }

    /// What each process used for `units` of work in `wall`.
    pub fn usage(
        &self,
        before: &[Sample],
        after: &[Sample],
        wall: Duration,
        units: u64,
    ) -> Vec<Usage> {
        let pairs = before.iter().zip(after);
        let used = self.pids.iter().zip(pairs).map(|(pid, (before, after))| {
            let cpu = after.cpu.saturating_sub(before.cpu);
            Usage {
                pid: *pid,
                cpu_seconds: cpu.as_secs_f64(),
                cpu_percent: percent(cpu, wall),
                cpu_us_per_unit: (units > 0).then(|| cpu.as_secs_f64() * 1e6 / units as f64),
                memory_before: before.memory_bytes,
                memory_after: after.memory_bytes,
            }
        });
        used.collect()
    }
}

impl Sample {
    pub fn of_generator() -> anyhow::Result<Self> {
        Self::of(std::process::id())
    }

    #[cfg(target_os = "linux")]
    fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("--pid {pid}: there is no such process"))?;
        let ticks =
            parse_stat(&stat).with_context(|| format!("/proc/{pid}/stat is not as known"))?;
        let cpu = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let memory_bytes = rollup.ok().as_deref().and_then(parse_pss);
        Ok(Self { cpu: Duration::from_secs_f64(cpu), memory_bytes })
    }

    #[cfg(not(target_os = "linux"))]
    fn of(pid: u32) -> anyhow::Result<Self> {
        let answer = std::process::Command::new("ps")
            .args(["-o", "time=,rss=", "-p", &pid.to_string()])
            .output()?;
        parse_ps(&String::from_utf8_lossy(&answer.stdout))
            .with_context(|| format!("--pid {pid}: there is no such process"))
    }
}

/// CPU time over wall time, in percent of one core.
pub fn percent(cpu: Duration, wall: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / wall.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// `utime + stime` in clock ticks. The name of the program may hold spaces and parentheses, so
/// fields are counted from the last `)`.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn parse_pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// `time=,rss=` of `ps`: `"[[dd-]hh:]mm:ss[.cc] KiB"`.
#[cfg_attr(target_os = "linux", allow(dead_code))]
fn parse_ps(line: &str) -> Option<Sample> {
    let (time, memory) = line.trim().split_once(char::is_whitespace)?;
    let (days, time) = time.split_once('-').unwrap_or(("0", time));
    let mut seconds = days.parse::<f64>().ok()? * 24.0;
    let parts: Vec<f64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let (sixtieths, hours) = match parts[..] {
        [minutes, seconds] => ([minutes, seconds], 0.0),
        [hours, minutes, seconds] => ([minutes, seconds], hours),
        _ => return None,
    };
    seconds = ((seconds + hours) * 60.0 + sixtieths[0]) * 60.0 + sixtieths[1];
    let memory: u64 = memory.trim().parse().ok()?;
    Some(Sample {
        cpu: Duration::try_from_secs_f64(seconds).ok()?,
        memory_bytes: Some(memory * 1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_program_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 700 30 0 0 20 0 1";
        assert_eq!(parse_stat(&format!("42 (a) b (c) {rest}")), Some(730));
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn pss_is_in_bytes() {
        assert_eq!(parse_pss("Rss:  9 kB\nPss:                1234 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_pss("Rss:  9 kB\n"), None);
    }

    #[test]
    fn ps_lines_of_all_systems_are_read() {
        let check = |line, seconds, bytes| {
            let sample = parse_ps(line).expect(line);
            assert_eq!(sample.cpu, Duration::from_secs_f64(seconds), "{line}");
            assert_eq!(sample.memory_bytes, Some(bytes), "{line}");
        };
        check("  0:01.50   2048\n", 1.5, 2 << 20);
        check("01:02:03 1", 3723.0, 1024);
        check("1-00:00:01 1", 86_401.0, 1024);
        assert!(parse_ps("").is_none());
    }

    #[test]
    fn the_generator_can_measure_itself() {
        let sample = Sample::of_generator().expect("own process");
        assert!(sample.memory_bytes.is_some_and(|bytes| bytes > 0));
    }
}
