//! What the system says about this process: processor time, memory, descriptors, threads.
//!
//! Read anew at each scrape. A value that the platform does not tell is left out of the scrape, rather than shown as 0.

/// One reading. `None`: not to be had here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// User and system time.
    pub cpu_seconds: Option<f64>,
    /// Start, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// Memory in RAM.
    pub resident_bytes: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors that may be open; `None` also where there is no limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Reads `/proc/self`.
#[cfg(target_os = "linux")]
#[must_use]
pub fn read() -> Process {
    use procfs::WithCurrentSystemInfo;

    let Ok(myself) = procfs::process::Process::myself() else { return Process::default() };
    let stat = myself.stat().ok();
    let stat = stat.as_ref();
    let open_files = myself.limits().ok().map(|limits| limits.max_open_files.soft_limit);
    let ticks = procfs::ticks_per_second() as f64;
    Process {
        cpu_seconds: stat.map(|stat| (stat.utime + stat.stime) as f64 / ticks),
        start_time_seconds: stat
            .and_then(|stat| Some(procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / ticks)),
        resident_bytes: stat.map(|stat| stat.rss_bytes().get()),
        virtual_bytes: stat.map(|stat| stat.vsize),
        open_fds: myself.fd_count().ok().map(|count| count as u64),
        max_fds: open_files.and_then(|limit| match limit {
            procfs::process::LimitValue::Value(value) => Some(value),
            procfs::process::LimitValue::Unlimited => None,
        }),
        threads: stat.and_then(|stat| u64::try_from(stat.num_threads).ok()),
    }
}

/// Not read on this platform yet.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn read() -> Process {
    Process::default()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn linux_tells_everything_about_a_process() {
        let process = super::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.open_fds.is_some_and(|count| count >= 3), "{process:?}");
        assert!(process.threads.is_some_and(|count| count >= 1), "{process:?}");
        assert!(process.start_time_seconds.is_some_and(|seconds| seconds > 1.6e9), "{process:?}");
        assert!(process.cpu_seconds.is_some(), "{process:?}");
    }
}
