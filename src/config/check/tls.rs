//! TLS: which files there are, and what fits together. What is in the files is read after this, in `config::files`.

use std::path::Path;

use crate::config::file;
use crate::config::model::{CertificateFiles, ListenerTls};
use crate::config::problem::Problems;
use crate::config::read::Field;

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
        problems.error(file.alpn.span.as_ref(), "`listener.tls.alpn` is empty").hint("write `[\"http/1.1\"]`");
    }
    let ticket_keys = written(&file.ticket_keys);
    if let (Some(keys), 0) = (&ticket_keys, file.tickets.value) {
        problems
            .error(keys.span.as_ref(), "`ticket_keys` is set, but `tickets = 0` switches tickets off")
            .hint("remove one of them");
    }
    ListenerTls {
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
