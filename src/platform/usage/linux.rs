//! `/proc`, read; see [`super`].

use procfs::process::LimitValue;
use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo, WithCurrentSystemInfo};

use super::{Machine, Process, ProcessorTime};

pub(super) fn process() -> Process {
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
            LimitValue::Value(value) => Some(value),
            LimitValue::Unlimited => None,
        }),
        threads: stat.and_then(|stat| u64::try_from(stat.num_threads).ok()),
    }
}

pub(super) fn machine() -> Machine {
    let memory = Meminfo::current().ok();
    Machine {
        cpu: KernelStats::current().ok().map(|stats| processor_time(&stats.total)),
        memory_available_bytes: memory.as_ref().and_then(|memory| memory.mem_available),
        memory_bytes: memory.map(|memory| memory.mem_total),
        open_fds: procfs::sys::fs::file_nr().ok().map(|files| files.allocated),
        threads: LoadAverage::current().ok().map(|load| u64::from(load.max)),
    }
}

/// Time of guests is part of the user's; time that the machine below took away is neither work nor idleness.
fn processor_time(total: &procfs::CpuTime) -> ProcessorTime {
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    let of = |ticks: Option<u64>| seconds(ticks.unwrap_or(0));
    ProcessorTime {
        user: seconds(total.user + total.nice),
        system: seconds(total.system) + of(total.irq) + of(total.softirq),
        idle: seconds(total.idle) + of(total.iowait),
    }
}
