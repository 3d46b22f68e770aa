//! Reloads of a whole proxy in this process: a real file, real sockets, real workers; instances are open ports.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::app::Proxy;
use crate::config::load::load;
use crate::pool::instance::Health;
use crate::snapshot::{Phase, Published, Readiness};

/// A configuration file of its own for each test, removed with it.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("plimsoll-reload-{}-{name}.toml", std::process::id())))
    }

    fn write(&self, listeners: &[(&str, SocketAddr)], instances: &[SocketAddr]) {
        let mut text = String::new();
        for (name, address) in listeners {
            write!(text, "[[listener]]\nname = \"{name}\"\nbind = \"{address}\"\n").unwrap();
        }
        let instances: Vec<String> = instances.iter().map(ToString::to_string).collect();
        write!(text, "[pool.api]\ninstances = {instances:?}\nprobe.kind = \"tcp\"\n").unwrap();
        text.push_str("[admin]\nbind = \"off\"\n[runtime]\nworkers = 2\ndrain_timeout = \"1s\"\n");
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn open_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port that nobody listens on now; another process may take it, which only a test that binds it would notice.
fn free_port() -> SocketAddr {
    open_port().1
}

/// Starts a proxy from a file, hands it to the test, and ends it.
async fn proxy(file: &File, test: impl AsyncFnOnce(ControlHandle, Arc<Published>)) {
    let loaded = load(&file.0).unwrap();
    let mut proxy = Proxy::start(&loaded, None).await.unwrap();
    let (handle, published) = (proxy.handle().clone(), Arc::clone(proxy.published()));
    tokio::select! {
        () = proxy.run() => {}
        () = test(handle, published) => {}
    }
    proxy.end(std::future::pending()).await;
}

async fn reload(handle: &ControlHandle) -> Result<ReloadOutcome, ReloadError> {
    handle.reload(Trigger::Admin, Force::No).await
}

#[tokio::test]
async fn an_instance_that_stays_keeps_its_record_and_its_verdict() {
    let file = File::new("keeps");
    let ((_one, one), (_two, two)) = (open_port(), open_port());
    file.write(&[("web", free_port())], &[one]);
    proxy(&file, async |handle, published| {
        let before = Arc::clone(&published.load().pools[0].members[0].instance);
        file.write(&[("web", published.load().config.listeners[0].bind[0])], &[two, one]);
        let outcome = reload(&handle).await.unwrap();
        assert_eq!(outcome.generation, 2);
        let snapshot = published.load();
        let after = &snapshot.pools[0].members.iter().find(|member| member.instance.address == one).unwrap().instance;
        assert!(Arc::ptr_eq(&before, after));
        // The new one was proven before it was published.
        assert!(snapshot.pools[0].members.iter().all(|member| member.instance.state().health == Health::Up));
    })
    .await;
}

#[tokio::test]
async fn a_reload_without_a_change_publishes_nothing() {
    let file = File::new("unchanged");
    let (_one, one) = open_port();
    file.write(&[("web", free_port())], &[one]);
    proxy(&file, async |handle, published| {
        let outcome = reload(&handle).await.unwrap();
        assert_eq!(outcome.generation, 1);
        assert!(outcome.diff.is_empty());
        assert_eq!(published.generation(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_pool_without_a_passing_instance_refuses_the_reload_unless_forced() {
    let file = File::new("passes");
    let (_one, one) = open_port();
    let (front, dead) = (free_port(), free_port());
    file.write(&[("web", front)], &[one]);
    proxy(&file, async |handle, published| {
        file.write(&[("web", front)], &[dead]);
        let error = reload(&handle).await.unwrap_err();
        assert_eq!(error.to_string(), "no instance would pass its probes in pool `api`");
        assert_eq!(published.generation(), 1);
        assert!(published.load().pools[0].members[0].instance.state().eligible());

        let outcome = handle.reload(Trigger::Admin, Force::Yes).await.unwrap();
        assert_eq!(outcome.generation, 2);
        assert_eq!(published.load().pools[0].eligible_count(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_is_down_already_does_not_block_a_change_elsewhere() {
    let file = File::new("down");
    let (front, second, dead) = (free_port(), free_port(), free_port());
    file.write(&[("web", front)], &[dead]);
    proxy(&file, async |handle, _published| {
        file.write(&[("web", front), ("second", second)], &[dead]);
        assert_eq!(reload(&handle).await.unwrap().diff.listeners.added, ["second"]);
        TcpStream::connect(second).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_changes_nothing() {
    let file = File::new("taken");
    let ((_one, one), (_taken, taken)) = (open_port(), open_port());
    let (front, other) = (free_port(), free_port());
    file.write(&[("web", front)], &[one]);
    proxy(&file, async |handle, published| {
        file.write(&[("other", other), ("second", taken)], &[one]);
        let error = reload(&handle).await.unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("cannot listen on `{taken}` for listener `second`: ")),
            "{error}"
        );
        assert_eq!(published.generation(), 1);
        TcpStream::connect(front).unwrap();
        TcpStream::connect(other).unwrap_err();
    })
    .await;
}

#[tokio::test]
async fn a_renamed_listener_never_stops_to_listen_and_a_removed_one_does() {
    let file = File::new("renamed");
    let (_one, one) = open_port();
    let (front, second) = (free_port(), free_port());
    file.write(&[("web", front), ("second", second)], &[one]);
    proxy(&file, async |handle, _published| {
        file.write(&[("public", front)], &[one]);
        let outcome = reload(&handle).await.unwrap();
        assert_eq!(outcome.diff.listeners.removed, ["web", "second"]);
        TcpStream::connect(front).unwrap();
        TcpStream::connect(second).unwrap_err();
    })
    .await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing() {
    let file = File::new("invalid");
    let (_one, one) = open_port();
    file.write(&[("web", free_port())], &[one]);
    proxy(&file, async |handle, published| {
        std::fs::write(&file.0, "[[listener]]\nbnid = \"127.0.0.1:1\"\n").unwrap();
        assert!(matches!(reload(&handle).await.unwrap_err(), ReloadError::Invalid(_)));
        assert_eq!(published.generation(), 1);
    })
    .await;
}

#[tokio::test]
async fn reloads_that_wait_together_become_one() {
    let file = File::new("burst");
    let ((_one, one), (_two, two)) = (open_port(), open_port());
    let front = free_port();
    file.write(&[("web", front)], &[one]);
    proxy(&file, async |handle, published| {
        file.write(&[("web", front)], &[one, two]);
        let (a, b, c) = tokio::join!(reload(&handle), reload(&handle), reload(&handle));
        // All three asked before the controller could begin, and see the same change.
        for outcome in [a, b, c] {
            assert_eq!(outcome.unwrap().diff.instances.added, [format!("api/{two}")]);
        }
        assert_eq!(published.generation(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_instance_is_answered_with_what_could_have_been_meant() {
    let file = File::new("unknown");
    let (_one, one) = open_port();
    file.write(&[("web", free_port())], &[one]);
    proxy(&file, async |handle, published| {
        let drain = |pool: &str| SetAdmin {
            pool: pool.to_owned(),
            instance: one.to_string(),
            admin: Admin::Drain,
            who: "test".to_owned(),
            why: String::new(),
        };
        let error = handle.set_admin(drain("apj")).await.unwrap_err();
        assert_eq!(error.to_string(), format!("there is no instance `apj/{one}`, did you mean `api/{one}`?"));
        handle.set_admin(drain("api")).await.unwrap();
        assert_eq!(published.load().pools[0].eligible_count(), 0);
    })
    .await;
}

#[tokio::test]
async fn who_asks_during_the_end_is_told_so_and_the_proxy_is_not_ready() {
    let file = File::new("ending");
    let (_one, one) = open_port();
    file.write(&[("web", free_port())], &[one]);
    let (mut kept_handle, mut kept) = (None, None);
    proxy(&file, async |handle, published| {
        assert_eq!(published.readiness(), Readiness::Ready);
        (kept_handle, kept) = (Some(handle), Some(published));
    })
    .await;
    assert!(matches!(reload(&kept_handle.unwrap()).await.unwrap_err(), ReloadError::Ending));
    let published = kept.unwrap();
    published.enter(Phase::Serving);
    assert_eq!(published.readiness(), Readiness::Draining);
}
