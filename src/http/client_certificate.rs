//! Who a client has proven to be with its certificate, for instances: `Client-Cert` (RFC 9440) and the same in plain
//! words.
//!
//! Instances believe these fields, so nobody else may write them: they are dropped from every request, in whatever
//! spelling (`imitation`), before ours come. Only a peer in `trusted_proxies` that shows no certificate itself may say
//! them of its own clients. A certificate is its holder's text as far as its authority lets it: what goes out of it is
//! visible ASCII alone, escaped so that one value never reads as two.

use std::fmt::Write as _;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::der_parser::asn1_rs::oid;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use crate::tls::certificate::Digest;

/// What was verified of a client, ready to be copied into its requests: made once per connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// SHA-256 of the certificate, as 64 hexadecimal digits: what logs call the client by.
    pub fingerprint: String,
    /// The lines for instances.
    pub lines: Vec<u8>,
}

impl Identity {
    /// Of a chain that the handshake has verified, the client's own certificate first; `None` if that cannot be read.
    #[must_use]
    pub fn of<'a>(mut chain: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let own = chain.next()?;
        let (_, certificate) = X509Certificate::from_der(own).ok()?;
        let fingerprint = Digest::of(own).hex();
        let mut text = format!("Client-Cert: {}\r\n", byte_sequence(own));
        let others: Vec<_> = chain.map(byte_sequence).collect();
        if !others.is_empty() {
            push_line(&mut text, "Client-Cert-Chain", &others.join(", "));
        }
        push_line(&mut text, "X-Client-Cert-Subject", &distinguished_name(certificate.subject()));
        let names = certificate.subject_alternative_name().ok().flatten();
        let names: Vec<_> = names.iter().flat_map(|names| &names.value.general_names).filter_map(name).collect();
        if !names.is_empty() {
            push_line(&mut text, "X-Client-Cert-SAN", &names.join(", "));
        }
        push_line(&mut text, "X-Client-Cert-Fingerprint", &fingerprint);
        Some(Self { fingerprint, lines: text.into_bytes() })
    }
}

fn push_line(text: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        text.push_str(part);
    }
}

/// A byte sequence of structured fields (RFC 8941 section 3.3.5): base64 between colons.
fn byte_sequence(bytes: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(bytes))
}

/// A name as RFC 4514 writes it: the most specific part first, `CN=a,O=b`, everything else than visible ASCII as `\XX`.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name.iter().map(relative_name).collect();
    parts.reverse();
    parts.join(",")
}

fn relative_name(part: &x509_parser::x509::RelativeDistinguishedName<'_>) -> String {
    let attributes = part.iter().map(|attribute| {
        let mut text = match short_name(attribute.attr_type()) {
            Some(short) => format!("{short}="),
            None => format!("{}=", attribute.attr_type().to_id_string()),
        };
        if let Ok(value) = attribute.as_str() {
            push_escaped(&mut text, value);
        } else {
            // No text: its bytes, as RFC 4514 section 2.4 has them.
            text.push('#');
            attribute.as_slice().iter().for_each(|byte| push_hex(&mut text, *byte));
        }
        text
    });
    attributes.collect::<Vec<_>>().join("+")
}

/// RFC 4514 section 3, and the one for addresses that people know.
fn short_name(kind: &Oid<'_>) -> Option<&'static str> {
    let known = [
        (oid!(2.5.4.3), "CN"),
        (oid!(2.5.4.7), "L"),
        (oid!(2.5.4.8), "ST"),
        (oid!(2.5.4.10), "O"),
        (oid!(2.5.4.11), "OU"),
        (oid!(2.5.4.6), "C"),
        (oid!(2.5.4.9), "STREET"),
        (oid!(0.9.2342.19200300.100.1.25), "DC"),
        (oid!(0.9.2342.19200300.100.1.1), "UID"),
    ];
    known.into_iter().find(|(id, _)| id == kind).map(|(_, short)| short)
}

/// RFC 4514 section 2.4, and beyond it every byte that is not visible ASCII.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            b' ' if index > 0 && index < last => text.push(' '),
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' | b'#' | b' ' => {
                text.push('\\');
                push_hex(text, byte);
            }
            b'!'..=b'~' => text.push(char::from(byte)),
            _ => {
                text.push('\\');
                push_hex(text, byte);
            }
        }
    }
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a `String` cannot fail.
    let _infallible = write!(text, "{byte:02X}");
}

/// An alternative name with its kind; kinds that no field can tell are left out.
fn name(name: &GeneralName<'_>) -> Option<String> {
    let (kind, value) = match name {
        GeneralName::DNSName(name) => ("DNS:", *name),
        GeneralName::URI(uri) => ("URI:", *uri),
        GeneralName::RFC822Name(address) => ("email:", *address),
        GeneralName::IPAddress(bytes) => return Some(format!("IP:{}", address(bytes)?)),
        _ => return None,
    };
    let mut text = kind.to_owned();
    for byte in value.bytes() {
        // A comma ends a name, and a quote begins a text for some readers.
        if matches!(byte, b'!'..=b'~') && !matches!(byte, b',' | b'%' | b'"' | b'\\') {
            text.push(char::from(byte));
        } else {
            text.push('%');
            push_hex(&mut text, byte);
        }
    }
    Some(text)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn certificate(name: DistinguishedName, names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn field(identity: &Identity, name: &str) -> Option<String> {
        let text = std::str::from_utf8(&identity.lines).expect("ASCII");
        let mut lines = text.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
    }

    #[test]
    fn byte_sequences_are_base64_between_colons() {
        for (bytes, text) in [
            ("", "::"),
            ("f", ":Zg==:"),
            ("fo", ":Zm8=:"),
            ("foo", ":Zm9v:"),
            ("foob", ":Zm9vYg==:"),
            ("\u{fe}", ":w74=:"),
        ] {
            assert_eq!(byte_sequence(bytes.as_bytes()), text, "RFC 4648 section 10");
        }
    }

    #[test]
    fn a_client_is_told_by_certificate_name_alternative_names_and_fingerprint() {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "Example, Inc. + \"More\"");
        subject.push(DnType::CommonName, " Jörg\r\nX-Admin: yes=1");
        let names = vec![
            SanType::DnsName("a.test".try_into().expect("ASCII")),
            SanType::URI("spiffe://a.test/x,y%20\"z".try_into().expect("ASCII")),
            SanType::Rfc822Name("a@b.test".try_into().expect("ASCII")),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ];
        let own = certificate(subject, names);
        let identity = Identity::of([&*own, b"issuer"].into_iter()).expect("a certificate");
        let value = |name| field(&identity, name);
        assert_eq!(value("Client-Cert"), Some(byte_sequence(&own)));
        assert_eq!(value("Client-Cert-Chain"), Some(":aXNzdWVy:".to_owned()));
        let subject = r"CN=\20J\C3\B6rg\0D\0AX-Admin: yes\3D1,O=Example\2C Inc. \2B \22More\22";
        assert_eq!(value("X-Client-Cert-Subject").as_deref(), Some(subject));
        let names = "DNS:a.test, URI:spiffe://a.test/x%2Cy%2520%22z, email:a@b.test, IP:10.0.0.1";
        assert_eq!(value("X-Client-Cert-SAN").as_deref(), Some(names));
        assert_eq!(value("X-Client-Cert-Fingerprint").as_deref(), Some(identity.fingerprint.as_str()));
        assert_eq!(identity.fingerprint.len(), 64);
        assert_eq!(identity.lines.windows(2).filter(|pair| pair == b"\r\n").count(), 5);
    }

    #[test]
    fn what_is_no_certificate_is_nobody() {
        assert_eq!(Identity::of(std::iter::empty()), None);
        assert_eq!(Identity::of([&b"x"[..]].into_iter()), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_text_of_a_certificate_breaks_out_of_its_line(name in "\\PC{0,20}[\r\n\t,\"\\\\ =\u{7f}]{0,3}\\PC{0,5}", uri in "[ -~]{0,30}") {
            let mut subject = DistinguishedName::new();
            subject.push(DnType::CommonName, DnValue::Utf8String(name));
            let mut names = Vec::new();
            if let Ok(uri) = uri.as_str().try_into() {
                names.push(SanType::URI(uri));
            }
            let identity = Identity::of([&*certificate(subject, names)].into_iter()).expect("a certificate");
            let text = String::from_utf8(identity.lines).expect("ASCII");
            prop_assert!(text.ends_with("\r\n"));
            let lines: Vec<_> = text.trim_end().split("\r\n").collect();
            prop_assert!(lines.iter().all(|line| line.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
            prop_assert!(lines.iter().all(|line| line.starts_with("Client-Cert: :") || line.starts_with("X-Client-Cert-")), "{}", text);
        }
    }

    #[test]
    fn a_certificate_with_an_extension_that_nobody_knows_is_read_all_the_same() {
        let mut params = CertificateParams::default();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate").der().to_vec();
        assert!(Identity::of([&*own].into_iter()).is_some());
    }
}
