//! The commands that ask a running Plimsoll: which request each is, and what is shown of the answer.

use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::client::Client;
use super::{Connection, Failed, InstanceChange, complain, show};
use crate::admin::status::Status;
use crate::admin::{CONFIG_BYTES_MAX, Note, uri};
use crate::pool::instance::Admin;

/// Who the status is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Person,
    Program,
}

impl From<bool> for Reader {
    fn from(json: bool) -> Self {
        if json { Self::Program } else { Self::Person }
    }
}

pub(super) fn status(connection: &Connection, reader: Reader) -> Result<String, Failed> {
    let answer = Client::new(connection)?.ask(Method::GET, "/status", Vec::new())?;
    match reader {
        Reader::Program => Ok(String::from_utf8_lossy(&answer).into_owned()),
        Reader::Person => Ok(show::status(&parsed::<Status>(&answer)?)),
    }
}

pub(super) fn reload(connection: &Connection, force: bool) -> Result<String, Failed> {
    let target = if force { "/reload?force=true" } else { "/reload" };
    let answer: Value = parsed(&Client::new(connection)?.ask(Method::POST, target, Vec::new())?)?;
    warn(&answer);
    let generation = answer["generation"].as_u64().unwrap_or_default();
    Ok(format!("{}generation {generation} is in use\n", summary(&answer)))
}

pub(super) fn diff(connection: &Connection, file: &Path) -> Result<String, Failed> {
    let text =
        std::fs::read(file).map_err(|error| Failed(format!("error: cannot read `{}`: {error}", file.display())))?;
    if text.len() > CONFIG_BYTES_MAX {
        return Err(Failed(format!("error: `{}` is larger than {CONFIG_BYTES_MAX} bytes", file.display())));
    }
    let name = file.file_name().map(|name| uri::encode(&name.to_string_lossy())).unwrap_or_default();
    let target = format!("/diff?name={name}");
    let answer: Value = parsed(&Client::new(connection)?.ask(Method::POST, &target, text)?)?;
    warn(&answer);
    Ok(summary(&answer))
}

pub(super) fn set_admin(change: &InstanceChange, wanted: Admin) -> Result<String, Failed> {
    let (verb, done) = match wanted {
        Admin::Active => ("enable", "is enabled: it gets requests while its probes pass"),
        Admin::Drain => ("drain", "is drained: it gets nothing new and finishes what it has"),
        Admin::Off => ("off", "is off: it gets nothing new and is not probed"),
    };
    let (pool, instance) = (&change.instance.pool, &change.instance.instance);
    let target = format!("/instances/{}/{}/{verb}", uri::encode(pool), uri::encode(instance));
    let note = Note { who: user(), why: change.why.clone() };
    let body = serde_json::to_vec(&note).map_err(|error| Failed(format!("error: {error}")))?;
    Client::new(&change.connection)?.ask(Method::POST, &target, body)?;
    Ok(format!("{pool}/{instance} {done}\n"))
}

/// The account that runs this command, as far as the environment tells.
fn user() -> String {
    ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}

fn summary(answer: &Value) -> String {
    format!("{}\n", answer["summary"].as_str().unwrap_or("no summary").trim_end())
}

fn warn(answer: &Value) {
    for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        complain(warning);
    }
}

fn parsed<T: serde::de::DeserializeOwned>(answer: &Bytes) -> Result<T, Failed> {
    serde_json::from_slice(answer).map_err(|error| {
        let hint = "hint: is the running Plimsoll of the same version?";
        Failed(format!("error: cannot understand the answer: {error}\n{hint}"))
    })
}
