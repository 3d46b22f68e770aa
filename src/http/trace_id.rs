//! Which trace a request belongs to (W3C Trace Context), and its `X-Request-Id`.
//!
//! A valid `traceparent` is continued with a parent id of our own; otherwise a trace is started. `tracestate` passes only
//! beside a valid `traceparent` (section 3.3.1.1 of the recommendation). The trace id is what logs call `trace_id`.
//! `X-Request-Id` passes if it is one sane value, else it becomes the trace id, so that both lead to the same log lines.
//! Nothing here is secret, so the random numbers are fast ones, and come in from the worker.

use std::fmt;

use fastrand::Rng;

use crate::http1::{Head, Name};

/// A trace id: 32 lower-case hexadecimal digits, not all of them zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// A new one, also for answers to what never became a request.
    #[inline]
    #[must_use]
    pub fn random(random: &mut Rng) -> Self {
        let mut text = [0; 32];
        // Two halves, because a random `u128` within bounds costs a division. The bit keeps the id from being zero.
        write_hex(&mut text[..16], &random.u64(..).to_be_bytes());
        write_hex(&mut text[16..], &(random.u64(..) | 1).to_be_bytes());
        Self(text)
    }

    /// The one that `text` spells.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        id(text).map(Self)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits get in, so this is never the default.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Continues or starts the trace of a request, and sees to its `X-Request-Id`.
#[inline]
pub fn apply(head: &mut Head, random: &mut Rng) -> TraceId {
    let continued = single(head, Name::Traceparent).and_then(parse_traceparent);
    let (trace_id, flags) = continued.unwrap_or_else(|| (TraceId::random(random), STARTED));
    head.remove(Name::Traceparent);
    if continued.is_none() {
        head.remove(Name::Tracestate);
    }
    // Both lines in one piece, since every copy costs as much as ten bytes.
    let mut lines = *LINES;
    lines[TRACE_ID].copy_from_slice(&trace_id.0);
    write_hex(&mut lines[PARENT_ID], &(random.u64(..) | 1).to_be_bytes());
    write_hex(&mut lines[FLAGS], &[flags]);
    if single(head, Name::XRequestId).is_some_and(is_sane_request_id) {
        head.add_lines(&lines[..TRACEPARENT_END]);
    } else {
        head.remove(Name::XRequestId);
        lines[REQUEST_ID].copy_from_slice(&trace_id.0);
        head.add_lines(&lines);
    }
    trace_id
}

/// What is added, with its gaps.
const LINES: &[u8; 118] = b"traceparent: 00-................................-................-..\r\nX-Request-Id: ................................\r\n";
const TRACE_ID: std::ops::Range<usize> = 16..48;
const PARENT_ID: std::ops::Range<usize> = 49..65;
const FLAGS: std::ops::Range<usize> = 66..68;
const TRACEPARENT_END: usize = 70;
const REQUEST_ID: std::ops::Range<usize> = 84..116;

/// "The caller may have recorded this": the access log has. Without the flag, samplers that follow their parent, the
/// default of OpenTelemetry, would record nothing behind Plimsoll.
const STARTED: u8 = 1;

/// Flags that mean the same in levels 1 and 2 of the recommendation: sampled, and a random trace id. Others are reserved
/// and must not be passed on.
const KNOWN_FLAGS: u8 = 3;

/// The longest `X-Request-Id` that is passed on: twice a UUID in text, and some.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The value of a field that stands there once.
#[inline]
fn single(head: &Head, name: Name) -> Option<&[u8]> {
    if head.has_once(name) { head.first(name) } else { None }
}

/// `version-traceid-parentid-flags`, 2, 32, 16 and 2 lower-case digits. Later versions may have more after another `-`
/// (section 4.3: parsed by what version 00 knows); `ff` is never valid.
fn parse_traceparent(text: &[u8]) -> Option<(TraceId, u8)> {
    /// The length of version 00.
    const LENGTH: usize = 55;
    let (known, more) = text.split_at_checked(LENGTH)?;
    let version = byte(&known[..2])?;
    let length_fits = match version {
        0 => more.is_empty(),
        0xff => false,
        _ => more.is_empty() || more[0] == b'-',
    };
    let dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    if !length_fits || !dashes {
        return None;
    }
    id::<16>(&known[36..52])?;
    Some((TraceId(id(&known[3..35])?), byte(&known[53..])? & KNOWN_FLAGS))
}

/// `N` lower-case hexadecimal digits that are not all zero.
fn id<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digits: [u8; N] = text.try_into().ok()?;
    let valid = digits.iter().all(|digit| is_lower_hex(*digit)) && digits.iter().any(|digit| *digit != b'0');
    valid.then_some(digits)
}

/// Two lower-case hexadecimal digits.
fn byte(text: &[u8]) -> Option<u8> {
    let value = |digit: u8| is_lower_hex(digit).then(|| (digit & 15) + if digit > b'9' { 9 } else { 0 });
    match text {
        [high, low] => Some((value(*high)? << 4) | value(*low)?),
        _ => None,
    }
}

fn is_lower_hex(digit: u8) -> bool {
    matches!(digit, b'0'..=b'9' | b'a'..=b'f')
}

/// Long enough to be one, and of characters that harm neither a log nor a shell.
fn is_sane_request_id(text: &[u8]) -> bool {
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+=/@~".contains(byte);
    (1..=REQUEST_ID_BYTES_MAX).contains(&text.len()) && text.iter().all(sane)
}

/// Writes `bytes` as lower-case hexadecimal digits.
#[inline]
fn write_hex(out: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&HEX[usize::from(*byte)]);
    }
}

/// Each byte in hexadecimal.
const HEX: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 15]];
        byte += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::super::testing::{fields, request};
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// The fields after the layer, and the trace id.
    fn applied(lines: &str) -> (Vec<(String, String)>, TraceId) {
        let mut head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        let trace_id = apply(&mut head, &mut Rng::with_seed(7));
        (fields(&head), trace_id)
    }

    fn value<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.as_str()).collect()
    }

    #[test]
    fn a_valid_traceparent_is_continued_with_a_parent_id_of_our_own() {
        let cases = [
            (VALID.to_owned(), "01", "version 00"),
            (format!("00-{TRACE}-b7ad6b7169203331-00"), "00", "not sampled"),
            (format!("00-{TRACE}-b7ad6b7169203331-03"), "03", "level 2: random trace id"),
            (format!("00-{TRACE}-b7ad6b7169203331-ff"), "03", "reserved flags are not passed on"),
            (format!("01-{TRACE}-b7ad6b7169203331-01"), "01", "4.3: a later version"),
            (format!("cc-{TRACE}-b7ad6b7169203331-01-what-comes"), "01", "4.3: a later version with more"),
        ];
        for (traceparent, flags, why) in cases {
            let (fields, trace_id) =
                applied(&format!("TraceParent: {traceparent}\r\ntracestate: a=1\r\nTraceState: b=2\r\n"));
            let sent = value(&fields, "traceparent");
            assert_eq!(sent.len(), 1, "{why}");
            assert_eq!(
                (sent[0].len(), &sent[0][..36], &sent[0][52..]),
                (55, &*format!("00-{TRACE}-"), &*format!("-{flags}")),
                "{why}"
            );
            assert_ne!(&sent[0][36..52], "b7ad6b7169203331", "3.2.2.4: {why}");
            assert_eq!(trace_id.as_str(), TRACE, "{why}");
            assert_eq!(value(&fields, "tracestate"), ["a=1", "b=2"], "3.3: {why}");
        }
    }

    #[test]
    fn an_invalid_traceparent_starts_a_trace_and_loses_its_tracestate() {
        let cases = [
            (String::new(), "2: none"),
            (format!("traceparent: {VALID}\r\ntraceparent: {VALID}\r\n"), "3.2: twice"),
            (format!("traceparent: ff-{TRACE}-b7ad6b7169203331-01\r\n"), "3.2.2.1: version ff"),
            (format!("traceparent: 0G-{TRACE}-b7ad6b7169203331-01\r\n"), "3.2.2.1: not hexadecimal"),
            ("traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n".into(), "3.2.2.3: all zeros"),
            (format!("traceparent: 00-{TRACE}-0000000000000000-01\r\n"), "3.2.2.4: all zeros"),
            (format!("traceparent: 00-{}-b7ad6b7169203331-01\r\n", TRACE.to_uppercase()), "3.2.2.3: upper case"),
            (format!("traceparent: 00-{TRACE}-B7AD6B7169203331-01\r\n"), "3.2.2.4: upper case"),
            (format!("traceparent: 00-{TRACE}-b7ad6b7169203331-0A\r\n"), "3.2.2.5: upper case"),
            (format!("traceparent: {VALID}-more\r\n"), "3.2.2.2: version 00 has no more"),
            (format!("traceparent: 01-{TRACE}-b7ad6b7169203331-01more\r\n"), "4.3: more without a dash"),
            (format!("traceparent: 00-{TRACE}-b7ad6b7169203331\r\n"), "3.2.2.2: too short"),
            (format!("traceparent: 00_{TRACE}-b7ad6b7169203331-01\r\n"), "3.2.2: another separator"),
            ("traceparent:\r\n".into(), "empty"),
        ];
        for (lines, why) in cases {
            let (fields, trace_id) = applied(&format!("tracestate: a=1\r\n{lines}"));
            let sent = value(&fields, "traceparent");
            assert_eq!(sent.len(), 1, "{why}");
            assert!(
                parse_traceparent(sent[0].as_bytes()).is_some_and(|(sent, flags)| sent == trace_id && flags == STARTED),
                "{why}"
            );
            assert_ne!(trace_id.as_str(), TRACE, "{why}");
            assert!(value(&fields, "tracestate").is_empty(), "3.3.1.1: {why}");
        }
    }

    #[test]
    fn a_sane_request_id_passes_and_any_other_becomes_the_trace_id() {
        let long = "x".repeat(REQUEST_ID_BYTES_MAX);
        for sane in ["1", "7b3e6f4a-9c1d-4e5f-8a2b-1c3d5e7f9a0b", "a/b+c=:_.~@", &long] {
            let (fields, _) = applied(&format!("X-Request-ID: {sane}\r\n"));
            assert_eq!(value(&fields, "x-request-id"), [sane]);
        }
        let cases =
            ["", "X-Request-Id:\r\n", "X-Request-Id: a b\r\n", "X-Request-Id: a\"b\r\n", "X-Request-Id: ${jndi}\r\n"];
        let mut cases: Vec<String> = cases.map(String::from).into();
        cases.push(format!("X-Request-Id: {long}x\r\n"));
        cases.push("X-Request-Id: a\r\nX-Request-Id: b\r\n".into());
        for lines in cases {
            let (fields, trace_id) = applied(&lines);
            assert_eq!(value(&fields, "x-request-id"), [trace_id.as_str()], "{lines}");
        }
    }

    #[test]
    fn ids_differ_from_request_to_request() {
        let mut random = Rng::with_seed(1);
        let (first, second) = (TraceId::random(&mut random), TraceId::random(&mut random));
        assert_ne!(first, second);
        assert_eq!(TraceId::from_text(first.as_str().as_bytes()), Some(first));
    }
}
