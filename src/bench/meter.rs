//! One measured stretch of time: what the watched processes and the generator used in it.

use std::time::{Duration, Instant};

use super::process::{self, Sample, Usage, Watched};

/// Started at the beginning of the stretch.
pub struct Meter<'a> {
    watched: &'a Watched,
    processes: Vec<Sample>,
    generator: Sample,
    started: Instant,
}

/// What was used between `start` and `stop`.
pub struct Metered {
    pub wall: Duration,
    pub processes: Vec<Usage>,
    pub generator_cpu: Duration,
}

impl<'a> Meter<'a> {
    pub fn start(watched: &'a Watched) -> anyhow::Result<Self> {
        let processes = watched.sample()?;
        let generator = Sample::of_generator()?;
        Ok(Self { watched, processes, generator, started: Instant::now() })
    }

    /// Ends the stretch, in which `units` of work were done.
    pub fn stop(self, units: u64) -> anyhow::Result<Metered> {
        let wall = self.started.elapsed();
        let processes = self.watched.sample()?;
        let generator_cpu = Sample::of_generator()?.cpu.saturating_sub(self.generator.cpu);
        Ok(Metered {
            wall,
            processes: self.watched.usage(&self.processes, &processes, wall, units),
            generator_cpu,
        })
    }
}

impl Metered {
    /// The generator's CPU in percent of all of its threads: near 100, it is what was measured.
    pub fn generator_percent(&self, threads: usize) -> f64 {
        process::percent(self.generator_cpu, self.wall) / threads as f64
    }
}
