//! Who keeps us from a port: a process, the kernel's web server, or a range that the system sets aside.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::windows::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::sync::mpsc;
use std::time::Duration;

use windows_sys::Win32::Foundation::{CloseHandle, ERROR_INSUFFICIENT_BUFFER, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCP6ROW_OWNER_PID, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};
use windows_sys::Win32::System::SystemInformation::GetSystemDirectoryW;
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

/// The kernel itself: http.sys listens there for IIS and others.
const SYSTEM_PROCESS: u32 = 4;

/// How often the table of listeners is asked for again, since it may grow between asking its size and reading it.
const TABLE_TRIES: usize = 4;

/// How long `netsh` may take.
const NETSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What keeps us from listening on `address`, if that can be found out, with the command that shows more.
pub(super) fn obstacle(address: SocketAddr, error: &io::Error) -> Option<String> {
    let families = [v4_listeners().unwrap_or_default(), v6_listeners().unwrap_or_default()];
    // A socket of the other family may take both.
    let holder = families.iter().flatten().find(|listener| listener.overlaps(address));
    if let Some(holder) = holder {
        return Some(holder.to_string());
    }
    if error.kind() != io::ErrorKind::PermissionDenied {
        return None;
    }
    let ranges = excluded_ranges(address).unwrap_or_default();
    let port = address.port();
    let range = ranges.into_iter().find(|range| range.contains(&port))?;
    let family = family_name(address);
    Some(format!(
        "port {port} lies in {} to {}, a range of ports that Windows keeps for others; \
         `netsh int {family} show excludedportrange protocol=tcp` shows them",
        range.start(),
        range.end()
    ))
}

fn family_name(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// A socket that somebody listens on.
struct Listener {
    ip: IpAddr,
    port: u16,
    process: u32,
}

impl Listener {
    fn overlaps(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        self.port == address.port() && (self.ip == ip || self.ip.is_unspecified() || ip.is_unspecified())
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.process;
        if process == SYSTEM_PROCESS {
            return write!(
                f,
                "the address is in use by http.sys, the web server in Windows' kernel, for IIS or another service \
                 (process {process}); `netsh http show servicestate` shows for whom"
            );
        }
        let name = process_name(process).unwrap_or_else(|| "a process whose name we may not know".to_owned());
        let port = self.port;
        write!(f, "the address is in use by {name} (process {process}); `netstat -ano | findstr :{port}` shows it")
    }
}

fn v4_listeners() -> Option<Vec<Listener>> {
    let rows = table::<MIB_TCPROW_OWNER_PID>(AF_INET)?;
    let listener = |row: &MIB_TCPROW_OWNER_PID| Listener {
        ip: Ipv4Addr::from(row.dwLocalAddr.to_ne_bytes()).into(),
        port: port(row.dwLocalPort),
        process: row.dwOwningPid,
    };
    Some(rows.iter().map(listener).collect())
}

fn v6_listeners() -> Option<Vec<Listener>> {
    let rows = table::<MIB_TCP6ROW_OWNER_PID>(AF_INET6)?;
    let listener = |row: &MIB_TCP6ROW_OWNER_PID| Listener {
        ip: Ipv6Addr::from(row.ucLocalAddr).into(),
        port: port(row.dwLocalPort),
        process: row.dwOwningPid,
    };
    Some(rows.iter().map(listener).collect())
}

/// In network order, in the lower half.
fn port(number: u32) -> u16 {
    u16::from_be(number as u16)
}

/// A row of one of the tables: plain numbers, for which any bytes are a value.
trait Row: Copy {}
impl Row for MIB_TCPROW_OWNER_PID {}
impl Row for MIB_TCP6ROW_OWNER_PID {}

/// The sockets of a family that somebody listens on.
fn table<R: Row>(family: u16) -> Option<Vec<R>> {
    const { assert!(align_of::<R>() == align_of::<u32>(), "rows follow the number of rows without a gap") };
    // Of numbers, so that the rows in it are aligned.
    let mut buffer: Vec<u32> = Vec::new();
    for _ in 0..TABLE_TRIES {
        let mut bytes = size_of_val(buffer.as_slice()) as u32;
        let place = if buffer.is_empty() { null_mut() } else { buffer.as_mut_ptr().cast() };
        // SAFETY: `place` is null or has room for `bytes` bytes, which is all that the call writes; it keeps no pointer.
        let result = unsafe {
            GetExtendedTcpTable(place, &raw mut bytes, 0, u32::from(family), TCP_TABLE_OWNER_PID_LISTENER, 0)
        };
        match result {
            NO_ERROR if !buffer.is_empty() => {
                let rows =
                    (buffer[0] as usize).min((size_of_val(buffer.as_slice()) - size_of::<u32>()) / size_of::<R>());
                // SAFETY: the rows lie behind their number, aligned (checked above) and within the buffer (bounded
                // above); every byte of it is initialised, and any bytes are a row.
                return Some(unsafe { std::slice::from_raw_parts(buffer.as_ptr().add(1).cast::<R>(), rows) }.to_vec());
            }
            // With room for what comes until the next try.
            NO_ERROR | ERROR_INSUFFICIENT_BUFFER => buffer = vec![0; bytes as usize / size_of::<u32>() + 256],
            _ => return None,
        }
    }
    None
}

/// The file name of a process's program. The system's own processes do not tell.
fn process_name(process: u32) -> Option<String> {
    const CHARS_MAX: usize = 1_024;
    // SAFETY: takes no pointers; the handle that it returns is checked, and closed below.
    let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process) };
    if handle.is_null() {
        return None;
    }
    let mut path = [0_u16; CHARS_MAX];
    let mut length = CHARS_MAX as u32;
    // SAFETY: the handle is open; `path` has room for `length` characters, and the call sets `length` to what it wrote.
    let done = unsafe { QueryFullProcessImageNameW(handle, PROCESS_NAME_WIN32, path.as_mut_ptr(), &raw mut length) };
    // SAFETY: opened above, and closed here only.
    unsafe { CloseHandle(handle) };
    let path = OsString::from_wide(path.get(..length as usize)?);
    let name = Path::new(&path).file_name()?.to_string_lossy().into_owned();
    (done != 0).then_some(name)
}

/// The ranges of ports that Windows keeps for others (Hyper-V, and what an administrator set aside). There is no
/// documented function for it: `netsh` is asked, whose table of numbers is the same in every language.
fn excluded_ranges(address: SocketAddr) -> Option<Vec<RangeInclusive<u16>>> {
    let mut netsh = Command::new(system_folder()? + r"\netsh.exe");
    netsh.args(["int", family_name(address), "show", "excludedportrange", "protocol=tcp"]);
    netsh.stdin(Stdio::null());
    let (sender, receiver) = mpsc::sync_channel(1);
    // Nobody waits for a late answer.
    std::thread::spawn(move || sender.send(netsh.output()).is_err());
    let output = receiver.recv_timeout(NETSH_TIMEOUT).ok()?.ok()?;
    Some(parse_ranges(&String::from_utf8_lossy(&output.stdout)))
}

/// The lines that have two port numbers: the first and the last of a range.
fn parse_ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        // Administered ranges have a star behind.
        words.all(|word| word == "*").then_some(first..=last)
    };
    text.lines().filter_map(range).collect()
}

/// Where the system's own programs are; a bare name would be looked for in other folders first.
fn system_folder() -> Option<String> {
    let mut path = [0_u16; 260];
    // SAFETY: `path` has room for the number of characters that is given with it.
    let length = unsafe { GetSystemDirectoryW(path.as_mut_ptr(), path.len() as u32) } as usize;
    path.get(..length).filter(|path| !path.is_empty()).map(String::from_utf16_lossy)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn whoever_listens_is_named_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let text = obstacle(address, &error).expect("a holder");
        assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
        assert!(text.contains(".exe"), "{text}");
        assert!(text.contains("netstat -ano"), "{text}");
        drop(listener);
        assert_eq!(obstacle(address, &error), None);
    }

    #[test]
    fn the_kernel_web_server_is_called_by_its_name() {
        let text = Listener { ip: Ipv4Addr::UNSPECIFIED.into(), port: 80, process: SYSTEM_PROCESS }.to_string();
        assert!(text.contains("http.sys") && text.contains("IIS") && text.contains("netsh http show"), "{text}");
    }

    #[test]
    fn excluded_ranges_are_read_in_any_language() {
        let german = "\r\nPortausschlussbereiche für das Protokoll \"tcp\"\r\n\r\nStartport      Endport\r\n\
                      ----------    --------\r\n      5357        5357\r\n     50000       50059     *\r\n\r\n\
                      * - Verwaltete Portausschlüsse.\r\n";
        assert_eq!(parse_ranges(german), [5357..=5357, 50_000..=50_059]);
    }
}
