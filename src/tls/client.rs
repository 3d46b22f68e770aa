//! TLS towards instances: whom we trust, whom we say we are, and the handshake.
//!
//! A pool's [`Policy`] is made once of its settings and files; each instance gets a [`Dialer`] of it, with the name that
//! its certificate must have and with sessions of its own to resume, since another instance could not use them. Probes
//! never resume: only a full handshake shows the certificate, and whether it has expired.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificate::{Certificate, Digest, date};
use super::material::Material;
use super::provider;
use super::roots::Roots;
use crate::config::model::{PoolTls, TlsVersion};
use crate::wire::Wire;

/// Sessions kept per instance, to be resumed; of TLS 1.3 several tickets each.
const SESSIONS_MAX: usize = 16;

/// Whose certificates are accepted.
#[derive(Debug, Clone, Copy)]
enum Trust<'a> {
    /// Those that lead to one of these.
    Roots(&'a Roots),
    /// Anybody's.
    Everybody,
    /// Nobody's.
    Nobody,
}

/// What all instances of a pool have in common.
#[derive(Clone)]
pub struct Policy {
    config: ClientConfig,
    /// Of everything that it was made of: two with the same one do the same.
    digest: Digest,
}

impl fmt::Debug for Policy {
    /// Without the key that is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policy").finish_non_exhaustive()
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Policy {
    /// Makes it of a pool's settings and of what their files hold. Who has nobody to trust trusts nobody.
    #[must_use]
    pub fn of(settings: &PoolTls, material: &Material) -> Self {
        let trust = match material.roots(settings.roots.as_ref()) {
            _ if !settings.verify => Trust::Everybody,
            Some(roots) => Trust::Roots(roots),
            None => Trust::Nobody,
        };
        let own = settings.client_certificate.as_ref().and_then(|files| material.certificate(files));
        Self::new(settings.minimum_version, trust, own.map(|own| &**own))
    }

    fn new(minimum: TlsVersion, trust: Trust<'_>, own: Option<&Certificate>) -> Self {
        let versions: &[_] = match minimum {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()));
        let builder = builder.with_protocol_versions(versions).expect("the provider has both versions");
        let builder = match trust {
            Trust::Roots(roots) => builder.with_root_certificates(roots.store()),
            Trust::Nobody => builder.with_root_certificates(RootCertStore::empty()),
            Trust::Everybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified)),
        };
        let config = match own {
            Some(certificate) => {
                let own = SingleCertAndKey::from(Arc::clone(&certificate.key));
                builder.with_client_cert_resolver(Arc::new(own))
            }
            None => builder.with_no_client_auth(),
        };
        Self { config, digest: digest_of(minimum, trust, own) }
    }
}

fn digest_of(minimum: TlsVersion, trust: Trust<'_>, own: Option<&Certificate>) -> Digest {
    let mut bytes = vec![minimum as u8, u8::from(own.is_some())];
    match trust {
        Trust::Everybody => bytes.push(1),
        Trust::Nobody => bytes.push(2),
        Trust::Roots(roots) => bytes.extend_from_slice(roots.digest.bytes()),
    }
    for digest in own.iter().flat_map(|own| &own.digests) {
        bytes.extend_from_slice(digest.bytes());
    }
    Digest::of(&bytes)
}

/// The name that a certificate must be for: a name of the DNS, or an address (RFC 9525, section 6.2 and 6.3).
///
/// # Errors
/// If it is neither.
pub fn server_name(text: &str) -> Result<ServerName<'static>, InvalidName> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(ServerName::from(ip));
    }
    // A dot at the end is not sent (RFC 6066 section 3), and in no certificate.
    let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    ServerName::try_from(name).map_err(|_| InvalidName)
}

/// Neither a name nor an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a host name nor an address")]
pub struct InvalidName;

/// Makes TLS of connections to one instance.
pub struct Dialer {
    policy: Arc<Policy>,
    name: ServerName<'static>,
    offers: [&'static [&'static [u8]]; 2],
    traffic: TlsConnector,
    probes: TlsConnector,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Two that do the same.
impl PartialEq for Dialer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.policy == other.policy && self.offers == other.offers
    }
}

impl Dialer {
    /// For an instance whose certificate must be for `name`. By ALPN, traffic offers one list of protocols and probes
    /// another.
    ///
    /// # Panics
    /// If `name` is no name: `config::check` has looked at it.
    #[must_use]
    pub fn new(
        policy: Arc<Policy>,
        name: &str,
        traffic: &'static [&'static [u8]],
        probes: &'static [&'static [u8]],
    ) -> Self {
        let name = server_name(name).expect("a name that was checked");
        let offers = [traffic, probes];
        let with = |resumption, offers: &[&[u8]]| {
            let mut config = policy.config.clone();
            config.resumption = resumption;
            config.alpn_protocols = offers.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let sessions = Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX));
        let traffic = with(Resumption::store(sessions), traffic);
        Self { traffic, probes: with(Resumption::disabled(), probes), policy, name, offers }
    }

    /// The handshake on a new connection of traffic.
    ///
    /// # Errors
    /// See [`HandshakeError`]; nothing of a request has been sent then.
    ///
    /// # Cancel safety
    /// The connection is closed.
    pub async fn connect(&self, socket: TcpStream) -> Result<(Wire, Handshake), HandshakeError> {
        let stream = self.traffic.connect(self.name.clone(), socket).await.map_err(HandshakeError::of)?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let kind = if resumed { Handshake::Resumed } else { Handshake::Full };
        Ok((Wire::Tls(Box::new(stream.into())), kind))
    }

    /// The handshake on a new connection of a probe: always a full one.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    ///
    /// # Cancel safety
    /// The connection is closed.
    pub async fn probe(&self, socket: TcpStream) -> Result<Wire, HandshakeError> {
        let stream = self.probes.connect(self.name.clone(), socket).await.map_err(HandshakeError::of)?;
        Ok(Wire::Tls(Box::new(stream.into())))
    }
}

/// How a handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// With certificates.
    Full,
    /// By a session that both sides remembered.
    Resumed,
}

/// A handshake that failed. Its text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct HandshakeError {
    /// Whose word ended it.
    pub kind: HandshakeErrorKind,
    text: String,
}

/// What RFC 9209 section 2.3 tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeErrorKind {
    /// The instance's certificate is not good.
    Certificate,
    /// The instance sent an alert.
    Alert,
    /// Anything else.
    Protocol,
}

impl HandshakeErrorKind {
    /// The registered error type.
    #[must_use]
    pub const fn proxy_error(self) -> &'static str {
        match self {
            Self::Certificate => "tls_certificate_error",
            Self::Alert => "tls_alert_received",
            Self::Protocol => "tls_protocol_error",
        }
    }
}

impl HandshakeError {
    #[expect(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
    fn of(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(inner) = inner else {
            let text = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the instance closed during the TLS handshake".to_owned(),
                _ => format!("TLS handshake broken off: {error}"),
            };
            return Self { kind: HandshakeErrorKind::Protocol, text };
        };
        let kind = match inner {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                HandshakeErrorKind::Certificate
            }
            rustls::Error::AlertReceived(_) => HandshakeErrorKind::Alert,
            _ => HandshakeErrorKind::Protocol,
        };
        Self { kind, text: reason(inner) }
    }
}

/// Why a handshake failed, in words.
fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_reason(error),
        rustls::Error::AlertReceived(alert) => format!("the instance refused the TLS handshake: alert {alert:?}"),
        rustls::Error::InvalidMessage(_) => "what came back is not TLS".to_owned(),
        error => format!("TLS handshake failed: {error}"),
    }
}

fn certificate_reason(error: &CertificateError) -> String {
    let date = |time: &UnixTime| date(UNIX_EPOCH + Duration::from_secs(time.as_secs()));
    match error {
        CertificateError::ExpiredContext { not_after, .. } => format!("certificate expired on {}", date(not_after)),
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate is not valid before {}", date(not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| presented_name(name)).collect();
            let presented = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!("certificate is for {presented}, not {}", expected.to_str())
        }
        CertificateError::UnknownIssuer => "certificate is of an unknown issuer".to_owned(),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "certificate is one of a CA, not of a server".to_owned()
        }
        error => format!("bad certificate: {error}"),
    }
}

/// A name as webpki shows it, `DnsName("a.test")` or `IpAddress(10.0.0.1)`, without its kind; other kinds as they are.
fn presented_name(name: &str) -> &str {
    let inside = ["DnsName(", "IpAddress("].iter().find_map(|kind| name.strip_prefix(kind)?.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

/// Accepts every certificate, but not a peer that does not hold the key of the one that it shows.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str) -> Issuer {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
    }

    fn identity(issuer: &Issuer, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        change(&mut params);
        let text = params.signed_by(&key, issuer).expect("a certificate").pem() + &key.serialize_pem();
        let file = (Path::new("own.pem"), text.as_bytes());
        Certificate::read(file, file).expect("a certificate and its key")
    }

    fn roots(issuer: &Issuer) -> Roots {
        Roots::read(Path::new("ca.pem"), issuer.pem().as_bytes()).expect("a root")
    }

    fn dialer(trust: Trust<'_>, name: &str) -> Dialer {
        Dialer::new(Arc::new(Policy::new(TlsVersion::Tls12, trust, None)), name, &[b"http/1.1"], &[b"http/1.1"])
    }

    /// What the dialer says of one handshake after the other with a server of that identity.
    async fn handshakes(
        dialer: &Dialer,
        identity: &Certificate,
        count: usize,
    ) -> Vec<Result<Handshake, HandshakeError>> {
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.key))));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut results = Vec::new();
        for _ in 0..count {
            let dial = async {
                let socket = TcpStream::connect(address).await.expect("a listener");
                let (mut stream, kind) = dialer.connect(socket).await?;
                // Until the byte comes; the tickets come before it.
                let mut byte = [0];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut byte).await.expect("a byte");
                Ok(kind)
            };
            let serve = async {
                let (socket, _) = listener.accept().await.expect("a connection");
                if let Ok(mut stream) = acceptor.accept(socket).await {
                    tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await.expect("written");
                    tokio::io::AsyncWriteExt::flush(&mut stream).await.expect("sent");
                }
            };
            results.push(tokio::join!(dial, serve).0);
        }
        results
    }

    async fn refusal(trust: Trust<'_>, name: &str, identity: &Certificate) -> (HandshakeErrorKind, String) {
        let error = handshakes(&dialer(trust, name), identity, 1).await.remove(0).expect_err("no handshake");
        (error.kind, error.to_string())
    }

    #[tokio::test]
    async fn a_certificate_must_be_of_a_trusted_issuer_for_the_right_name_and_in_its_time() {
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        let (trusted, others) = (roots(&ours), roots(&theirs));
        let (trust, elsewhere) = (Trust::Roots(&trusted), Trust::Roots(&others));
        let good = identity(&ours, &["a.test", "10.0.0.1"], |_| ());
        for name in ["a.test", "A.test.", "10.0.0.1"] {
            assert_eq!(handshakes(&dialer(trust, name), &good, 1).await, [Ok(Handshake::Full)], "{name}");
        }
        let certificate = |text: &str| (HandshakeErrorKind::Certificate, text.to_owned());
        let wrong_name = "certificate is for a.test, 10.0.0.1, not b.test";
        assert_eq!(refusal(trust, "b.test", &good).await, certificate(wrong_name));
        let wrong_address = "certificate is for a.test, 10.0.0.1, not 10.0.0.2";
        assert_eq!(refusal(trust, "10.0.0.2", &good).await, certificate(wrong_address));
        let unknown = "certificate is of an unknown issuer";
        for trust in [elsewhere, Trust::Nobody] {
            assert_eq!(refusal(trust, "a.test", &good).await, certificate(unknown));
        }
        let expired = identity(&ours, &["a.test"], |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 2, 3);
        });
        assert_eq!(refusal(trust, "a.test", &expired).await, certificate("certificate expired on 2021-02-03"));
        let early = identity(&ours, &["a.test"], |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
        let not_yet = "certificate is not valid before 2090-01-01";
        assert_eq!(refusal(trust, "a.test", &early).await, certificate(not_yet));
        let of_a_ca = identity(&ours, &["a.test"], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        let no_server = "certificate is one of a CA, not of a server";
        assert_eq!(refusal(trust, "a.test", &of_a_ca).await, certificate(no_server));
        for bad in [&expired, &of_a_ca, &good] {
            assert_eq!(handshakes(&dialer(Trust::Everybody, "b.test"), bad, 1).await, [Ok(Handshake::Full)]);
        }
    }

    #[tokio::test]
    async fn an_instance_is_resumed_by_traffic_and_never_by_a_probe() {
        let ours = authority("ours");
        let good = identity(&ours, &["a.test"], |_| ());
        let trusted = roots(&ours);
        let dialer = dialer(Trust::Roots(&trusted), "a.test");
        let kinds: Vec<_> = handshakes(&dialer, &good, 2).await.into_iter().map(|kind| kind.expect("TLS")).collect();
        assert_eq!(kinds, [Handshake::Full, Handshake::Resumed]);
        let probes = Dialer { traffic: dialer.probes.clone(), ..dialer };
        let kinds: Vec<_> = handshakes(&probes, &good, 2).await.into_iter().map(|kind| kind.expect("TLS")).collect();
        assert_eq!(kinds, [Handshake::Full, Handshake::Full]);
    }

    #[test]
    fn two_policies_are_the_same_if_all_that_they_are_made_of_is() {
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        let us = identity(&ours, &["us"], |_| ());
        let (trusted, others) = (roots(&ours), roots(&theirs));
        let (trust, elsewhere) = (Trust::Roots(&trusted), Trust::Roots(&others));
        let with = Policy::new;
        let first = with(TlsVersion::Tls12, trust, Some(&us));
        assert!(first == with(TlsVersion::Tls12, trust, Some(&us)));
        for other in [
            with(TlsVersion::Tls13, trust, Some(&us)),
            with(TlsVersion::Tls12, elsewhere, Some(&us)),
            with(TlsVersion::Tls12, Trust::Everybody, Some(&us)),
            with(TlsVersion::Tls12, trust, None),
            with(TlsVersion::Tls12, trust, Some(&identity(&ours, &["us"], |_| ()))),
        ] {
            assert!(first != other);
        }
    }

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (text, expected) in [
            ("Api.Internal.", Some("api.internal")),
            ("a_b.test", Some("a_b.test")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[fd00::1]", Some("fd00::1")),
            ("fd00::1", Some("fd00::1")),
            ("a b", None),
            ("*.test", None),
            ("a.test:443", None),
            ("", None),
        ] {
            let name = server_name(text).ok();
            assert_eq!(name.as_ref().map(|name| name.to_str().into_owned()).as_deref(), expected, "{text}");
        }
    }
}
