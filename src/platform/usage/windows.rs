//! Kernel32's counters, read; see [`super`].
#![allow(unsafe_code, reason = "counters of the system have no safe interface; each call is argued where it stands")]

use windows_sys::Win32::Foundation::{CloseHandle, FILETIME, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::ProcessStatus::{
    K32GetPerformanceInfo, K32GetProcessMemoryInfo, PERFORMANCE_INFORMATION, PROCESS_MEMORY_COUNTERS,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessHandleCount, GetProcessTimes, GetSystemTimes,
};

use super::{Machine, Process, ProcessorTime};

/// From 1601, where Windows begins to count, to 1970.
const SECONDS_BEFORE_1970: f64 = 11_644_473_600.0;

pub(super) fn process() -> Process {
    let times = process_times();
    let memory = memory();
    Process {
        cpu_seconds: times.map(|times| times.cpu),
        start_time_seconds: times.map(|times| times.start),
        resident_bytes: memory.map(|memory| memory.WorkingSetSize as u64),
        virtual_bytes: memory.map(|memory| memory.PagefileUsage as u64),
        open_fds: handles(),
        // Some 16 million, and no setting: nothing that an operator could watch.
        max_fds: None,
        threads: threads(),
    }
}

pub(super) fn machine() -> Machine {
    let machine = performance();
    let pages = |count: usize| machine.map(|machine| (count * machine.PageSize) as u64);
    Machine {
        cpu: processor_time(),
        memory_available_bytes: machine.and_then(|machine| pages(machine.PhysicalAvailable)),
        memory_bytes: machine.and_then(|machine| pages(machine.PhysicalTotal)),
        open_fds: machine.map(|machine| u64::from(machine.HandleCount)),
        threads: machine.map(|machine| u64::from(machine.ThreadCount)),
    }
}

#[derive(Clone, Copy)]
struct ProcessTimes {
    start: f64,
    cpu: f64,
}

fn process_times() -> Option<ProcessTimes> {
    let (mut start, mut end, mut kernel, mut user) = [FILETIME::default(); 4].into();
    // SAFETY: the handle is the constant one of this process; the pointers are to four live values, which the call fills.
    let done =
        unsafe { GetProcessTimes(GetCurrentProcess(), &raw mut start, &raw mut end, &raw mut kernel, &raw mut user) };
    (done != 0)
        .then(|| ProcessTimes { start: seconds(start) - SECONDS_BEFORE_1970, cpu: seconds(kernel) + seconds(user) })
}

fn memory() -> Option<PROCESS_MEMORY_COUNTERS> {
    let mut counters = PROCESS_MEMORY_COUNTERS::default();
    let size = size_of_val(&counters) as u32;
    // SAFETY: the handle is the constant one of this process; the call fills at most `size` bytes of `counters`, which is
    // live.
    let done = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &raw mut counters, size) };
    (done != 0).then_some(counters)
}

fn handles() -> Option<u64> {
    let mut count = 0;
    // SAFETY: the handle is the constant one of this process; the pointer is to a live number.
    let done = unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) };
    (done != 0).then(|| u64::from(count))
}

/// Only the list of all processes tells the threads of one.
fn threads() -> Option<u64> {
    // SAFETY: takes no pointers; the handle that it returns is checked, and closed below.
    let list = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if list == INVALID_HANDLE_VALUE {
        return None;
    }
    let mut entry = PROCESSENTRY32W { dwSize: size_of::<PROCESSENTRY32W>() as u32, ..PROCESSENTRY32W::default() };
    // SAFETY: `list` is an open list of processes; `entry` is live and says its own size, as the calls ask for.
    let mut found = unsafe { Process32FirstW(list, &raw mut entry) } != 0;
    while found && entry.th32ProcessID != std::process::id() {
        // SAFETY: as above.
        found = unsafe { Process32NextW(list, &raw mut entry) } != 0;
    }
    // SAFETY: opened above, and closed here only.
    unsafe { CloseHandle(list) };
    found.then(|| u64::from(entry.cntThreads))
}

fn processor_time() -> Option<ProcessorTime> {
    let (mut idle, mut kernel, mut user) = [FILETIME::default(); 3].into();
    // SAFETY: the pointers are to three live values, which the call fills.
    let done = unsafe { GetSystemTimes(&raw mut idle, &raw mut kernel, &raw mut user) };
    // Idle time is part of the kernel's.
    (done != 0).then(|| ProcessorTime {
        user: seconds(user),
        system: (seconds(kernel) - seconds(idle)).max(0.0),
        idle: seconds(idle),
    })
}

fn performance() -> Option<PERFORMANCE_INFORMATION> {
    let mut information = PERFORMANCE_INFORMATION::default();
    let size = size_of_val(&information) as u32;
    // SAFETY: the call fills at most `size` bytes of `information`, which is live.
    let done = unsafe { K32GetPerformanceInfo(&raw mut information, size) };
    (done != 0).then_some(information)
}

/// Windows counts in steps of 100 ns.
fn seconds(time: FILETIME) -> f64 {
    let steps = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    steps as f64 / 1e7
}
