//! How much of a process is in RAM, and how much at most was since a moment.

use std::fs;

use crate::child::Child;

/// Watches the memory of a process from its start on. The kernel keeps the peak, so that nothing
/// is missed between two looks.
#[derive(Debug)]
pub struct RssWatch {
    id: u32,
    before: u64,
}

impl RssWatch {
    #[track_caller]
    pub fn start(child: &Child) -> Self {
        let id = child.id();
        // 5 sets the peak to what is there now: proc(5).
        fs::write(format!("/proc/{id}/clear_refs"), "5").expect("the child is ours");
        Self { id, before: field(id, "VmRSS:") }
    }

    /// By how many bytes it was bigger at its peak than at the start.
    #[track_caller]
    pub fn growth(&self) -> u64 {
        field(self.id, "VmHWM:").saturating_sub(self.before)
    }
}

#[track_caller]
fn field(id: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the child is there");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("there is such a line");
    kib.parse::<u64>().expect("it is a number") * 1024
}
