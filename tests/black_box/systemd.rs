//! Below systemd: it hears when the proxy serves and when it ends, and the unit says what the program does.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::support::folder::Folder;
use crate::support::proxy::{binary, signal};
use crate::support::wait::seconds;
use crate::support::{Client, Config, Instance};

/// Starts the proxy with this `NOTIFY_SOCKET`, and ends it.
fn is_told(socket: &UnixDatagram, name: &str) {
    let api = Instance::named("a");
    let config = Config::of(&[&api]).set("runtime", "drain_timeout", "\"7s\"");
    let folder = Folder::new();
    let path = folder.write("plimsoll.toml", config.text());
    let mut command = binary();
    command.args(["run", "--config"]).arg(path).env("NOTIFY_SOCKET", name).stdout(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    socket.set_read_timeout(Some(seconds(10))).unwrap();
    let told = || {
        let mut text = [0; 500];
        let length = socket.recv(&mut text).expect("systemd is told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert!(told().starts_with("STATUS="));
    assert!(told().starts_with("READY=1\n"));
    assert_eq!(Client::connect(config.front).get("/").status(), 200, "it serves when it says so");
    signal(child.id(), "TERM");
    let end = told();
    assert!(end.starts_with("STOPPING=1\n") && end.ends_with("EXTEND_TIMEOUT_USEC=17000000"), "{end}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn systemd_hears_when_it_serves_and_when_it_ends() {
    let folder = Folder::new();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    is_told(&socket, path.to_str().unwrap());
}

#[test]
fn systemd_may_listen_at_an_abstract_name() {
    let name = format!("plimsoll-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    is_told(&socket, &format!("@{name}"));
}

#[test]
fn the_unit_waits_for_ready_and_reloads_by_command() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/plimsoll.service");
    let unit = std::fs::read_to_string(path).unwrap();
    for wanted in ["Type=notify\n", "ExecStart=/usr/bin/plimsoll run --config ", "ExecReload=/usr/bin/plimsoll reload "]
    {
        assert!(unit.contains(wanted), "{wanted}");
    }
}
