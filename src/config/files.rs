//! The step between check and build: reads the files that a checked configuration names, and checks what they hold.
//!
//! The same for `plimsoll check`, start, reload and a change of the files alone. What is in use and has not changed is
//! taken over; what is broken is a [`Problem`] with the line of the configuration that names it, and what was in use
//! instead stays. A certificate that is over is only a warning at a start: its clients get errors, but those of all the
//! others must not. While Plimsoll runs it is an error, since what it would replace works better.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::load::Surroundings;
use super::model::{CertificateFiles, Config, FileRef, ListenerTls, Pool, PoolTls};
use super::problem::{Problem, Severity};
use crate::tls::certificate::{Certificate, Digest};
use crate::tls::material::Material;
use crate::tls::pem::{Fault, FileError};
use crate::tls::roots::{Revocations, Roots};
use crate::tls::tickets::SharedKeys;

/// Reads all files of a configuration.
pub(super) fn read(config: &Config, surroundings: &dyn Surroundings) -> (Material, Vec<Problem>) {
    let in_use = surroundings.in_use();
    let mut reader = Reader {
        config,
        surroundings,
        in_use: in_use.as_deref(),
        now: surroundings.now(),
        contents: HashMap::new(),
        material: Material::default(),
        problems: Vec::new(),
    };
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        reader.listener(tls);
    }
    for pool in &config.pools {
        if let Some(tls) = &pool.tls {
            reader.pool(pool, tls);
        }
    }
    let Reader { contents, mut material, problems, .. } = reader;
    material.files =
        contents.into_iter().filter_map(|(path, content)| Some((path, Digest::of(&content.ok()?)))).collect();
    (material, problems)
}

struct Reader<'a> {
    config: &'a Config,
    surroundings: &'a dyn Surroundings,
    in_use: Option<&'a Material>,
    now: SystemTime,
    /// Each file once, though several things may name it.
    contents: HashMap<PathBuf, Result<Arc<[u8]>, FileError>>,
    material: Material,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn listener(&mut self, tls: &ListenerTls) {
        for files in &tls.certificates {
            self.certificate(files);
        }
        if let Some(file) = &tls.ticket_keys {
            self.ticket_keys(file);
        }
        if let Some(file) = &tls.client_roots {
            self.roots(file);
        }
        for file in &tls.client_revocations {
            self.revocations(file);
        }
    }

    fn revocations(&mut self, file: &FileRef) {
        if self.material.revocations(file).is_some() {
            return;
        }
        let in_use = self.in_use.and_then(|material| material.revocations(file)).cloned();
        let lists = match self.content(file) {
            None => in_use,
            Some(bytes) => match Revocations::read(&file.path, &bytes) {
                Ok(lists) => {
                    if let Some(date) = lists.overdue(self.now) {
                        let message = format!(
                            "`{}` has a list that was to be replaced by {date}: its authority's clients are refused",
                            file.path.display()
                        );
                        self.report(Severity::Warning, file, message, "fetch the present one");
                    }
                    Some(Arc::new(lists))
                }
                Err(error) => {
                    self.complain(Severity::Error, file, &error);
                    in_use
                }
            },
        };
        self.material.revocations.extend(lists.map(|lists| (file.path.clone(), lists)));
    }

    fn pool(&mut self, pool: &Pool, tls: &PoolTls) {
        if let Some(files) = &tls.client_certificate {
            self.certificate(files);
        }
        match &tls.roots {
            Some(file) => self.roots(file),
            None if tls.verify => self.system_roots(pool),
            None => {}
        }
    }

    fn roots(&mut self, file: &FileRef) {
        if self.material.roots(Some(file)).is_some() {
            return;
        }
        let in_use = self.in_use.and_then(|material| material.roots(Some(file))).cloned();
        let roots = match self.content(file) {
            None => in_use,
            Some(bytes) => match Roots::read(&file.path, &bytes) {
                Ok(roots) => Some(Arc::new(roots)),
                Err(error) => {
                    self.complain(Severity::Error, file, &error);
                    in_use
                }
            },
        };
        self.material.roots.extend(roots.map(|roots| (file.path.clone(), roots)));
    }

    /// Read once: a system's own roots change with its updates, and those want a restart anyway.
    fn system_roots(&mut self, pool: &Pool) {
        if self.material.system_roots.is_some() {
            return;
        }
        let in_use = self.in_use.and_then(|material| material.system_roots.clone());
        match in_use.map_or_else(|| self.surroundings.system_roots().map(Arc::new), Ok) {
            Ok(roots) => self.material.system_roots = Some(roots),
            Err(error) => {
                let message = format!("pool `{}` needs the certificates that the system trusts: {error}", pool.name);
                let hint = "install them (`ca-certificates`), or set `roots` to a file of your own";
                let path = self.config.path.clone();
                let hint = Some(hint.to_owned());
                self.problems.push(Problem { severity: Severity::Error, message, path, place: None, hint });
            }
        }
    }

    fn certificate(&mut self, files: &CertificateFiles) {
        if self.material.certificate(files).is_some() {
            return;
        }
        let in_use = self.in_use.and_then(|material| material.certificate(files)).cloned();
        let CertificateFiles { certificate, key } = files;
        let (Some(chain_bytes), Some(key_bytes)) = (self.content(certificate), self.content(key)) else {
            return self.keep(files, in_use);
        };
        self.warn_if_exposed(key);
        if let Some(same) = in_use.as_ref().filter(|in_use| in_use.holds(&chain_bytes, &key_bytes)) {
            return self.keep(files, Some(Arc::clone(same)));
        }
        match Certificate::read((&certificate.path, &chain_bytes), (&key.path, &key_bytes)) {
            Err(error) => {
                // Of the two files, the one that is to blame.
                let named = if error.path == key.path { key } else { certificate };
                self.complain(Severity::Error, named, &error);
                self.keep(files, in_use);
            }
            Ok(read) => match read.about.fault(self.now) {
                Some(fault) if self.in_use.is_some() => {
                    self.complain(Severity::Error, certificate, &FileError::new(&certificate.path, fault));
                    self.keep(files, in_use);
                }
                fault => {
                    if let Some(fault) = fault {
                        self.complain(Severity::Warning, certificate, &FileError::new(&certificate.path, fault));
                    }
                    self.keep(files, Some(Arc::new(read)));
                }
            },
        }
    }

    fn keep(&mut self, files: &CertificateFiles, certificate: Option<Arc<Certificate>>) {
        let paths = (files.certificate.path.clone(), files.key.path.clone());
        self.material.certificates.extend(certificate.map(|certificate| (paths, certificate)));
    }

    fn ticket_keys(&mut self, file: &FileRef) {
        if self.material.ticket_keys(file).is_some() {
            return;
        }
        let in_use = self.in_use.and_then(|material| material.ticket_keys(file)).cloned();
        let keys = match self.content(file) {
            None => in_use,
            Some(bytes) => match SharedKeys::read(&file.path, &bytes) {
                Ok(keys) => Some(Arc::new(keys)),
                Err(error) => {
                    self.complain(Severity::Error, file, &error);
                    in_use
                }
            },
        };
        self.warn_if_exposed(file);
        self.material.ticket_keys.extend(keys.map(|keys| (file.path.clone(), keys)));
    }

    /// What a file holds; `None` if it cannot be read, which is then among the problems.
    fn content(&mut self, file: &FileRef) -> Option<Arc<[u8]>> {
        if !self.contents.contains_key(&file.path) {
            let read = self.surroundings.read_bytes(&file.path).map(Arc::from);
            let read = read.map_err(|error| FileError::new(&file.path, Fault::Unreadable(error.to_string())));
            if let Err(error) = &read {
                self.complain(Severity::Error, file, error);
            }
            self.contents.insert(file.path.clone(), read);
        }
        self.contents.get(&file.path).and_then(|read| read.as_ref().ok()).cloned()
    }

    fn warn_if_exposed(&mut self, file: &FileRef) {
        if self.surroundings.is_exposed(&file.path) {
            let message = format!("`{}` holds secrets, and others than its owner can read it", file.path.display());
            self.report(Severity::Warning, file, message, "take it from them: `chmod go= FILE`");
        }
    }

    fn complain(&mut self, severity: Severity, file: &FileRef, error: &FileError) {
        self.report(severity, file, error.to_string(), error.hint());
    }

    fn report(&mut self, severity: Severity, file: &FileRef, message: String, hint: &str) {
        let (path, place) = (self.config.path.clone(), file.place.clone());
        let problem = Problem { severity, message, path, place, hint: Some(hint.to_owned()) };
        // A file that several listeners name is wrong once.
        if !self.problems.iter().any(|other| other.message == problem.message) {
            self.problems.push(problem);
        }
    }
}
