//! Routes: hosts and paths that can match, pools and listeners that exist, no two routes for the same requests.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use crate::config::file;
use crate::config::model::{ClientCertificate, HostPattern, Listener, ListenerName, PoolName, Route, RouteName};
use crate::config::problem::Problems;
use crate::config::read::{Field, Span, nearest};
use crate::config::values::RouteCertificateWord;

use crate::route::path::canonical;

use super::{Unique, check_name, written};

/// Checks all routes; without any, one pool gets everything.
pub(super) fn check_all(file: &file::Config, listeners: &[Listener], problems: &mut Problems<'_>) -> Vec<Route> {
    let pools: Vec<_> = file.pool.value.0.iter().map(|(name, _)| name).collect();
    let routes = &file.route.value.0;
    if routes.is_empty() && !file.route.is_written() {
        return match pools.as_slice() {
            [] => Vec::new(),
            [pool] => vec![everything_to(&pool.value)],
            [_, second, ..] => {
                problems
                    .error(second.span.as_ref(), format!("{} pools, but no route says what goes where", pools.len()))
                    .hint(format!(
                        "add a `[[route]]` for each, with `host` or `path` and `pool = \"{}\"`",
                        second.value
                    ));
                Vec::new()
            }
        };
    }
    let mut names = Unique::new("route");
    let mut served = Served::default();
    let mut checked = Vec::new();
    for route in routes {
        let model = check(route, &pools, listeners, problems);
        // A name is taken also by a route that has something else wrong.
        if let Some(name) = written(&route.value.name) {
            names.claim(&name.value, name.span.as_ref().or(route.span.as_ref()), problems);
        }
        let Some(model) = model else { continue };
        let free = served.claim(&model, route.span.as_ref(), problems);
        // Two routes for the same requests have the same default name: one mistake, one error.
        if free && !route.value.name.is_written() {
            names.claim(model.name.as_str(), route.span.as_ref(), problems);
        }
        checked.push(model);
    }
    let leads_to = |pool: &str| routes.iter().any(|route| route.value.pool.value.as_deref() == Some(pool));
    for pool in &pools {
        // Where a route's own pool is wrong, that is what is to be said.
        if checked.len() == routes.len() && !leads_to(&pool.value) {
            problems
                .warning(pool.span.as_ref(), format!("no route leads to pool `{}`", pool.value))
                .hint("its instances are probed, but get no requests");
        }
    }
    checked
}

fn everything_to(pool: &str) -> Route {
    Route {
        name: RouteName::from("*/"),
        hosts: Vec::new(),
        path: "/".to_owned(),
        listeners: Vec::new(),
        pool: PoolName::from(pool),
        client_certificate: ClientCertificate::Optional,
    }
}

fn check(
    route: &Field<file::Route>,
    pools: &[&Field<String>],
    listeners: &[Listener],
    problems: &mut Problems<'_>,
) -> Option<Route> {
    let file = &route.value;
    let named = || file.host.value.iter().filter(|host| host.value != "*");
    let hosts: Vec<_> = named().filter_map(|host| parse_host(host, problems)).collect();
    let hosts_fit = hosts.len() == named().count();
    let any_host = named().count() < file.host.value.len();
    let path = parse_path(&file.path, problems);
    for listener in &file.listeners.value {
        let known = || listeners.iter().map(|listener| listener.name.as_str());
        check_exists("listener", listener, known, problems);
    }
    let Some(pool) = written(&file.pool) else {
        if !file.pool.is_written() {
            problems.error(route.span.as_ref(), "a route without `pool`").hint("add `pool = \"NAME\"`");
        }
        return None;
    };
    let pool_exists = check_exists("pool", &pool, || pools.iter().map(|pool| pool.value.as_str()), problems);
    let path = path.filter(|_| hosts_fit && pool_exists)?;
    let name = match written(&file.name) {
        Some(name) => {
            check_name("a route", &name, problems);
            name.value
        }
        None => format!("{}{path}", file.host.value.first().map_or("*", |host| host.value.as_str())),
    };
    Some(Route {
        name: RouteName::from(name.as_str()),
        hosts: if any_host { Vec::new() } else { hosts },
        path,
        listeners: file.listeners.value.iter().map(|name| ListenerName::from(name.value.as_str())).collect(),
        pool: PoolName::from(pool.value.as_str()),
        client_certificate: check_client_certificate(file, listeners, problems),
    })
}

/// A route can only require what its listeners ask for.
fn check_client_certificate(
    file: &file::Route,
    listeners: &[Listener],
    problems: &mut Problems<'_>,
) -> ClientCertificate {
    let named = |listener: &&Listener| {
        let names = &file.listeners.value;
        names.is_empty() || names.iter().any(|name| name.value == listener.name.as_str())
    };
    let asks =
        |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_certificate != ClientCertificate::Off);
    let field = &file.client_certificate;
    if field.value == RouteCertificateWord::Required && !listeners.iter().filter(named).any(asks) {
        problems
            .error(field.span.as_ref(), "no listener of this route asks clients for a certificate")
            .hint("set `client_certificate = \"optional\"` in `tls` of one of them");
    }
    match field.value {
        RouteCertificateWord::Optional => ClientCertificate::Optional,
        RouteCertificateWord::Required => ClientCertificate::Required,
    }
}

fn check_exists<'k, K: Iterator<Item = &'k str>>(
    kind: &str,
    name: &Field<String>,
    known: impl Fn() -> K,
    problems: &mut Problems<'_>,
) -> bool {
    if known().any(|known| known == name.value) {
        return true;
    }
    let hint = match nearest(&name.value, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: `{}`", known().collect::<Vec<_>>().join("`, `")),
    };
    problems.error(name.span.as_ref(), format!("there is no {kind} `{}`", name.value)).hint(hint);
    false
}

/// A host name, an address, or `*.` and a host name; case does not matter.
fn parse_host(host: &Field<String>, problems: &mut Problems<'_>) -> Option<HostPattern> {
    let text = host.value.to_ascii_lowercase();
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text.as_str()),
    };
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if name.split('.').all(label) || !wildcard && bracketed.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()) {
        return Some(if wildcard { HostPattern::Suffix(format!(".{name}")) } else { HostPattern::Exact(text) });
    }
    let hint = if text.contains("://") {
        "write the host alone, without `http://`"
    } else if text.contains('/') {
        "write the host alone; the path has its own key, `path`"
    } else if name.contains('*') {
        "`*` stands alone or in front, as in `*.example.com`"
    } else if !text.is_ascii() {
        "write an international name in its ASCII form, `xn--…`"
    } else if text.contains(':') {
        "write the host without a port; the port of a request does not matter"
    } else {
        "write a name such as `example.com` or `*.example.com`"
    };
    problems.error(host.span.as_ref(), format!("`{}` is no host", host.value)).hint(hint);
    None
}

/// A path without its trailing slash, in the form that requests are compared in.
fn parse_path(path: &Field<String>, problems: &mut Problems<'_>) -> Option<String> {
    let canonical = || String::from_utf8_lossy(&canonical(path.value.as_bytes())).into_owned();
    let hint = match escapes_are_whole(&path.value).then(canonical) {
        None => "`%` is followed by two hexadecimal digits",
        Some(text) if !text.starts_with('/') => "begin it with `/`",
        Some(text) if text.contains(['?', '#']) => "a route looks at the path only, not at the query",
        Some(text) if text.contains('*') => "leave `*` out: a path covers everything below it",
        Some(text) if !text.chars().all(|c| c.is_ascii_graphic()) => "percent-encode spaces and non-ASCII characters",
        Some(text) if text.split('/').any(|segment| segment == "." || segment == "..") => {
            "requests with `.` or `..` segments are refused, so it can never match"
        }
        Some(text) => match text.trim_end_matches('/') {
            "" => return Some("/".to_owned()),
            text => return Some(text.to_owned()),
        },
    };
    problems.error(path.span.as_ref(), format!("`{}` is no path for a route", path.value)).hint(hint);
    None
}

/// Whether each `%` is followed by two hexadecimal digits.
fn escapes_are_whole(path: &str) -> bool {
    let digits = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    path.split('%').skip(1).all(digits)
}

/// Which requests have a route already, by host and path.
#[derive(Default)]
struct Served(HashMap<(Option<HostPattern>, String), Vec<Taker>>);

/// A route that has a host and a path, on some listeners or (if there are none) on all.
struct Taker {
    listeners: Vec<ListenerName>,
    name: RouteName,
}

impl Served {
    /// Takes what a route serves; `false`, and an error, if another one has it.
    fn claim(&mut self, route: &Route, span: Option<&Span>, problems: &mut Problems<'_>) -> bool {
        let hosts: Vec<_> = match route.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().cloned().map(Some).collect(),
        };
        for host in hosts {
            let shown = host.as_ref().map_or_else(|| "*".to_owned(), HostPattern::to_string);
            let here = self.0.entry((host, route.path.clone())).or_default();
            let common = |listeners: &[ListenerName]| {
                let both_some = !listeners.is_empty() && !route.listeners.is_empty();
                !both_some || listeners.iter().any(|listener| route.listeners.contains(listener))
            };
            if let Some(Taker { name: first, .. }) = here.iter().find(|taker| common(&taker.listeners)) {
                problems
                    .error(
                        span,
                        format!("route `{}` can never match `{shown}{}`: `{first}` does", route.name, route.path),
                    )
                    .hint("remove one of them, or tell them apart by `host`, `path` or `listeners`");
                return false;
            }
            here.push(Taker { listeners: route.listeners.clone(), name: route.name.clone() });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parsed<T>(parse: impl Fn(&Field<String>, &mut Problems<'_>) -> T, text: &str) -> Option<T> {
        let mut problems = Problems::new(Path::new("test"), "");
        let value = parse(&Field::absent(text.to_owned()), &mut problems);
        problems.into_sorted().is_empty().then_some(value)
    }

    #[test]
    fn paths_lose_trailing_slashes_and_needless_encoding() {
        for (text, expected) in [
            ("/", Some("/")),
            ("/api", Some("/api")),
            ("/api/", Some("/api")),
            ("//", Some("/")),
            ("/%61pi", Some("/api")),
            ("/a%2fb", Some("/a%2Fb")),
            ("api", None),
            ("", None),
            ("/a?b", None),
            ("/a/*", None),
            ("/a/../b", None),
            ("/a/%2e%2E/b", None),
            ("/a%2", None),
            ("/a%+1", None),
            ("/ä", None),
        ] {
            assert_eq!(parsed(parse_path, text).flatten().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn hosts_are_names_addresses_or_suffixes() {
        let exact = |text: &str| Some(HostPattern::Exact(text.to_owned()));
        for (text, expected) in [
            ("Example.com", exact("example.com")),
            ("localhost", exact("localhost")),
            ("10.0.0.1", exact("10.0.0.1")),
            ("[::1]", exact("[::1]")),
            ("*.Example.com", Some(HostPattern::Suffix(".example.com".to_owned()))),
            ("a.*.com", None),
            ("example.com:80", None),
            ("http://example.com", None),
            ("example.com/x", None),
            ("example..com", None),
            ("bücher.example", None),
            ("", None),
        ] {
            assert_eq!(parsed(parse_host, text).flatten(), expected, "{text}");
        }
    }
}
