//! Answers of the admin API as text for people.

use std::fmt::Write;

use crate::admin::status::{Instance, Pool, Status};

/// The status as tables, one per pool, and below each a line for every instance that needs an explanation.
pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "plimsoll {}, {}, up {}\nconfig {}, generation {}, hash {}, applied {}\n",
        status.version,
        status.readiness,
        age(status.uptime_seconds),
        status.config.path,
        status.config.generation,
        status.config.hash,
        status.config.applied
    );
    for listener in &status.listeners {
        let (connections, max) = (listener.connections, listener.connections_max);
        line(
            &mut text,
            &format!("listener {}: {}, {connections} of {max} connections", listener.name, listener.bind.join(" ")),
        );
    }
    for view in &status.pools {
        pool(&mut text, view);
    }
    text
}

fn pool(text: &mut String, pool: &Pool) {
    let required = if pool.required { ", required" } else { "" };
    let queued = if pool.queued > 0 { format!(", {} waiting", pool.queued) } else { String::new() };
    let unverified = pool.tls.as_ref().is_some_and(|tls| !tls.verified);
    let unverified = if unverified { ", NOT VERIFIED by TLS" } else { "" };
    let detection = &pool.detection;
    text.push('\n');
    line(
        text,
        &format!(
            "pool {}: {} of {} eligible{required}{queued}{unverified}; probes notice a refusal within {}, a hang within {}",
            pool.name,
            pool.eligible,
            count(pool.instances.len(), "instance"),
            seconds(detection.refusal_seconds),
            seconds(detection.hang_seconds)
        ),
    );
    let head = ["INSTANCE", "STATE", "FOR", "IN FLIGHT", "ANSWERS", "ERRORS", "LAST PROBE"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(pool.instances.iter().map(row)).collect();
    table(text, &rows);
    for instance in pool.instances.iter().filter(|instance| !instance.eligible) {
        line(text, &format!("  {}: {}", instance.name, why(instance)));
    }
}

fn row(instance: &Instance) -> [String; 7] {
    let last = instance.probes.last();
    [
        if instance.backup { format!("{} (backup)", instance.name) } else { instance.name.clone() },
        state(instance),
        instance.since.as_ref().map_or_else(|| "-".to_owned(), |since| age(since.seconds_ago)),
        match instance.in_flight_max {
            Some(max) => format!("{}/{max}", instance.in_flight),
            None => instance.in_flight.to_string(),
        },
        instance.totals.responses.to_string(),
        instance.totals.errors.to_string(),
        last.map_or_else(
            || "-".to_owned(),
            |probe| {
                let (took, ago) = (probe.latency_seconds * 1000.0, age(probe.at.seconds_ago));
                format!("{} in {took:.1} ms, {ago} ago", probe.result)
            },
        ),
    ]
}

/// All three axes, as far as they are not as they should be.
fn state(instance: &Instance) -> String {
    let mut words = vec![instance.verdict.clone()];
    if instance.streak > 0 {
        words[0] = format!("{} ({} against)", instance.verdict, instance.streak);
    }
    words.extend(instance.ejected.as_ref().map(|_| "ejected".to_owned()));
    words.extend((instance.admin != "active").then(|| instance.admin.clone()));
    words.extend(instance.suspect.then(|| "suspect".to_owned()));
    words.join(", ")
}

/// Why an instance gets nothing.
fn why(instance: &Instance) -> String {
    let mut reasons = Vec::new();
    if let Some(note) = instance.admin_note.as_ref().filter(|_| instance.admin != "active") {
        let why = if note.why.is_empty() { String::new() } else { format!(": {}", note.why) };
        reasons.push(format!("{} by {} for {}{why}", instance.admin, note.who, age(note.since.seconds_ago)));
    }
    if let Some(ejected) = &instance.ejected {
        let left = if ejected.seconds_left > 0.0 { age(ejected.seconds_left) } else { "a probe to pass".to_owned() };
        reasons.push(format!("ejected by traffic, waits for {left}"));
    }
    if instance.verdict != "up" || reasons.is_empty() {
        reasons.push(match instance.in_flight_max {
            Some(max) if instance.verdict == "up" && instance.in_flight >= max => "has all it may have".to_owned(),
            _ if instance.why.is_empty() => "no probe has ended yet".to_owned(),
            _ => instance.why.clone(),
        });
    }
    reasons.join("; ")
}

/// Columns as wide as their widest cell; numbers are short enough to be read without being aligned to the right.
fn table<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let cells: Vec<_> = cells.collect();
        line(text, format!("  {}", cells.join("  ")).trim_end());
    }
}

fn line(text: &mut String, line: &str) {
    // What an instance or an operator said must not steer the terminal.
    text.extend(line.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }));
    text.push('\n');
}

/// A duration, in its two largest units.
fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3_600 => format!("{minutes} min {} s", whole % 60),
        3_600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Seconds, without a fraction that is zero.
pub(super) fn seconds(seconds: f64) -> String {
    let mut text = format!("{seconds:.2}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    // Writing to a `String` cannot fail.
    let _infallible = text.write_str(" s");
    text
}

/// `1 pool`, `2 pools`.
pub(super) fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_exact_enough() {
        let ages = [0.04, 9.96, 59.9, 61.0, 3_600.0, 90_000.0].map(age);
        assert_eq!(ages, ["0.0 s", "10.0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
        assert_eq!([16.5, 17.0, 0.25].map(seconds), ["16.5 s", "17 s", "0.25 s"]);
    }
}
