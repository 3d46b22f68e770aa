//! The demo: three sample instances, the real proxy in front of them, a light load, and an instance that dies and comes
//! back while the terminal shows what clients saw.
//!
//! The proxy is the one that `plimsoll run` starts, with a configuration file like any other (in a temporary folder, with
//! short intervals so that one need not wait). Instances and clients have a thread and a runtime of their own, as they
//! would have machines of their own.

mod instance;
mod load;

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::app::{self, Proxy, StartError};
use crate::config::load::{Rejected, load as load_config};
use crate::platform::{EndSignals, ReloadSignal};
use crate::snapshot::Published;
use instance::{Instance, Mode};
use load::{Load, Seen};

const NAMES: [&str; 3] = ["alpha", "bravo", "charlie"];

/// How long all is well before an instance is killed, and how long one sees what follows before it comes back.
const CALM: Duration = Duration::from_secs(3);

/// Longer than ejection and restoration can take with [`configuration`].
const CHANGE_MAX: Duration = Duration::from_secs(20);

/// How often a line says what clients saw.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the proxy's view of an instance is looked at, to say when it changed.
const LOOK: Duration = Duration::from_millis(5);

/// How often the demo kills an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// Until it is told to end.
    Endless,
    /// Once, then a summary.
    Once,
}

/// Runs the demo. The result is a failure if a client's request failed, or if an instance was not ejected and restored.
#[must_use]
pub fn run(rounds: Rounds) -> ExitCode {
    match stage(rounds) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "{error}").is_err();
            ExitCode::FAILURE
        }
    }
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("the demo cannot start: {0}")]
    System(#[from] io::Error),
    #[error("{0}")]
    Configuration(#[from] Rejected),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("the demo cannot start: the proxy has no address")]
    NoAddress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
}

/// Prints a line. Whoever closed the terminal does not want it.
fn say(line: fmt::Arguments<'_>) {
    let _closed = writeln!(io::stdout(), "{line}").is_err();
}

/// Everything that stands around the proxy.
fn stage(rounds: Rounds) -> Result<Verdict, DemoError> {
    let world = World::new()?;
    let folder = Folder::new()?;
    let path = folder.0.join("plimsoll.toml");
    std::fs::write(&path, configuration(&world.instances))?;
    let control = Builder::new_current_thread().enable_all().build()?;
    let verdict = control.block_on(play(&world, &path, rounds));
    control.shutdown_background();
    verdict
}

/// The sample instances, and the runtime for them and for the clients.
struct World {
    instances: Vec<Instance>,
    runtime: tokio::runtime::Handle,
    /// Dropped, it ends the thread and everything on it.
    _running: watch::Sender<()>,
}

impl World {
    fn new() -> io::Result<Self> {
        let runtime: Runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, mut ended) = watch::channel(());
        thread::Builder::new().name("demo".to_owned()).spawn(move || {
            // An error is what is waited for: the sender is gone.
            runtime.block_on(async { while ended.changed().await.is_ok() {} });
        })?;
        let instances = NAMES.iter().map(|name| Instance::start(name, &handle)).collect::<io::Result<_>>()?;
        Ok(Self { instances, runtime: handle, _running: running })
    }
}

/// The folder of the configuration file, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("plimsoll-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is small, and lies where the system cleans up.
        let _left = std::fs::remove_dir_all(&self.0).is_err();
    }
}

/// The configuration: shorter intervals than one would use, so that one need not wait.
fn configuration(instances: &[Instance]) -> String {
    let entry = |instance: &Instance| format!("{{ name = \"{}\", address = \"{}\" }}", instance.name, instance.address);
    let instances = instances.iter().map(entry).collect::<Vec<_>>().join(",\n  ");
    format!(
        "# Written by `plimsoll demo`. Change it while the demo runs: it is reloaded at once.\n\
         [[listener]]\nname = \"demo\"\nbind = \"127.0.0.1:0\"\n\n\
         [pool.demo]\ninstances = [\n  {instances},\n]\n\n\
         [pool.demo.probe]\ninterval = \"500ms\"\ntimeout = \"300ms\"\n\n\
         [admin]\nbind = \"127.0.0.1:0\"\n"
    )
}

/// Starts the proxy and the load, plays, and ends both.
async fn play(world: &World, path: &Path, rounds: Rounds) -> Result<Verdict, DemoError> {
    let mut signals = EndSignals::listen()?;
    let loaded = load_config(path)?;
    let mut proxy = Proxy::start(&loaded, None).await?;
    let _triggers = app::triggers(&proxy, &loaded.config, ReloadSignal::listen()?);
    let front = proxy.addresses().next().map(|(_, address)| address).ok_or(DemoError::NoAddress)?;
    where_to_look(world, &proxy, front, path);

    let load = Load::new(front, NAMES.to_vec());
    let (stop, stopped) = watch::channel(false);
    let clients = world.runtime.spawn(Arc::clone(&load).run(stopped));
    let began = Instant::now();
    let mut story = Story {
        world,
        published: Arc::clone(proxy.published()),
        load,
        began,
        next_line: began + LINE_INTERVAL,
        total: Seen::default(),
        last: None,
    };
    tokio::select! {
        // The others lose nothing that is needed when one of them ends.
        () = proxy.run() => {}
        () = story.tell(rounds) => {}
        _ = signals.next() => say(format_args!("\nending …")),
    }
    stop.send_replace(true);
    let _panicked = clients.await.is_err();
    story.count();
    let at_once = async {
        let _signal = signals.next().await;
    };
    proxy.end(at_once).await;
    Ok(story.summary(rounds))
}

fn where_to_look(world: &World, proxy: &Proxy, front: SocketAddr, path: &Path) {
    say(format_args!("proxy      http://{front}/"));
    if let Some(admin) = proxy.admin_address() {
        say(format_args!("status     http://{admin}/status"));
        say(format_args!("metrics    http://{admin}/metrics"));
    }
    for Instance { name, address, .. } in &world.instances {
        say(format_args!("instance   http://{address}/  {name}"));
    }
    say(format_args!("config     {}  (change it: it is reloaded)", path.display()));
    if let Some(Instance { address, .. }) = world.instances.first() {
        say(format_args!("try        curl -X POST http://{address}/switch/slow    (or unhealthy, dead, well)"));
    }
    say(format_args!("\n{:>7}  {:>8}  {:<36}{:>8}{:>12}", "time", "requests", "answered by", "failed", "slowest"));
}

/// What happens, and what was seen.
struct Story<'a> {
    world: &'a World,
    published: Arc<Published>,
    load: Arc<Load>,
    began: Instant,
    next_line: Instant,
    total: Seen,
    last: Option<Times>,
}

/// How long the proxy took.
#[derive(Debug, Clone, Copy)]
struct Times {
    eject: Option<Duration>,
    restore: Option<Duration>,
}

impl Story<'_> {
    async fn tell(&mut self, rounds: Rounds) {
        let mut kinds = [(Mode::Dead, "killed"), (Mode::Unhealthy, "unhealthy")].into_iter().cycle();
        // The last one dies first: that least connections would pick the first one is not what saves the requests.
        for instance in self.world.instances.iter().rev().cycle() {
            let Some((mode, word)) = kinds.next() else { return };
            self.watch(sleep(CALM)).await;
            let times = self.round(instance, mode, word).await;
            self.last = Some(times);
            self.watch(sleep(CALM)).await;
            if rounds == Rounds::Once {
                return;
            }
        }
    }

    /// An instance goes and comes back.
    async fn round(&mut self, instance: &Instance, mode: Mode, word: &str) -> Times {
        let (name, published) = (instance.name, Arc::clone(&self.published));
        let turns = async |eligible| {
            let began = Instant::now();
            let turned = async {
                while self::eligible(&published, instance.address) != eligible {
                    sleep(LOOK).await;
                }
            };
            timeout(CHANGE_MAX, turned).await.is_ok().then(|| began.elapsed())
        };
        self.event(format_args!("✗ {name} is {word}"));
        instance.switch(mode);
        let eject = self.watch(turns(false)).await;
        self.event(format_args!("→ {name} is ejected{}", After(eject)));
        self.watch(sleep(CALM)).await;
        self.event(format_args!("✓ {name} is back"));
        instance.switch(Mode::Well);
        let restore = self.watch(turns(true)).await;
        self.event(format_args!("→ {name} is restored{}", After(restore)));
        Times { eject, restore }
    }

    /// Waits for something, and prints each second what clients saw.
    async fn watch<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            // Both are cancel-safe: the wait is only lent, and a time that has come stays so.
            tokio::select! {
                done = &mut wait => return done,
                () = sleep_until(self.next_line) => {
                    self.next_line += LINE_INTERVAL;
                    self.line();
                }
            }
        }
    }

    /// Adds what clients saw since the last call to the total.
    fn count(&mut self) -> Seen {
        let seen = self.load.take();
        self.total.add(seen.clone());
        seen
    }

    fn line(&mut self) {
        let seen = self.count();
        let answered = NAMES.iter().zip(&seen.answered).map(|(name, count)| format!("{name} {count:<4}"));
        let answered = answered.collect::<Vec<_>>().join(" ");
        let (at, requests, failed) = (self.began.elapsed().as_secs(), seen.requests(), seen.failed);
        say(format_args!("{at:>5} s  {requests:>8}  {answered:<36}{failed:>8}{:>9} ms", seen.slowest.as_millis()));
        if let Some(failure) = seen.last_failure {
            self.event(format_args!("! {failure}"));
        }
    }

    fn event(&self, text: fmt::Arguments<'_>) {
        say(format_args!("{:>5.1} s  {text}", self.began.elapsed().as_secs_f64()));
    }

    fn summary(&self, rounds: Rounds) -> Verdict {
        let times = self.last.unwrap_or(Times { eject: None, restore: None });
        say(format_args!("\nrequests                  {}", self.total.requests()));
        say(format_args!("failures seen by clients  {}", self.total.failed));
        say(format_args!("time to eject             {}", Seconds(times.eject)));
        say(format_args!("time to restore           {}", Seconds(times.restore)));
        let whole = times.eject.is_some() && times.restore.is_some();
        // An endless demo may be ended before its first round is through.
        if self.total.failed == 0 && (whole || rounds == Rounds::Endless) { Verdict::Passed } else { Verdict::Failed }
    }
}

/// Whether the proxy would send a request to that address now.
fn eligible(published: &Published, address: SocketAddr) -> bool {
    let snapshot = published.load();
    snapshot
        .pools
        .iter()
        .flat_map(|pool| &pool.members)
        .any(|member| member.instance.address == address && member.instance.state().eligible())
}

/// ` after 1.23 s`, or that it did not happen.
struct After(Option<Duration>);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(_) => write!(f, " after {}", Seconds(self.0)),
            None => write!(f, ": not within {CHANGE_MAX:?}"),
        }
    }
}

/// `1.23 s`, or `–`.
struct Seconds(Option<Duration>);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{:.2} s", time.as_secs_f64()),
            None => f.write_str("–"),
        }
    }
}
