//! Certificates of authorities: whose word is believed about who somebody is, and their lists of whom to believe no more.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::certificate::{Digest, date, time};
use super::pem::{self, Fault, FileError};
use super::provider;

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

/// Lists of revoked certificates.
#[derive(Debug)]
pub struct Revocations {
    /// Of all of them together.
    pub digest: Digest,
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them is to be replaced.
    next: Option<SystemTime>,
}

impl Revocations {
    /// Those of a PEM file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let (mut lists, mut next) = (Vec::new(), None);
        for section in pem::revocation_lists(path, bytes)? {
            let fault = |error: &dyn std::fmt::Display| {
                let fault = Fault::Unusable { what: "certificate revocation list", why: error.to_string() };
                FileError::at(path, section.line, fault)
            };
            let (_, list) = CertificateRevocationList::from_der(&section.item).map_err(|error| fault(&error))?;
            let until = list.next_update().map(time);
            next = next.into_iter().chain(until).min();
            lists.push(section.item);
        }
        Ok(Self { digest: Digest::of(bytes), lists, next })
    }

    /// The day by which one of them was to be replaced, if that is over.
    #[must_use]
    pub fn overdue(&self, now: SystemTime) -> Option<String> {
        self.next.filter(|next| *next < now).map(date)
    }
}

/// Whether a client may do without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anonymous {
    Allowed,
    Refused,
}

/// What verifies the certificates of clients. With lists, the client's own certificate must be of an authority that has a
/// list here, and the list must be in its time.
///
/// # Errors
/// If a list cannot be used.
pub(super) fn client_verifier(
    roots: &Roots,
    revocations: &[Arc<Revocations>],
    anonymous: Anonymous,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::server::VerifierBuilderError> {
    let lists = revocations.iter().flat_map(|revocations| revocations.lists.iter().cloned());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.store()), Arc::clone(provider()))
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration();
    match anonymous {
        Anonymous::Allowed => builder.allow_unauthenticated().build(),
        Anonymous::Refused => builder.build(),
    }
}
