//! Answers of the admin API: JSON, and errors that say what to do.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

/// What every handler returns.
pub(super) type Answer = Response<Full<Bytes>>;

/// The body of an answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What is wrong.
    pub(crate) error: String,
    /// What to do instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec_pretty(body) {
        Ok(mut text) => {
            text.push(b'\n');
            with_type(status, "application/json", text)
        }
        // Only maps with keys that are no strings cannot be written, and there are none.
        Err(error) => with_type(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", error.to_string()),
    }
}

/// An answer that is text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// An error.
pub(super) fn failure(status: StatusCode, error: impl Into<String>, hint: Option<&str>) -> Answer {
    json(status, &Failure { error: error.into(), hint: hint.map(str::to_owned) })
}

/// 401: the token is missing or another one.
pub(super) fn unauthorized() -> Answer {
    let hint = "send `Authorization: Bearer TOKEN`; commands of plimsoll take `--token-file FILE`";
    let mut answer = failure(StatusCode::UNAUTHORIZED, "this needs the admin token", Some(hint));
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// 405, naming the method that the path has.
pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = failure(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allowed}"), None);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// An answer with this type of body.
pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Every answer is of this moment.
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
