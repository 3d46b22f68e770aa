//! Plain requests are sent to `https` where that is wanted, and browsers are told to come that way only.

use crate::support::folder::Folder;
use crate::support::message::Response;
use crate::support::tls::Authority;
use crate::support::{Config, Instance, Proxy};

const YEAR: &str = "max-age=31536000; includeSubDomains; preload";

fn redirecting(api: &Instance) -> Config {
    Config::of(&[api]).listener("redirect", "\"https\"").listener("health_path", "\"/up\"").and(
        "[[route]]\npath = \"/\"\npool = \"api\"\n\
         [[route]]\nname = \"acme\"\npath = \"/.well-known/acme-challenge\"\nlisteners = [\"front\"]\npool = \"api\"\n",
    )
}

fn with_hsts(config: Config) -> Config {
    config.listener("hsts", "{ max_age = \"8760h\", include_subdomains = true, preload = true }")
}

/// A request as a load balancer that ends TLS sends it.
fn by_tls(proxy: &Proxy, target: &str) -> Response {
    proxy.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n"))
}

#[test]
fn plain_request_is_sent_to_the_same_host_path_and_query_over_tls() {
    let api = Instance::named("a");
    let proxy = redirecting(&api).start();
    let mut client = proxy.connect();
    let answer = client.send("GET /a%2fb/?c=d&e HTTP/1.1\r\nHost: A.test:8080\r\n\r\n").response();
    assert_eq!((answer.status(), answer.field("location")), (308, Some("https://A.test/a%2fb/?c=d&e")));
    assert!(answer.body.is_empty());
    // The same connection goes on, and a body does not end it.
    let answer = client.post("/form", "a=b");
    assert_eq!((answer.status(), answer.field("location")), (308, Some("https://test/form")));
    assert_eq!(api.count(), 0, "no instance saw any of it");
    assert!((proxy.metric("plimsoll_listener_requests_redirected_total", &[("listener", "front")]) - 2.0).abs() < 0.5);
    assert_eq!(proxy.wait_access("/form")["status"], 308);
}

#[test]
fn health_path_and_routes_that_name_the_listener_are_not_redirected() {
    let api = Instance::named("a");
    let proxy = redirecting(&api).start();
    assert_eq!(proxy.get("/up").status(), 200);
    assert_eq!(proxy.get("/.well-known/acme-challenge/token").status(), 200);
    assert_eq!(proxy.get("/.well-known/other").status(), 308);
    assert_eq!(api.last().head.word(1), "/.well-known/acme-challenge/token");
}

#[test]
fn what_is_not_admitted_is_refused_and_not_redirected() {
    let api = Instance::named("a");
    let proxy = redirecting(&api).start();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400),
        ("GET /../x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", 405),
    ] {
        let answer = proxy.send(request);
        assert_eq!((answer.status(), answer.field("location")), (status, None), "{request}");
    }
}

#[test]
fn another_port_of_https_is_named() {
    let api = Instance::named("a");
    let proxy = redirecting(&api).listener("redirect", "\"https:8443\"").start();
    assert_eq!(proxy.get("/x").field("location"), Some("https://test:8443/x"));
}

#[test]
fn only_a_trusted_proxy_can_say_that_its_client_came_by_tls() {
    let api = Instance::named("a");
    let proxy = with_hsts(redirecting(&api)).start();
    let stranger = by_tls(&proxy, "/");
    assert_eq!((stranger.status(), stranger.field("strict-transport-security")), (308, None));
    let proxy = with_hsts(redirecting(&api)).listener("trusted_proxies", "[\"127.0.0.1\"]").start();
    assert_eq!(by_tls(&proxy, "/").status(), 200);
    assert_eq!(proxy.get("/").status(), 308);
}

#[test]
fn hsts_is_in_every_answer_over_tls_and_in_none_without() {
    let api = Instance::named("a").answering(
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\
         strict-transport-security: max-age=2\r\n\r\nhi",
    );
    let config = with_hsts(Config::of(&[&api]))
        .listener("trusted_proxies", "[\"127.0.0.1\"]")
        .listener("health_path", "\"/up\"")
        .and("[[route]]\npath = \"/api\"\npool = \"api\"\n");
    let proxy = config.start();
    let trace = "OPTIONS /api HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\nX-Forwarded-Proto: https\r\n\r\n";
    for (answer, status) in [
        (by_tls(&proxy, "/api"), 200),
        (by_tls(&proxy, "/up"), 200),
        (by_tls(&proxy, "/nowhere"), 404),
        (proxy.send(trace), 200),
    ] {
        assert_eq!(answer.status(), status);
        assert_eq!(answer.head.all("strict-transport-security"), [YEAR], "{status}: {:?}", answer.head);
    }
    for (path, own) in [("/api", &["max-age=1", "max-age=2"][..]), ("/up", &[]), ("/nowhere", &[])] {
        let answer = proxy.get(path);
        assert_eq!(answer.head.all("strict-transport-security"), own, "an instance's own passes: {path}");
    }
}

#[test]
fn plain_client_finds_its_way_to_tls_and_is_told_to_stay() {
    let (api, authority, folder) = (Instance::named("a"), Authority::new(), Folder::new());
    let files = authority.issue(&["localhost"]).write(&folder, "localhost");
    let plain = crate::support::ports::free();
    let config = with_hsts(Config::of(&[&api])).set("listener.tls", "certificates", format!("[{files}]"));
    let port = config.front.port();
    let proxy = config.and(&format!("[[listener]]\nbind = '{plain}'\nredirect = 'https:{port}'\n")).start();
    let answer = crate::support::Client::connect(plain).send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").response();
    let location = format!("https://localhost:{port}/x");
    assert_eq!((answer.status(), answer.field("location")), (308, Some(location.as_str())));
    assert!(!answer.head.has("strict-transport-security"));
    let mut client = authority.client().connect(proxy.front);
    assert_eq!(client.get("/x").head.all("strict-transport-security"), [YEAR]);
}
