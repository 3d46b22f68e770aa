//! The gRPC health protocol (`grpc.health.v1.Health/Check`): its two messages, and what an answer is worth.
//!
//! The messages have one field each, so they are made and read by hand; a field that is not known is skipped, as protobuf
//! has it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ProbeError, http2};
use crate::config::model::GrpcProbe;

/// Makes one call.
pub(super) async fn check<T>(io: T, probe: &GrpcProbe, authority: &str, scheme: &str) -> Result<(), ProbeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let authority = probe.host.as_deref().unwrap_or(authority);
    let request = request(authority, scheme).map_err(ProbeError::Definition)?;
    let answer = http2::exchange(io, request, call(&probe.service)).await.map_err(ProbeError::Http2)?;
    judge(&answer)
}

fn request(authority: &str, scheme: &str) -> Result<Request<()>, http::Error> {
    Request::builder()
        .method("POST")
        .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .version(http::Version::HTTP_2)
        .header(header::TE, "trailers")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::USER_AGENT, concat!("plimsoll/", env!("CARGO_PKG_VERSION")))
        .body(())
}

/// A message of gRPC: whether it is compressed, its length, and `HealthCheckRequest { service = 1 }`.
fn call(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        message.push(SERVICE_FIELD);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![UNCOMPRESSED];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.append(&mut message);
    framed.into()
}

const UNCOMPRESSED: u8 = 0;
/// Field 1, a text.
const SERVICE_FIELD: u8 = 1 << 3 | 2;

fn judge(answer: &http2::Answer) -> Result<(), ProbeError> {
    if answer.head.status != 200 {
        return Err(ProbeError::Status(answer.head.status.as_u16()));
    }
    let outcome = |fields: &HeaderMap| fields.get("grpc-status").cloned();
    // In the trailers, or in the head of an answer that has nothing else.
    let outcome = outcome(&answer.trailers).or_else(|| outcome(&answer.head.headers));
    match outcome.as_ref().map(HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(status) => return Err(ProbeError::Call(status_text(status))),
        None => return Err(ProbeError::Call("missing".to_owned())),
    }
    match serving_status(&answer.body) {
        Some(SERVING) => Ok(()),
        Some(status) => Err(ProbeError::NotServing(serving_text(status))),
        None => Err(ProbeError::Message),
    }
}

const SERVING: u64 = 1;

fn serving_text(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "a status that is not known",
    }
}

/// Number and name of an outcome.
fn status_text(status: &[u8]) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let number = std::str::from_utf8(status).ok().and_then(|text| text.parse::<usize>().ok());
    match number.and_then(|number| Some((number, NAMES.get(number)?))) {
        Some((number, name)) => format!("{number} {name}"),
        None => "malformed".to_owned(),
    }
}

/// `HealthCheckResponse { status = 1 }`, one uncompressed message; without the field it is 0.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (prefix, mut message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != UNCOMPRESSED || length as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(take_varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_names_the_service_or_none() {
        assert_eq!(&call("")[..], b"\0\0\0\0\0");
        assert_eq!(&call("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        let long = "x".repeat(200);
        assert_eq!(&call(&long)[..8], b"\0\0\0\0\xcb\x0a\xc8\x01");
    }

    #[test]
    fn the_serving_status_is_found_among_fields_that_are_not_known() {
        for (body, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\x02\x08\x02", Some(2)),
            (b"\0\0\0\0\x08\x12\x02ab\x08\x01\x18\x7f", Some(1)),
            (b"\0\0\0\0\x07\x15\0\0\0\0\x08\x01", Some(1)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x03\x08\x01", None),
            (b"\0\0\0\0\x02\x12\x09", None),
            (b"\0\0\0\0\x01\x08", None),
            (b"\0\0\0\0\x02\x0b\x00", None),
            (b"\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\0\0\0", None),
            (b"", None),
        ] {
            assert_eq!(serving_status(body), expected, "{body:?}");
        }
    }

    #[test]
    fn outcomes_are_shown_with_their_names() {
        assert_eq!(status_text(b"12"), "12 UNIMPLEMENTED");
        assert_eq!(status_text(b"17"), "malformed");
        assert_eq!(status_text(b"\xff"), "malformed");
    }
}
