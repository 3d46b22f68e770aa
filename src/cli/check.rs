//! `plimsoll check`: everything that is wrong with files, and what those that are right promise.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::show::{count, seconds};
use super::{complain, print};
use crate::config::load;
use crate::config::model::Config;
use crate::config::problem::Listing;
use crate::health::detection_time;

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
                print(&summary(file, &loaded.config));
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
