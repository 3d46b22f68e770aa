//! Files of certificates, keys and revocation lists in PEM form (RFC 7468), read with errors that say what and where.
//!
//! Pure: bytes in, DER out. A file may hold sections of other kinds and text between them, as `openssl` writes it; the
//! sections that are asked for are taken, so that a certificate and its key can stand in one file.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`{}{}{fault}", path.display(), Line(*line), if fault.is_of_the_file() { " " } else { ": " })]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Where in it, from 1, if it can be told.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: Fault,
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

/// What is wrong with a file of certificates or keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The system does not let us read it.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// Not a single section in it.
    #[error("is not a PEM file")]
    NotPem,
    /// A section that does not end, or is not base64.
    #[error("the `{0}` that begins here is damaged")]
    Damaged(String),
    /// No section of the kind that is asked for; what there is instead.
    #[error("has no {wanted}{}", Instead(found))]
    Missing {
        /// What is asked for.
        wanted: &'static str,
        /// The labels that are there.
        found: Vec<String>,
    },
    /// A private key that only a passphrase opens.
    #[error("the private key is encrypted")]
    EncryptedKey,
    /// More than one private key.
    #[error("a second private key begins here")]
    SeveralKeys,
    /// The bytes of a section are not what its label says.
    #[error("this is no usable {what}: {why}")]
    Unusable {
        /// What its label says.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate in `{}`", .0.display())]
    KeyMismatch(PathBuf),
    /// A certificate that did not issue the one before it.
    #[error("this certificate (`{subject}`) did not issue the one before it, which `{issuer}` issued")]
    WrongOrder {
        /// Whom the certificate is about.
        subject: String,
        /// Who issued the one before it.
        issuer: String,
    },
    /// Its time is over.
    #[error("the certificate (`{subject}`) expired on {date}")]
    Expired {
        /// Whom the certificate is about.
        subject: String,
        /// Its last day.
        date: String,
    },
    /// Its time has not come.
    #[error("the certificate (`{subject}`) is not valid before {date}")]
    NotYetValid {
        /// Whom the certificate is about.
        subject: String,
        /// Its first day.
        date: String,
    },
    /// The file of ticket keys has another size.
    #[error("{0}")]
    TicketKeys(String),
}

impl Fault {
    /// Whether its text says what the file as a whole is or has.
    fn is_of_the_file(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Empty | Self::NotPem | Self::Missing { .. })
    }

    /// A section whose bytes somebody else could not use.
    pub(super) fn unusable(what: &'static str, why: &dyn fmt::Display) -> Self {
        Self::Unusable { what, why: why.to_string() }
    }
}

struct Instead<'a>(&'a [String]);

impl fmt::Display for Instead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            labels => write!(f, ", only `{}`", labels.join("`, `")),
        }
    }
}

impl FileError {
    /// An error of a whole file.
    #[must_use]
    pub fn new(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_path_buf(), line: None, fault }
    }

    /// An error at a line.
    #[must_use]
    pub fn at(path: &Path, line: usize, fault: Fault) -> Self {
        Self { path: path.to_path_buf(), line: Some(line), fault }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match &self.fault {
            Fault::Unreadable(_) => {
                "the path is relative to the folder of the configuration file, and the account that Plimsoll runs as needs to read it"
            }
            Fault::Empty | Fault::NotPem => {
                "a PEM file has lines such as `-----BEGIN CERTIFICATE-----`; make one of DER with `openssl x509 -inform der`"
            }
            Fault::Damaged(_) => "was the file cut off, or edited? write it anew",
            Fault::Missing { wanted: "private key", .. } => {
                "name the file of the private key with `key`, or append the key to this file"
            }
            Fault::Missing { wanted: "certificate", .. } => "are `certificate` and `key` in each other's place?",
            Fault::Missing { .. } => "is it the right file?",
            Fault::EncryptedKey => {
                "nobody is there to type a passphrase: decrypt it with `openssl pkey -in FILE -out NEW`"
            }
            Fault::SeveralKeys => "keep the one that belongs to the certificate",
            Fault::Unusable { .. } => "keys may be PKCS#8, SEC1 (EC) or PKCS#1 (RSA, 2048 bits or more)",
            Fault::KeyMismatch(_) => "was only one of the two files replaced?",
            Fault::WrongOrder { .. } => "first the server's certificate, then the one that issued it, and so on",
            Fault::Expired { .. } => "renew it",
            Fault::NotYetValid { .. } => "is the clock of this machine right?",
            Fault::TicketKeys(_) => {
                "write 80 random bytes for each key, or a line of base64: `openssl rand -base64 80 | tr -d '\\n'`"
            }
        }
    }
}

/// A section of a file.
#[derive(Debug)]
pub struct Section<T> {
    /// Where it begins, from 1.
    pub line: usize,
    /// What it holds.
    pub item: T,
}

/// All certificates of a file, at least one, in its order.
///
/// # Errors
/// If it has none, or a damaged one.
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<Section<CertificateDer<'static>>>, FileError> {
    let sections = sections(path, bytes)?;
    let wanted = |kind| kind == SectionKind::Certificate;
    let found = take(path, &sections, "certificate", wanted)?;
    Ok(found.into_iter().map(|(line, _, der)| Section { line, item: der.into() }).collect())
}

/// All certificate revocation lists of a file, at least one.
///
/// # Errors
/// If it has none, or a damaged one.
pub fn revocation_lists(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<Section<CertificateRevocationListDer<'static>>>, FileError> {
    let sections = sections(path, bytes)?;
    let found = take(path, &sections, "certificate revocation list", |kind| kind == SectionKind::Crl)?;
    Ok(found.into_iter().map(|(line, _, der)| Section { line, item: der.into() }).collect())
}

/// The private key of a file: PKCS#8, SEC1 or PKCS#1.
///
/// # Errors
/// If it has none, more than one, an encrypted or a damaged one.
pub fn private_key(path: &Path, bytes: &[u8]) -> Result<Section<PrivateKeyDer<'static>>, FileError> {
    let sections = sections(path, bytes)?;
    if let Some(section) = sections.iter().find(|section| section.is_encrypted()) {
        return Err(FileError::at(path, section.line, Fault::EncryptedKey));
    }
    let is_key =
        |kind| matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey);
    let mut found = take(path, &sections, "private key", is_key)?;
    if let Some((line, ..)) = found.get(1) {
        return Err(FileError::at(path, *line, Fault::SeveralKeys));
    }
    let (line, kind, der) = found.swap_remove(0);
    let item = match kind {
        SectionKind::RsaPrivateKey => PrivateKeyDer::Pkcs1(der.into()),
        SectionKind::EcPrivateKey => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    };
    Ok(Section { line, item })
}

/// From one `BEGIN` to its `END`, not decoded yet.
struct RawSection<'a> {
    label: &'a str,
    line: usize,
    text: &'a [u8],
}

impl RawSection<'_> {
    /// PKCS#8 says so in the label, the older forms in a header (RFC 1421).
    fn is_encrypted(&self) -> bool {
        let header = b"ENCRYPTED";
        self.label == "ENCRYPTED PRIVATE KEY"
            || self.label.ends_with("PRIVATE KEY") && self.text.windows(header.len()).any(|part| part == header)
    }

    fn decode(&self) -> Option<(SectionKind, Vec<u8>)> {
        // An end of line behind the last one, whatever the file has there.
        let mut text = Vec::with_capacity(self.text.len() + 1);
        text.extend_from_slice(self.text);
        text.push(b'\n');
        pem::from_buf(&mut text.as_slice()).ok().flatten()
    }
}

fn sections<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<RawSection<'a>>, FileError> {
    if bytes.trim_ascii().is_empty() {
        return Err(FileError::new(path, Fault::Empty));
    }
    let mut sections = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut offset = 0;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let start = offset;
        offset += line.len();
        let damaged = |label: &str, line| FileError::at(path, line, Fault::Damaged(label.to_owned()));
        if let Some(label) = marker(line, "-----BEGIN ") {
            if let Some((label, line, _)) = open {
                return Err(damaged(label, line));
            }
            open = Some((label, index + 1, start));
        } else if let Some(label) = marker(line, "-----END ") {
            match open.take() {
                Some((begun, line, from)) if begun == label => {
                    sections.push(RawSection { label, line, text: &bytes[from..offset] });
                }
                Some((begun, line, _)) => return Err(damaged(begun, line)),
                None => return Err(damaged(label, index + 1)),
            }
        }
    }
    match open {
        Some((label, line, _)) => Err(FileError::at(path, line, Fault::Damaged(label.to_owned()))),
        None if sections.is_empty() => Err(FileError::new(path, Fault::NotPem)),
        None => Ok(sections),
    }
}

/// The label of a line such as `-----BEGIN CERTIFICATE-----`.
fn marker<'a>(line: &'a [u8], begin: &str) -> Option<&'a str> {
    let line = std::str::from_utf8(line.trim_ascii()).ok()?;
    line.strip_prefix(begin)?.strip_suffix("-----")
}

/// The sections of the wanted kinds, decoded.
fn take(
    path: &Path,
    sections: &[RawSection<'_>],
    what: &'static str,
    wanted: impl Fn(SectionKind) -> bool,
) -> Result<Vec<(usize, SectionKind, Vec<u8>)>, FileError> {
    let mut found = Vec::new();
    for section in sections {
        let Ok(kind) = SectionKind::try_from(section.label.as_bytes()) else { continue };
        if !wanted(kind) {
            continue;
        }
        let Some((kind, der)) = section.decode().filter(|(_, der)| !der.is_empty()) else {
            return Err(FileError::at(path, section.line, Fault::Damaged(section.label.to_owned())));
        };
        found.push((section.line, kind, der));
    }
    if found.is_empty() {
        let mut labels: Vec<_> = sections.iter().map(|section| section.label.to_owned()).collect();
        labels.dedup();
        return Err(FileError::new(path, Fault::Missing { wanted: what, found: labels }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "a.pem";
    /// Two bytes, as a section of any label.
    fn section(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAEC\n-----END {label}-----\n")
    }

    fn fault<T>(result: Result<T, FileError>) -> (Option<usize>, Fault) {
        let error = result.err().expect("an error");
        assert!(!error.hint().is_empty());
        (error.line, error.fault)
    }

    #[test]
    fn sections_are_found_between_other_text_with_any_line_ends() {
        let text = format!("subject: CN=a\n{}\nkey:\n{}", section("CERTIFICATE"), section("EC PRIVATE KEY"));
        for text in [text.clone(), text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
            let certificates = certificates(Path::new(PATH), text.as_bytes()).expect("one");
            assert_eq!((certificates[0].line, certificates[0].item.as_ref()), (2, &[0, 1, 2][..]));
            let key = private_key(Path::new(PATH), text.as_bytes()).expect("one");
            assert_eq!(key.line, 7);
            assert!(matches!(key.item, PrivateKeyDer::Sec1(_)));
        }
    }

    #[test]
    fn each_kind_of_key_is_told_by_its_label() {
        let read = |label| private_key(Path::new(PATH), section(label).as_bytes()).expect(label).item;
        assert!(matches!(read("PRIVATE KEY"), PrivateKeyDer::Pkcs8(_)));
        assert!(matches!(read("RSA PRIVATE KEY"), PrivateKeyDer::Pkcs1(_)));
        assert!(matches!(read("EC PRIVATE KEY"), PrivateKeyDer::Sec1(_)));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let path = Path::new(PATH);
        let key = section("PRIVATE KEY");
        let cut = &key[..key.len() - 10];
        assert_eq!(fault(private_key(path, b" \n")), (None, Fault::Empty));
        assert_eq!(fault(private_key(path, b"\x30\x82\x01")), (None, Fault::NotPem));
        assert_eq!(fault(private_key(path, cut.as_bytes())), (Some(1), Fault::Damaged("PRIVATE KEY".to_owned())));
        let garbage = key.replace("AAEC", "A!!!");
        assert_eq!(fault(private_key(path, garbage.as_bytes())), (Some(1), Fault::Damaged("PRIVATE KEY".to_owned())));
        assert_eq!(fault(private_key(path, key.repeat(2).as_bytes())), (Some(4), Fault::SeveralKeys));
        let encrypted = section("ENCRYPTED PRIVATE KEY");
        assert_eq!(fault(private_key(path, encrypted.as_bytes())), (Some(1), Fault::EncryptedKey));
        let old = section("RSA PRIVATE KEY").replace("AAEC", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAEC");
        assert_eq!(fault(private_key(path, old.as_bytes())), (Some(1), Fault::EncryptedKey));
        let missing = Fault::Missing { wanted: "certificate", found: vec!["PRIVATE KEY".to_owned()] };
        assert_eq!(fault(certificates(path, key.as_bytes())), (None, missing));
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _read = (certificates(Path::new(PATH), &bytes), private_key(Path::new(PATH), &bytes));
        }

        #[test]
        fn no_cut_of_a_file_makes_it_panic(from in 0_usize..200, to in 0_usize..200) {
            let text = section("PRIVATE KEY") + &section("CERTIFICATE");
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let bytes = &text.as_bytes()[from.min(to)..to];
            let _read = (certificates(Path::new(PATH), bytes), private_key(Path::new(PATH), bytes));
        }
    }
}
