//! Tests of the admin listener over real connections, with a controller that the test plays.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::config::load::{self, Surroundings};
use crate::health::fleet::UnknownInstance;
use crate::reload::{Command, Force, ReloadError, SetAdmin, SetAdminError};
use crate::snapshot::{Phase, Snapshot};

const LISTENER: &str = "[[listener]]\nname = \"front\"\nbind = \"127.0.0.1:8080\"\n";
const POOL: &str = "[pool.api]\ninstances = [\"127.0.0.1:9001\"]\n";

struct Nowhere;

impl Surroundings for Nowhere {
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
        hosts.iter().map(|_| Err(io::ErrorKind::NotFound.into())).collect()
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cores(&self) -> usize {
        1
    }
}

/// An admin listener of a proxy without instances.
struct Served {
    address: SocketAddr,
    published: Arc<Published>,
    commands: mpsc::Receiver<Command>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Served {
    async fn start(admin_section: &str) -> Self {
        let text = format!("{LISTENER}{POOL}[admin]\n{admin_section}");
        let loaded = load::parse(&text, Path::new("plimsoll.toml"), &Nowhere).unwrap();
        let metrics = Metrics::new(1);
        let published =
            Arc::new(Published::new(Snapshot::build(loaded.config, loaded.material, Vec::new(), &metrics, None)));
        let (control, commands) = ControlHandle::new();
        let admin = Admin::new(Arc::clone(&published), metrics, control);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(admin, listener, stopped));
        Self { address, published, commands, stop, server }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request head (without `Host` and the end) and a body, and returns all that comes back.
    async fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = self.connect().await;
        let (address, length) = (self.address, body.len());
        let head = format!("{head}\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Asks, and answers the command that follows as `controller` says.
    async fn commanded(&mut self, head: &str, body: &str, controller: impl FnOnce(Command)) -> String {
        let commands = &mut self.commands;
        let (mut stream, address, length) = (TcpStream::connect(self.address).await.unwrap(), self.address, body.len());
        let head = format!("{head}\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).await.unwrap();
        controller(commands.recv().await.unwrap());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

#[tokio::test]
async fn ready_follows_the_life_of_the_process_and_live_does_not() {
    let served = Served::start("").await;
    for (phase, code, word) in
        [(None, 503, "starting"), (Some(Phase::Serving), 200, "ready"), (Some(Phase::Draining), 503, "draining")]
    {
        if let Some(phase) = phase {
            served.published.enter(phase);
        }
        let answer = served.ask("GET /ready HTTP/1.1", "").await;
        assert_eq!(status(&answer), code, "{answer}");
        assert!(answer.contains(word), "{answer}");
        assert_eq!(status(&served.ask("GET /live HTTP/1.1", "").await), 200);
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_errors_are_json_with_a_hint() {
    let served = Served::start("").await;
    let answer = served.ask("HEAD /status HTTP/1.1", "").await;
    assert!(status(&answer) == 200 && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = served.ask("GET /stats HTTP/1.1", "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(status(head), 404);
    let failure: Failure = serde_json::from_str(body).unwrap();
    assert!(failure.hint.is_some_and(|hint| hint.contains("/status")), "{body}");
}

#[tokio::test]
async fn a_diff_tells_changes_and_mistakes_but_never_a_token() {
    let served = Served::start("token = \"running-s3cret-0123456789\"\n").await;
    let request = "POST /diff?name=new.toml HTTP/1.1\r\nAuthorization: Bearer running-s3cret-0123456789";
    let new = format!("{LISTENER}{POOL}balance = \"round_robin\"\n[admin]\ntoken = \"other-s3cret-0123456789\"\n");
    let answer = served.ask(request, &new).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("balance") && !answer.contains("s3cret"), "{answer}");
    let answer = served.ask(request, &format!("{LISTENER}{POOL}balanc = 1\n")).await;
    assert_eq!(status(&answer), 422, "{answer}");
    assert!(answer.contains("new.toml:6:1") && answer.contains("balance"), "{answer}");
    let status = served.ask("GET /status HTTP/1.1\r\nAuthorization: Bearer running-s3cret-0123456789", "").await;
    assert!(!status.contains("s3cret"), "{status}");
}

#[tokio::test]
async fn a_reload_is_forced_only_when_asked_and_its_refusal_says_how_to_go_on() {
    let mut served = Served::start("").await;
    for (query, wanted) in
        [("", Force::No), ("?force=true", Force::Yes), ("?force", Force::Yes), ("?force=0", Force::No)]
    {
        let answer = served
            .commanded(&format!("POST /reload{query} HTTP/1.1"), "", |command| {
                let Command::Reload { force, reply, .. } = command else { panic!("{command:?}") };
                assert_eq!(force, wanted, "{query}");
                reply.send(Err(ReloadError::NothingPasses(vec!["api".into()]))).unwrap();
            })
            .await;
        assert_eq!(status(&answer), 409, "{answer}");
        assert!(answer.contains("pool `api`") && answer.contains("--force"), "{answer}");
    }
    assert_eq!(status(&served.ask("POST /reload?force=maybe HTTP/1.1", "").await), 400);
}

#[tokio::test]
async fn who_drains_an_instance_is_told_with_the_address_that_asked() {
    let mut served = Served::start("").await;
    let table = [
        ("?why=new+disk", "", "127.0.0.1", "new disk"),
        ("", r#"{"why": "new disk", "who": "ann"}"#, "ann (127.0.0.1)", "new disk"),
        ("", "", "127.0.0.1", ""),
    ];
    for (query, body, who, why) in table {
        let head = format!("POST /instances/api/10.0.0.1%3A1/drain{query} HTTP/1.1");
        let answer = served
            .commanded(&head, body, |command| {
                let Command::SetAdmin(SetAdmin { pool, instance, who: by, why: reason, .. }, reply) = command else {
                    panic!("{command:?}")
                };
                assert_eq!((pool.as_str(), instance.as_str()), ("api", "10.0.0.1:1"));
                assert_eq!((by.as_str(), reason.as_str()), (who, why));
                reply.send(Ok(())).unwrap();
            })
            .await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
    let head = "POST /instances/api/x/off HTTP/1.1";
    let unknown = |command| {
        let Command::SetAdmin(_, reply) = command else { panic!("{command:?}") };
        let unknown =
            UnknownInstance { pool: "api".to_owned(), instance: "x".to_owned(), nearest: vec!["api/y".to_owned()] };
        reply.send(Err(SetAdminError::Unknown(unknown))).unwrap();
    };
    let answer = served.commanded(head, "", unknown).await;
    assert!(status(&answer) == 404 && answer.contains("api/y"), "{answer}");
    assert_eq!(status(&served.ask(head, "{").await), 400);
    assert_eq!(status(&served.ask(head, r#"{"wy": "a"}"#).await), 400);
    assert_eq!(status(&served.ask(head, &format!(r#"{{"why": "{}"}}"#, "x".repeat(501))).await), 400);
}

#[tokio::test]
async fn what_a_client_sends_is_bounded() {
    let served = Served::start("").await;
    let body = "x".repeat(20_000);
    assert_eq!(status(&served.ask("POST /reload HTTP/1.1", &body).await), 413);
    assert_eq!(status(&served.ask(&format!("GET /{} HTTP/1.1", "x".repeat(20_000)), "").await), 431);
    let fields = "\r\nA: b".repeat(100);
    assert_eq!(status(&served.ask(&format!("GET /live HTTP/1.1{fields}"), "").await), 431);
}

#[tokio::test(start_paused = true)]
async fn connections_that_say_nothing_end_and_others_get_their_turn() {
    let served = Served::start("").await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(served.connect().await);
    }
    // The clock jumps whenever nothing else is to be done, so this also says that time limits end the idle ones.
    assert_eq!(status(&served.ask("GET /live HTTP/1.1", "").await), 200);
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn the_end_lets_an_answer_that_is_under_way_end() {
    let mut served = Served::start("").await;
    let mut stream = served.connect().await;
    let address = served.address;
    stream.write_all(format!("POST /reload HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let Command::Reload { reply, .. } = served.commands.recv().await.unwrap() else { panic!("no reload") };
    served.stop.send_replace(true);
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reply.send(Err(ReloadError::Ending)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 503);
    served.server.await.unwrap();
}
