//! Makes heads of parts that did not come as lines: those of HTTP/2.
//!
//! The head is the one that the same message would have in HTTP/1.1: its parts are written into a buffer as lines, and
//! noted as offsets while they are written, so that nothing is parsed again. Whoever reads a [`Head`] need not know where
//! it came from. What could not stand in a line is refused here, whatever was checked before: no value can end its line.

use super::field::Field;
use super::head::{ConnectionOptions, Head, HeadError, HeadStorage, Method, Span, Version};
use super::name::{Name, Names};
use super::start_line::{StartLine, is_visible_ascii};
use super::write::CRLF;

/// A head in the making.
#[derive(Debug)]
pub struct HeadBuilder {
    bytes: Vec<u8>,
    storage: HeadStorage,
    line: StartLine,
    fields_start: u32,
    names: Names,
}

impl HeadBuilder {
    /// Begins a request. `bytes` is an empty buffer, `method` a token.
    ///
    /// # Errors
    /// The target has bytes that no target may have.
    pub fn request(storage: HeadStorage, mut bytes: Vec<u8>, method: &[u8], target: &[u8]) -> Result<Self, HeadError> {
        debug_assert!(bytes.is_empty(), "offsets count from the first byte");
        if target.is_empty() || !is_visible_ascii(target) {
            return Err(HeadError::BadStartLine);
        }
        let method_text = append(&mut bytes, method);
        bytes.push(b' ');
        let target = append(&mut bytes, target);
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        let line = StartLine::Request { method: Method::recognise(method), method_text, target };
        Ok(Self::after(storage, bytes, line))
    }

    /// Begins a response. `bytes` is an empty buffer, `status` has three digits.
    #[must_use]
    pub fn response(storage: HeadStorage, mut bytes: Vec<u8>, status: u16) -> Self {
        debug_assert!(bytes.is_empty(), "offsets count from the first byte");
        let digit = |number: u16| b'0' + (number % 10) as u8;
        bytes.extend_from_slice(b"HTTP/1.1 ");
        bytes.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
        let reason = append(&mut bytes, b"");
        bytes.extend_from_slice(CRLF);
        Self::after(storage, bytes, StartLine::Response { status, reason })
    }

    fn after(mut storage: HeadStorage, bytes: Vec<u8>, line: StartLine) -> Self {
        storage.clear();
        let fields_start = bytes.len() as u32;
        Self { bytes, storage, line, fields_start, names: Names::default() }
    }

    /// Appends a field line. `name` is a token.
    ///
    /// # Errors
    /// The value has control bytes, or white space around it.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        check_value(value)?;
        let recognised = Name::recognise(name);
        let Span { start, end: name_end } = append(&mut self.bytes, name);
        self.bytes.extend_from_slice(b": ");
        let value = append(&mut self.bytes, value);
        self.bytes.extend_from_slice(CRLF);
        self.names.note(recognised);
        self.storage.push(Field { start, name_end, value, name: recognised, removed: false });
        Ok(())
    }

    /// Lengthens the value of the last field.
    ///
    /// # Errors
    /// As for [`HeadBuilder::field`].
    pub fn join(&mut self, separator: &[u8], value: &[u8]) -> Result<(), HeadError> {
        check_value(value)?;
        let Some(last) = self.storage.last_mut() else { return Err(HeadError::BadField) };
        self.bytes.truncate(last.value.end as usize);
        self.bytes.extend_from_slice(separator);
        last.value.end = append(&mut self.bytes, value).end;
        self.bytes.extend_from_slice(CRLF);
        Ok(())
    }

    /// How many bytes the head has so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the head.
    #[must_use]
    pub fn finish(mut self, version: Version) -> Head {
        self.bytes.extend_from_slice(CRLF);
        let connection = ConnectionOptions::of(&self.bytes, self.storage.fields(), self.names.seen);
        Head::assemble(self.bytes, self.storage, self.line, version, self.fields_start, self.names, connection)
    }
}

/// Where `text` stands behind what was there.
#[inline]
fn append(bytes: &mut Vec<u8>, text: &[u8]) -> Span {
    let start = bytes.len() as u32;
    bytes.extend_from_slice(text);
    Span { start, end: bytes.len() as u32 }
}

/// RFC 9113 section 8.2.1, and RFC 9110 section 5.5. Without an early end, so that it is done sixteen bytes at a time.
#[inline]
fn check_value(value: &[u8]) -> Result<(), HeadError> {
    if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value {
        return Err(HeadError::BadField);
    }
    if value.iter().fold(true, |sound, byte| sound & matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        Ok(())
    } else {
        Err(HeadError::BadField)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &[(&str, &str)]) -> Result<Head, HeadError> {
        let mut builder = HeadBuilder::request(HeadStorage::default(), Vec::new(), b"POST", b"/a?b")?;
        for (name, value) in fields {
            builder.field(name.as_bytes(), value.as_bytes())?;
        }
        Ok(builder.finish(Version::Http2))
    }

    #[test]
    fn a_built_head_reads_like_a_parsed_one() {
        let mut built = request(&[("host", "h"), ("x-one", "1"), ("connection", "upgrade"), ("x-empty", "")])
            .expect("a sound head");
        assert_eq!((built.method(), built.method_text(), built.target()), (Method::Post, &b"POST"[..], &b"/a?b"[..]));
        assert_eq!(built.version(), Version::Http2);
        assert_eq!(built.first(Name::Host), Some(&b"h"[..]));
        assert!(built.connection().names.contains(Name::Upgrade));
        assert_eq!(built.rest(), b"");
        built.remove_text(b"X-One");
        built.add("Via", &[b"2.0 plimsoll"]);
        let mut out = Vec::new();
        built.write_request(&mut out, built.target(), b"");
        assert_eq!(
            out.escape_ascii().to_string(),
            b"POST /a?b HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nx-empty: \r\nVia: 2.0 plimsoll\r\n\r\n"
                .escape_ascii()
                .to_string()
        );

        let mut builder = HeadBuilder::response(HeadStorage::default(), Vec::new(), 204);
        builder.field(b"server", b"s").expect("a sound field");
        let response = builder.finish(Version::Http2);
        assert_eq!(
            (response.status(), response.reason(), response.first(Name::Server)),
            (204, &b""[..], Some(&b"s"[..]))
        );
    }

    #[test]
    fn values_are_joined_into_one_field() {
        let mut builder = HeadBuilder::request(HeadStorage::default(), Vec::new(), b"GET", b"/").expect("a start line");
        assert_eq!(builder.join(b"; ", b"a"), Err(HeadError::BadField), "there is no field yet");
        builder.field(b"cookie", b"a=b").expect("a sound field");
        builder.join(b"; ", b"c=d").expect("a sound value");
        builder.field(b"x", b"y").expect("a sound field");
        let head = builder.finish(Version::Http2);
        assert_eq!(head.all(Name::Cookie).collect::<Vec<_>>(), [b"a=b; c=d"]);
        assert_eq!(head.fields().count(), 2);
    }

    #[test]
    fn what_could_not_stand_in_a_line_is_refused() {
        for value in [" a", "a ", "\ta", "a\t", "a\rb", "a\nb", "a\0b", "a\x7f", " ", "\t"] {
            assert_eq!(request(&[("x", value)]).err(), Some(HeadError::BadField), "{value:?}");
        }
        for target in ["", "/ ", "/a\r\nX: y", "/\u{e9}", "/\0"] {
            let begun = HeadBuilder::request(HeadStorage::default(), Vec::new(), b"GET", target.as_bytes());
            assert_eq!(begun.err(), Some(HeadError::BadStartLine), "{target:?}");
        }
    }

    proptest! {
        #[test]
        fn a_built_head_parses_back_to_what_was_meant(
            fields in prop::collection::vec(("[a-z0-9!#$%&'*+.^_`|~-]{1,12}", "[ -~\t\u{e9}\r\n\0]{0,20}"), 0..20),
        ) {
            let sound = fields.iter().all(|(_, value)| {
                !value.contains(['\r', '\n', '\0']) && !value.starts_with([' ', '\t']) && !value.ends_with([' ', '\t'])
            });
            let lines: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            let built = request(&lines);
            prop_assert_eq!(built.is_ok(), sound);
            if let Ok(built) = built {
                let mut out = Vec::new();
                built.write_request(&mut out, built.target(), b"");
                let end = out.len();
                let Ok(parsed) = Head::request(out, 0, end, 100) else { panic!("does not parse back") };
                let meant: Vec<_> = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
                let found: Vec<_> = parsed.fields().map(|field| (field.text, field.value)).collect();
                prop_assert_eq!(found, meant);
                prop_assert_eq!(parsed.connection(), built.connection());
            }
        }
    }
}
