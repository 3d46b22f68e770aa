//! TLS in front of an instance: ends TLS and passes the bytes on, and tells what it saw of the handshakes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::tls::{Authority, Issued};
use super::{Instance, ports};

/// A port with TLS in front of an instance; closed when dropped.
pub(crate) struct TlsPort {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    _runtime: tokio::runtime::Runtime,
}

struct Inner {
    to: SocketAddr,
    acceptor: Mutex<TlsAcceptor>,
    handshakes: Mutex<Vec<Seen>>,
    end: Mutex<End>,
}

/// What a client showed in a handshake that was done.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: Option<String>,
    pub(crate) resumed: bool,
    /// The certificate that it showed.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// How the port ends a connection that the instance has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As TLS wants it.
    Notified,
    /// As an attacker would: the socket closes without a word.
    Cut,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every version, and no certificate asked for.
pub(crate) fn server(leaf: &Issued) -> ServerConfig {
    server_of(leaf, rustls::ALL_VERSIONS, None)
}

/// A server's configuration; with an authority, clients must show a certificate of it.
pub(crate) fn server_of(
    leaf: &Issued,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<&Authority>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
    let builder = builder.expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let chain = CertificateDer::pem_slice_iter(leaf.pem.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
    builder.with_single_cert(chain, key).expect("a certificate and its key")
}

impl TlsPort {
    /// In front of an instance.
    pub(crate) fn of(instance: &Instance, leaf: &Issued) -> Self {
        Self::with(instance.address(), server(leaf))
    }

    /// In front of any address.
    pub(crate) fn with(to: SocketAddr, config: ServerConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (runtime, address) = (runtime.expect("a runtime"), ports::free());
        let inner = Arc::new(Inner {
            to,
            acceptor: Mutex::new(Arc::new(config).into()),
            handshakes: Mutex::default(),
            end: Mutex::new(End::Notified),
        });
        let listener = runtime.block_on(TcpListener::bind(address)).expect("a free port");
        runtime.spawn(accept(listener, Arc::clone(&inner)));
        Self { address, inner, _runtime: runtime }
    }

    /// Handshakes from now on go by this.
    pub(crate) fn set(&self, config: ServerConfig) {
        *lock(&self.inner.acceptor) = Arc::new(config).into();
    }

    /// Connections end like this from now on.
    pub(crate) fn end_by(&self, end: End) {
        *lock(&self.inner.end) = end;
    }

    /// What clients showed in the handshakes that were done, probes included.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.inner.handshakes).clone()
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((socket, _)) = listener.accept().await {
        // What becomes of a connection is what the test looks at.
        drop(tokio::spawn(converse(socket, Arc::clone(&inner))));
    }
}

/// One connection, until both sides have ended.
async fn converse(socket: TcpStream, inner: Arc<Inner>) -> std::io::Result<()> {
    let acceptor = lock(&inner.acceptor).clone();
    let stream = acceptor.accept(socket).await?;
    let session = stream.get_ref().1;
    let seen = Seen {
        name: session.server_name().map(str::to_owned),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        certificate: session.peer_certificates().and_then(|chain| chain.first()).map(|own| own.clone().into_owned()),
    };
    lock(&inner.handshakes).push(seen);
    let instance = TcpStream::connect(inner.to).await?;
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let (mut from_instance, mut to_instance) = instance.into_split();
    let inward = async {
        let copied = tokio::io::copy(&mut from_client, &mut to_instance).await;
        to_instance.shutdown().await.and(copied)
    };
    let outward = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from_instance.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            to_client.write_all(&buffer[..count]).await?;
            to_client.flush().await?;
        }
        let end = *lock(&inner.end);
        if end == End::Notified {
            to_client.shutdown().await
        } else {
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
    };
    // An end by the instance is an end of the connection only where it is cut.
    tokio::try_join!(inward, outward).map(drop)
}
