//! The routes of one listener: most specific host first, in it the longest path prefix.
//!
//! Hosts are a trie of labels from the right (`com`, `example`, `www`), paths a trie of segments below each host, so a
//! look-up costs one hash per label and segment and does not depend on the number of routes (`benches/route.rs`).
//! Rules, in order: an exact host, then the longest `*.suffix`, then routes without a host; within one of these the
//! longest prefix in whole segments (`/api` serves `/api` and `/api/v1`, not `/apis`). Where no path of a host matches,
//! the next host level is asked. Case and a trailing dot of hosts do not matter. Empty segments are skipped, so a route
//! for `/admin` also gets `//admin`, which most instances take for the same.

use memchr::memrchr;

use super::edges::{Case, Edges, Node};
use super::path::canonical;
use crate::config::model::HostPattern;

/// Index into `Table::routes`.
#[derive(Debug, Clone, Copy)]
struct RouteIndex(u32);

/// What a host or a suffix leads to: roots in the trie of paths.
#[derive(Debug, Clone, Copy, Default)]
struct HostNode {
    /// The paths of this very host.
    exact: Option<Node>,
    /// The paths of every host below this one.
    below: Option<Node>,
}

/// Routes, and the way to the right one.
#[derive(Debug)]
pub struct Table<T> {
    routes: Vec<T>,
    hosts: Edges,
    host_nodes: Vec<HostNode>,
    host_root: Node,
    paths: Edges,
    path_nodes: Vec<Option<RouteIndex>>,
    /// The paths of routes that name no host.
    any_host: Node,
}

impl<T> Table<T> {
    /// Builds the table from hosts (none: any), path prefix and value of each route. Of two routes with the same host and
    /// path the first one stays (`config::check` refuses such files).
    pub fn build<'a>(routes: impl IntoIterator<Item = (&'a [HostPattern], &'a str, T)>) -> Self {
        let mut hosts = Edges::new(Case::Ignored);
        let mut paths = Edges::new(Case::Matters);
        let (host_root, any_host) = (hosts.node(), paths.node());
        let mut table = Self {
            routes: Vec::new(),
            hosts,
            host_nodes: vec![HostNode::default()],
            host_root,
            paths,
            path_nodes: vec![None],
            any_host,
        };
        for (hosts, path, value) in routes {
            let route = RouteIndex(table.routes.len() as u32);
            table.routes.push(value);
            if hosts.is_empty() {
                table.insert_path(any_host, path, route);
            }
            for host in hosts {
                let root = table.path_root(host);
                table.insert_path(root, path, route);
            }
        }
        table
    }

    /// The route for a host (without a port, in any case) and a path (without a query), if there is one.
    #[inline]
    #[must_use]
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<&T> {
        let path = canonical(path);
        let host = host.strip_suffix(b".").unwrap_or(host);
        let found = self.find_below(self.host_root, host, &path).or_else(|| self.find_path(self.any_host, &path));
        found.map(|route| &self.routes[route.0 as usize])
    }

    /// Walks the labels of `host` from the right. No deeper than the trie, so requests do not decide how deep.
    fn find_below(&self, node: Node, host: &[u8], path: &[u8]) -> Option<RouteIndex> {
        let dot = memrchr(b'.', host);
        let child = self.hosts.child(node, &host[dot.map_or(0, |dot| dot + 1)..])?;
        let HostNode { exact, below } = self.host_nodes[child.index()];
        match dot {
            None => exact.and_then(|root| self.find_path(root, path)),
            // Longer suffixes first, on the way back this one.
            Some(dot) => self.find_below(child, &host[..dot], path).or_else(|| {
                let root = below.filter(|_| dot > 0)?;
                self.find_path(root, path)
            }),
        }
    }

    /// Walks the segments of `path` from the left and remembers the last route passed.
    #[inline]
    fn find_path(&self, root: Node, path: &[u8]) -> Option<RouteIndex> {
        let mut best = self.path_nodes[root.index()];
        if self.paths.is_empty() {
            return best;
        }
        let mut node = root;
        for segment in segments(path) {
            let Some(child) = self.paths.child(node, segment) else { break };
            best = self.path_nodes[child.index()].or(best);
            node = child;
        }
        best
    }

    /// The root of the paths of a host pattern, made if there is none.
    fn path_root(&mut self, host: &HostPattern) -> Node {
        let (text, exact) = match host {
            HostPattern::Exact(host) => (host.strip_suffix('.').unwrap_or(host), true),
            HostPattern::Suffix(suffix) => (suffix.trim_matches('.'), false),
        };
        let mut node = self.host_root;
        for label in text.rsplit('.') {
            node = self.hosts.child_or_new(node, label.as_bytes());
            grow(&mut self.host_nodes, node);
        }
        let host = &mut self.host_nodes[node.index()];
        let root = if exact { &mut host.exact } else { &mut host.below };
        *root.get_or_insert_with(|| {
            let root = self.paths.node();
            grow(&mut self.path_nodes, root);
            root
        })
    }

    fn insert_path(&mut self, root: Node, path: &str, route: RouteIndex) {
        let mut node = root;
        for segment in segments(&canonical(path.as_bytes())) {
            node = self.paths.child_or_new(node, segment);
            grow(&mut self.path_nodes, node);
        }
        self.path_nodes[node.index()].get_or_insert(route);
    }
}

/// The segments of a path that are not empty.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty())
}

/// Gives a table a row for `node`.
fn grow<R: Default>(rows: &mut Vec<R>, node: Node) {
    if rows.len() <= node.index() {
        rows.resize_with(node.index() + 1, R::default);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> HostPattern {
        match text.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
            None => HostPattern::Exact(text.to_owned()),
        }
    }

    /// `hosts path`, hosts separated by commas, `-` for any; the value is the text itself.
    fn table(routes: &[&'static str]) -> Table<&'static str> {
        let parsed: Vec<(Vec<HostPattern>, &str, &str)> = routes
            .iter()
            .map(|route| {
                let (hosts, path) = route.split_once(' ').expect("host and path");
                let hosts = if hosts == "-" { Vec::new() } else { hosts.split(',').map(host).collect() };
                (hosts, path, *route)
            })
            .collect();
        Table::build(parsed.iter().map(|(hosts, path, value)| (hosts.as_slice(), *path, *value)))
    }

    #[test]
    fn most_specific_host_wins_and_in_it_the_longest_path() {
        let table = table(&[
            "- /",
            "- /api",
            "www.example.com /",
            "www.example.com /api",
            "www.example.com /api/v1",
            "*.example.com /static",
            "*.a.example.com /",
            "example.com,example.net /",
            "[::1] /six",
        ]);
        let cases = [
            ("www.example.com", "/", Some("www.example.com /"), "exact host"),
            ("WWW.Example.COM", "/api", Some("www.example.com /api"), "RFC 9110 4.2.3: case of hosts"),
            ("www.example.com.", "/api", Some("www.example.com /api"), "a trailing dot"),
            ("www.example.com", "/api/", Some("www.example.com /api"), "a trailing slash"),
            ("www.example.com", "/api/v1/users", Some("www.example.com /api/v1"), "longest prefix"),
            ("www.example.com", "/api/v10", Some("www.example.com /api"), "whole segments"),
            ("www.example.com", "/apis", Some("www.example.com /"), "whole segments"),
            ("www.example.com", "/API", Some("www.example.com /"), "RFC 9110 4.2.3: case of paths matters"),
            ("www.example.com", "/%61pi/%76%31", Some("www.example.com /api/v1"), "RFC 3986 6.2.2.2"),
            ("www.example.com", "//api///v1", Some("www.example.com /api/v1"), "empty segments"),
            ("www.example.com", "/api%2fv1", Some("www.example.com /"), "an encoded slash is data"),
            ("www.example.com", "*", Some("www.example.com /"), "RFC 9110 7.1: OPTIONS *"),
            ("a.example.com", "/static/x", Some("*.example.com /static"), "suffix"),
            ("b.a.example.com", "/static/x", Some("*.a.example.com /"), "longest suffix"),
            ("c.b.a.example.com", "/", Some("*.a.example.com /"), "suffix over several labels"),
            ("b.example.com", "/api", Some("- /api"), "no path of the suffix: the next level"),
            (".example.com", "/static", Some("- /"), "an empty label is no host below"),
            ("xexample.com", "/static", Some("- /"), "suffixes are whole labels"),
            ("example.com", "/static", Some("example.com,example.net /"), "a suffix does not serve its own parent"),
            ("example.net", "/", Some("example.com,example.net /"), "second host of a route"),
            ("[::1]", "/six/1", Some("[::1] /six"), "IPv6"),
            ("", "/api", Some("- /api"), "HTTP/1.0 without a host"),
        ];
        for (host, path, expected, why) in cases {
            assert_eq!(table.find(host.as_bytes(), path.as_bytes()).copied(), expected, "{host} {path}: {why}");
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_matches() {
        let table = table(&["www.example.com /api"]);
        for (host, path) in [("www.example.com", "/"), ("example.com", "/api"), ("com", "/api"), ("", "/api"), ("", "")]
        {
            assert!(table.find(host.as_bytes(), path.as_bytes()).is_none(), "{host} {path}");
        }
        assert!(Table::<()>::build([]).find(b"www.example.com", b"/").is_none());
    }

    #[test]
    fn one_route_for_everything_serves_everything() {
        let table = table(&["- /"]);
        for (host, path) in [("www.example.com", "/"), ("", "*"), ("a", "/%2e%2e/x")] {
            assert!(table.find(host.as_bytes(), path.as_bytes()).is_some(), "{host} {path}");
        }
    }

    #[test]
    fn ten_thousand_hosts_and_paths_are_all_found() {
        let hosts: Vec<[HostPattern; 1]> = (0..10_000).map(|n| [host(&format!("h{n}.example.com"))]).collect();
        let paths: Vec<String> = (0..10_000).map(|n| format!("/p/{}/{n}", n % 7)).collect();
        let table = Table::build((0..10_000_usize).map(|n| (hosts[n].as_slice(), paths[n].as_str(), n)));
        for n in 0..10_000 {
            let (host, path) = (format!("h{n}.example.com"), format!("/p/{}/{n}/x", n % 7));
            assert_eq!(table.find(host.as_bytes(), path.as_bytes()), Some(&n));
        }
    }

    /// The rules as one reads them: all that match, by (kind of host, its length, length of the path).
    fn by_the_rules(routes: &[(Vec<HostPattern>, String)], host: &str, path: &str) -> Option<usize> {
        let serves = |prefix: &str| {
            prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let rank = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(exact) => (exact == host).then_some((2, exact.len())),
            HostPattern::Suffix(suffix) => {
                (host.len() > suffix.len() && host.ends_with(suffix.as_str())).then_some((1, suffix.len()))
            }
        };
        let mut best: Option<((u32, usize, usize), usize)> = None;
        for (index, (hosts, prefix)) in routes.iter().enumerate().filter(|(_, route)| serves(&route.1)) {
            let host_rank = if hosts.is_empty() { Some((0, 0)) } else { hosts.iter().filter_map(rank).max() };
            if let Some((kind, length)) = host_rank {
                let rank = (kind, length, prefix.len());
                if best.is_none_or(|(before, _)| rank > before) {
                    best = Some((rank, index));
                }
            }
        }
        best.map(|(_, index)| index)
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_scan_by_the_rules(
            routes in prop::collection::vec((prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..3), "(/[ab]{1,2}){1,3}|/"), 0..20),
            requests in prop::collection::vec(("[ab](\\.[ab]){0,3}", "(/[ab]{1,2}){1,4}|/"), 1..20),
        ) {
            let routes: Vec<(Vec<HostPattern>, String)> =
                routes.into_iter().map(|(hosts, path)| (hosts.iter().map(|text| host(text)).collect(), path)).collect();
            let table = Table::build(routes.iter().enumerate().map(|(n, (hosts, path))| (hosts.as_slice(), path.as_str(), n)));
            for (host, path) in &requests {
                prop_assert_eq!(
                    table.find(host.as_bytes(), path.as_bytes()).copied(),
                    by_the_rules(&routes, host, path),
                    "{} {}", host, path
                );
            }
        }

        #[test]
        fn no_bytes_of_a_request_panic(host in prop::collection::vec(any::<u8>(), 0..64), path in prop::collection::vec(any::<u8>(), 0..64)) {
            let table = table(&["- /a", "*.example.com /", "a.b /c"]);
            let _found = table.find(&host, &path);
        }
    }
}
