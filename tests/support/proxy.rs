//! The built binary, started with a configuration of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::folder::Folder;
use super::message::Response;
use super::metrics::Metrics;
use super::wait::{BOUND, eventually, within};
use super::{Client, Config};

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) front: SocketAddr,
    /// Where the admin listener is.
    pub(crate) admin: SocketAddr,
    child: Child,
    folder: Folder,
    log: Arc<Log>,
    /// Read what it writes, until its end.
    readers: Vec<JoinHandle<()>>,
}

/// Lines that the process wrote.
type Log = Mutex<Vec<String>>;

/// Runs the binary under test where it is not made for this system: `tests/windows/run.sh` sets it to Wine.
const RUNNER: &str = "PLIMSOLL_TEST_RUNNER";

/// The binary under test, if it is not the one that was built with these tests.
const BINARY: &str = "PLIMSOLL_TEST_BINARY";

/// The binary under test.
pub(crate) fn binary() -> Command {
    let binary = std::env::var(BINARY).unwrap_or_else(|_| env!("CARGO_BIN_EXE_plimsoll").to_owned());
    let mut command = match std::env::var(RUNNER) {
        Ok(runner) => {
            let mut command = Command::new(runner);
            command.arg(binary);
            command
        }
        Err(_) => Command::new(binary),
    };
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// Whether the binary under test is one for Windows, which runs under Wine: signals do not reach it.
pub(crate) fn under_wine() -> bool {
    std::env::var_os(RUNNER).is_some()
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the built binary")
}

impl Proxy {
    /// Starts it and waits until it takes connections.
    #[track_caller]
    pub(crate) fn start(config: &Config) -> Self {
        let mut proxy = Self::launch(config);
        within(BOUND * 2, "the proxy is ready", || {
            if proxy.has_ended() {
                let status = proxy.wait_end(BOUND);
                panic!("the proxy ended ({status}) with:\n{}", proxy.lines().join("\n"));
            }
            proxy.lines().iter().any(|line| line.contains("ready")).then_some(())
        });
        proxy
    }

    /// Starts it and does not wait.
    #[track_caller]
    pub(crate) fn launch(config: &Config) -> Self {
        let folder = Folder::new();
        let path = folder.write("plimsoll.toml", config.text());
        Self::launch_file(folder, &path, config.front, config.admin)
    }

    /// Starts it with a file that is there already.
    #[track_caller]
    pub(crate) fn launch_file(folder: Folder, path: &Path, front: SocketAddr, admin: SocketAddr) -> Self {
        let mut child = binary()
            .args(["run", "--config"])
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the built binary");
        let log = Arc::<Log>::default();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        let read = |output: Box<dyn Read + Send>| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            })
        };
        let readers = outputs.map(read).into();
        Self { front, admin, child, folder, log, readers }
    }

    // Clients.

    /// A new connection.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.front)
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.connect().get(path)
    }

    /// One POST on a connection of its own.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        self.connect().post(path, body)
    }

    /// Sends raw bytes on a connection of its own and reads one response.
    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().send(bytes).response()
    }

    // The admin listener.

    #[track_caller]
    pub(crate) fn admin_get(&self, path: &str) -> Response {
        Client::connect(self.admin)
            .send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin))
            .response()
    }

    #[track_caller]
    pub(crate) fn admin_post(&self, path: &str, body: &str) -> Response {
        let (admin, length) = (self.admin, body.len());
        Client::connect(self.admin)
            .patient(super::seconds(30))
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            ))
            .response()
    }

    /// The answer of `/status`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let answer = self.admin_get("/status");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// The entry of one instance in `/status`.
    #[track_caller]
    pub(crate) fn instance_status(&self, name: &str) -> Value {
        let status = self.status();
        let pools = status["pools"].as_array().expect("a list of pools").clone();
        pools
            .iter()
            .filter_map(|pool| pool["instances"].as_array())
            .flatten()
            .find(|instance| instance["name"] == name)
            .unwrap_or_else(|| panic!("no instance {name} in {status:#}"))
            .clone()
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = self.admin_get("/metrics");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        Metrics { text: answer.text() }
    }

    /// The sum of a metric over all samples with these labels.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// Waits until `instance` is in `state`.
    #[track_caller]
    pub(crate) fn wait_state(&self, instance: &str, state: &str) {
        within(BOUND * 2, &format!("{instance} is {state}"), || {
            let metrics = self.metrics();
            (metrics.sum("plimsoll_instance_state", &[("instance", instance), ("state", state)]) > 0.0).then_some(())
        });
    }

    /// Waits until the pool `api` has that many eligible instances.
    #[track_caller]
    pub(crate) fn wait_eligible(&self, count: u32) {
        within(BOUND * 2, &format!("{count} instances are eligible"), || {
            let eligible = self.metric("plimsoll_pool_eligible_instances", &[("pool", "api")]);
            ((eligible - f64::from(count)).abs() < 0.5).then_some(())
        });
    }

    // Configuration.

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("plimsoll.toml")
    }

    /// Writes another configuration over the file.
    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.config_path(), text).expect("the configuration file");
    }

    /// Writes another configuration and asks for a reload.
    #[track_caller]
    pub(crate) fn reload(&self, config: &Config) -> Response {
        self.write_config(&config.text());
        self.admin_post("/reload", "")
    }

    // The process.

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end, and until all that it wrote is read.
    #[track_caller]
    pub(crate) fn wait_end(&mut self, bound: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = within(bound, "the proxy ends", || child.try_wait().expect("a child"));
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader"));
        status
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a running process").count()
    }

    /// Memory that is the process's own, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.kernel_says("RssAnon:")
    }

    pub(crate) fn threads(&self) -> u64 {
        self.kernel_says("Threads:")
    }

    fn kernel_says(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line = text.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    }

    // Its log.

    /// All lines of standard output and standard error so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All lines so far that are JSON objects.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a log event for which `wanted` is true, past ones included.
    #[track_caller]
    pub(crate) fn wait_event(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("a log event: {what}"), || self.events().into_iter().find(|event| wanted(event)))
    }

    /// Waits for the access-log line of the request with this path.
    #[track_caller]
    pub(crate) fn wait_access(&self, path: &str) -> Value {
        self.wait_event(path, |event| event["path"] == path && event.get("status").is_some())
    }
}

/// Sends a signal to a process by its name. Under Wine only SIGINT reaches a Windows program, as Ctrl-C; what else ends
/// a process would end Wine with it.
#[track_caller]
pub(crate) fn signal(pid: u32, name: &str) {
    let name = if under_wine() && name == "TERM" { "INT" } else { name };
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().expect("kill");
    assert!(status.success(), "kill -s {name} {pid}: {status}");
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        let lines = self.lines();
        if std::thread::panicking() {
            // Passed probes are most of the lines and tell nothing.
            let telling: Vec<_> = lines.into_iter().filter(|line| !line.contains(r#""result":"pass""#)).collect();
            let skip = telling.len().saturating_sub(40);
            eprintln!("the proxy's last lines:\n{}", telling[skip..].join("\n"));
        } else {
            let panic = lines.iter().find(|line| line.contains("panicked at"));
            assert!(panic.is_none(), "the proxy panicked: {panic:?}");
        }
    }
}
