//! Admin requests that change something, or say what a change would do. All changes go through the controller.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, failure, json};
use super::routes::aside;
use super::{Admin, uri};
use crate::config::diff::{self, Diff};
use crate::config::load::{self, ThisMachine};
use crate::config::model::Config;
use crate::config::problem::Problem;
use crate::pool::instance::Admin as Wanted;
use crate::reload::{Force, ReloadError, SetAdmin, SetAdminError, Trigger};

/// The longest reason that is kept with an instance, in characters.
const WHY_CHARACTERS_MAX: usize = 500;

/// The longest name of an operator, in characters.
const WHO_CHARACTERS_MAX: usize = 100;

/// What a reload did, or would do.
#[derive(Debug, Serialize)]
struct Effect<'a> {
    /// The generation that is in use; absent where nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    hash: &'a str,
    /// The changes as text, as the log has them.
    summary: String,
    changes: &'a Diff,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_seconds: Option<f64>,
}

fn texts(warnings: &[Problem]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

/// Loads the file anew and waits for the result.
pub(super) async fn reload(admin: &Admin, query: Option<&str>) -> Answer {
    let force = match uri::parameter(query, "force").as_deref() {
        Some("" | "1" | "true" | "yes") => Force::Yes,
        None | Some("0" | "false" | "no") => Force::No,
        Some(_) => return failure(StatusCode::BAD_REQUEST, "`force` is `true` or `false`", None),
    };
    match admin.control.reload(Trigger::Admin, force).await {
        Ok(outcome) => json(
            StatusCode::OK,
            &Effect {
                generation: Some(outcome.generation),
                hash: &outcome.hash,
                summary: outcome.diff.to_string(),
                changes: &outcome.diff,
                warnings: texts(&outcome.warnings),
                took_seconds: Some(outcome.took.as_secs_f64()),
            },
        ),
        Err(error) => {
            let (status, hint) = match &error {
                ReloadError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, None),
                ReloadError::Listen(_) => (StatusCode::CONFLICT, None),
                ReloadError::NothingPasses(_) => {
                    let hint = "`plimsoll reload --force` (`POST /reload?force=true`) applies it all the same";
                    (StatusCode::CONFLICT, Some(hint))
                }
                ReloadError::Ending => (StatusCode::SERVICE_UNAVAILABLE, None),
            };
            failure(status, error.to_string(), hint)
        }
    }
}

/// Says what a reload to the configuration in `text` would change. It is read as if it stood where the running one does,
/// and by this process: names are resolved and relative paths are found as they would be in a reload.
pub(super) async fn diff(admin: &Admin, running: &Arc<Config>, text: Bytes, name: Option<String>) -> Answer {
    let Ok(text) = String::from_utf8(text.into()) else {
        return failure(StatusCode::UNPROCESSABLE_ENTITY, "the configuration is not UTF-8", None);
    };
    // Only the name of the client's file, for messages: which folder it lies in there says nothing here.
    let name = name.as_deref().and_then(|name| Path::new(name).file_name());
    let path = name.map_or_else(|| running.path.clone(), |name| running.path.with_file_name(name));
    let Some(loaded) = aside(admin, move || load::parse(&text, &path, &ThisMachine::default())).await else {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "the configuration could not be compared", None);
    };
    match loaded {
        Ok(loaded) => {
            let changes = diff::diff(running, &loaded.config);
            json(
                StatusCode::OK,
                &Effect {
                    generation: None,
                    hash: &loaded.config.hash,
                    summary: changes.to_string(),
                    changes: &changes,
                    warnings: texts(&loaded.warnings),
                    took_seconds: None,
                },
            )
        }
        Err(rejected) => failure(StatusCode::UNPROCESSABLE_ENTITY, rejected.to_string(), None),
    }
}

/// The instance that a request names, and what it shall be.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) pool: String,
    pub(super) instance: String,
    pub(super) wanted: Wanted,
}

/// Who asks and why, as body of a request. Both may be left out.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// Who asks; the peer's address is added.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) who: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
}

/// The answer to a change of an instance.
#[derive(Debug, Serialize)]
struct Changed {
    pool: String,
    instance: String,
    admin: &'static str,
    who: String,
    why: String,
}

/// Drains an instance, switches it off or enables it.
pub(super) async fn instance(
    admin: &Admin,
    target: Target,
    query: Option<&str>,
    body: &[u8],
    peer: SocketAddr,
) -> Answer {
    let mut note = if body.trim_ascii().is_empty() {
        Note::default()
    } else {
        match serde_json::from_slice(body) {
            Ok(note) => note,
            Err(error) => {
                let hint = r#"send `{"why": "…", "who": "…"}` or no body"#;
                return failure(StatusCode::BAD_REQUEST, format!("cannot read the body: {error}"), Some(hint));
            }
        }
    };
    if let Some(why) = uri::parameter(query, "why") {
        note.why = why;
    }
    if let Some(who) = uri::parameter(query, "who") {
        note.who = who;
    }
    if note.why.chars().count() > WHY_CHARACTERS_MAX || note.who.chars().count() > WHO_CHARACTERS_MAX {
        let error = format!("`why` has at most {WHY_CHARACTERS_MAX} characters, `who` {WHO_CHARACTERS_MAX}");
        return failure(StatusCode::BAD_REQUEST, error, None);
    }
    // What a caller says of itself is not proved; its address is.
    let address = peer.ip().to_canonical();
    let who = if note.who.is_empty() { address.to_string() } else { format!("{} ({address})", note.who) };
    let Target { pool, instance, wanted } = target;
    let set = SetAdmin {
        pool: pool.clone(),
        instance: instance.clone(),
        admin: wanted,
        who: who.clone(),
        why: note.why.clone(),
    };
    match admin.control.set_admin(set).await {
        Ok(()) => {
            let changed = Changed { pool, instance, admin: super::status::admin_word(wanted), who, why: note.why };
            json(StatusCode::OK, &changed)
        }
        Err(error @ SetAdminError::Unknown(_)) => {
            let hint = "`plimsoll status` (`GET /status`) lists pools and instances";
            failure(StatusCode::NOT_FOUND, error.to_string(), Some(hint))
        }
        Err(error @ SetAdminError::Ending) => failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), None),
    }
}
