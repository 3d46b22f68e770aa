//! Certificates of authorities: whose word is believed about who somebody is.

use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::certificate::Digest;
use super::pem::{self, Fault, FileError};

/// Authorities that are trusted, at least one.
#[derive(Debug)]
pub struct Roots {
    /// Of all of them together: two with the same one trust the same.
    pub digest: Digest,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Those of a PEM file, each of which must be usable.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let mut certificates = Vec::new();
        for section in pem::certificates(path, bytes)? {
            RootCertStore::empty()
                .add(section.item.clone())
                .map_err(|error| FileError::at(path, section.line, Fault::unusable("certificate", &error)))?;
            certificates.push(section.item);
        }
        Ok(Self::of(certificates))
    }

    /// Those that the system trusts.
    ///
    /// # Errors
    /// If there are none.
    pub fn of_system() -> io::Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        // Systems come with some that cannot be used, which is no reason to do without the others.
        let usable: Vec<_> = found.certs.into_iter().filter(|root| store.add(root.clone()).is_ok()).collect();
        match (usable.is_empty(), found.errors.into_iter().next()) {
            (false, _) => Ok(Self::of(usable)),
            (true, Some(error)) => Err(io::Error::other(error)),
            (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "there are none")),
        }
    }

    fn of(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut digests = Vec::new();
        for certificate in &certificates {
            digests.extend_from_slice(Digest::of(certificate).bytes());
        }
        Self { digest: Digest::of(&digests), certificates }
    }

    /// For rustls.
    pub(super) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        // All of them were added to one before.
        store.add_parsable_certificates(self.certificates.iter().cloned());
        store
    }
}
