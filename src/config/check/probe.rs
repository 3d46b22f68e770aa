//! Probes: times that leave room for each other, requests that can be sent.

use std::net::Ipv6Addr;

use crate::config::file;
use crate::config::model::{GrpcProbe, HttpProbe, Probe, ProbeKind};
use crate::config::problem::Problems;
use crate::config::read::{Field, Named, Span};
use crate::config::values::{ProbeKindWord, duration_text};

use super::written;

/// Fields that a probe sets itself, or that would change what its request means.
const RESERVED_FIELDS: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "upgrade"];

/// No package is nested so deeply; it keeps the message of a probe small.
const SERVICE_BYTES_MAX: usize = 255;

/// Checks the probe of a pool whose section begins at `header`.
pub(super) fn check(
    pool: &str,
    probe: &Field<file::Probe>,
    header: Option<&Span>,
    problems: &mut Problems<'_>,
) -> Probe {
    let file = &probe.value;
    let (interval, timeout, fast) = (file.interval.value, file.timeout.value, file.fast_interval.value);
    let (interval_text, fast_text) = (duration_text(interval), duration_text(fast));
    if timeout >= interval {
        let span = file.timeout.span.as_ref().or(file.interval.span.as_ref()).or(header);
        let timeout = duration_text(timeout);
        problems
            .error(
                span,
                format!("the probe of pool `{pool}` may take {timeout}, but the next is due after {interval_text}"),
            )
            .hint("make `timeout` shorter than `interval`");
    }
    if fast > interval {
        problems
            .error(
                file.fast_interval.span.as_ref(),
                format!("`fast_interval` {fast_text} is longer than `interval` {interval_text}"),
            )
            .hint("make it shorter, or leave it out");
    }
    Probe {
        kind: match file.kind.value {
            ProbeKindWord::Http => {
                refuse_keys(&[("service", &file.service.span)], "http", "grpc", problems);
                ProbeKind::Http(check_http(file, problems))
            }
            ProbeKindWord::Tcp => {
                refuse_keys(&[("host", &file.host.span)], "tcp", "http", problems);
                refuse_keys(&[("service", &file.service.span)], "tcp", "grpc", problems);
                refuse_http_keys(file, "tcp", problems);
                ProbeKind::Tcp
            }
            ProbeKindWord::Grpc => {
                refuse_http_keys(file, "grpc", problems);
                ProbeKind::Grpc(check_grpc(file, problems))
            }
        },
        port: file.port.value.map(|port| port as u16),
        interval,
        fast_interval: Some(fast).filter(|fast| !fast.is_zero()),
        timeout,
        fall: file.fall.value as u32,
        rise: file.rise.value as u32,
        jitter_percent: file.jitter_percent.value as u32,
        tls: file.tls.value,
    }
}

fn refuse_http_keys(file: &file::Probe, kind: &str, problems: &mut Problems<'_>) {
    let keys = [
        ("method", &file.method.span),
        ("path", &file.path.span),
        ("headers", &file.headers.span),
        ("expect_status", &file.expect_status.span),
        ("expect_body", &file.expect_body.span),
    ];
    refuse_keys(&keys, kind, "http", problems);
}

/// Keys that mean nothing to a probe of this kind, but to one of another.
fn refuse_keys(keys: &[(&str, &Option<Span>)], kind: &str, other: &str, problems: &mut Problems<'_>) {
    for (key, span) in keys {
        if span.is_some() {
            problems
                .error(span.as_ref(), format!("`{key}` means nothing to a probe with `kind = \"{kind}\"`"))
                .hint(format!("remove it, or write `kind = \"{other}\"`"));
        }
    }
}

fn check_grpc(file: &file::Probe, problems: &mut Problems<'_>) -> GrpcProbe {
    if let Some(service) = written(&file.service) {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if service.value.len() > SERVICE_BYTES_MAX || !service.value.chars().all(fits) {
            problems
                .error(service.span.as_ref(), format!("`{}` is no name of a gRPC service", service.value))
                .hint("write its full name, such as `\"shop.v1.Orders\"`, or leave it out for the whole server");
        }
    }
    check_host(&file.host, problems);
    GrpcProbe { service: file.service.value.clone().unwrap_or_default(), host: file.host.value.clone() }
}

fn check_host(host: &Field<Option<String>>, problems: &mut Problems<'_>) {
    if let Some(host) = written(host).filter(|host| !is_authority(&host.value)) {
        problems
            .error(host.span.as_ref(), format!("`{}` is no host", host.value))
            .hint("write a name such as `\"api.internal\"`, with a port if it needs one");
    }
}

fn check_http(file: &file::Probe, problems: &mut Problems<'_>) -> HttpProbe {
    let method = &file.method;
    if !is_token(&method.value) || method.value.eq_ignore_ascii_case("CONNECT") {
        problems
            .error(method.span.as_ref(), format!("`{}` is no method for a probe", method.value))
            .hint("write `\"GET\"` or `\"HEAD\"`");
    } else if method.value.chars().any(|c| c.is_ascii_lowercase()) {
        problems
            .error(method.span.as_ref(), format!("`{}`: methods are case-sensitive", method.value))
            .hint(format!("write `\"{}\"`", method.value.to_ascii_uppercase()));
    }
    if !file.path.value.starts_with('/') || !file.path.value.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        problems
            .error(file.path.span.as_ref(), format!("`{}` is no path for a probe", file.path.value))
            .hint("begin it with `/`, and percent-encode spaces and non-ASCII characters");
    }
    check_host(&file.host, problems);
    if file.expect_status.value.is_empty() {
        problems
            .error(file.expect_status.span.as_ref(), "without any status in `expect_status` no probe can pass")
            .hint("leave it out for 200 to 299");
    }
    if let Some(body) = written(&file.expect_body) {
        let hint = "leave it out, or use `method = \"GET\"`";
        if method.value == "HEAD" {
            problems.error(body.span.as_ref(), "an answer to HEAD has no body to look for `expect_body` in").hint(hint);
        } else if body.value.is_empty() {
            problems.error(body.span.as_ref(), "`expect_body` is empty, which every body has").hint("leave it out");
        }
    }
    HttpProbe {
        method: method.value.clone(),
        path: file.path.value.clone(),
        host: file.host.value.clone(),
        headers: check_headers(&file.headers.value, problems),
        expect_status: file.expect_status.value.iter().map(|range| (range.value.0, range.value.1)).collect(),
        expect_body: file.expect_body.value.clone(),
    }
}

fn check_headers(headers: &Named<String>, problems: &mut Problems<'_>) -> Vec<(String, String)> {
    for (name, value) in &headers.0 {
        if !is_token(&name.value) {
            let hint = "use letters, digits and `-`";
            problems.error(name.span.as_ref(), format!("`{}` is no name of a field", name.value)).hint(hint);
        } else if RESERVED_FIELDS.contains(&name.value.to_ascii_lowercase().as_str()) {
            problems
                .error(name.span.as_ref(), format!("`{}` is set by the probe itself", name.value))
                .hint("remove it; `Host` has its own key, `host`");
        }
        if value.value.chars().any(|c| c.is_control() && c != '\t') {
            problems
                .error(value.span.as_ref(), format!("the value of `{}` has control characters", name.value))
                .hint("write it in one line");
        }
    }
    headers.0.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// A host name or address, with or without a port.
pub(super) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, "")) => return ip.parse::<Ipv6Addr>().is_ok(),
        Some((ip, port)) if port.starts_with(':') && ip.parse::<Ipv6Addr>().is_ok() => ("v6", Some(&port[1..])),
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}
