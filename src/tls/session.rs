//! What a TLS connection has agreed on, for logs, metrics and the choice of the protocol.

use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};

/// Versions of TLS, as labels and in logs.
pub const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// How sessions come about, as labels.
pub const ORIGINS: [&str; 2] = ["full", "resumed"];

/// A session with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session<'a> {
    /// Where its version stands in [`VERSIONS`].
    pub version: usize,
    /// Where its origin stands in [`ORIGINS`].
    pub origin: usize,
    /// The cipher suite, by its registered name.
    pub cipher: &'static str,
    /// The name that the client asked for (SNI).
    pub name: Option<&'a str>,
    /// The protocol that ALPN agreed on; `None`: the client did not ask.
    pub protocol: Option<&'a [u8]>,
}

impl<'a> Session<'a> {
    /// Of a connection whose handshake is over.
    #[must_use]
    pub fn of(connection: &'a ServerConnection) -> Self {
        let suite = connection.negotiated_cipher_suite().and_then(|suite| name(suite.suite()));
        Self {
            version: usize::from(connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)),
            origin: usize::from(connection.handshake_kind() == Some(HandshakeKind::Resumed)),
            cipher: suite.unwrap_or("unknown"),
            name: connection.server_name(),
            protocol: connection.alpn_protocol(),
        }
    }
}

/// rustls has names of its own for the suites of TLS 1.3.
fn name(suite: CipherSuite) -> Option<&'static str> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some("TLS_AES_128_GCM_SHA256"),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some("TLS_AES_256_GCM_SHA384"),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some("TLS_CHACHA20_POLY1305_SHA256"),
        other => other.as_str(),
    }
}
