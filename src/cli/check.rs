//! `plimsoll check`: everything that is wrong with files, and what those that are right promise.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use super::show::{count, seconds};
use super::{complain, print};
use crate::config::load;
use crate::config::model::Config;
use crate::config::problem::Listing;
use crate::health::detection_time;
use crate::tls::certificate::{About, date};
use crate::tls::expiry::{Notices, Stage};
use crate::tls::material::Material;

/// What a warning means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// That the file can be used.
    Usual,
    /// That it is refused.
    Strict,
}

/// Checks all files, also those after one that is wrong.
pub(super) fn check(files: &[PathBuf], strictness: Strictness) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        match load::load(file) {
            Ok(loaded) => {
                if !loaded.warnings.is_empty() {
                    complain(&Listing(&loaded.warnings).to_string());
                }
                if !loaded.warnings.is_empty() && strictness == Strictness::Strict {
                    complain(&format!("{}: refused by `--strict`, because of its warnings", file.display()));
                    code = ExitCode::FAILURE;
                    continue;
                }
                let now = SystemTime::now();
                for warning in expiring(&loaded.material, now) {
                    complain(&warning);
                }
                print(&summary(file, &loaded.config));
                print(&certificates(&loaded.config, &loaded.material, now));
            }
            Err(rejected) => {
                complain(&rejected.to_string());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn summary(file: &Path, config: &Config) -> String {
    let instances = config.pools.iter().map(|pool| pool.instances.len()).sum();
    let mut text = format!(
        "{}: ok: {}, {}, {}, {}\n",
        file.display(),
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.pools.len(), "pool"),
        count(instances, "instance")
    );
    for pool in &config.pools {
        let detection = detection_time(&pool.probe);
        // Writing to a `String` cannot fail.
        let _infallible = writeln!(
            text,
            "pool {}: probes take a broken instance out within {} if it refuses or fails, {} if it hangs",
            pool.name,
            seconds(detection.refusal.as_secs_f64()),
            seconds(detection.hang.as_secs_f64())
        );
    }
    text
}

/// A line for each certificate that clients see: where, for which names, until when.
fn certificates(config: &Config, material: &Material, now: SystemTime) -> String {
    let mut text = String::new();
    for listener in &config.listeners {
        let files = listener.tls.iter().flat_map(|tls| &tls.certificates);
        for (files, certificate) in files.filter_map(|files| Some((files, material.certificate(files)?))) {
            let About { names, not_after, .. } = &certificate.about;
            let _infallible = writeln!(
                text,
                "listener {}: certificate {} for {}, until {} ({})",
                listener.name,
                files.certificate.written,
                shown(names),
                date(*not_after),
                left(*not_after, now)
            );
        }
    }
    text
}

/// Certificates that expire soon. What has expired already is among the warnings of the configuration.
fn expiring(material: &Material, now: SystemTime) -> Vec<String> {
    let due = Notices::default().due(material, now);
    let soon = due.iter().filter(|notice| notice.stage != Stage::Expired);
    soon.map(|notice| {
        let (path, left) = (notice.path.display(), left(notice.not_after, now));
        format!("warning: the certificate in `{path}` expires on {} ({left})", date(notice.not_after))
    })
    .collect()
}

/// The first names; some certificates have a hundred.
fn shown(names: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    match names.len() {
        0 => "no name, which no client accepts".to_owned(),
        count if count > SHOWN_MAX => format!("{} and {} more", names[..SHOWN_MAX].join(", "), count - SHOWN_MAX),
        _ => names.join(", "),
    }
}

fn left(not_after: SystemTime, now: SystemTime) -> String {
    match not_after.duration_since(now) {
        Ok(left) => format!("{} left", count((left.as_secs() / 86_400) as usize, "day")),
        Err(_) => "expired".to_owned(),
    }
}
