//! A certificate chain with its private key, read from files and checked: what a listener shows its clients, and what
//! Plimsoll itself shows to instances that ask.
//!
//! Pure: bytes in, a [`Certificate`] or what is wrong with them out. What people and name matching need of it (names,
//! dates) is taken out here, once; rustls checks certificates, but does not tell.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{self, SHA256};
use rustls::Error;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::pem::{self, Fault, FileError, Section};
use super::provider;
use crate::telemetry::timestamp::Timestamp;

/// A SHA-256 of what a file holds: tells whether it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut own = [0; 32];
        own.copy_from_slice(digest::digest(&SHA256, bytes).as_ref());
        Self(own)
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        let digit = |bits: u8| char::from(b"0123456789abcdef"[usize::from(bits)]);
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A chain with its key, ready for use.
#[derive(Debug)]
pub struct Certificate {
    /// What it says of itself.
    pub about: About,
    /// Of the file of the chain and of that of the key.
    pub digests: [Digest; 2],
    /// For rustls.
    pub(super) key: Arc<CertifiedKey>,
}

/// What the certificate at the head of a chain says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Whom it is about: `CN=example.com`.
    pub subject: String,
    /// The names that it is for (subject alternative names), in lower case: `example.com`, `*.example.com`, `192.0.2.1`.
    pub names: Vec<String>,
    /// Its first second.
    pub not_before: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads and checks a chain and its key; one file may hold both. Dates are left to [`About::fault`].
    ///
    /// # Errors
    /// What is wrong, and in which of the files.
    pub fn read(chain: (&Path, &[u8]), key: (&Path, &[u8])) -> Result<Self, FileError> {
        let sections = pem::certificates(chain.0, chain.1)?;
        let about = check_chain(chain.0, &sections)?;
        let private_key = pem::private_key(key.0, key.1)?;
        let key_fault = |fault| FileError::at(key.0, private_key.line, fault);
        let signing_key = provider()
            .key_provider
            .load_private_key(private_key.item)
            .map_err(|error| key_fault(Fault::unusable("private key", &error)))?;
        let first_line = sections[0].line;
        let certified = CertifiedKey::new(sections.into_iter().map(|section| section.item).collect(), signing_key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(_)) => return Err(key_fault(Fault::KeyMismatch(chain.0.to_path_buf()))),
            Err(error) => return Err(FileError::at(chain.0, first_line, Fault::unusable("certificate", &error))),
        }
        Ok(Self { about, digests: [Digest::of(chain.1), Digest::of(key.1)], key: Arc::new(certified) })
    }
}

impl Certificate {
    /// Whether it was read from files that held just this.
    #[must_use]
    pub fn holds(&self, chain: &[u8], key: &[u8]) -> bool {
        self.digests == [Digest::of(chain), Digest::of(key)]
    }
}

impl About {
    /// What is wrong with its dates at `now`, if anything is.
    #[must_use]
    pub fn fault(&self, now: SystemTime) -> Option<Fault> {
        let subject = self.subject.clone();
        if now < self.not_before {
            Some(Fault::NotYetValid { subject, date: date(self.not_before) })
        } else if now > self.not_after {
            Some(Fault::Expired { subject, date: date(self.not_after) })
        } else {
            None
        }
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names =
            alternatives.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| ip.to_string()),
                _ => None,
            });
        let validity = certificate.validity();
        Self {
            subject: certificate.subject().to_string(),
            names: names.collect(),
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        }
    }
}

/// Every certificate readable, and each but the first the issuer of the one before it.
fn check_chain(path: &Path, sections: &[Section<CertificateDer<'_>>]) -> Result<About, FileError> {
    let mut own: Option<About> = None;
    let mut before: Option<X509Certificate<'_>> = None;
    for section in sections {
        let (_, certificate) = X509Certificate::from_der(&section.item)
            .map_err(|error| FileError::at(path, section.line, Fault::unusable("certificate", &error)))?;
        if let Some(before) = &before
            && before.issuer().as_raw() != certificate.subject().as_raw()
        {
            let (subject, issuer) = (certificate.subject().to_string(), before.issuer().to_string());
            return Err(FileError::at(path, section.line, Fault::WrongOrder { subject, issuer }));
        }
        own.get_or_insert_with(|| About::of(&certificate));
        before = Some(certificate);
    }
    own.ok_or_else(|| FileError::new(path, Fault::Empty))
}

/// The day of a time, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    Timestamp(time).to_string().chars().take("2026-11-22".len()).collect()
}

pub(super) fn time(time: ASN1Time) -> SystemTime {
    // What lies before 1970 is as expired as 1970 itself.
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
