//! What the documents show can be done as they show it.

use std::path::Path;

use toml::{Table, Value};

use crate::support::folder::Folder;
use crate::support::proxy::run;
use crate::support::tls::Authority;
use crate::support::wait::{seconds, within};
use crate::support::{Client, Proxy, ports};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Puts free ports on loopback where a configuration listens; returns where its first listener is.
fn relocate(config: &mut Table) -> std::net::SocketAddr {
    let front = ports::free();
    let listeners = config.get_mut("listener").and_then(Value::as_array_mut).unwrap();
    for (index, listener) in listeners.iter_mut().enumerate() {
        let address = if index == 0 { front } else { ports::free() };
        listener.as_table_mut().unwrap().insert("bind".into(), address.to_string().into());
    }
    front
}

/// Puts certificates where a configuration has them.
fn certify(config: &Table, folder: &Folder) {
    let listeners = config["listener"].as_array().unwrap();
    let certificates = listeners.iter().filter_map(|listener| listener.get("tls")?.get("certificates")?.as_array());
    for files in certificates.flatten() {
        let issued = Authority::new().issue(&["localhost"]);
        folder.write(files["certificate"].as_str().unwrap(), issued.pem);
        folder.write_secret(files["key"].as_str().unwrap(), issued.key);
    }
}

#[test]
fn every_example_starts_and_ends() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let shown = path.display().to_string();
        let mut config: Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let front = relocate(&mut config);
        let admin = ports::free();
        let section = config.entry("admin").or_insert_with(|| Value::Table(Table::new()));
        section.as_table_mut().unwrap().insert("bind".into(), admin.to_string().into());
        let runtime = config.entry("runtime").or_insert_with(|| Value::Table(Table::new()));
        // Its instances are elsewhere; nobody has to wait for them here.
        runtime.as_table_mut().unwrap().insert("startup_grace".into(), "100ms".into());
        runtime.as_table_mut().unwrap().insert("linger".into(), "0s".into());
        let folder = Folder::new();
        certify(&config, &folder);
        let file = folder.write("example.toml", config.to_string());
        let checked = run(&["check", &file.display().to_string()]);
        assert!(checked.status.success(), "{shown}: {}", String::from_utf8_lossy(&checked.stderr));
        let mut proxy = Proxy::launch_file(folder, &file, front, admin);
        within(seconds(15), &format!("{shown} starts"), || {
            assert!(!proxy.has_ended(), "{shown}: {}", proxy.lines().join("\n"));
            Client::try_connect(front).ok()
        });
        let answer = proxy.get("/");
        assert!(matches!(answer.status(), 200..=599), "{shown}");
        assert_eq!(proxy.admin_get("/live").status(), 200, "{shown}");
        proxy.signal("TERM");
        assert!(proxy.wait_end(seconds(15)).success(), "{shown}");
    }
    assert!(seen >= 3, "{seen} examples");
}

#[test]
fn commands_of_the_readme_are_understood() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.trim().strip_prefix("plimsoll ").or_else(|| line.trim().strip_prefix("$ plimsoll ")))
        .collect();
    for command in commands {
        let name = command.split_whitespace().next().unwrap();
        if name == "service" && !cfg!(windows) {
            // There on Windows only.
            continue;
        }
        assert!(run(&["help", name]).status.success() || name.starts_with('-'), "`plimsoll {command}`");
    }
}
