//! Clients prove who they are with a certificate, instances are told, and nobody else can tell them so.

use std::io;

use crate::support::folder::Folder;
use crate::support::message::{Head, Response};
use crate::support::tls::{Authority, Issued, TlsClient, der};
use crate::support::{Config, Instance, Proxy, eventually};

/// A proxy that knows an authority of clients, and what clients need.
struct Setup {
    servers: Authority,
    clients: Authority,
    folder: Folder,
    instance: Instance,
    config: Config,
    proxy: Proxy,
}

const FIELDS: [&str; 5] =
    ["client-cert", "client-cert-chain", "x-client-cert-subject", "x-client-cert-san", "x-client-cert-fingerprint"];

impl Setup {
    /// Asks clients by this word, and has these further keys of `[listener.tls]` and more sections.
    fn start(word: &str, more: &[(&str, &str)], sections: &str) -> Self {
        let (servers, clients, folder) = (Authority::named("Servers"), Authority::named("Clients"), Folder::new());
        let files = servers.issue(&["localhost"]).write(&folder, "localhost");
        let roots = folder.write("clients.pem", clients.pem());
        folder.write("revoked.pem", clients.revocations(&[7], 4000));
        let instance = Instance::named("a");
        let config = Config::of(&[&instance])
            .set("listener.tls", "certificates", format!("[{files}]"))
            .set("listener.tls", "client_certificate", format!("'{word}'"))
            .set("listener.tls", "client_roots", format!("'{}'", roots.display()))
            .and(sections);
        let with = |config: Config, (key, value): &(&str, &str)| {
            config.set("listener.tls", key, value.replace("FOLDER", &folder.path().display().to_string()))
        };
        let config = more.iter().fold(config, with);
        let proxy = config.clone().start();
        Self { servers, clients, folder, instance, config, proxy }
    }

    /// One that shows nothing.
    fn client(&self) -> TlsClient {
        self.servers.client()
    }

    /// A certificate for a client.
    fn issue(&self, serial: u64) -> Issued {
        self.clients.issue_with(&["client.test"], |params| params.serial_number = Some(serial.into()))
    }

    fn failures(&self, reason: &str) {
        let labels = [("listener", "front"), ("reason", reason)];
        eventually(&format!("a failure by {reason}"), || {
            (self.proxy.metrics().sum("plimsoll_tls_handshake_failures_total", &labels) > 0.0).then_some(())
        });
    }

    /// A request that may come to nothing: in TLS 1.3 the client learns after its handshake that it is not wanted.
    fn ask(&self, client: &TlsClient) -> io::Result<Response> {
        let mut client = client.try_shake(self.proxy.front)?.client;
        client.wire.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        client.wire.read_response_to("GET")
    }
}

fn told(head: &Head) -> Vec<&'static str> {
    FIELDS.into_iter().filter(|field| head.has(field)).collect()
}

#[test]
fn instance_is_told_who_the_client_has_proven_to_be() {
    let setup = Setup::start("required", &[], "");
    let us = setup.issue(1);
    let mut client = setup.client().showing(&us).connect(setup.proxy.front);
    client.send(
        "GET /who HTTP/1.1\r\nHost: localhost\r\nClient-Cert: :AAAA:\r\nX-Client-Cert-Subject: CN=admin\r\n\
         x_client_cert_fingerprint: 00\r\nClient_Cert: :AAAA:\r\n\r\n",
    );
    assert_eq!(client.response().status(), 200);
    let head = setup.instance.last().head;
    assert_eq!(head.all("client-cert").len(), 1);
    let der = der(&us.pem);
    let value = head.field("client-cert").unwrap_or_default();
    assert!(
        value.starts_with(":MII") && value.ends_with(':') && value.len() == der.len().div_ceil(3) * 4 + 2,
        "{value}"
    );
    assert_eq!(head.all("x-client-cert-subject"), ["CN=client.test"]);
    assert_eq!(head.all("x-client-cert-san"), ["DNS:client.test"]);
    let fingerprint = head.all("x-client-cert-fingerprint")[0].to_owned();
    assert!(fingerprint.len() == 64 && !head.has("x_client_cert_fingerprint") && !head.has("client_cert"));
    assert_eq!(setup.proxy.wait_access("/who")["client_certificate"], fingerprint.as_str());
    // A session that is resumed is the same client's.
    let showing = setup.client().showing(&us);
    let mut first = showing.connect(setup.proxy.front);
    assert_eq!(first.get("/first").status(), 200);
    let shaken = showing.shake(setup.proxy.front);
    let mut again = shaken.client;
    assert_eq!(again.get("/again").status(), 200);
    assert_eq!(shaken.agreed.kind, rustls::HandshakeKind::Resumed);
    assert_eq!(setup.instance.last().head.all("x-client-cert-fingerprint"), [fingerprint.as_str()]);
}

#[test]
fn client_without_a_good_certificate_does_not_come_in_and_the_reason_is_counted() {
    let setup = Setup::start("required", &[("client_revocations", "'FOLDER/revoked.pem'")], "");
    assert_eq!(setup.ask(&setup.client().showing(&setup.issue(1))).expect("a good one").status(), 200);
    let strange = Authority::named("Strangers").issue(&["client.test"]);
    let expired = setup.clients.issue_with(&["client.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    for (shown, reason) in [
        (None, "client_certificate_missing"),
        (Some(strange), "client_certificate_unknown_issuer"),
        (Some(expired), "client_certificate_expired"),
        (Some(setup.issue(7)), "client_certificate_revoked"),
    ] {
        let client = shown.as_ref().map_or_else(|| setup.client(), |issued| setup.client().showing(issued));
        assert!(setup.ask(&client).is_err(), "{reason}");
        setup.failures(reason);
    }
    assert_eq!(setup.instance.count(), 1);
}

#[test]
fn where_a_certificate_is_optional_a_route_can_require_it() {
    let routes = "[[route]]\npath = '/'\npool = 'api'\n\
        [[route]]\nname = 'inner'\npath = '/inner'\npool = 'api'\nclient_certificate = 'required'\n";
    let setup = Setup::start("optional", &[], routes);
    let mut nobody = setup.client().connect(setup.proxy.front);
    assert_eq!(nobody.get("/outer").status(), 200);
    assert!(told(&setup.instance.last().head).is_empty());
    let refused = nobody.get("/inner/x");
    assert_eq!((refused.status(), refused.cause().as_str()), (403, "client_certificate_required"));
    assert_eq!(setup.instance.count(), 1);
    let mut somebody = setup.client().showing(&setup.issue(1)).connect(setup.proxy.front);
    assert_eq!(somebody.get("/inner/x").status(), 200);
    assert_eq!(told(&setup.instance.last().head).len(), 4);
    let stranger = setup.client().showing(&Authority::named("Strangers").issue(&["client.test"]));
    assert!(setup.ask(&stranger).is_err(), "a bad one is not as good as none");
}

#[test]
fn without_tls_nobody_tells_of_a_certificate_but_a_trusted_proxy() {
    let api = Instance::named("a");
    let asked = "POST / HTTP/1.1\r\nHost: a\r\nClient-Cert: :AAAA:\r\nCLIENT-CERT-CHAIN: :AAAA:\r\n\
        X-Client-Cert-Subject: CN=admin\r\nx-client-cert-san: DNS:a\r\nX-Client-Cert-Fingerprint: 00\r\n\
        X_Client_Cert_Subject: CN=admin\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Client_Cert-SAN: DNS:b\r\nX-T: 1\r\n\r\n";
    let proxy = Config::of(&[&api]).start();
    assert_eq!(proxy.send(asked).status(), 200);
    let seen = api.wait_for(1).remove(0);
    assert!(told(&seen.head).is_empty() && !seen.head.has("x_client_cert_subject"), "{:?}", seen.head);
    assert_eq!(seen.trailers, [("X-T".to_owned(), "1".to_owned())]);
    let proxy = Config::of(&[&api]).listener("trusted_proxies", "['127.0.0.1']").start();
    assert_eq!(proxy.send(asked).status(), 200);
    let seen = api.last();
    assert_eq!(told(&seen.head).len(), 5);
    assert!(!seen.head.has("x_client_cert_subject"));
}

#[test]
fn revoked_client_is_kept_out_after_a_reload_also_by_its_session() {
    let setup = Setup::start("required", &[("client_revocations", "'FOLDER/revoked.pem'")], "");
    let showing = setup.client().showing(&setup.issue(1));
    assert_eq!(setup.ask(&showing).expect("good still").status(), 200);
    setup.folder.write("revoked.pem", setup.clients.revocations(&[1], 4000));
    assert_eq!(setup.proxy.reload(&setup.config).status(), 200);
    assert!(setup.ask(&showing).is_err());
    setup.failures("client_certificate_revoked");
    // A list that is overdue says nothing of anybody any more.
    setup.folder.write("revoked.pem", setup.clients.revocations(&[1], 2021));
    let reloaded = setup.proxy.reload(&setup.config);
    assert!(reloaded.text().contains("was to be replaced by 2021-01-01"), "{}", reloaded.text());
    assert!(setup.ask(&setup.client().showing(&setup.issue(2))).is_err());
    setup.folder.write("revoked.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    assert_eq!(setup.proxy.reload(&setup.config).status(), 422);
}
