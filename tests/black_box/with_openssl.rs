//! Clients that have nothing in common with our own TLS: OpenSSL's, by its command line.

use std::io::Write;
use std::process::{Command, Stdio};

use rcgen::{KeyPair, PKCS_RSA_SHA256};

use crate::support::folder::Folder;
use crate::support::tls::Authority;
use crate::support::{Config, Instance, Proxy};

struct Setup {
    folder: Folder,
    _instance: Instance,
    proxy: Proxy,
}

/// With an ECDSA and an RSA certificate for the same name.
fn start() -> Setup {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.write("ca.pem", authority.pem());
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let files = [
        authority.issue(&["localhost"]).write(&folder, "ecdsa"),
        authority.issue_for(&["localhost"], &rsa, |_| ()).write(&folder, "rsa"),
    ];
    let instance = Instance::named("a");
    let config = Config::of(&[&instance]).set("listener.tls", "certificates", format!("[{}]", files.join(", ")));
    Setup { folder, _instance: instance, proxy: config.start() }
}

impl Setup {
    /// What `openssl s_client` says, which sends one request.
    fn ask(&self, arguments: &[&str]) -> String {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &self.proxy.front.to_string(), "-servername", "localhost", "-ign_eof"])
            .args(["-verify_return_error", "-CAfile"])
            .arg(self.folder.path().join("ca.pem"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl");
        let mut input = client.stdin.take().unwrap();
        // It has left already where the handshake failed.
        let _sent = input.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        drop(input);
        let output = client.wait_with_output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

#[test]
fn openssl_is_served_with_either_version_and_either_kind_of_key() {
    let setup = start();
    for (arguments, expected) in [
        (&["-tls1_3"][..], "TLSv1.3, Cipher is TLS_"),
        (&["-tls1_2"][..], "TLSv1.2, Cipher is ECDHE-ECDSA-"),
        (&["-tls1_2", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"][..], "TLSv1.2, Cipher is ECDHE-RSA-"),
        (&["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"][..], "Peer signature type: RSA-PSS"),
    ] {
        let said = setup.ask(arguments);
        assert!(said.contains(expected) && said.contains("HTTP/1.1 200"), "{arguments:?}: {said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{arguments:?}: {said}");
    }
}

#[test]
fn openssl_cannot_use_what_is_broken() {
    let setup = start();
    for arguments in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1_2", "-cipher", "AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0"][..],
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256:@SECLEVEL=0"][..],
    ] {
        let said = setup.ask(arguments);
        assert!(said.contains("alert") && !said.contains("HTTP/1.1"), "{arguments:?}: {said}");
    }
}
