//! Why Plimsoll itself answered a request, or cut one off: one stable code per cause.
//!
//! The same code stands in the access log, in `plimsoll_local_responses_total` and
//! `plimsoll_upstream_errors_total`, and in the `details` of `Proxy-Status` (RFC 9209), so that an operator can follow
//! one failure through all of them. Which status a client gets for a cause is decided in `http::rescue` alone.

/// Why a request was not answered by an instance, or not answered whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// No route matches host and path.
    NoRoute,
    /// Every instance of the pool is unproven, down, ejected, drained or off, and `queue_wait` is zero.
    NoEligibleInstance,
    /// Plimsoll is ending, and takes no new requests on this connection.
    Draining,
    /// The request waited `queue_wait` for an instance in vain.
    QueueTimeout,
    /// `queue_max` requests wait already.
    QueueFull,
    /// Every eligible instance has `in_flight_max` requests, or Plimsoll itself is out of descriptors or ports.
    Overload,
    /// The last attempt failed and the pool's budget allows no other.
    RetryBudgetExhausted,
    /// The instance's host refused the connection.
    ConnectRefused,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// The connection broke while it was being made.
    ConnectReset,
    /// The instance reset the connection, or closed it before a response began.
    UpstreamReset,
    /// TLS towards the instance failed.
    TlsHandshake,
    /// The response ended before its announced length.
    UpstreamClosedEarly,
    /// The response is not HTTP, or is ambiguous.
    UpstreamBadResponse,
    /// No response head within `response_head_timeout`.
    ResponseHeaderTimeout,
    /// The response body made no progress for `response_body_timeout`.
    ResponseBodyTimeout,
    /// The instance took no byte of the request for `request_write_timeout`.
    RequestWriteTimeout,
    /// Neither side of an upgraded connection said anything for `upgrade_idle_timeout`.
    UpgradeIdleTimeout,
    /// An upgraded connection lived for `upgrade_lifetime_max`.
    UpgradeLifetime,
    /// The instance of an upgraded connection went down or was removed, and the pool says `on_down = "cut"`.
    UpgradeCut,
    /// The instance was ejected while the request waited for its response head.
    Ejected,
    /// The instance refused the stream, or its connection went away, and there was no other: it never looked at the request.
    StreamRefused,
    /// The deadline that the client had set (`grpc-timeout`) was over.
    DeadlineExceeded,
    /// The request is malformed or ambiguous.
    ClientBadRequest,
    /// The method or coding is one that Plimsoll does not implement.
    NotImplemented,
    /// The method is not allowed here.
    MethodNotAllowed,
    /// The route asks for a client certificate, and the client has shown none.
    ClientCertificateRequired,
    /// The request head did not arrive within `request_head_timeout`.
    RequestHeaderTimeout,
    /// The request body made no progress for `request_body_timeout`.
    RequestBodyTimeout,
    /// The request body came slower than `request_body_rate_min`.
    RequestBodyTooSlow,
    /// Head, target or body is over its limit.
    RequestTooLarge,
    /// The request has passed through this proxy too often.
    LoopDetected,
    /// The client left before the response was whole.
    ClientClosed,
    /// The client took no bytes of the response for `response_write_timeout`, or took it slower than `response_rate_min`.
    ClientTooSlow,
    /// A bug in Plimsoll.
    Internal,
}

impl Cause {
    /// Every cause, in the order of the discriminants: index with `cause as usize`.
    pub const ALL: [Self; 35] = [
        Self::NoRoute,
        Self::NoEligibleInstance,
        Self::Draining,
        Self::QueueTimeout,
        Self::QueueFull,
        Self::Overload,
        Self::RetryBudgetExhausted,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectReset,
        Self::UpstreamReset,
        Self::TlsHandshake,
        Self::UpstreamClosedEarly,
        Self::UpstreamBadResponse,
        Self::ResponseHeaderTimeout,
        Self::ResponseBodyTimeout,
        Self::RequestWriteTimeout,
        Self::UpgradeIdleTimeout,
        Self::UpgradeLifetime,
        Self::UpgradeCut,
        Self::Ejected,
        Self::StreamRefused,
        Self::DeadlineExceeded,
        Self::ClientBadRequest,
        Self::NotImplemented,
        Self::MethodNotAllowed,
        Self::ClientCertificateRequired,
        Self::RequestHeaderTimeout,
        Self::RequestBodyTimeout,
        Self::RequestBodyTooSlow,
        Self::RequestTooLarge,
        Self::LoopDetected,
        Self::ClientClosed,
        Self::ClientTooSlow,
        Self::Internal,
    ];

    /// How many causes there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The stable code: what logs, metrics and `Proxy-Status` say.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoEligibleInstance => "no_eligible_instance",
            Self::Draining => "draining",
            Self::QueueTimeout => "queue_timeout",
            Self::QueueFull => "queue_full",
            Self::Overload => "overload",
            Self::RetryBudgetExhausted => "retry_budget_exhausted",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectReset => "connect_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::TlsHandshake => "tls_handshake",
            Self::UpstreamClosedEarly => "upstream_closed_early",
            Self::UpstreamBadResponse => "upstream_bad_response",
            Self::ResponseHeaderTimeout => "response_header_timeout",
            Self::ResponseBodyTimeout => "response_body_timeout",
            Self::RequestWriteTimeout => "request_write_timeout",
            Self::UpgradeIdleTimeout => "upgrade_idle_timeout",
            Self::UpgradeLifetime => "upgrade_lifetime",
            Self::UpgradeCut => "upgrade_cut",
            Self::Ejected => "ejected",
            Self::StreamRefused => "stream_refused",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ClientBadRequest => "client_bad_request",
            Self::NotImplemented => "not_implemented",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ClientCertificateRequired => "client_certificate_required",
            Self::RequestHeaderTimeout => "request_header_timeout",
            Self::RequestBodyTimeout => "request_body_timeout",
            Self::RequestBodyTooSlow => "request_body_too_slow",
            Self::RequestTooLarge => "request_too_large",
            Self::LoopDetected => "loop_detected",
            Self::ClientClosed => "client_closed",
            Self::ClientTooSlow => "client_too_slow",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_in_the_order_of_their_discriminants_and_codes_are_unique() {
        for (index, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(index, *cause as usize, "{cause:?}");
        }
        let mut codes: Vec<_> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Cause::COUNT);
    }
}
