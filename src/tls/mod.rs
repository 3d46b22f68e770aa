//! TLS in both directions: certificates, keys and trust read from files, and the sides that use them.
//!
//! The control side reads and checks every file that a configuration names (`pem`, `certificate`), before anything is
//! built of it: a broken file is a message with file and line, never a listener without a certificate. rustls is used
//! here and in `wire` only, and always with the one [`provider`]: it has the post-quantum key exchange X25519MLKEM768,
//! which is offered first.

pub mod certificate;
pub mod client;
pub mod expiry;
pub mod failure;
pub mod material;
pub mod pem;
pub mod roots;
pub mod server;
pub mod session;
pub mod tickets;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// The cryptography of all TLS, both directions.
#[must_use]
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// SHA-1, which the handshake of `WebSocket` is made of: it proves that a server has understood, and protects nothing.
#[must_use]
pub fn sha1(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}
