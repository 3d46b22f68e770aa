//! Certificates of all kinds, made while the tests run, and a TLS client with control of each byte above TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned};

use super::Client;
use super::folder::Folder;
use super::message::{Stream, Wire};
use super::wait::{BOUND, seconds};

/// An authority that issues certificates.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as PEM.
pub(crate) struct Issued {
    /// The certificate alone.
    pub(crate) pem: String,
    /// Its key, PKCS#8.
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("Test Authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let (params, key) = Self::params(name);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// An authority that this one vouches for.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = Self::params(name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn params(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    }

    /// A certificate for these names, valid from 2020 to 4000.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |params| params.not_before = date_time_ymd(2020, 1, 1))
    }

    /// With other dates, or whatever else.
    pub(crate) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue_for(names, &KeyPair::generate().unwrap(), change)
    }

    /// For this key.
    pub(crate) fn issue_for(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let subject = names.first().cloned().unwrap_or_default();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Issued { pem: certificate.pem(), key: key.serialize_pem() }
    }

    /// A list of its certificates with these serial numbers, good until that year.
    pub(crate) fn revocations(&self, serials: &[u64], until: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// How a client that trusts it connects.
    pub(crate) fn client(&self) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsClient { config, name: "localhost".to_owned() }
    }
}

impl Issued {
    /// Writes both as `NAME.pem` and `NAME.key`, and returns them as the configuration names them.
    pub(crate) fn write(&self, folder: &Folder, name: &str) -> String {
        folder.write(&format!("{name}.pem"), &self.pem);
        folder.write_secret(&format!("{name}.key"), &self.key);
        let path = |extension: &str| folder.path().join(format!("{name}.{extension}")).display().to_string();
        format!("{{ certificate = '{}', key = '{}' }}", path("pem"), path("key"))
    }
}

/// How to connect.
#[derive(Clone)]
pub(crate) struct TlsClient {
    /// For what has no method here.
    pub(crate) config: ClientConfig,
    name: String,
}

/// What came of a handshake.
pub(crate) struct Shaken {
    /// For requests.
    pub(crate) client: Client,
    /// What TLS agreed on.
    pub(crate) agreed: Agreed,
}

/// What TLS agreed on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Agreed {
    pub(crate) version: ProtocolVersion,
    pub(crate) kind: HandshakeKind,
    pub(crate) group: Option<rustls::NamedGroup>,
    pub(crate) alpn: Option<String>,
    /// Of the server, DER.
    pub(crate) certificate: Vec<u8>,
}

impl TlsClient {
    /// Asks for this name.
    pub(crate) fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Says no name.
    pub(crate) fn without_sni(mut self) -> Self {
        self.config.enable_sni = false;
        self
    }

    /// Offers these protocols.
    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Shows this certificate to servers that ask.
    pub(crate) fn showing(mut self, issued: &Issued) -> Self {
        use rustls::pki_types::PrivateKeyDer;
        use rustls::pki_types::pem::PemObject;
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let own = rustls::sign::CertifiedKey::new(vec![der(&issued.pem).into()], key);
        self.config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(own));
        self
    }

    /// Speaks these versions only.
    pub(crate) fn versions(
        mut self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        authority: &Authority,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let (alpn, sni) = (std::mem::take(&mut self.config.alpn_protocols), self.config.enable_sni);
        self.config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.config.alpn_protocols = alpn;
        self.config.enable_sni = sni;
        self
    }

    /// Connects and shakes hands.
    #[track_caller]
    pub(crate) fn connect(&self, address: SocketAddr) -> Client {
        self.shake(address).client
    }

    /// Connects, shakes hands, and tells what was agreed on.
    #[track_caller]
    pub(crate) fn shake(&self, address: SocketAddr) -> Shaken {
        self.try_shake(address).unwrap_or_else(|error| panic!("TLS handshake with {address}: {error}"))
    }

    /// Connects and shakes hands.
    pub(crate) fn try_shake(&self, address: SocketAddr) -> io::Result<Shaken> {
        let socket = TcpStream::connect_timeout(&address, BOUND)?;
        socket.set_read_timeout(Some(BOUND + seconds(5)))?;
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::new(self.config.clone()), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let conn = &stream.conn;
        let agreed = Agreed {
            version: conn.protocol_version().unwrap(),
            kind: conn.handshake_kind().unwrap(),
            group: conn.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name),
            alpn: conn.alpn_protocol().map(|id| String::from_utf8_lossy(id).into_owned()),
            certificate: conn.peer_certificates().unwrap()[0].to_vec(),
        };
        let socket = stream.sock.try_clone()?;
        let client = Client { wire: Wire::above(Box::new(Tls(stream)), socket, BOUND + seconds(5)) };
        Ok(Shaken { client, agreed })
    }
}

/// A session on its socket.
struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Tls {
    fn end_sending(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

/// The DER of the first certificate in a PEM text.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
