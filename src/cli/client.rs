//! Asks a running Plimsoll over its admin listener: one request per command.
//!
//! Where it listens and what its token is are taken from `[admin]` of the configuration, and only that section is read:
//! a file that is just being edited, or names hosts that do not resolve here, must not keep anyone from asking for the
//! status.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Connection, Failed};
use crate::admin::Failure;
use crate::config::model::Secret;

/// Where a configuration without `[admin] bind` has its admin listener.
const DEFAULT_ADDRESS: &str = "127.0.0.1:1876";

/// For the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For the whole exchange: a reload waits for first verdicts and for names to be resolved.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// A running Plimsoll.
#[derive(Debug)]
pub(super) struct Client {
    address: String,
    token: Option<Secret>,
}

impl Client {
    /// Finds out where to ask.
    pub(super) fn new(connection: &Connection) -> Result<Self, Failed> {
        let path = &connection.file.config;
        let section = match &connection.admin {
            // With everything given, the file may be elsewhere or nowhere.
            Some(_) => Section::read(path).unwrap_or_default(),
            None => Section::read(path).map_err(|error| {
                let path = path.display();
                Failed(format!(
                    "error: cannot read `[admin]` of `{path}`: {error}\n\
                     hint: name the configuration with `--config FILE`, or ask `--admin ADDRESS`"
                ))
            })?,
        };
        let address = match &connection.admin {
            Some(address) => address.clone(),
            None => section.address()?,
        };
        let token = match &connection.token_file {
            Some(file) => Some(token(file)?),
            None => section.token(path)?,
        };
        Ok(Self { address, token })
    }

    /// Asks, and returns the body of an answer that is a success.
    pub(super) fn ask(&self, method: Method, target: &str, body: Vec<u8>) -> Result<Bytes, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failed(format!("error: cannot start: {error}")))?;
        let (status, answer) = runtime.block_on(async {
            let exchange = self.exchange(method, target, body);
            timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| {
                let seconds = ANSWER_TIMEOUT.as_secs();
                Err(Failed(format!("error: no answer from `{}` within {seconds} s", self.address)))
            })
        })?;
        if status.is_success() {
            return Ok(answer);
        }
        if let Ok(failure) = serde_json::from_slice::<Failure>(&answer) {
            return Err(Failed(explain(&failure)));
        }
        let hint = "hint: is this the admin listener of a Plimsoll?";
        Err(Failed(format!("error: `{}` answered with status {status}\n{hint}", self.address)))
    }

    async fn exchange(&self, method: Method, target: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), Failed> {
        let address = &self.address;
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(address, &error.to_string())),
            Err(_) => return Err(unreachable(address, "no connection in time")),
        };
        let broken = |error: hyper::Error| Failed(format!("error: no answer from `{address}`: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, address)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| Failed(format!("error: cannot ask `{address}`: {error}")))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let driver = async {
            // What breaks the connection also breaks the answer, which says so.
            let _broken = connection.await.is_err();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // Losing the driver loses nothing: the answer is there.
            answer = answer => answer.map_err(broken),
            () = driver => unreachable!("the driver never ends"),
        }
    }
}

fn unreachable(address: &str, error: &str) -> Failed {
    Failed(format!(
        "error: cannot reach the admin listener at `{address}`: {error}\n\
         hint: is Plimsoll running? `--config FILE` names its configuration, `--admin ADDRESS` another address"
    ))
}

/// A refusal as text for people.
fn explain(failure: &Failure) -> String {
    // What a configuration has wrong is told in its own form, with places and hints.
    let begins = failure.error.starts_with("error:") || failure.error.starts_with("warning:");
    let error = if begins { failure.error.clone() } else { format!("error: {}", failure.error) };
    match &failure.hint {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error,
    }
}

/// What stands in `[admin]`.
#[derive(Debug, Default, PartialEq)]
struct Section {
    bind: Option<String>,
    token: Option<String>,
    token_file: Option<String>,
}

impl Section {
    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::parse(text.strip_prefix('\u{feff}').unwrap_or(&text))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            // The line itself stays out of the message: it could hold a token.
            format!("this is not TOML (line {line}): {}", error.message())
        })?;
        let admin = table.get("admin");
        let key = |key: &str| admin?.get(key)?.as_str().map(str::to_owned);
        Ok(Self { bind: key("bind"), token: key("token"), token_file: key("token_file") })
    }

    fn address(&self) -> Result<String, Failed> {
        let bind = self.bind.as_deref().unwrap_or(DEFAULT_ADDRESS);
        if bind == "off" {
            let hint = "hint: give `[admin]` an address, such as `bind = \"127.0.0.1:1876\"`";
            return Err(Failed(format!("error: the admin listener is switched off in the configuration\n{hint}")));
        }
        let mut address: SocketAddr = match bind.replacen("*:", "0.0.0.0:", 1).parse() {
            Ok(address) => address,
            Err(_) => return Ok(bind.to_owned()),
        };
        // One listens on every address, but connects to one.
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        Ok(address.to_string())
    }

    fn token(&self, config: &Path) -> Result<Option<Secret>, Failed> {
        match (&self.token, &self.token_file) {
            (Some(text), _) => Ok(Some(Secret::new(text))),
            (None, Some(file)) => token(&config.parent().unwrap_or(Path::new("")).join(file)).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn token(file: &Path) -> Result<Secret, Failed> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(error) => Err(Failed(format!("error: cannot read the token in `{}`: {error}", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_admin_section_of_a_file_matters() {
        let section = Section::parse("nonsense = 1\n[admin]\nbind = \"*:99\"\ntoken_file = \"t\"\n").unwrap();
        assert_eq!(section.address().unwrap(), "127.0.0.1:99");
        assert_eq!((section.token, section.token_file.as_deref()), (None, Some("t")));
        for (bind, address) in [
            (None, DEFAULT_ADDRESS),
            (Some("0.0.0.0:1"), "127.0.0.1:1"),
            (Some("[::]:1"), "[::1]:1"),
            (Some("10.0.0.1:5"), "10.0.0.1:5"),
        ] {
            let section = Section { bind: bind.map(str::to_owned), ..Section::default() };
            assert_eq!(section.address().unwrap(), address);
        }
        assert!(Section { bind: Some("off".to_owned()), ..Section::default() }.address().is_err());
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_without_its_lines() {
        let error = Section::parse("[admin]\ntoken = \"s3cret\" oops\n").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
    }
}
