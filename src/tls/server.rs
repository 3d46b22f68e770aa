//! TLS towards clients: the handshake of a listener, and which certificate it shows.
//!
//! A [`Server`] is built with each snapshot and never changes: connections keep the one that they began with, new ones
//! get the new one. It offers TLS 1.3 and 1.2 only, takes no early data, and resumes sessions by tickets alone, so that
//! it keeps nothing in memory for clients that are gone.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    Acceptor, ClientHello, NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::certificate::Digest;
use super::failure::Failure;
use super::material::Material;
use super::provider;
use super::roots::{Anonymous, client_verifier};
use super::tickets::{Keys, RandomKeys, Tickets};
use crate::config::model::{Alpn, ClientCertificate, ListenerTls, TlsVersion};
use crate::wire::Wire;

/// First byte of a TLS record that begins a handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// A fatal alert `unrecognized_name` (RFC 6066 section 3): rustls has no way to ask it for this one.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The TLS of a listener.
#[derive(Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    strict_sni: bool,
    tickets: Option<Arc<Tickets>>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub enum HandshakeError {
    /// The client speaks plain HTTP. Nothing of it was read.
    PlainHttp(TcpStream),
    /// It failed; the client has been told as far as there is a word for it.
    Failed(Failure, io::Error),
}

impl Server {
    /// Builds it. Random ticket keys are taken over from `before`, so that a reload costs no client its session.
    ///
    /// # Panics
    /// If the files of client certificates are not in `material`, where `config` has put them.
    #[must_use]
    pub fn build(settings: &ListenerTls, material: &Material, before: Option<&Self>) -> Self {
        const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        let versions = match settings.minimum_version {
            TlsVersion::Tls12 => BOTH,
            TlsVersion::Tls13 => &BOTH[..1],
        };
        let certificates = Arc::new(Certificates::new(settings, material));
        let tickets = (settings.tickets > 0).then(|| Arc::new(tickets(settings, material, before)));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(versions)
            .expect("the provider has ciphers for both versions")
            .with_client_cert_verifier(verifier(settings, material))
            .with_cert_resolver(Arc::<Certificates>::clone(&certificates));
        config.alpn_protocols = settings.alpn.iter().map(|protocol| protocol.id().as_bytes().to_vec()).collect();
        // It is what we speak with those who speak nothing newer, and `curl --http1.0` offers nothing else.
        if settings.alpn.contains(&Alpn::Http11) {
            config.alpn_protocols.push(b"http/1.0".to_vec());
        }
        // All ciphers are strong; but scanners take a server without an order of its own for one that nobody has set up.
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = settings.tickets;
        if let Some(tickets) = &tickets {
            config.ticketer = Arc::<Tickets>::clone(tickets) as Arc<dyn ProducesTickets>;
        }
        Self {
            config: Arc::new(config),
            certificates,
            strict_sni: settings.strict_sni,
            tickets,
            handshake_timeout: settings.handshake_timeout,
        }
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    ///
    /// # Cancel safety
    /// The connection is lost with the future.
    pub async fn handshake(&self, socket: TcpStream) -> Result<Wire, HandshakeError> {
        match first_byte(&socket).await {
            Ok(Some(HANDSHAKE_RECORD)) => {}
            Ok(Some(byte)) if byte.is_ascii_uppercase() => return Err(HandshakeError::PlainHttp(socket)),
            // rustls has the right alert for whatever this is.
            Ok(Some(_)) => {}
            Ok(None) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(failed(error)),
        }
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await.map_err(failed)?;
        let asked = hello.client_hello();
        if self.strict_sni && asked.server_name().is_none_or(|name| self.certificates.find(name).is_none()) {
            return Err(refuse_name(hello).await);
        }
        let stream = hello.into_stream(Arc::clone(&self.config)).await.map_err(failed)?;
        Ok(Wire::Tls(Box::new(stream.into())))
    }
}

/// Which byte comes first; it stays where it is. `None`: the client closed.
async fn first_byte(socket: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let count = socket.peek(&mut byte).await?;
    Ok((count > 0).then_some(byte[0]))
}

async fn refuse_name(hello: StartHandshake<TcpStream>) -> HandshakeError {
    let StartHandshake { accepted, mut io, .. } = hello;
    let name = accepted.client_hello().server_name().unwrap_or_default().to_owned();
    let told = async {
        io.write_all(&UNRECOGNIZED_NAME).await?;
        io.shutdown().await
    };
    let error = match told.await {
        Ok(()) => io::Error::other(format!("no certificate for the name `{name}`")),
        Err(error) => error,
    };
    HandshakeError::Failed(Failure::UnrecognizedName, error)
}

fn failed(error: io::Error) -> HandshakeError {
    HandshakeError::Failed(Failure::of(&error), error)
}

fn tickets(settings: &ListenerTls, material: &Material, before: Option<&Server>) -> Tickets {
    let shared = settings.ticket_keys.as_ref().and_then(|file| material.ticket_keys(file));
    let keys = match (shared, before.and_then(|before| before.tickets.as_ref()).map(|tickets| tickets.keys())) {
        (Some(shared), _) => Keys::Shared(Arc::clone(shared)),
        (None, Some(Keys::Random(random))) => Keys::Random(Arc::clone(random)),
        (None, _) => Keys::Random(Arc::new(RandomKeys::new())),
    };
    Tickets::new(keys, settings.ticket_lifetime, policy(settings, material))
}

/// What asks clients for certificates, and judges them.
fn verifier(settings: &ListenerTls, material: &Material) -> Arc<dyn ClientCertVerifier> {
    let anonymous = match settings.client_certificate {
        ClientCertificate::Off => return Arc::new(NoClientAuth),
        ClientCertificate::Optional => Anonymous::Allowed,
        ClientCertificate::Required => Anonymous::Refused,
    };
    let roots = settings.client_roots.as_ref().and_then(|file| material.roots(Some(file)));
    let revocations: Vec<_> =
        settings.client_revocations.iter().filter_map(|file| material.revocations(file)).cloned().collect();
    let verifier = roots.map(|roots| client_verifier(roots, &revocations, anonymous));
    // `config` lets no listener through whose files are not read and sound.
    verifier.expect("roots of clients").expect("lists that were looked at")
}

/// Of all that a full handshake asks of a client: a session that began under another one is not resumed.
fn policy(settings: &ListenerTls, material: &Material) -> Digest {
    let mut bytes = vec![settings.client_certificate as u8];
    let roots = settings.client_roots.as_ref().and_then(|file| material.roots(Some(file)));
    let revocations = settings.client_revocations.iter().filter_map(|file| material.revocations(file));
    for digest in roots.map(|roots| roots.digest).into_iter().chain(revocations.map(|lists| lists.digest)) {
        bytes.extend_from_slice(digest.bytes());
    }
    Digest::of(&bytes)
}

/// The certificates of a listener, by the names that they are for.
struct Certificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the `*.`; they stand for one label (RFC 9525 section 6.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For clients that ask for no name, or for one that no certificate has.
    default: Vec<Arc<CertifiedKey>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates for {} names", self.exact.len() + self.wildcard.len())
    }
}

impl Certificates {
    fn new(settings: &ListenerTls, material: &Material) -> Self {
        let mut certificates = Self { exact: HashMap::new(), wildcard: HashMap::new(), default: Vec::new() };
        let mut default_name = None;
        for (index, certificate) in
            settings.certificates.iter().filter_map(|files| material.certificate(files)).enumerate()
        {
            for name in &certificate.about.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut certificates.wildcard, suffix),
                    None => (&mut certificates.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(Arc::clone(&certificate.key));
            }
            // One with another kind of key for the same name serves clients that cannot use the first.
            let name = certificate.about.names.first();
            if index == 0 || name.is_some() && name == default_name {
                certificates.default.push(Arc::clone(&certificate.key));
                default_name = name;
            }
        }
        certificates
    }

    /// The certificates for a name, in lower case.
    fn find(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for Certificates {
    /// The first one for the name whose key the client can use.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = hello.server_name().and_then(|name| self.find(name)).unwrap_or(&self.default);
        let schemes = hello.signature_schemes();
        let usable = candidates.iter().find(|candidate| candidate.key.choose_scheme(schemes).is_some());
        usable.or_else(|| candidates.first()).cloned()
    }
}
