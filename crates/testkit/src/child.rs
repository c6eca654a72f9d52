//! A program as a child process: its lines, its end, what it costs.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::deadline::{DEADLINE, until, until_within};

/// A running program. Dropping it kills it and whatever it has started.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    stdout: Lines,
    stderr: Lines,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Child {
    /// Starts `command` in a process group of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(command: Command) -> Self {
        let (mut child, stderr) = Self::spawn_unread(command);
        child.stderr = Lines::of(stderr);
        child
    }

    /// As [`Child::spawn`], with the standard error for the caller to read.
    #[track_caller]
    pub fn spawn_unread(mut command: Command) -> (Self, ChildStderr) {
        let mut process = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        let stdout = Lines::of(process.stdout.take().expect("stdout is piped"));
        let stderr = process.stderr.take().expect("stderr is piped");
        (Self { process, stdout, stderr: Lines::of(io::empty()) }, stderr)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The lines that it has written to stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.snapshot()
    }

    /// The lines that it has written to stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.snapshot()
    }

    /// What `find` finds in the first line, of stdout or stderr, in which it finds something.
    ///
    /// # Panics
    /// When there is none before the deadline, or the program ends without one.
    #[track_caller]
    pub fn line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        until(what, || {
            let has_ended = self.has_ended();
            let lines = [self.stdout(), self.stderr()].concat();
            let found = lines.iter().find_map(|line| find(line));
            assert!(found.is_some() || !has_ended, "{what}: it has ended, saying {lines:#?}");
            found
        })
    }

    /// Whether it has ended, with all that it wrote read.
    pub fn has_ended(&mut self) -> bool {
        let is_over = self.process.try_wait().expect("a child can be waited for").is_some();
        is_over && self.stdout.is_whole() && self.stderr.is_whole()
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the child is there");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end before the deadline.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.wait_for(DEADLINE)
    }

    /// As [`Child::wait`], with a deadline of its own.
    #[track_caller]
    pub fn wait_for(mut self, deadline: Duration) -> Ended {
        until_within(deadline, "the child ends", || self.has_ended().then_some(()));
        let status = self.process.wait().expect("a child can be waited for");
        Ended { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Its memory that is in RAM and is not a file's (such as its own code), in bytes.
    pub fn memory(&self) -> u64 {
        let rollup = self.proc("smaps_rollup");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        let kib =
            line.and_then(|line| line.trim().strip_suffix(" kB")).expect("there is such a line");
        kib.parse::<u64>().expect("it is a number") * 1024
    }

    /// The processor time that it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The name, in parentheses, may have spaces; utime and stime are the 14th and 15th field.
        let (_, fields) = stat.rsplit_once(')').expect("the name ends");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().expect("it is a number");
        Duration::from_millis((ticks(11) + ticks(12)) * (1000 / TICKS_PER_SECOND))
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        let dir = fs::read_dir(format!("/proc/{}/fd", self.id()));
        dir.expect("the child is there").count()
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.id());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            // Shown with the failure, since a test's output is.
            println!("-- a child said:");
            for line in [self.stdout(), self.stderr()].concat().iter().rev().take(LINES_SHOWN).rev()
            {
                println!("   {line}");
            }
        }
    }
}

impl Ended {
    /// Whether a line of stderr has all of `parts`.
    pub fn has_line(&self, parts: &[&str]) -> bool {
        self.stderr.iter().any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

/// The lines of a pipe, read by a thread so that the writer never waits.
#[derive(Debug)]
struct Lines {
    read: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&read);
        let reader = thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { read, reader }
    }

    fn snapshot(&self) -> Vec<String> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_whole(&self) -> bool {
        self.reader.is_finished()
    }
}

/// `sysconf(_SC_CLK_TCK)` of every Linux.
const TICKS_PER_SECOND: u64 = 100;

const LINES_SHOWN: usize = 60;
