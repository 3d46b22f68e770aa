//! Reload: all or nothing, and no client notices.

use std::os::unix::fs::symlink;

use crate::support::folder::Folder;
use crate::support::instance::Then;
use crate::support::load::Load;
use crate::support::wait::{eventually, millis, pause, seconds, within};
use crate::support::{Client, Config, Instance, Proxy, ports};

fn generation(proxy: &Proxy) -> u64 {
    proxy.metric("plimsoll_config_generation", &[]) as u64
}

#[track_caller]
fn wait_generation(proxy: &Proxy, wanted: u64) {
    within(seconds(15), &format!("generation {wanted}"), || (generation(proxy) == wanted).then_some(()));
}

#[test]
fn post_reload_applies_the_file_and_says_what_changed() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a]).set("runtime", "watch", false);
    let proxy = config.clone().start();
    let answer = proxy.reload(&config.without_instances().instance(&b));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(answer.text().contains('b'), "{}", answer.text());
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said["generation"], 2);
    assert!(said["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{said:#}");
    assert_eq!(proxy.get("/").text(), "b");
    proxy.wait_event("the reload", |event| event["generation"] == 2);
}

#[test]
fn sighup_reloads() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a]).set("runtime", "watch", false);
    let proxy = config.clone().start();
    proxy.write_config(&config.without_instances().instance(&b).text());
    proxy.signal("HUP");
    wait_generation(&proxy, 2);
    assert_eq!(proxy.get("/").text(), "b");
}

#[test]
fn changed_file_is_applied_however_it_was_written() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a]);
    let proxy = config.clone().start();
    let texts = [config.clone().without_instances().instance(&b).text(), config.text()];
    let path = proxy.config_path();
    let temporary = path.with_extension("tmp");
    // Written over, replaced by a rename, removed and written anew.
    let ways: [&dyn Fn(&str); 3] = [
        &|text| std::fs::write(&path, text).unwrap(),
        &|text| {
            std::fs::write(&temporary, text).unwrap();
            std::fs::rename(&temporary, &path).unwrap();
        },
        &|text| {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, text).unwrap();
        },
    ];
    for (index, way) in ways.iter().enumerate() {
        way(&texts[index % 2]);
        wait_generation(&proxy, index as u64 + 2);
        assert_eq!(proxy.get("/").text(), ["b", "a"][index % 2]);
    }
}

#[test]
fn swapped_symlinks_are_noticed_as_kubernetes_makes_them() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a]);
    let folder = Folder::new();
    let root = folder.path().to_owned();
    for (version, text) in [("v1", config.text()), ("v2", config.clone().without_instances().instance(&b).text())] {
        std::fs::create_dir(root.join(version)).unwrap();
        std::fs::write(root.join(version).join("plimsoll.toml"), text).unwrap();
    }
    symlink("v1", root.join("..data")).unwrap();
    symlink("..data/plimsoll.toml", root.join("plimsoll.toml")).unwrap();
    let proxy = Proxy::launch_file(folder, &root.join("plimsoll.toml"), config.front, config.admin);
    eventually("it serves", || {
        let mut client = Client::try_connect(proxy.front).ok()?;
        (client.get("/").text() == "a").then_some(())
    });
    symlink("v2", root.join("..data_tmp")).unwrap();
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    wait_generation(&proxy, 2);
    assert_eq!(proxy.get("/").text(), "b");
}

#[test]
fn same_text_again_changes_nothing() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]);
    let proxy = config.clone().start();
    assert_eq!(proxy.reload(&config).status(), 200);
    assert_eq!(generation(&proxy), 1);
}

#[test]
fn broken_file_changes_nothing_and_is_explained() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]).set("runtime", "watch", false);
    let proxy = config.clone().start();
    for (text, wanted) in [
        ("this is no TOML", "plimsoll.toml:1:"),
        (config.text().replace("interval", "intervall").as_str(), "interval"),
        (config.clone().pool("balance", "\"random\"").text().as_str(), "balance"),
        (config.clone().and("[[route]]\npool = \"nowhere\"\n").text().as_str(), "nowhere"),
    ] {
        proxy.write_config(text);
        let answer = proxy.admin_post("/reload", "");
        assert_eq!(answer.status(), 422, "{}", answer.text());
        assert!(answer.text().contains(wanted), "{wanted} is not in {}", answer.text());
        assert_eq!((generation(&proxy), proxy.get("/").text().as_str()), (1, "a"));
    }
    assert!(proxy.metric("plimsoll_config_reloads_total", &[]) > 3.5);
    assert!(proxy.metric("plimsoll_config_reloads_total", &[("result", "success")]) < 0.5);
    proxy.wait_event("the refusal", |event| event["level"] == "ERROR" && event.to_string().contains("nowhere"));
}

#[test]
fn file_that_vanishes_or_cannot_be_read_changes_nothing() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a]);
    let proxy = config.clone().start();
    let path = proxy.config_path();
    std::fs::remove_file(&path).unwrap();
    // Nobody asked for a reload, and still it shows.
    proxy.wait_event("the loss", |event| event["level"] == "ERROR" && event.to_string().contains("plimsoll.toml"));
    eventually("the loss is counted", || {
        (proxy.metric("plimsoll_config_reloads_total", &[("result", "invalid")]) > 0.5).then_some(())
    });
    let answer = proxy.admin_post("/reload", "");
    assert_eq!(answer.status(), 422, "{}", answer.text());
    assert!(answer.text().contains("plimsoll.toml"), "{}", answer.text());
    assert_eq!((generation(&proxy), proxy.get("/").text().as_str()), (1, "a"));
    // A folder in its place cannot be read by anybody, root included.
    std::fs::create_dir(&path).unwrap();
    assert_eq!(proxy.admin_post("/reload", "").status(), 422);
    assert_eq!(proxy.get("/").text(), "a");
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(proxy.admin_post("/reload", "").status(), 422);
    // Once it is right again it is applied without being asked.
    std::fs::write(&path, config.without_instances().instance(&b).text()).unwrap();
    wait_generation(&proxy, 2);
    assert_eq!(proxy.get("/").text(), "b");
}

#[test]
fn taken_port_changes_nothing() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]);
    let proxy = config.clone().start();
    let holder = std::net::TcpListener::bind(ports::free()).unwrap();
    let taken = holder.local_addr().unwrap();
    let answer = proxy.reload(&config.clone().listener("bind", format!("[\"{}\", \"{taken}\"]", config.front)));
    assert_eq!(answer.status(), 409, "{}", answer.text());
    assert!(answer.text().contains(&taken.to_string()), "{}", answer.text());
    assert_eq!((generation(&proxy), proxy.get("/").text().as_str()), (1, "a"));
}

#[test]
fn reload_that_would_leave_a_pool_without_instances_is_refused_unless_forced() {
    let (a, dead) = (Instance::named("a"), Instance::named("dead").unhealthy());
    let config = Config::of(&[&a]);
    let proxy = config.clone().set("runtime", "watch", false).start();
    let next = config.without_instances().instance(&dead).set("runtime", "watch", false);
    let answer = proxy.reload(&next);
    assert_eq!(answer.status(), 409, "{}", answer.text());
    assert!(answer.text().contains("api"), "{}", answer.text());
    assert_eq!(proxy.get("/").text(), "a");
    assert_eq!(proxy.admin_post("/reload?force=true", "").status(), 200);
    assert_eq!(proxy.get("/").status(), 503);
}

#[test]
fn instance_that_stays_keeps_its_verdict_and_its_connections() {
    let (a, down) = (Instance::named("a"), Instance::named("down").unhealthy());
    let config =
        Config::of(&[&a, &down]).set("runtime", "workers", 1).probe("interval", "\"30s\"").probe("timeout", "\"1s\"");
    let proxy = config.clone().start();
    proxy.get("/");
    let since = proxy.instance_status("down")["since"]["at"].clone();
    // It would pass now, but nobody has asked it yet: a reload is no reason to believe in it.
    down.set_health(200, "ok");
    assert_eq!(proxy.reload(&config.retry("retries", 1)).status(), 200);
    let status = proxy.instance_status("down");
    assert_eq!((&status["verdict"], &status["since"]["at"]), (&"down".into(), &since));
    proxy.get("/");
    let connections: Vec<_> = a.received().iter().map(|request| request.connection).collect();
    assert_eq!(connections[0], connections[1], "the connection was kept");
}

#[test]
fn changed_probe_keeps_the_verdict_and_probes_at_once() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a, &b]).probe("interval", "\"60s\"").probe("timeout", "\"1s\"");
    let proxy = config.clone().start();
    let before = a.probes() + a.count() as u64;
    assert_eq!(proxy.reload(&config.probe("path", "\"/other-health\"")).status(), 200);
    assert_eq!(proxy.instance_status("a")["verdict"], "up");
    eventually("a probe at once", || (a.probes() + a.count() as u64 > before).then_some(()));
    assert_eq!(a.last().head.word(1), "/other-health");
}

#[test]
fn new_instance_gets_nothing_before_its_first_verdict() {
    let (a, slow) = (Instance::named("a"), Instance::named("slow"));
    let config = Config::of(&[&a]).probe("interval", "\"10s\"").probe("timeout", "\"5s\"").set(
        "runtime",
        "startup_grace",
        "\"300ms\"",
    );
    let proxy = config.clone().start();
    slow.hang_probes();
    assert_eq!(proxy.reload(&config.instance(&slow)).status(), 200);
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "a");
    }
    assert_eq!(slow.count(), 0);
}

#[test]
fn removed_instance_finishes_what_it_has_and_gets_nothing_new() {
    let (old, new) = (Instance::named("old").slow(millis(500)), Instance::named("new"));
    let config = Config::of(&[&old]);
    let proxy = config.clone().start();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    old.wait_for(4);
    assert_eq!(proxy.reload(&config.without_instances().instance(&new)).status(), 200);
    for client in &mut clients {
        assert_eq!(client.response().text(), "old");
        assert_eq!(client.get("/").text(), "new", "the same connection sees the new snapshot");
    }
    assert_eq!(old.count(), 4);
    let probes = old.probes();
    eventually("its connections are closed", || (old.open() == 0).then_some(()));
    assert!(old.probes() <= probes + 1);
}

#[test]
fn snapshot_reaches_workers_that_are_idle() {
    let (old, new) = (Instance::named("old"), Instance::named("new"));
    let config = Config::of(&[&old]).set("runtime", "workers", 4);
    let proxy = config.clone().start();
    // Warm connections of all workers to the instance, then silence.
    for _ in 0..40 {
        proxy.get("/");
    }
    assert_eq!(proxy.reload(&config.without_instances().instance(&new)).status(), 200);
    eventually("idle workers let go of the old instance", || (old.open() == 0).then_some(()));
}

#[test]
fn listeners_come_and_go() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]);
    let second = ports::free();
    let proxy = config.clone().start();
    let more = config.clone().and(&format!("[[listener]]\nname = \"second\"\nbind = \"{second}\"\n"));
    assert_eq!(proxy.reload(&more).status(), 200);
    let mut kept = Client::connect(second);
    assert_eq!(kept.get("/").text(), "a");
    let mut front = proxy.connect();
    assert_eq!(front.get("/").text(), "a");
    assert_eq!(proxy.reload(&config).status(), 200);
    eventually("the port is closed", || Client::try_connect(second).is_err().then_some(()));
    assert_eq!(front.get("/").text(), "a", "the other listener's connections do not notice");
}

#[test]
fn listener_that_goes_serves_what_its_queue_holds() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]).set("runtime", "workers", 2);
    for _ in 0..5 {
        let second = ports::free();
        let with = config.clone().and(&format!("[[listener]]\nname = \"second\"\nbind = \"{second}\"\n"));
        let proxy = with.clone().start();
        let mut clients: Vec<_> = (0..40).map(|_| Client::connect(second)).collect();
        proxy.write_config(&config.text());
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        }
        proxy.signal("HUP");
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
    }
}

#[test]
fn streams_and_long_answers_are_not_cut_by_a_reload() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..20 {
            exchange.write("5\r\nhello\r\n")?;
            pause(millis(50));
        }
        exchange.write("0\r\n\r\n")?;
        Ok(Then::KeepAlive)
    });
    let other = Instance::named("b");
    let config = Config::of(&[&api]);
    let proxy = config.clone().start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    api.wait_for(1);
    for round in 0..5 {
        let next = config.clone().without_instances().instance(&other).retry("retries", round % 3);
        assert_eq!(proxy.reload(&next).status(), 200);
    }
    assert_eq!(client.response().body.len(), 100);
}

#[test]
fn hundred_reloads_under_load_fail_no_request_and_leave_nothing_behind() {
    let instances: Vec<_> = (0..5).map(|index| Instance::named(&format!("n{index}"))).collect();
    let second = ports::free();
    let base = Config::new().set("runtime", "watch", false).set("log", "access", false).set("log", "level", "\"info\"");
    // Real changes, all different: instances come and go, weights, routes, limits, a listener.
    let variant = |round: usize| {
        let mut config = base.clone();
        for (index, instance) in instances.iter().enumerate() {
            if round % 5 != index {
                config = config.instance_with(instance, &format!("weight = {}", round % 7 + 1));
            }
        }
        config = config.retry("retries", round % 4).listener("request_fields_max", 50 + round);
        config = config.pool("balance", ["\"least_connections\"", "\"round_robin\""][round % 2]);
        if round.is_multiple_of(3) {
            config = config.and(&format!("[[listener]]\nname = \"second\"\nbind = \"{second}\"\n"));
        }
        if round % 4 == 1 {
            config =
                config.and("[[route]]\npool = \"api\"\npath = \"/\"\n[[route]]\npool = \"api\"\npath = \"/extra\"\n");
        }
        config
    };
    let proxy = variant(0).start();
    let load = Load::start(proxy.front, 4, 4);
    load.wait_more(50);
    let mut sizes = Vec::new();
    for round in 1..=100 {
        let answer = proxy.reload(&variant(round));
        assert_eq!(answer.status(), 200, "reload {round}: {}", answer.text());
        load.wait_more(2);
        if round % 20 == 0 {
            sizes.push((proxy.memory_kib(), proxy.descriptors(), proxy.threads()));
        }
    }
    let all = load.end();
    let failed: Vec<_> = all.iter().filter(|sent| sent.failed()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), all.len(), &failed[..failed.len().min(5)]);
    assert_eq!(generation(&proxy), 101);
    let ((memory_first, files_first, threads_first), (memory_last, files_last, threads_last)) =
        (sizes[0], sizes[sizes.len() - 1]);
    assert!(memory_last < memory_first + memory_first / 4 + 2048, "memory grows: {sizes:?}");
    assert!(files_last <= files_first + 12, "descriptors grow: {sizes:?}");
    assert!(threads_last <= threads_first, "threads grow: {sizes:?}");
    let seen: usize = instances.iter().map(Instance::count).sum();
    assert!(seen >= all.len(), "{seen} of {}", all.len());
}
