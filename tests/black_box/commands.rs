//! The command line.

use std::process::Output;

use crate::support::proxy::{binary, run, under_wine};
use crate::support::{Config, Instance, Proxy, folder::Folder};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// Runs a client command against a running proxy.
fn ask(proxy: &Proxy, arguments: &[&str]) -> Output {
    binary().args(arguments).arg("--config").arg(proxy.config_path()).output().unwrap()
}

#[test]
fn version_and_help_are_there() {
    let version = run(&["--version"]);
    assert!(version.status.success() && text(&version).contains(env!("CARGO_PKG_VERSION")));
    let help = run(&["help"]);
    assert!(help.status.success());
    for command in ["run", "check", "diff", "status", "reload", "drain", "enable", "off", "demo"] {
        assert!(text(&help).contains(command), "{command} is not in\n{}", text(&help));
        let of_command = run(&["help", command]);
        assert!(of_command.status.success() && text(&of_command).contains("Usage"), "{command}");
    }
}

#[test]
fn misuse_exits_with_64() {
    for arguments in [
        &["fly"][..],
        &["run", "--confg", "x"],
        &["check"],
        &["drain"],
        &["drain", "noslash"],
        &["status", "x", "y"],
        &[],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn run_without_a_usable_file_exits_with_1_and_says_why() {
    let output = run(&["run", "--config", "/nonexistent/plimsoll.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("/nonexistent/plimsoll.toml"), "{}", text(&output));
}

#[test]
fn run_on_a_taken_port_exits_with_1_and_names_it() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let api = Instance::named("a");
    let folder = Folder::new();
    let config = Config::of(&[&api]).listener("bind", format!("\"{taken}\"")).set("runtime", "bind_wait", "\"0s\"");
    let path = folder.write("p.toml", config.text());
    let output = run(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&taken.to_string()), "{}", text(&output));
    // Whoever has it is this test.
    let holder = format!("(process {})", std::process::id());
    assert!(!cfg!(target_os = "linux") || under_wine() || text(&output).contains(&holder), "{}", text(&output));
}

#[test]
fn run_waits_for_a_port_that_the_process_before_it_still_has() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::of(&[&Instance::named("a")]).set("runtime", "bind_wait", "\"1m\"");
    config.front = holder.local_addr().unwrap();
    let config = config.clone().listener("bind", format!("\"{}\"", config.front));
    let proxy = Proxy::launch(&config);
    proxy.wait_event("it tries again", |event| event["message"] == "address not to be had yet, trying again");
    drop(holder);
    proxy.wait_event("it is ready", |event| event["message"] == "ready");
}

#[test]
fn check_prints_all_errors_at_once_and_the_detection_time_of_each_pool() {
    let api = Instance::named("a");
    let folder = Folder::new();
    let good = folder
        .write("good.toml", "[[listener]]\nbind = \"127.0.0.1:8080\"\n[pool.api]\ninstances = [\"127.0.0.1:9001\"]\n");
    let output = run(&["check", good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("api") && said.contains("16.5") && said.contains("18.5"), "{said}");

    let broken =
        Config::of(&[&api]).probe("intervall", "\"1s\"").pool("balance", "\"fastest\"").retry("retries", "\"many\"");
    let bad = folder.write("bad.toml", broken.text());
    let output = run(&["check", bad.to_str().unwrap(), good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    for wanted in ["intervall", "fastest", "retries", "bad.toml:", "^", "hint"] {
        assert!(said.contains(wanted), "{wanted} is not in\n{said}");
    }
}

#[test]
fn minimal_file_of_the_readme_is_right() {
    let folder = Folder::new();
    let path = folder.write(
        "m.toml",
        "[[listener]]\nbind = \"0.0.0.0:8080\"\n\n[pool.api]\ninstances = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]\n",
    );
    let output = run(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn status_shows_each_instance_and_drain_and_enable_change_it() {
    let (a, b) = (Instance::named("a"), Instance::named("b").unhealthy());
    let proxy = Config::of(&[&a, &b]).start();
    let shown = text(&ask(&proxy, &["status"]));
    for wanted in ["api", "a", "b", "up", "down", "503"] {
        assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
    }
    let json = ask(&proxy, &["status", "--json"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok(), "{}", text(&json));

    let drained = ask(&proxy, &["drain", "api/a", "--why", "kernel update"]);
    assert!(drained.status.success(), "{}", text(&drained));
    assert_eq!(proxy.instance_status("a")["admin"], "drain");
    assert!(text(&ask(&proxy, &["status"])).contains("kernel update"));
    assert!(ask(&proxy, &["off", "api/a"]).status.success());
    assert_eq!(proxy.instance_status("a")["admin"], "off");
    assert!(ask(&proxy, &["enable", "api/a"]).status.success());
    assert_eq!(proxy.instance_status("a")["admin"], "active");

    let unknown = ask(&proxy, &["drain", "api/c"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn diff_shows_what_reload_then_does() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a]).set("runtime", "watch", false);
    let proxy = config.clone().start();
    let next = config.instance(&b);
    let folder = Folder::new();
    let path = folder.write("next.toml", next.text());
    let shown = ask(&proxy, &["diff", path.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", text(&shown));
    assert!(text(&shown).contains("instance api/b"), "{}", text(&shown));
    assert!((proxy.metric("plimsoll_config_generation", &[]) - 1.0).abs() < 0.1, "diff changes nothing");

    proxy.write_config(&next.text());
    let reloaded = ask(&proxy, &["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    assert!((proxy.metric("plimsoll_config_generation", &[]) - 2.0).abs() < 0.1);
}

#[test]
fn reload_command_fails_with_the_reason_and_can_force() {
    let (a, dead) = (Instance::named("a"), Instance::named("dead").unhealthy());
    let config = Config::of(&[&a]).set("runtime", "watch", false);
    let proxy = config.clone().start();
    proxy.write_config(&config.without_instances().instance(&dead).text());
    let refused = ask(&proxy, &["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("force"), "{}", text(&refused));
    assert!(ask(&proxy, &["reload", "--force"]).status.success());
}

#[test]
fn commands_use_the_token_of_the_configuration() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("admin", "token", "\"s3cret-s3cret-s3cret\"").start();
    let shown = ask(&proxy, &["status"]);
    assert!(shown.status.success(), "{}", text(&shown));
    let admin = proxy.admin.to_string();
    let without = run(&["status", "--admin", &admin, "--config", "/nonexistent.toml"]);
    assert_eq!(without.status.code(), Some(1), "{}", text(&without));
}

#[test]
fn command_to_nobody_says_that_nobody_listens() {
    let api = Instance::named("a");
    let folder = Folder::new();
    let path = folder.write("p.toml", Config::of(&[&api]).text());
    let output = run(&["status", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output).is_empty());
}

#[test]
fn demo_once_kills_an_instance_and_fails_no_request() {
    let output = run(&["demo", "--once"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("requests"), "{}", text(&output));
}
