//! Route match with 10, 1,000 and 10,000 routes: it must not depend on their number.
//!
//! Each table has routes by host alone and by host and path; the requests hit the last of them, a suffix, and nothing.
//! The single route of a minimal configuration is here as well, because every request of a small installation takes it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plimsoll::config::model::HostPattern;
use plimsoll::route::Table;

/// Half of the routes have a host of their own, a quarter a suffix, a quarter a path on a shared host.
fn table(routes: usize) -> Table<usize> {
    let patterns: Vec<(Vec<HostPattern>, String)> = (0..routes)
        .map(|n| match n % 4 {
            0 | 1 => (vec![HostPattern::Exact(format!("service-{n}.example.com"))], "/".to_owned()),
            2 => (vec![HostPattern::Suffix(format!(".tenant-{n}.example.net"))], "/app".to_owned()),
            _ => (vec![HostPattern::Exact("api.example.com".to_owned())], format!("/v1/resource-{n}")),
        })
        .collect();
    Table::build(patterns.iter().enumerate().map(|(n, (hosts, path))| (hosts.as_slice(), path.as_str(), n)))
}

fn route_match(criterion: &mut Criterion) {
    let single = Table::build([(&[][..], "/", 0_usize)]);
    criterion.bench_function("route/single", |bencher| {
        bencher.iter(|| single.find(black_box(b"www.example.com"), black_box(b"/index.html")));
    });

    let mut group = criterion.benchmark_group("route");
    for routes in [10, 1_000, 10_000] {
        let table = table(routes);
        let last = |kind: usize| (0..routes).rev().find(|n| n % 4 == kind).unwrap_or_default();
        let requests = [
            ("host", format!("service-{}.example.com", last(1)), "/index.html".to_owned()),
            ("suffix", format!("www.tenant-{}.example.net", last(2)), "/app/index.html".to_owned()),
            ("path", "api.example.com".to_owned(), format!("/v1/resource-{}/items/17", last(3))),
            ("escaped path", "api.example.com".to_owned(), format!("/%761/resource-{}/items/17", last(3))),
            ("none", "www.example.org".to_owned(), "/index.html".to_owned()),
        ];
        for (name, host, path) in requests {
            assert_eq!(table.find(host.as_bytes(), path.as_bytes()).is_none(), name == "none", "{host}{path}");
            group.bench_with_input(BenchmarkId::new(name, routes), &table, |bencher, table| {
                bencher.iter(|| table.find(black_box(host.as_bytes()), black_box(path.as_bytes())));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, route_match);
criterion_main!(benches);
