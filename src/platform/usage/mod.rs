//! What the system says about this process and about itself: processor time, memory, descriptors, threads.
//!
//! Read anew at each scrape. A value that the platform does not tell is left out of the scrape, rather than shown as 0.
//! These are what Windows operators watch as performance counters; they are the same on every system.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(windows)]
use windows as system;

/// One reading of this process. `None`: not to be had here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// User and system time.
    pub cpu_seconds: Option<f64>,
    /// Start, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// Memory in RAM.
    pub resident_bytes: Option<u64>,
    /// Address space; on Windows what of it is the process's own (private bytes).
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors; on Windows: handles.
    pub open_fds: Option<u64>,
    /// Most file descriptors that may be open; `None` also where there is no limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// One reading of the whole machine. `None`: not to be had here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Machine {
    /// Processor time since the start, over all processors.
    pub cpu: Option<ProcessorTime>,
    /// Memory that programs can get without anything being swapped out.
    pub memory_available_bytes: Option<u64>,
    /// Memory that there is.
    pub memory_bytes: Option<u64>,
    /// Open file descriptors; on Windows: handles.
    pub open_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Processor time by what it was spent on, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessorTime {
    /// Programs.
    pub user: f64,
    /// The system for them, and its own work.
    pub system: f64,
    /// Nothing, or waiting for a disk.
    pub idle: f64,
}

/// Reads what there is to know of this process.
#[cfg(any(target_os = "linux", windows))]
#[must_use]
pub fn process() -> Process {
    system::process()
}

/// Reads what there is to know of the machine.
#[cfg(any(target_os = "linux", windows))]
#[must_use]
pub fn machine() -> Machine {
    system::machine()
}

/// Not read on this platform.
#[cfg(not(any(target_os = "linux", windows)))]
#[must_use]
pub fn process() -> Process {
    Process::default()
}

/// Not read on this platform.
#[cfg(not(any(target_os = "linux", windows)))]
#[must_use]
pub fn machine() -> Machine {
    Machine::default()
}

#[cfg(all(test, any(target_os = "linux", windows)))]
mod tests {
    #[test]
    fn the_system_tells_everything_about_a_process() {
        let process = super::process();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.virtual_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        // Wine, on which Windows is tried, does not count handles.
        assert!(process.open_fds.is_some_and(|count| count >= 3 || cfg!(windows)), "{process:?}");
        assert!(process.threads.is_some_and(|count| count >= 1), "{process:?}");
        assert!(process.start_time_seconds.is_some_and(|seconds| seconds > 1.6e9), "{process:?}");
        assert!(process.cpu_seconds.is_some_and(|seconds| (0.0..1e6).contains(&seconds)), "{process:?}");
    }

    #[test]
    fn the_system_tells_everything_about_the_machine() {
        let machine = super::machine();
        let cpu = machine.cpu.expect("processor time");
        assert!(cpu.user > 0.0 && cpu.system >= 0.0 && cpu.idle > 0.0, "{machine:?}");
        assert!(machine.memory_available_bytes.is_some_and(|bytes| bytes > 1 << 20), "{machine:?}");
        assert!(machine.memory_available_bytes <= machine.memory_bytes, "{machine:?}");
        assert!(machine.open_fds.is_some_and(|count| count >= 3), "{machine:?}");
        assert!(machine.threads.is_some_and(|count| count >= 1), "{machine:?}");
    }
}
