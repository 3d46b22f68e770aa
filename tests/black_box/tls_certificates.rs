//! Certificates and ticket keys are replaced while clients are served, and what is broken replaces nothing.

use rcgen::date_time_ymd;

use crate::support::folder::Folder;
use crate::support::tls::{Authority, Issued, der};
use crate::support::{Config, Instance, Proxy, eventually};

/// A proxy with one certificate, in files that a test can change.
struct Setup {
    authority: Authority,
    folder: Folder,
    /// Its requests are answered by it.
    _instance: Instance,
    proxy: Proxy,
}

fn start() -> (Setup, Issued) {
    let (authority, folder) = (Authority::new(), Folder::new());
    let first = authority.issue(&["localhost"]);
    let files = first.write(&folder, "a");
    let instance = Instance::named("a");
    let proxy = Config::of(&[&instance]).set("listener.tls", "certificates", format!("[{files}]")).start();
    (Setup { authority, folder, _instance: instance, proxy }, first)
}

impl Setup {
    fn shown(&self) -> Vec<u8> {
        self.authority.client().shake(self.proxy.front).agreed.certificate
    }

    fn counted(&self, result: &str) -> f64 {
        self.proxy.metrics().sum("plimsoll_tls_files_changed_total", &[("result", result)])
    }

    /// Changes the files, and asserts that they are refused for this reason and change nothing.
    #[track_caller]
    fn refuses(&self, what: &str, reason: &str, change: impl FnOnce()) {
        let (shown, refused) = (self.shown(), self.counted("refused"));
        change();
        eventually(what, || (self.counted("refused") > refused).then_some(()));
        let line = eventually(what, || {
            self.proxy.lines().into_iter().find(|line| line.contains("file refused") && line.contains(reason))
        });
        assert!(line.contains("plimsoll.toml:"), "{line}");
        assert_eq!(self.shown(), shown, "{what}");
    }
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_and_connections_live_on() {
    let (setup, first) = start();
    let mut old = setup.authority.client().connect(setup.proxy.front);
    assert_eq!(old.get("/").status(), 200);
    assert_eq!(setup.shown(), der(&first.pem));
    let second = setup.authority.issue(&["localhost"]);
    second.write(&setup.folder, "a");
    eventually("the new certificate", || (setup.shown() == der(&second.pem)).then_some(()));
    assert_eq!(old.get("/").status(), 200, "the connection from before");
    assert!(setup.counted("success") >= 1.0);
}

#[test]
fn a_new_certificate_is_taken_by_a_reload_also_where_files_are_not_watched() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let files = authority.issue(&["localhost"]).write(&folder, "a");
    let instance = Instance::named("a");
    let config = Config::of(&[&instance]).set("runtime", "watch", false);
    let proxy = config.set("listener.tls", "certificates", format!("[{files}]")).start();
    let second = authority.issue(&["localhost"]);
    second.write(&folder, "a");
    assert_eq!(proxy.admin_post("/reload", "").status(), 200);
    assert_eq!(authority.client().shake(proxy.front).agreed.certificate, der(&second.pem));
}

#[test]
fn broken_files_are_refused_while_running_and_the_old_certificate_stays() {
    let (setup, first) = start();
    let write = |name: &str, text: &str| drop(setup.folder.write(name, text));
    setup.refuses("half of a pair", "does not belong to the certificate", || {
        write("a.pem", &setup.authority.issue(&["localhost"]).pem);
    });
    setup.refuses("garbage", "is not a PEM file", || write("a.pem", "garbage"));
    setup.refuses("nothing", "is empty", || write("a.pem", ""));
    let expired = setup.authority.issue_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(2011, 1, 1);
    });
    setup.refuses("an expired certificate", "expired on 2011-01-01", || {
        setup.folder.write_secret("a.key", &expired.key);
        write("a.pem", &expired.pem);
    });
    setup.refuses("no file", "cannot be read", || std::fs::remove_file(setup.folder.path().join("a.pem")).unwrap());
    assert_eq!(setup.shown(), der(&first.pem));
    let repaired = setup.authority.issue(&["localhost"]);
    repaired.write(&setup.folder, "a");
    eventually("the repaired files", || (setup.shown() == der(&repaired.pem)).then_some(()));
}

#[test]
fn a_certificate_is_renewed_though_somebody_left_a_mistake_in_the_configuration() {
    let (setup, _) = start();
    setup.proxy.write_config("nonsense = 1\n");
    setup
        .proxy
        .wait_event("the mistake is refused", |event| event["error"].as_str().is_some_and(|e| e.contains("nonsense")));
    let second = setup.authority.issue(&["localhost"]);
    second.write(&setup.folder, "a");
    eventually("the new certificate", || (setup.shown() == der(&second.pem)).then_some(()));
}

#[test]
fn expiry_is_a_metric_and_a_warning() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let soon = authority.issue_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(5 * 86_400)).into();
    });
    let files = soon.write(&folder, "soon");
    let instance = Instance::named("a");
    let proxy = Config::of(&[&instance]).set("listener.tls", "certificates", format!("[{files}]")).start();
    let line = eventually("the warning", || {
        proxy.lines().into_iter().find(|line| line.contains("certificate expires in less than 7 days"))
    });
    assert!(line.contains("soon.pem"), "{line}");
    let until = proxy.metrics().sum("plimsoll_tls_certificate_not_after_timestamp_seconds", &[("listener", "front")]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((until - now - 5.0 * 86_400.0).abs() < 120.0, "{until}");
}
