//! Clients that come back resume their sessions: by tickets, over reloads, and at another node that shares the keys.

use std::net::SocketAddr;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::support::folder::Folder;
use crate::support::tls::{Authority, TlsClient};
use crate::support::{Config, Instance, Proxy, eventually};

struct Setup {
    authority: Authority,
    folder: Folder,
    instance: Instance,
}

impl Setup {
    fn new() -> Self {
        Self { authority: Authority::new(), folder: Folder::new(), instance: Instance::named("a") }
    }

    /// A node with the same certificate as all others.
    fn config(&self, more: &[(&str, &str)]) -> Config {
        let files = if self.folder.path().join("a.pem").exists() {
            let path = |extension: &str| self.folder.path().join(format!("a.{extension}")).display().to_string();
            format!("{{ certificate = '{}', key = '{}' }}", path("pem"), path("key"))
        } else {
            self.authority.issue(&["localhost"]).write(&self.folder, "a")
        };
        let config = Config::of(&[&self.instance]).set("listener.tls", "certificates", format!("[{files}]"));
        more.iter().fold(config, |config, (key, value)| config.set("listener.tls", key, value))
    }

    /// A file of keys, each 80 times the same byte.
    fn keys(&self, bytes: &[u8]) -> String {
        let keys: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; 80]).collect();
        format!("'{}'", self.folder.write_secret("tickets.keys", keys).display())
    }

    fn client(&self) -> TlsClient {
        self.authority.client()
    }
}

/// How the handshake went; reads an answer, since tickets come before it.
fn visit(client: &TlsClient, address: SocketAddr) -> HandshakeKind {
    let mut shaken = client.shake(address);
    assert_eq!(shaken.client.get("/").status(), 200);
    shaken.agreed.kind
}

const FULL: HandshakeKind = HandshakeKind::Full;
const RESUMED: HandshakeKind = HandshakeKind::Resumed;

#[test]
fn a_client_that_comes_back_resumes_its_session_also_after_a_reload() {
    let setup = Setup::new();
    let config = setup.config(&[]);
    let proxy = config.clone().start();
    for (version, label) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        let client = setup.client().versions(&[version], &setup.authority);
        assert_eq!(visit(&client, proxy.front), FULL, "{label}");
        assert_eq!(visit(&client, proxy.front), RESUMED, "{label}");
        let reloaded = config.clone().listener("request_fields_max", if label == "1.2" { 90 } else { 80 });
        assert_eq!(proxy.reload(&reloaded).status(), 200);
        assert_eq!(visit(&client, proxy.front), RESUMED, "{label}, after a reload");
        let count = |session: &str| {
            let labels = [("listener", "front"), ("version", label), ("session", session)];
            proxy.metrics().sum("plimsoll_tls_handshakes_total", &labels)
        };
        assert_eq!((count("full"), count("resumed")), (1.0, 2.0), "{label}");
    }
}

#[test]
fn another_node_resumes_sessions_if_it_shares_the_keys_and_only_then() {
    let setup = Setup::new();
    let keys = setup.keys(&[1]);
    let one = setup.config(&[("ticket_keys", &keys)]).start();
    let two = setup.config(&[("ticket_keys", &keys)]).start();
    let stranger = setup.config(&[]).start();
    let client = setup.client();
    assert_eq!(visit(&client, one.front), FULL);
    assert_eq!(visit(&client, two.front), RESUMED);
    assert_eq!(visit(&client, stranger.front), FULL);
}

#[test]
fn keys_are_turned_by_a_change_of_their_file_and_old_tickets_hold_until_their_key_goes() {
    let setup = Setup::new();
    let proxy = setup.config(&[("ticket_keys", &setup.keys(&[1]))]).start();
    let old = setup.client();
    assert_eq!(visit(&old, proxy.front), FULL);
    let taken = |count: f64| {
        eventually("the new keys", || {
            (proxy.metrics().sum("plimsoll_tls_files_changed_total", &[("result", "success")]) >= count).then_some(())
        });
    };
    setup.keys(&[2, 1]);
    taken(1.0);
    let new = setup.client();
    assert_eq!(visit(&new, proxy.front), FULL);
    assert_eq!(visit(&old, proxy.front), RESUMED);
    let left_behind = setup.client();
    setup.keys(&[1]);
    taken(2.0);
    assert_eq!(visit(&left_behind, proxy.front), FULL);
    setup.keys(&[2]);
    taken(3.0);
    assert_eq!(visit(&new, proxy.front), RESUMED);
    assert_eq!(visit(&left_behind, proxy.front), FULL);
}

#[test]
fn without_tickets_nothing_is_resumed() {
    let setup = Setup::new();
    let proxy = setup.config(&[("tickets", "0")]).start();
    for version in [&TLS12, &TLS13] {
        let client = setup.client().versions(&[version], &setup.authority);
        assert_eq!(visit(&client, proxy.front), FULL);
        assert_eq!(visit(&client, proxy.front), FULL);
    }
}

#[test]
fn keys_of_the_wrong_size_are_refused_and_the_old_ones_stay() {
    let setup = Setup::new();
    let proxy: Proxy = setup.config(&[("ticket_keys", &setup.keys(&[1]))]).start();
    let client = setup.client();
    assert_eq!(visit(&client, proxy.front), FULL);
    setup.folder.write_secret("tickets.keys", [0; 79]);
    proxy.wait_event("the refusal", |event| event["problem"].as_str().is_some_and(|text| text.contains("80 bytes")));
    assert_eq!(visit(&client, proxy.front), RESUMED);
}
