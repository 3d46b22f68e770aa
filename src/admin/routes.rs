//! Method and path of an admin request → what answers it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tokio::time::timeout;

use super::answer::{self, Answer};
use super::auth::{self, Access};
use super::{Admin, CONFIG_BYTES_MAX, change, status, uri};
use crate::pool::instance::Admin as Wanted;
use crate::snapshot::Readiness;

/// For the whole body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bodies of everything but `/diff`.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Scrapers know the version of the format by this.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What there is to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Resource {
    Live,
    Ready,
    Metrics,
    Status,
    Diff,
    Reload,
    Instance { pool: String, instance: String, wanted: Wanted },
}

impl Resource {
    fn find(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let resource = match segments.next()? {
            "live" => Self::Live,
            "ready" => Self::Ready,
            "metrics" => Self::Metrics,
            "status" => Self::Status,
            "diff" => Self::Diff,
            "reload" => Self::Reload,
            "instances" => Self::Instance {
                pool: uri::segment(segments.next()?)?,
                instance: uri::segment(segments.next()?)?,
                wanted: match segments.next()? {
                    "drain" => Wanted::Drain,
                    "off" => Wanted::Off,
                    "enable" => Wanted::Active,
                    _ => return None,
                },
            },
            _ => return None,
        };
        segments.next().is_none().then_some(resource)
    }

    fn access(&self) -> Access {
        match self {
            Self::Live | Self::Ready => Access::Open,
            _ => Access::Operators,
        }
    }

    fn takes(&self, method: &Method) -> Result<(), &'static str> {
        let allowed = match self {
            Self::Live | Self::Ready | Self::Metrics | Self::Status => "GET, HEAD",
            Self::Diff | Self::Reload | Self::Instance { .. } => "POST",
        };
        if allowed.split(", ").any(|allowed| allowed == method.as_str()) { Ok(()) } else { Err(allowed) }
    }
}

/// Answers one request. hyper leaves the body out for `HEAD`.
pub(super) async fn answer(admin: &Arc<Admin>, request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let (head, body) = request.into_parts();
    let config = Arc::clone(&admin.published.load().config);
    let Some(resource) = Resource::find(head.uri.path()) else {
        // Also what there is, is for operators only.
        return match auth::admit(&head.method, &head.headers, Access::Operators, config.admin.token.as_ref()) {
            Ok(()) => {
                let hint = "there are /live, /ready, /metrics, /status, /diff, /reload, \
                            /instances/POOL/INSTANCE/{drain,off,enable}";
                answer::failure(StatusCode::NOT_FOUND, "there is nothing under this path", Some(hint))
            }
            Err(refusal) => *refusal,
        };
    };
    if let Err(refusal) = auth::admit(&head.method, &head.headers, resource.access(), config.admin.token.as_ref()) {
        return *refusal;
    }
    if let Err(allowed) = resource.takes(&head.method) {
        return answer::wrong_method(allowed);
    }
    let query = head.uri.query();
    match resource {
        Resource::Live => answer::text(StatusCode::OK, "live\n"),
        Resource::Ready => ready(&admin.published.readiness()),
        Resource::Metrics => metrics(admin).await,
        Resource::Status => {
            let status = status::Status::of(&admin.published, admin.started.elapsed(), admin.started_at);
            answer::json(StatusCode::OK, &status)
        }
        Resource::Diff => match read(body, CONFIG_BYTES_MAX).await {
            Ok(text) => change::diff(admin, &config, text, uri::parameter(query, "name")).await,
            Err(refusal) => refusal,
        },
        Resource::Reload => match read(body, BODY_BYTES_MAX).await {
            Ok(_) => change::reload(admin, query).await,
            Err(refusal) => refusal,
        },
        Resource::Instance { pool, instance, wanted } => match read(body, BODY_BYTES_MAX).await {
            Ok(note) => change::instance(admin, change::Target { pool, instance, wanted }, query, &note, peer).await,
            Err(refusal) => refusal,
        },
    }
}

/// Whether this proxy should get traffic, in a word and, if not, why.
fn ready(readiness: &Readiness) -> Answer {
    match readiness {
        Readiness::Ready => answer::text(StatusCode::OK, format!("{readiness}\n")),
        not_ready => answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{not_ready}\n")),
    }
}

async fn metrics(admin: &Arc<Admin>) -> Answer {
    let metrics = admin.metrics.clone();
    match aside(admin, move || metrics.text()).await {
        Some(text) => answer::with_type(StatusCode::OK, METRICS_TYPE, text),
        None => answer::failure(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be collected", None),
    }
}

/// Runs what takes time on another thread, so that probes are not delayed; one at a time. `None` if it panicked.
pub(super) async fn aside<T: Send + 'static>(admin: &Admin, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let turn = Arc::clone(&admin.heavy).acquire_owned().await.ok()?;
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(turn);
        result
    });
    done.await.inspect_err(|error| tracing::error!(error = %error, "admin request failed")).ok()
}

async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, Answer> {
    match timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let error = format!("the body is longer than {bytes_max} bytes");
            Err(answer::failure(StatusCode::PAYLOAD_TOO_LARGE, error, None))
        }
        Ok(Err(error)) => Err(answer::failure(StatusCode::BAD_REQUEST, format!("cannot read the body: {error}"), None)),
        Err(_) => Err(answer::failure(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time", None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_whole_or_not_at_all() {
        assert_eq!(Resource::find("/live"), Some(Resource::Live));
        for nothing in ["", "/", "/lives", "/live/", "/live/x", "//live", "/instances", "/instances/a/b", "/Live"] {
            assert_eq!(Resource::find(nothing), None, "{nothing}");
        }
        let instance =
            |wanted| Some(Resource::Instance { pool: "api".to_owned(), instance: "127.0.0.1:9001".to_owned(), wanted });
        assert_eq!(Resource::find("/instances/api/127.0.0.1%3A9001/drain"), instance(Wanted::Drain));
        assert_eq!(Resource::find("/instances/api/127.0.0.1:9001/off"), instance(Wanted::Off));
        assert_eq!(Resource::find("/instances/api/127.0.0.1:9001/enable"), instance(Wanted::Active));
        assert_eq!(Resource::find("/instances/api/127.0.0.1:9001/kill"), None);
        assert_eq!(Resource::find("/instances/api/127.0.0.1:9001/off/now"), None);
    }

    #[test]
    fn what_changes_something_takes_only_post() {
        for (resource, method, fits) in [
            (Resource::Status, Method::GET, true),
            (Resource::Status, Method::HEAD, true),
            (Resource::Status, Method::POST, false),
            (Resource::Reload, Method::POST, true),
            (Resource::Reload, Method::GET, false),
        ] {
            assert_eq!(resource.takes(&method).is_ok(), fits, "{resource:?} {method}");
        }
    }
}
