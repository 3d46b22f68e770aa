//! The Windows service, under Wine's service controller: `tests/windows/run.sh` runs these, all others pass them over.
//!
//! `NAME` is a service of this test alone, but the controller is one for all of Wine: so one test after the other.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use crate::support::folder::Folder;
use crate::support::proxy::run;
use crate::support::wait::{millis, pause, seconds, within};
use crate::support::{Client, Config, Instance};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// An installed service; removed when dropped.
struct Service {
    name: String,
    config: Config,
    folder: Folder,
}

impl Service {
    fn install(name: &str, config: Config) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let config = config.set("log", "file", "\"p.log\"");
        let folder = Folder::new();
        folder.write("plimsoll.toml", config.text());
        let service = Self { name, config, folder };
        let said = service.ask(&["install", "--config", service.path().to_str().unwrap()]);
        assert!(said.status.success(), "{}", text(&said));
        service
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("plimsoll.toml")
    }

    /// `plimsoll service WORDS --name NAME`.
    fn ask(&self, words: &[&str]) -> Output {
        run(&[&["service"], words, &["--name", &self.name]].concat())
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let output = self.ask(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        text(&output)
    }

    /// Sends a control as `sc control` does.
    #[track_caller]
    fn control(&self, word: &str) {
        let tool = std::env::var("PLIMSOLL_TEST_CONTROL").expect("set by tests/windows/run.sh");
        let runner = std::env::var("PLIMSOLL_TEST_RUNNER").expect("set by tests/windows/run.sh");
        let output = Command::new(runner).args([&tool, &self.name, word]).output().unwrap();
        assert!(output.status.success(), "{word}: {}", text(&output));
    }

    #[track_caller]
    fn wait_state(&self, state: &str) {
        within(seconds(20), state, || text(&self.ask(&["status"])).contains(&format!("is {state}")).then_some(()));
    }

    #[track_caller]
    fn wait_log(&self, message: &str) {
        within(seconds(20), message, || {
            let log = std::fs::read_to_string(self.folder.path().join("p.log")).unwrap_or_default();
            log.contains(message).then_some(())
        });
    }

    fn value(&self, key: &str) -> String {
        let runner = std::env::var("PLIMSOLL_TEST_RUNNER").expect("set by tests/windows/run.sh");
        let path = format!(r"HKLM\SYSTEM\CurrentControlSet\Services\{}", self.name);
        text(&Command::new(runner).args(["reg", "query", &path, "/v", key]).output().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let said = self.ask(&["uninstall"]);
        assert!(said.status.success() || std::thread::panicking(), "{}", text(&said));
    }
}

#[test]
#[ignore = "needs Wine: `bash tests/windows/run.sh`"]
fn a_service_serves_pauses_reloads_and_finishes_what_is_in_flight() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let api = Instance::named("a").serving(|exchange| {
        if exchange.head.word(1) == "/slow" {
            pause(millis(1_500));
        }
        exchange.respond(200, "", b"a")
    });
    let service = Service::install("plimsoll-life", Config::of(&[&api]));
    assert!(service.done(&["start"]).contains("runs"));
    service.wait_state("Running");
    let front = service.config.front;
    assert_eq!(Client::connect(front).get("/").text(), "a");
    service.control("interrogate");

    service.control("pause");
    service.wait_state("Paused");
    let mut refused = Client::connect(front);
    refused.expect_end();
    assert!(std::net::TcpListener::bind(front).is_err(), "the address is kept");
    service.control("continue");
    service.wait_state("Running");
    assert_eq!(Client::connect(front).get("/").text(), "a");

    let quiet = service.config.clone().set("runtime", "watch", "false");
    service.folder.write("plimsoll.toml", quiet.text());
    service.wait_log("\"trigger\":\"file\"");
    service.folder.write("plimsoll.toml", quiet.clone().retry("retries", 1).text());
    service.control("paramchange");
    service.wait_log("\"trigger\":\"signal\"");
    service.done(&["reload"]);

    let mut client = Client::connect(front);
    let before = api.count();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    api.wait_for(before + 1);
    assert!(service.done(&["stop"]).contains("stopped"));
    assert_eq!(client.response().text(), "a");
    service.wait_log("every request was finished");
    service.wait_state("Stopped");
}

#[test]
#[ignore = "needs Wine: `bash tests/windows/run.sh`"]
fn a_service_that_cannot_start_says_why() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let service = Service::install("plimsoll-why", Config::of(&[&Instance::named("a")]));
    service.folder.write("plimsoll.toml", "[listener]\n");
    let said = service.ask(&["start"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(text(&said).contains("its configuration has a mistake"), "{}", text(&said));

    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = service.config.clone().listener("bind", format!("\"{}\"", holder.local_addr().unwrap()));
    service.folder.write("plimsoll.toml", taken.set("runtime", "bind_wait", "\"0s\"").text());
    let said = service.ask(&["start"]);
    assert!(text(&said).contains("cannot have an address"), "{}", text(&said));
    service.wait_log("start failed");
    let status = service.ask(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status).contains("ended because  it cannot have an address"), "{}", text(&status));
}

#[test]
#[ignore = "needs Wine: `bash tests/windows/run.sh`"]
fn installing_checks_the_configuration_sets_the_registry_and_may_be_done_again() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let service = Service::install("plimsoll-set", Config::of(&[&Instance::named("a")]));
    assert!(service.value("Start").contains("0x2"), "{}", service.value("Start"));
    assert!(service.value("Type").contains("0x10"), "{}", service.value("Type"));
    let account = service.value("ObjectName");
    assert!(account.contains(&format!(r"NT SERVICE\{}", service.name)), "{account}");
    let program = service.value("ImagePath");
    assert!(program.contains("plimsoll.exe") && program.contains("run --config Z:\\"), "{program}");
    // linger, drain_timeout of 5 s, and 10 s.
    assert!(service.value("PreshutdownTimeout").contains("0x3a98"), "{}", service.value("PreshutdownTimeout"));

    let again = service.done(&["install", "--account", "LocalSystem", "--config", service.path().to_str().unwrap()]);
    assert!(again.contains("set anew") && again.contains("LocalSystem may do anything"), "{again}");

    service.folder.write("plimsoll.toml", "[listener]\n");
    let said = service.ask(&["install", "--config", service.path().to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    assert!(text(&said).contains("error: "), "{}", text(&said));

    let nobody = run(&["service", "start", "--name", "no-such-service"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("plimsoll service install"), "{}", text(&nobody));
}
