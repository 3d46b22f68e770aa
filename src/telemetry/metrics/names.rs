//! Every metric: its name, what it tells, its type and its labels, each once.
//!
//! Prefix `plimsoll_`, base units, `_total` for counters. Label values come from the configuration or from enums of
//! ours, never from a request: a path, a client or an unconfigured host would let a stranger grow the series. Process
//! metrics keep the names that every Prometheus library uses, since dashboards know them.

/// A metric as it is announced.
#[derive(Debug)]
pub struct Definition {
    /// The whole name.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// What the numbers mean.
    pub kind: Kind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
}

/// What the numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// What is now.
    Gauge,
    /// Durations in the buckets of `stats::BUCKETS_MICROS`.
    Histogram,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Definition =
                Definition { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };
        )*
        /// All of them.
        pub const ALL: &[&Definition] = &[$(&$constant),*];
    };
}

metrics! {
    REQUESTS = Counter "plimsoll_requests_total" ["listener", "route", "code"]
        "Finished requests by status class; route `-` is for requests that no route matches.";
    REQUEST_DURATION = Histogram "plimsoll_request_duration_seconds" ["listener", "route", "code"]
        "From the first byte of a request to the last byte of its response.";
    REQUEST_BYTES = Counter "plimsoll_request_body_bytes_total" ["listener", "route"]
        "Bytes of request bodies taken from clients.";
    RESPONSE_BYTES = Counter "plimsoll_response_bytes_total" ["listener", "route"]
        "Bytes of responses written to clients.";
    LOCAL_RESPONSES = Counter "plimsoll_local_responses_total" ["listener", "route", "cause"]
        "Requests that Plimsoll itself answered or cut off, by cause.";

    LISTENER_CONNECTIONS = Gauge "plimsoll_listener_connections" ["listener"]
        "Client connections that are open now.";
    LISTENER_ACCEPTED = Counter "plimsoll_listener_connections_accepted_total" ["listener"]
        "Client connections accepted.";
    LISTENER_REFUSED = Counter "plimsoll_listener_connections_refused_total" ["listener", "reason"]
        "Client connections closed as soon as they were accepted, by reason.";
    LISTENER_EVICTED = Counter "plimsoll_listener_connections_evicted_total" ["listener"]
        "Idle client connections closed to make room for others.";
    LISTENER_REDIRECTED = Counter "plimsoll_listener_requests_redirected_total" ["listener"]
        "Requests without TLS that were answered with 308 to https.";
    LISTENER_CLIENT_ERRORS = Counter "plimsoll_listener_client_errors_total" ["listener"]
        "Client connections that ended in a TCP or framing error of the client's.";

    HTTP2_CONNECTIONS = Gauge "plimsoll_http2_connections" ["listener"]
        "Client connections that speak HTTP/2 and are open now.";
    HTTP2_ACCEPTED = Counter "plimsoll_http2_connections_accepted_total" ["listener"]
        "Client connections that turned out to speak HTTP/2.";
    HTTP2_STREAMS = Gauge "plimsoll_http2_streams" ["listener"]
        "Requests over HTTP/2 that are being served now.";
    HTTP2_FLOODS = Counter "plimsoll_http2_floods_total" ["listener", "reason"]
        "Client connections of HTTP/2 that were ended because too many frames of a kind came.";

    TLS_HANDSHAKES = Counter "plimsoll_tls_handshakes_total" ["listener", "version", "session"]
        "TLS handshakes with clients that made a connection, in full or by resuming a session.";
    TLS_HANDSHAKE_FAILURES = Counter "plimsoll_tls_handshake_failures_total" ["listener", "reason"]
        "TLS handshakes with clients that made no connection, by why.";
    TLS_HANDSHAKE_DURATION = Histogram "plimsoll_tls_handshake_duration_seconds" ["listener"]
        "Time of TLS handshakes with clients that made a connection.";
    TLS_NOT_AFTER = Gauge "plimsoll_tls_certificate_not_after_timestamp_seconds" ["listener", "certificate"]
        "When a certificate expires, by its file as the configuration names it.";
    TLS_FILES = Counter "plimsoll_tls_files_changed_total" ["result"]
        "Certificates and keys that changed while running: taken into use, or refused, so that the old ones stay.";

    UPSTREAM_REQUESTS = Counter "plimsoll_upstream_requests_total" ["pool", "instance", "code"]
        "Attempts that got a response head, by status class.";
    UPSTREAM_ERRORS = Counter "plimsoll_upstream_errors_total" ["pool", "instance", "cause"]
        "Attempts that failed, by cause.";
    UPSTREAM_DURATION = Histogram "plimsoll_upstream_duration_seconds" ["pool", "instance", "phase"]
        "Time of attempts: making a connection, from then to the response head, in total from the pick on.";
    UPSTREAM_IN_FLIGHT = Gauge "plimsoll_upstream_in_flight" ["pool", "instance"]
        "Requests sent to the instance whose response body has not ended.";
    UPSTREAM_CONNECTIONS = Gauge "plimsoll_upstream_connections" ["pool", "instance", "state"]
        "Connections to the instance that are open now, by what they do.";
    UPSTREAM_OPENED = Counter "plimsoll_upstream_connections_opened_total" ["pool", "instance"]
        "Connections made to the instance.";
    UPSTREAM_REUSED = Counter "plimsoll_upstream_connections_reused_total" ["pool", "instance"]
        "Requests sent on a connection that had been used before.";
    UPSTREAM_HANDSHAKES = Counter "plimsoll_upstream_tls_handshakes_total" ["pool", "instance", "kind"]
        "TLS handshakes done with the instance: full, or resumed from an earlier session.";
    UPSTREAM_UNASKED_BYTES = Counter "plimsoll_upstream_unasked_bytes_total" ["pool", "instance"]
        "Bytes that the instance sent where none were due; each time the connection was closed.";
    UPSTREAM_H2_EVENTS = Counter "plimsoll_upstream_h2_events_total" ["pool", "instance", "event"]
        "What the instance did on connections that requests share, by event.";

    INSTANCE_STATE = Gauge "plimsoll_instance_state" ["pool", "instance", "state"]
        "1 where it holds: eligible is what all the others come to; exactly one of unproven, up and down holds.";
    INSTANCE_TRANSITIONS = Counter "plimsoll_instance_transitions_total" ["pool", "instance", "to", "reason"]
        "Changes of an instance's state.";
    PROBES = Counter "plimsoll_probes_total" ["pool", "instance", "result"]
        "Probes by result.";
    PROBE_DURATION = Histogram "plimsoll_probe_duration_seconds" ["pool", "instance"]
        "Time of probes that passed or failed.";

    POOL_ELIGIBLE = Gauge "plimsoll_pool_eligible_instances" ["pool"]
        "Instances that may get a request now.";
    POOL_INSTANCES = Gauge "plimsoll_pool_instances" ["pool"]
        "Instances that the configuration names.";
    QUEUE_DEPTH = Gauge "plimsoll_queue_depth" ["pool"]
        "Requests that wait for an eligible instance.";
    RETRIES = Counter "plimsoll_retries_total" ["pool", "reason", "outcome"]
        "Further attempts, by why they were wanted and how they ended.";

    CONFIG_GENERATION = Gauge "plimsoll_config_generation" []
        "Number of the snapshot that is in use; grows with each reload.";
    CONFIG_INFO = Gauge "plimsoll_config_info" ["hash"]
        "Fingerprint of the configuration that is in use, as label; always 1.";
    CONFIG_RELOADS = Counter "plimsoll_config_reloads_total" ["result"]
        "Reloads by result.";
    CONFIG_LAST_SUCCESS = Gauge "plimsoll_config_last_reload_success_timestamp_seconds" []
        "When a configuration was last applied, the first one included.";

    LOG_DROPPED = Counter "plimsoll_log_dropped_total" ["sink"]
        "Log lines dropped because the queue was full or the sink failed.";
    BUILD_INFO = Gauge "plimsoll_build_info" ["version"]
        "Version of the binary, as label; always 1.";
    WORKERS = Gauge "plimsoll_workers" []
        "Data-plane threads.";

    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "Processor time of this process, user and system.";
    PROCESS_START = Gauge "process_start_time_seconds" []
        "When this process started, in seconds since 1970.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" []
        "Memory of this process that is in RAM.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Address space of this process; on Windows its private bytes.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "File descriptors that are open; on Windows: handles.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "File descriptors that may be open.";
    PROCESS_THREADS = Gauge "process_threads" []
        "Threads of this process.";

    SYSTEM_CPU = Counter "plimsoll_system_cpu_seconds_total" ["mode"]
        "Processor time of the machine over all processors, by what it was spent on.";
    SYSTEM_MEMORY_AVAILABLE = Gauge "plimsoll_system_memory_available_bytes" []
        "Memory of the machine that programs can still get.";
    SYSTEM_MEMORY = Gauge "plimsoll_system_memory_bytes" []
        "Memory of the machine.";
    SYSTEM_OPEN_FDS = Gauge "plimsoll_system_open_fds" []
        "File descriptors that are open on the machine; on Windows: handles.";
    SYSTEM_THREADS = Gauge "plimsoll_system_threads" []
        "Threads on the machine.";
}
