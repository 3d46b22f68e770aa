//! Why handshakes fail: one word for each reason, in metrics and logs.

use std::io;

use rustls::{CertificateError, Error, PeerIncompatible};

/// Why a client got no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// It took longer than `handshake_timeout`.
    Timeout,
    /// The client closed or reset the connection.
    Closed,
    /// Plain HTTP came.
    PlainHttp,
    /// No certificate has the name, and `strict_sni` is on.
    UnrecognizedName,
    /// No version of TLS in common.
    Version,
    /// No cipher, key exchange or signature in common.
    Algorithm,
    /// No protocol in common (ALPN).
    Protocol,
    /// The client does not want us: it sent an alert.
    Alert,
    /// The client has shown no certificate where one is required.
    ClientCertificateMissing,
    /// Its certificate's time is over, or has not come.
    ClientCertificateExpired,
    /// Its certificate is of an authority that we do not know.
    ClientCertificateUnknownIssuer,
    /// Its certificate was revoked, or nobody can tell whether it was.
    ClientCertificateRevoked,
    /// Its certificate is not good for another reason.
    ClientCertificate,
    /// What came is not TLS, or not as it should be.
    Malformed,
    /// Something on our side.
    Other,
}

impl Failure {
    /// Every one, in the order of the discriminants.
    pub const ALL: [Self; 15] = [
        Self::Timeout,
        Self::Closed,
        Self::PlainHttp,
        Self::UnrecognizedName,
        Self::Version,
        Self::Algorithm,
        Self::Protocol,
        Self::Alert,
        Self::ClientCertificateMissing,
        Self::ClientCertificateExpired,
        Self::ClientCertificateUnknownIssuer,
        Self::ClientCertificateRevoked,
        Self::ClientCertificate,
        Self::Malformed,
        Self::Other,
    ];

    /// The label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::PlainHttp => "plain_http",
            Self::UnrecognizedName => "unrecognized_name",
            Self::Version => "version",
            Self::Algorithm => "algorithm",
            Self::Protocol => "no_application_protocol",
            Self::Alert => "client_alert",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateExpired => "client_certificate_expired",
            Self::ClientCertificateUnknownIssuer => "client_certificate_unknown_issuer",
            Self::ClientCertificateRevoked => "client_certificate_revoked",
            Self::ClientCertificate => "client_certificate",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                Self::ClientCertificateExpired
            }
            E::UnknownIssuer => Self::ClientCertificateUnknownIssuer,
            E::Revoked
            | E::UnknownRevocationStatus
            | E::ExpiredRevocationList
            | E::ExpiredRevocationListContext { .. } => Self::ClientCertificateRevoked,
            _ => Self::ClientCertificate,
        }
    }

    /// What an error of a handshake means.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return Self::Closed };
        match tls {
            Error::NoApplicationProtocol => Self::Protocol,
            Error::AlertReceived(_) => Self::Alert,
            Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidCertRevocationList(_) => Self::ClientCertificateRevoked,
            Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::Version,
            Error::PeerIncompatible(_) => Self::Algorithm,
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord
            | Error::DecryptError => Self::Malformed,
            _ => Self::Other,
        }
    }
}
