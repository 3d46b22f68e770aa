//! What the files hold that a configuration names, read and checked: everything that TLS is built of.
//!
//! Made by `config::files` whenever a configuration is loaded or one of its files has changed, and kept by the snapshot,
//! so that what has not changed is taken over and what is broken now can stay as it was.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::certificate::{Certificate, Digest};
use super::roots::{Revocations, Roots};
use super::tickets::SharedKeys;
use crate::config::model::{CertificateFiles, FileRef};

/// Certificates, keys and trust, by the files that they come from.
#[derive(Debug, Default)]
pub struct Material {
    /// By the paths of chain and key.
    pub(crate) certificates: HashMap<(PathBuf, PathBuf), Arc<Certificate>>,
    /// By path.
    pub(crate) ticket_keys: HashMap<PathBuf, Arc<SharedKeys>>,
    /// Certificates of authorities that a file names, by path.
    pub(crate) roots: HashMap<PathBuf, Arc<Roots>>,
    /// Lists of revoked certificates, by path.
    pub(crate) revocations: HashMap<PathBuf, Arc<Revocations>>,
    /// Those that the system trusts, where a pool goes by them.
    pub(crate) system_roots: Option<Arc<Roots>>,
    /// What each file held when it was read, broken ones included.
    pub(crate) files: HashMap<PathBuf, Digest>,
}

impl Material {
    /// The certificate of these files.
    #[must_use]
    pub fn certificate(&self, files: &CertificateFiles) -> Option<&Arc<Certificate>> {
        self.certificates.get(&(files.certificate.path.clone(), files.key.path.clone()))
    }

    /// The ticket keys of this file.
    #[must_use]
    pub fn ticket_keys(&self, file: &FileRef) -> Option<&Arc<SharedKeys>> {
        self.ticket_keys.get(&file.path)
    }

    /// The authorities in this file; `None`: those that the system trusts.
    #[must_use]
    pub fn roots(&self, file: Option<&FileRef>) -> Option<&Arc<Roots>> {
        file.map_or(self.system_roots.as_ref(), |file| self.roots.get(&file.path))
    }

    /// The revocation lists in this file.
    #[must_use]
    pub fn revocations(&self, file: &FileRef) -> Option<&Arc<Revocations>> {
        self.revocations.get(&file.path)
    }

    /// The files, and what each of them held.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, Digest)> {
        self.files.iter().map(|(path, digest)| (path, *digest))
    }

    /// How many things are not the same as in `before`, or not in it.
    #[must_use]
    pub fn changes(&self, before: &Self) -> usize {
        let certificates = self
            .certificates
            .iter()
            .filter(|(files, new)| before.certificates.get(*files).is_none_or(|old| old.digests != new.digests));
        let ticket_keys = self
            .ticket_keys
            .iter()
            .filter(|(file, new)| before.ticket_keys.get(*file).is_none_or(|old| old.digest != new.digest));
        let roots =
            self.roots.iter().filter(|(file, new)| before.roots.get(*file).is_none_or(|old| old.digest != new.digest));
        let revocations = self
            .revocations
            .iter()
            .filter(|(file, new)| before.revocations.get(*file).is_none_or(|old| old.digest != new.digest));
        certificates.count() + ticket_keys.count() + roots.count() + revocations.count()
    }
}
