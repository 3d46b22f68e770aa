//! Why a request is not forwarded: what a layer tells `rescue`.
//!
//! A refusal is the client's fault, nothing has been sent to an instance, and the connection closes after it: what follows
//! on it cannot be trusted to begin where we think it does.

use crate::cause::Cause;
use crate::http1::{FramingError, HeadError};
use crate::http2::head::TranslateError;

/// A request that is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// For log, metric and `Proxy-Status`.
    pub cause: Cause,
    /// Closer than the cause's own where several statuses share it.
    pub status: u16,
    /// What and why, for the log and the body; never a client's text.
    pub detail: &'static str,
}

impl Refusal {
    /// Malformed or ambiguous.
    pub(crate) const fn bad_request(detail: &'static str) -> Self {
        Self { cause: Cause::ClientBadRequest, status: 400, detail }
    }

    /// Over a limit.
    pub(crate) const fn too_large(status: u16, detail: &'static str) -> Self {
        Self { cause: Cause::RequestTooLarge, status, detail }
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::BadStartLine => Self::bad_request("the request line is malformed"),
            HeadError::BadField => Self::bad_request("a header field is malformed"),
            HeadError::BareLineFeed => Self::bad_request("the head has a line feed without a carriage return"),
            HeadError::BareCarriageReturn => Self::bad_request("the head has a carriage return without a line feed"),
            HeadError::Nul => Self::bad_request("the head has a zero byte"),
            HeadError::ObsFold => Self::bad_request("the head has a folded line"),
            HeadError::UnsupportedVersion => {
                Self { cause: Cause::NotImplemented, status: 505, detail: "this version of HTTP is not supported" }
            }
            HeadError::TooManyFields => Self::too_large(431, "the head has more fields than allowed"),
            HeadError::TooLarge => Self::too_large(431, "the head is larger than allowed"),
            HeadError::TargetTooLong => Self::too_large(414, "the target is longer than allowed"),
        }
    }
}

impl From<FramingError> for Refusal {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::BothLengthAndEncoding => {
                Self::bad_request("the request has both Content-Length and Transfer-Encoding")
            }
            FramingError::DifferingLengths => Self::bad_request("the request has differing values of Content-Length"),
            FramingError::RepeatedLength => Self::bad_request("the request has more than one Content-Length"),
            FramingError::BadLength => Self::bad_request("the Content-Length is malformed"),
            FramingError::FinalCodingNotChunked => Self::bad_request("the final transfer coding is not chunked"),
            FramingError::ChunkedTwice => Self::bad_request("the transfer coding chunked is applied twice"),
            FramingError::BadEncoding => Self::bad_request("the Transfer-Encoding is malformed"),
            FramingError::EncodingOnHttp10 => Self::bad_request("HTTP/1.0 has no Transfer-Encoding"),
            FramingError::ConnectionNamesFraming => Self::bad_request("Connection names a framing field"),
            FramingError::UnknownCoding => {
                Self { cause: Cause::NotImplemented, status: 501, detail: "a transfer coding is not implemented" }
            }
        }
    }
}

impl From<TranslateError> for Refusal {
    fn from(error: TranslateError) -> Self {
        match error {
            TranslateError::Head(error) => error.into(),
            TranslateError::AuthorityAgainstHost => Self::bad_request(":authority and host differ"),
            TranslateError::BadPath => Self::bad_request("the :path is not a path"),
            TranslateError::UnknownScheme => Self::bad_request("the :scheme is neither http nor https"),
            TranslateError::UnknownProtocol => {
                Self { cause: Cause::NotImplemented, status: 501, detail: "this :protocol is not implemented" }
            }
            TranslateError::BadField => Self::bad_request("a header field is malformed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_what_is_not_implemented_have_their_own_status_and_all_else_is_400() {
        let cases = [
            (HeadError::TargetTooLong.into(), 414, "RFC 9110 15.5.15"),
            (HeadError::TooLarge.into(), 431, "RFC 6585 5"),
            (HeadError::TooManyFields.into(), 431, "RFC 6585 5"),
            (HeadError::UnsupportedVersion.into(), 505, "RFC 9110 15.6.6"),
            (HeadError::BadStartLine.into(), 400, "RFC 9112 3"),
            (HeadError::BadField.into(), 400, "RFC 9112 5.1"),
            (HeadError::BareLineFeed.into(), 400, "RFC 9112 2.2"),
            (HeadError::BareCarriageReturn.into(), 400, "RFC 9112 2.2"),
            (HeadError::Nul.into(), 400, "RFC 9110 5.5"),
            (HeadError::ObsFold.into(), 400, "RFC 9112 5.2"),
            (FramingError::BothLengthAndEncoding.into(), 400, "RFC 9112 6.1"),
            (FramingError::DifferingLengths.into(), 400, "RFC 9112 6.3"),
            (FramingError::UnknownCoding.into(), 501, "RFC 9112 6.1"),
        ];
        for (refusal, status, why) in cases {
            let Refusal { status: found, .. } = refusal;
            assert_eq!(found, status, "{why}: {refusal:?}");
        }
    }
}
