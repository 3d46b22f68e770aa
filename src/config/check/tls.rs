//! TLS: which files there are, and what fits together. What is in the files is read after this, in `config::files`.

use std::path::Path;

use crate::config::file;
use crate::config::model::{CertificateFiles, ClientCertificate, ListenerTls, PoolTls};
use crate::config::problem::Problems;
use crate::config::read::{Field, Span};
use crate::tls::client::server_name;

use super::{file_ref, written};

/// Checks the TLS of a listener.
pub(super) fn check_listener(tls: &Field<file::ListenerTls>, path: &Path, problems: &mut Problems<'_>) -> ListenerTls {
    let file = &tls.value;
    let tables = &file.certificates.value.0;
    if tables.is_empty() {
        problems
            .error(file.certificates.span.as_ref().or(tls.span.as_ref()), "a listener with `tls` and no certificate")
            .hint("add `certificates = [{ certificate = \"FILE.pem\", key = \"FILE.key\" }]`");
    }
    if file.alpn.value.is_empty() {
        problems.error(file.alpn.span.as_ref(), "`listener.tls.alpn` is empty").hint("write `[\"h2\", \"http/1.1\"]`");
    }
    let ticket_keys = written(&file.ticket_keys);
    if let (Some(keys), 0) = (&ticket_keys, file.tickets.value) {
        problems
            .error(keys.span.as_ref(), "`ticket_keys` is set, but `tickets = 0` switches tickets off")
            .hint("remove one of them");
    }
    let asked = file.client_certificate.value != ClientCertificate::Off;
    let client_roots = written(&file.client_roots);
    if asked && client_roots.is_none() && !file.client_roots.is_written() {
        problems
            .error(file.client_certificate.span.as_ref(), "`client_certificate` without `client_roots`")
            .hint("add `client_roots = \"FILE.pem\"` with the authorities whose client certificates are good");
    }
    if let (false, Some(roots)) = (asked, &client_roots) {
        problems
            .warning(roots.span.as_ref(), "`client_roots` is set, but clients are not asked for a certificate")
            .hint("add `client_certificate = \"optional\"` or `\"required\"`");
    }
    let named = |name: &Field<String>| file_ref(&name.value, name.span.as_ref(), path, problems);
    ListenerTls {
        client_certificate: file.client_certificate.value,
        client_roots: client_roots.as_ref().map(named),
        client_revocations: file.client_revocations.value.iter().map(named).collect(),
        certificates: tables.iter().filter_map(|table| check_certificate(table, path, problems)).collect(),
        minimum_version: file.minimum_version.value,
        alpn: file.alpn.value.iter().map(|field| field.value).collect(),
        strict_sni: file.strict_sni.value,
        handshake_timeout: file.handshake_timeout.value,
        tickets: file.tickets.value as usize,
        ticket_lifetime: file.ticket_lifetime.value,
        ticket_keys: ticket_keys.map(|keys| file_ref(&keys.value, keys.span.as_ref(), path, problems)),
    }
}

/// Checks the TLS of a pool towards its instances.
pub(super) fn check_pool(
    pool: &str,
    tls: &Field<file::PoolTlsEntry>,
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<PoolTls> {
    let file = &tls.value.0;
    if !file.enabled.value {
        if says_how(file) && !file.enabled.is_written() {
            let message = format!("pool `{pool}` has `tls` and does not say whether it is used");
            problems.error(tls.span.as_ref(), message).hint("add `enabled = true` to it, or `enabled = false`");
        }
        return None;
    }
    let named =
        |file: &Field<String>, problems: &Problems<'_>| file_ref(&file.value, file.span.as_ref(), path, problems);
    if let Some(name) = written(&file.server_name).filter(|name| server_name(&name.value).is_err()) {
        problems
            .error(name.span.as_ref(), format!("`{}` is no name that a certificate can have", name.value))
            .hint("write a host name or an IP address, without a port");
    }
    if !file.verify.value {
        warn_unverified(pool, file, file.verify.span.as_ref(), problems);
    }
    let own = written(&file.client_certificate);
    let key = written(&file.client_key);
    if let (None, Some(key)) = (&own, &key) {
        problems
            .error(key.span.as_ref(), "`client_key` without `client_certificate`")
            .hint("add `client_certificate = \"FILE.pem\"`; a key alone proves nothing");
    }
    Some(PoolTls {
        roots: written(&file.roots).map(|roots| named(&roots, problems)),
        server_name: file.server_name.value.clone(),
        client_certificate: own.map(|own| {
            let key = key.unwrap_or_else(|| own.clone());
            CertificateFiles { certificate: named(&own, problems), key: named(&key, problems) }
        }),
        minimum_version: file.minimum_version.value,
        verify: file.verify.value,
    })
}

/// Whether anything is said about TLS beside whether it is used.
fn says_how(file: &file::PoolTls) -> bool {
    let texts = [&file.roots, &file.server_name, &file.client_certificate, &file.client_key];
    texts.iter().any(|text| text.is_written()) || file.minimum_version.is_written() || file.verify.is_written()
}

fn warn_unverified(pool: &str, file: &file::PoolTls, span: Option<&Span>, problems: &mut Problems<'_>) {
    if file.roots.is_written() {
        problems
            .error(file.roots.span.as_ref(), "`roots` means nothing with `verify = false`")
            .hint("remove one of them: with `roots`, certificates are checked against these");
    }
    problems
        .warning(span, format!("the instances of pool `{pool}` are not verified: anybody on the way can pass for them"))
        .hint(
            "leave `verify` out; for a CA of your own set `roots`, for another name in the certificate `server_name`",
        );
}

fn check_certificate(
    table: &Field<file::Certificate>,
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<CertificateFiles> {
    let file = &table.value;
    let Some(certificate) = written(&file.certificate) else {
        if !file.certificate.is_written() {
            problems
                .error(table.span.as_ref(), "`certificates` has an item without `certificate`")
                .hint("add `certificate = \"FILE.pem\"`; a key alone proves nothing");
        }
        return None;
    };
    let key = written(&file.key).unwrap_or_else(|| certificate.clone());
    let named = |file: &Field<String>| file_ref(&file.value, file.span.as_ref(), path, problems);
    Some(CertificateFiles { certificate: named(&certificate), key: named(&key) })
}
