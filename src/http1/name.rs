//! The field names that Plimsoll acts on, recognised once while a head is parsed.
//!
//! Everything after that compares a [`Name`], or asks a [`NameSet`] (one word, a bit per name), instead of comparing
//! text. Recognising is one multiplicative hash over the length and three bytes of the name, into a table that is
//! built at compile time (two names in one slot do not compile), and one comparison that ignores case for letters and
//! for nothing else (RFC 9110 §5.1).

/// A field name that some part of Plimsoll acts on, or [`Name::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the field of that name; KNOWN spells it")]
pub enum Name {
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Upgrade,
    Expect,
    Te,
    Trailer,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyStatus,
    Http2Settings,
    Via,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XRealIp,
    Traceparent,
    Tracestate,
    XRequestId,
    MaxForwards,
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    UserAgent,
    Referer,
    Origin,
    Cookie,
    SetCookie,
    Authorization,
    WwwAuthenticate,
    Date,
    Server,
    ContentType,
    ContentEncoding,
    ContentRange,
    CacheControl,
    Pragma,
    Expires,
    Age,
    Vary,
    Location,
    RetryAfter,
    Range,
    IfMatch,
    IfNoneMatch,
    IfModifiedSince,
    IfUnmodifiedSince,
    IfRange,
    Etag,
    LastModified,
    /// Any other name.
    Other,
}

impl Name {
    /// The name that `text` spells, whatever its case.
    #[inline]
    #[must_use]
    pub fn recognise(text: &[u8]) -> Self {
        if text.len() < NAME_BYTES_MIN || text.len() > NAME_BYTES_MAX {
            return Self::Other;
        }
        match KNOWN.get(usize::from(SLOTS[slot(text)])) {
            Some(known) if known.is(text) => known.name,
            _ => Self::Other,
        }
    }

    /// The name in the lower case of HTTP/2; empty for [`Name::Other`].
    #[must_use]
    pub fn text(self) -> &'static str {
        KNOWN.get(self as usize).map_or("", |known| known.text)
    }
}

/// The fields that tell instances of a client's certificate (`http::client_certificate`): too rare to be a [`Name`].
const CLIENT_CERTIFICATE: [&[u8]; 5] = [
    b"client-cert",
    b"client-cert-chain",
    b"x-client-cert-subject",
    b"x-client-cert-san",
    b"x-client-cert-fingerprint",
];

/// Whether a name, with hyphens, is one of the fields that tell of a client's certificate.
#[inline]
#[must_use]
pub fn tells_client_certificate(name: &[u8]) -> bool {
    // Most names end here.
    matches!(name.len(), 11 | 17 | 21 | 25) && CLIENT_CERTIFICATE.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// A set of names: one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NameSet(u64);

impl NameSet {
    /// No name.
    pub const EMPTY: Self = Self(0);

    /// A set of these, also in constants.
    #[must_use]
    pub const fn of(names: &[Name]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < names.len() {
            bits |= 1 << names[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// Whether `name` is in the set.
    #[inline]
    #[must_use]
    pub const fn contains(self, name: Name) -> bool {
        self.0 & 1 << name as u8 != 0
    }

    /// Whether the sets share a name.
    #[inline]
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// All names that are not in this set, [`Name::Other`] among them.
    #[inline]
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(!self.0)
    }

    #[inline]
    pub(super) fn insert(&mut self, name: Name) {
        self.0 |= 1 << name as u8;
    }

    #[inline]
    pub(super) fn subtract(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    #[inline]
    pub(super) fn remove(&mut self, name: Name) {
        self.0 &= !(1 << name as u8);
    }
}

/// The names of the fields of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Names {
    /// All of them.
    pub(super) seen: NameSet,
    /// Those that came more than once.
    pub(super) repeated: NameSet,
}

impl Names {
    #[inline]
    pub(super) fn note(&mut self, name: Name) {
        let name = NameSet::of(&[name]);
        self.repeated.0 |= self.seen.0 & name.0;
        self.seen.0 |= name.0;
    }
}

/// A known name with what a comparison needs: its bytes as words, and in which bits case may differ.
struct Known {
    name: Name,
    text: &'static str,
    words: [u64; 3],
    /// `0x20` under each letter, nothing under `-` and digits: `text | case == words` folds letters alone.
    case: [u64; 3],
}

impl Known {
    const fn new(name: Name, text: &'static str) -> Self {
        let bytes = text.as_bytes();
        let mut case = [0; NAME_BYTES_MAX];
        let mut index = 0;
        while index < bytes.len() {
            assert!(!bytes[index].is_ascii_uppercase());
            case[index] = if bytes[index].is_ascii_lowercase() { 0x20 } else { 0 };
            index += 1;
        }
        Self { name, text, words: words(bytes), case: words(case.split_at(bytes.len()).0) }
    }

    #[inline]
    fn is(&self, text: &[u8]) -> bool {
        if text.len() != self.text.len() {
            return false;
        }
        let words = words(text);
        (0..3).all(|index| words[index] | self.case[index] == self.words[index])
    }
}

const NAME_BYTES_MIN: usize = 2;
const NAME_BYTES_MAX: usize = 24;

/// All bytes of a name of 2 to 24 bytes as three words, by loads that overlap instead of a loop over the rest.
#[inline]
const fn words(text: &[u8]) -> [u64; 3] {
    match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            let middle = match text.split_at(8).1.first_chunk::<8>() {
                Some(middle) => u64::from_le_bytes(*middle),
                None => 0,
            };
            [u64::from_le_bytes(*first), middle, u64::from_le_bytes(*last)]
        }
        _ => [short_word(text), 0, 0],
    }
}

/// The bytes of a name of 1 to 7 bytes as one word.
#[inline]
const fn short_word(text: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return (u32::from_le_bytes(*first) as u64) << 32 | u32::from_le_bytes(*last) as u64;
    }
    let last = text.len() - 1;
    (text[0] as u64) << 16 | (text[last / 2] as u64) << 8 | text[last] as u64
}

const SLOT_COUNT: usize = 256;

/// The slot of a name: the factors are the first ones found that give every known name a slot of its own.
#[inline]
const fn slot(text: &[u8]) -> usize {
    let length = text.len();
    let (first, late, last) = (text[0] | 0x20, text[length * 3 / 4] | 0x20, text[length - 1] | 0x20);
    (length * 91 + first as usize * 113 + last as usize * 61 + late as usize) & (SLOT_COUNT - 1)
}

/// The index into [`KNOWN`] per slot; one past its end where no name is.
static SLOTS: [u8; SLOT_COUNT] = {
    let mut slots = [KNOWN.len() as u8; SLOT_COUNT];
    let mut index = 0;
    while index < KNOWN.len() {
        assert!(KNOWN[index].name as usize == index, "KNOWN is in the order of Name");
        let slot = slot(KNOWN[index].text.as_bytes());
        assert!(slots[slot] as usize == KNOWN.len(), "two names share a slot: look for other factors");
        slots[slot] = index as u8;
        index += 1;
    }
    slots
};

/// Every known name, in the order of [`Name`].
static KNOWN: [Known; Name::Other as usize] = [
    Known::new(Name::Host, "host"),
    Known::new(Name::Connection, "connection"),
    Known::new(Name::ContentLength, "content-length"),
    Known::new(Name::TransferEncoding, "transfer-encoding"),
    Known::new(Name::Upgrade, "upgrade"),
    Known::new(Name::Expect, "expect"),
    Known::new(Name::Te, "te"),
    Known::new(Name::Trailer, "trailer"),
    Known::new(Name::KeepAlive, "keep-alive"),
    Known::new(Name::ProxyConnection, "proxy-connection"),
    Known::new(Name::ProxyAuthenticate, "proxy-authenticate"),
    Known::new(Name::ProxyAuthorization, "proxy-authorization"),
    Known::new(Name::ProxyStatus, "proxy-status"),
    Known::new(Name::Http2Settings, "http2-settings"),
    Known::new(Name::Via, "via"),
    Known::new(Name::Forwarded, "forwarded"),
    Known::new(Name::XForwardedFor, "x-forwarded-for"),
    Known::new(Name::XForwardedProto, "x-forwarded-proto"),
    Known::new(Name::XForwardedHost, "x-forwarded-host"),
    Known::new(Name::XForwardedPort, "x-forwarded-port"),
    Known::new(Name::XRealIp, "x-real-ip"),
    Known::new(Name::Traceparent, "traceparent"),
    Known::new(Name::Tracestate, "tracestate"),
    Known::new(Name::XRequestId, "x-request-id"),
    Known::new(Name::MaxForwards, "max-forwards"),
    Known::new(Name::Accept, "accept"),
    Known::new(Name::AcceptEncoding, "accept-encoding"),
    Known::new(Name::AcceptLanguage, "accept-language"),
    Known::new(Name::UserAgent, "user-agent"),
    Known::new(Name::Referer, "referer"),
    Known::new(Name::Origin, "origin"),
    Known::new(Name::Cookie, "cookie"),
    Known::new(Name::SetCookie, "set-cookie"),
    Known::new(Name::Authorization, "authorization"),
    Known::new(Name::WwwAuthenticate, "www-authenticate"),
    Known::new(Name::Date, "date"),
    Known::new(Name::Server, "server"),
    Known::new(Name::ContentType, "content-type"),
    Known::new(Name::ContentEncoding, "content-encoding"),
    Known::new(Name::ContentRange, "content-range"),
    Known::new(Name::CacheControl, "cache-control"),
    Known::new(Name::Pragma, "pragma"),
    Known::new(Name::Expires, "expires"),
    Known::new(Name::Age, "age"),
    Known::new(Name::Vary, "vary"),
    Known::new(Name::Location, "location"),
    Known::new(Name::RetryAfter, "retry-after"),
    Known::new(Name::Range, "range"),
    Known::new(Name::IfMatch, "if-match"),
    Known::new(Name::IfNoneMatch, "if-none-match"),
    Known::new(Name::IfModifiedSince, "if-modified-since"),
    Known::new(Name::IfUnmodifiedSince, "if-unmodified-since"),
    Known::new(Name::IfRange, "if-range"),
    Known::new(Name::Etag, "etag"),
    Known::new(Name::LastModified, "last-modified"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_recognised_in_any_case() {
        for known in &KNOWN {
            assert_eq!(Name::recognise(known.text.as_bytes()), known.name);
            assert_eq!(Name::recognise(known.text.to_uppercase().as_bytes()), known.name);
            assert_eq!(known.name.text(), known.text);
        }
    }

    #[test]
    fn a_name_that_differs_in_any_one_byte_is_another() {
        for known in &KNOWN {
            for index in 0..known.text.len() {
                for byte in 0..=255 {
                    let mut text = known.text.as_bytes().to_vec();
                    text[index] = byte;
                    let same = text.eq_ignore_ascii_case(known.text.as_bytes());
                    assert_eq!(Name::recognise(&text) == known.name, same, "{}", text.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn fields_about_client_certificates_are_told_in_any_case() {
        for field in CLIENT_CERTIFICATE {
            assert!(tells_client_certificate(field) && tells_client_certificate(&field.to_ascii_uppercase()));
        }
        for other in [&b"client-certs"[..], b"client_cert", b"x-client-cert", b"client-cero", b""] {
            assert!(!tells_client_certificate(other));
        }
    }

    #[test]
    fn names_of_every_length_are_looked_at_without_panic() {
        for length in 0..64 {
            assert_eq!(Name::recognise(&vec![b'q'; length]), Name::Other);
        }
    }

    #[test]
    fn a_set_holds_what_it_is_made_of() {
        const SET: NameSet = NameSet::of(&[Name::Host, Name::LastModified, Name::Other]);
        for known in &KNOWN {
            let expected = [Name::Host, Name::LastModified].contains(&known.name);
            assert_eq!(SET.contains(known.name), expected, "{}", known.text);
        }
        assert!(SET.contains(Name::Other));
        assert!(SET.intersects(NameSet::of(&[Name::Via, Name::Host])));
        assert!(!SET.intersects(NameSet::of(&[Name::Via])));
    }
}
