//! Listeners: addresses that can be bound together, limits that fit each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use ipnet::IpNet;

use crate::config::file;
use crate::config::model::{Hsts, Http2, Listener, ListenerName, Redirect};
use crate::config::problem::Problems;
use crate::config::read::{Field, Span};

use super::{Unique, check_name, tls, written};

/// Checks all listeners and claims their addresses.
pub(super) fn check_all(
    file: &file::Config,
    path: &Path,
    binds: &mut Binds,
    problems: &mut Problems<'_>,
) -> Vec<Listener> {
    let listeners = &file.listener.value.0;
    if listeners.is_empty() && !file.listener.is_written() {
        problems.error(None, "no listener").hint("add `[[listener]]` and below it `bind = \"0.0.0.0:8080\"`");
    }
    let mut names = Unique::new("listener");
    let mut checked = Vec::new();
    for listener in listeners {
        let Some(model) = check(listener, path, binds, problems) else { continue };
        let name_span = listener.value.name.span.as_ref().or(listener.span.as_ref());
        names.claim(model.name.as_str(), name_span, problems);
        let all_max = &file.runtime.value.connections_max;
        if model.connections_max as u64 > all_max.value {
            let span = listener.value.connections_max.span.as_ref().or(all_max.span.as_ref());
            problems
                .warning(
                    span,
                    format!(
                        "listener `{}` allows {} connections, but all listeners together may have {}",
                        model.name, model.connections_max, all_max.value
                    ),
                )
                .hint("raise `connections_max` in `[runtime]`");
        }
        checked.push(model);
    }
    checked
}

fn check(
    listener: &Field<file::Listener>,
    path: &Path,
    binds: &mut Binds,
    problems: &mut Problems<'_>,
) -> Option<Listener> {
    let file = &listener.value;
    let texts = file.bind.value.as_deref().unwrap_or_default();
    if texts.is_empty() {
        if !file.bind.is_written() || file.bind.value.is_some() {
            problems
                .error(file.bind.span.as_ref().or(listener.span.as_ref()), "a listener without `bind`")
                .hint("add `bind = \"0.0.0.0:8080\"`");
        }
        return None;
    }
    let name = match written(&file.name) {
        Some(name) => {
            check_name("a listener", &name, problems);
            name.value
        }
        None => texts[0].value.clone(),
    };
    let mut bind = Vec::new();
    for text in texts {
        for address in parse_bind(text, texts, problems) {
            binds.claim(address, text.span.as_ref(), &format!("listener `{name}`"), problems);
            bind.push(address);
        }
    }
    if file.request_target_bytes_max.value > file.request_head_bytes_max.value {
        let span = file.request_target_bytes_max.span.as_ref().or(file.request_head_bytes_max.span.as_ref());
        problems
            .error(span, "`request_target_bytes_max` is larger than `request_head_bytes_max`, which includes it")
            .hint("lower the first or raise the second");
    }
    if let (true, Some(span)) = (file.tls.is_written(), &file.redirect.span) {
        problems
            .error(Some(span), "`redirect` on a listener with `tls` has nobody to redirect")
            .hint("set it on the listener without `tls`, which clients come to with `http`");
    }
    Some(Listener {
        name: ListenerName::from(name.as_str()),
        bind,
        connections_max: file.connections_max.value as usize,
        connections_per_client_max: Some(file.connections_per_client_max.value as usize).filter(|max| *max > 0),
        backlog: file.backlog.value as u32,
        request_head_timeout: file.request_head_timeout.value,
        request_body_timeout: file.request_body_timeout.value,
        response_write_timeout: file.response_write_timeout.value,
        request_body_rate_min: Some(file.request_body_rate_min.value.0).filter(|rate| *rate > 0),
        response_rate_min: Some(file.response_rate_min.value.0).filter(|rate| *rate > 0),
        rate_grace: file.rate_grace.value,
        keep_alive_timeout: file.keep_alive_timeout.value,
        keep_alive_requests_max: Some(file.keep_alive_requests_max.value as u32).filter(|max| *max > 0),
        connection_age_max: Some(file.connection_age_max.value).filter(|age| !age.is_zero()),
        lingering_timeout: file.lingering_timeout.value,
        request_head_bytes_max: file.request_head_bytes_max.value.0 as usize,
        request_fields_max: file.request_fields_max.value as usize,
        request_target_bytes_max: file.request_target_bytes_max.value.0 as usize,
        request_body_bytes_max: Some(file.request_body_bytes_max.value.0).filter(|bytes| *bytes > 0),
        trusted_proxies: file.trusted_proxies.value.iter().filter_map(|text| parse_network(text, problems)).collect(),
        allow_trace: file.allow_trace.value,
        abort_on_close: file.abort_on_close.value,
        h2c: file.h2c.value,
        health_path: written(&file.health_path).and_then(|path| check_health_path(path, problems)),
        redirect: written(&file.redirect).and_then(|target| check_redirect(&target, problems)),
        hsts: check_hsts(&file.hsts.value, problems),
        http2: check_http2(&file.http2.value, problems),
        tls: file.tls.is_written().then(|| tls::check_listener(&file.tls, path, problems)),
    })
}

/// Addresses to listen on. A `*` means both families, each with a socket of its own. So does `[::]`, which is both on
/// one system and IPv6 alone on another, unless `all` of the listener's addresses say what is wanted of IPv4.
fn parse_bind(text: &Field<String>, all: &[Field<String>], problems: &mut Problems<'_>) -> Vec<SocketAddr> {
    let (ip, port) = text.value.rsplit_once(':').unwrap_or((&text.value, ""));
    let both = |port| vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
    if let Ok(address) = text.value.parse::<SocketAddr>() {
        let any_v6 = address.is_ipv6() && address.ip().is_unspecified();
        let mut v4 = all.iter().filter_map(|text| text.value.parse::<SocketAddrV4>().ok());
        return if any_v6 && !v4.any(|v4| v4.port() == address.port()) { both(address.port()) } else { vec![address] };
    }
    if let ("*", Ok(port)) = (ip, port.parse::<u16>()) {
        return both(port);
    }
    let hint = if text.value.parse::<Ipv6Addr>().is_ok() {
        format!("write an IPv6 address in brackets, and a port: `\"[{}]:8080\"`", text.value)
    } else if text.value.parse::<IpAddr>().is_ok() || text.value == "*" {
        format!("add a port: `\"{}:8080\"`", text.value)
    } else if ip.is_empty() && port.parse::<u16>().is_ok() {
        format!("write `\"*:{port}\"` for every address of this machine")
    } else if ip.parse::<IpAddr>().is_ok() || ip == "*" {
        "a port is a number from 0 to 65535".to_owned()
    } else {
        "write `\"IP:port\"`, such as `\"0.0.0.0:8080\"`, `\"[::]:8080\"` or `\"*:8080\"` for both".to_owned()
    };
    problems.error(text.span.as_ref(), format!("`{}` is no address to listen on", text.value)).hint(hint);
    Vec::new()
}

fn parse_network(text: &Field<String>, problems: &mut Problems<'_>) -> Option<IpNet> {
    let network = text.value.parse::<IpNet>().ok().or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
    if network.is_none() {
        problems
            .error(text.span.as_ref(), format!("`{}` is no network", text.value))
            .hint("write `\"10.0.0.0/8\"`, `\"fd00::/8\"` or a single address");
    }
    network
}

fn check_health_path(path: Field<String>, problems: &mut Problems<'_>) -> Option<String> {
    if path.value.starts_with('/') && path.value.chars().all(|c| c.is_ascii_graphic() && c != '?' && c != '#') {
        return Some(path.value);
    }
    problems
        .error(path.span.as_ref(), format!("`{}` is no path", path.value))
        .hint("begin with `/`, without spaces and query: `\"/plimsoll/health\"`");
    None
}

/// `https`, or `https:PORT`.
fn check_redirect(target: &Field<String>, problems: &mut Problems<'_>) -> Option<Redirect> {
    let (scheme, port) = target.value.split_once(':').unwrap_or((&target.value, "443"));
    match port.parse::<u16>() {
        Ok(port) if scheme == "https" && port > 0 => {
            return Some(Redirect { port: Some(port).filter(|port| *port != 443) });
        }
        _ => {}
    }
    problems
        .error(target.span.as_ref(), format!("`redirect` cannot be `\"{}\"`", target.value))
        .hint("write `\"https\"`, or with the port that clients connect to `\"https:8443\"`");
    None
}

fn check_http2(file: &file::Http2, problems: &mut Problems<'_>) -> Http2 {
    let (stream_window, connection_window) = (file.stream_window.value.0, file.connection_window.value.0);
    if stream_window > connection_window {
        let span = file.stream_window.span.as_ref().or(file.connection_window.span.as_ref());
        problems
            .error(span, "`stream_window` is larger than `connection_window`, which holds for all streams together")
            .hint("lower the first or raise the second");
    }
    Http2 {
        streams_max: file.streams_max.value as u32,
        stream_window: stream_window as usize,
        connection_window: connection_window as usize,
        resets_max: file.resets_max.value as u32,
        settings_max: file.settings_max.value as u32,
        pings_max: file.pings_max.value as u32,
        priorities_max: file.priorities_max.value as u32,
        window_updates_max: file.window_updates_max.value as u32,
        empty_frames_max: file.empty_frames_max.value as u32,
        continuations_max: file.continuations_max.value as u32,
        errors_max: file.errors_max.value as u32,
    }
}

fn check_hsts(file: &file::Hsts, problems: &mut Problems<'_>) -> Option<Hsts> {
    /// What the lists of browsers ask for, in seconds.
    const YEAR: u64 = 31_536_000;
    let (include_subdomains, preload) = (file.include_subdomains.value, file.preload.value);
    let Some(max_age) = file.max_age.value else {
        for (key, switch) in [("include_subdomains", &file.include_subdomains), ("preload", &file.preload)] {
            if switch.value && !file.max_age.is_written() {
                problems
                    .error(switch.span.as_ref(), format!("`{key}` without `max_age` says nothing"))
                    .hint("add `max_age = \"8760h\"`, which is a year");
            }
        }
        return None;
    };
    if preload && (!include_subdomains || max_age.as_secs() < YEAR) {
        problems
            .error(file.preload.span.as_ref(), "`preload` needs `include_subdomains = true` and a `max_age` of a year")
            .hint("set both (`max_age = \"8760h\"`), or leave `preload` out: browsers do not list such hosts");
    }
    Some(Hsts { max_age, include_subdomains, preload })
}

/// Addresses that are taken by this configuration.
#[derive(Default)]
pub(super) struct Binds(Vec<(SocketAddr, Option<Span>)>);

impl Binds {
    /// Takes an address; an error if it is taken.
    pub(super) fn claim(&mut self, address: SocketAddr, span: Option<&Span>, who: &str, problems: &mut Problems<'_>) {
        if let Some((other, other_span)) = self.0.iter().find(|(other, _)| collide(*other, address)) {
            let line = other_span.as_ref().map(|span| format!(" in line {}", problems.line(span))).unwrap_or_default();
            let taken = if *other == address {
                format!("it is bound{line} already")
            } else {
                format!("`{other}`{line} covers it")
            };
            problems
                .error(span.or(other_span.as_ref()), format!("{who} cannot bind `{address}`: {taken}"))
                .hint("remove one of them, or give it another port");
        }
        self.0.push((address, span.cloned()));
    }

    /// Whether a connection to `address` would come back to us.
    pub(super) fn includes(&self, address: SocketAddr) -> bool {
        let reaches = |bind: &SocketAddr| *bind == address || address.ip().is_loopback() && collide(*bind, address);
        self.0.iter().any(|(bind, _)| reaches(bind))
    }
}

/// Whether two addresses cannot be bound side by side. IPv6 sockets are bound for IPv6 only, so families never collide,
/// and port 0 is a new port each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let unspecified = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && (unspecified || a.ip() == b.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_ipv6_address_is_any_address_unless_ipv4_is_named() {
        let parse = |texts: &[&str]| {
            let all: Vec<_> = texts.iter().map(|text| Field::absent((*text).to_owned())).collect();
            let mut problems = Problems::new(std::path::Path::new(""), "");
            let bound =
                all.iter().flat_map(|text| parse_bind(text, &all, &mut problems)).map(|bound| bound.to_string());
            bound.collect::<Vec<_>>()
        };
        assert_eq!(parse(&["[::]:80"]), ["[::]:80", "0.0.0.0:80"]);
        assert_eq!(parse(&["*:80"]), ["[::]:80", "0.0.0.0:80"]);
        assert_eq!(parse(&["[::]:80", "0.0.0.0:80"]), ["[::]:80", "0.0.0.0:80"]);
        assert_eq!(parse(&["[::]:80", "127.0.0.1:80"]), ["[::]:80", "127.0.0.1:80"]);
        assert_eq!(parse(&["[::]:80", "127.0.0.1:81"]), ["[::]:80", "0.0.0.0:80", "127.0.0.1:81"]);
        assert_eq!(parse(&["[::1]:80"]), ["[::1]:80"]);
    }

    #[test]
    fn addresses_collide_within_a_family_and_a_port() {
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "0.0.0.0:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (a, b) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!(collide(a, b), expected, "{a} {b}");
            assert_eq!(collide(b, a), expected, "{b} {a}");
        }
    }
}
