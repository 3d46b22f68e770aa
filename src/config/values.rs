//! The single values of the file: durations, sizes, words, numbers, statuses, and how each is written.

use std::time::Duration;

use toml::de::DeValue;

use super::model::{Alpn, Balance, ClientCertificate, LogFormat, LogLevel, OnDown, Protocol, Secret, TlsVersion};
use super::problem::Problems;
use super::read::{Entry, Value, nearest};

/// Units of durations, the largest first, in milliseconds.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Units of sizes, the largest first, in bytes.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bytes(pub(super) u64);

/// So many KiB.
pub(super) const fn kib(count: u64) -> Bytes {
    Bytes(count << 10)
}

/// Statuses from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statuses(pub(super) u16, pub(super) u16);

/// What a probe is, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeKindWord {
    /// An HTTP request.
    Http,
    /// A connection.
    Tcp,
    /// A call of the gRPC health protocol.
    Grpc,
}

/// What a route wants of a client certificate, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteCertificateWord {
    /// Nothing.
    Optional,
    /// That it was shown.
    Required,
}

// Text

impl Value for String {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        if let DeValue::String(text) = entry.value {
            return Some(text.to_string());
        }
        let hint = match entry.value {
            DeValue::Integer(number) => format!("write it in quotes: `\"{number}\"`"),
            _ => "write one text, in double quotes".to_owned(),
        };
        entry.unexpected("a string", hint, problems);
        None
    }

    fn written(&self) -> String {
        format!("\"{}\"", self.escape_debug())
    }
}

impl Value for Secret {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        String::read(entry, problems).map(|text| Self::new(&text))
    }

    fn written(&self) -> String {
        "[secret]".to_owned()
    }
}

// Numbers and switches

impl Value for u64 {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match entry.value {
            DeValue::Integer(digits) => {
                let number = Self::from_str_radix(digits.as_str(), digits.radix());
                if number.is_err() {
                    let message = format!("`{}` is out of range: `{digits}`", entry.path);
                    problems.error(Some(&entry.span), message).hint("write a whole number, 0 or more");
                }
                number.ok()
            }
            value => {
                let number = value.as_str().and_then(|text| text.parse::<Self>().ok());
                let hint = match number {
                    Some(number) => format!("write it without quotes: `{number}`"),
                    None => "write digits alone, without quotes and without a fraction".to_owned(),
                };
                entry.unexpected("a whole number", hint, problems);
                None
            }
        }
    }

    fn written(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        if let DeValue::Boolean(value) = entry.value {
            return Some(*value);
        }
        entry.unexpected("`true` or `false`", "write `true` or `false`, without quotes", problems);
        None
    }

    fn written(&self) -> String {
        self.to_string()
    }

    fn choices() -> Option<String> {
        Some("true, false".to_owned())
    }
}

// Quantities with units

impl Value for Duration {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let example = |number: &str| format!("write a whole number and a unit (ms, s, m, h): `\"{number}s\"`");
        quantity(entry, &DURATION_UNITS, "a duration", &example, problems).map(Self::from_millis)
    }

    fn written(&self) -> String {
        format!("\"{}\"", duration_text(*self))
    }
}

impl Value for Bytes {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let example = |number: &str| format!("write a whole number and a unit (B, KiB, MiB, GiB): `\"{number}KiB\"`");
        quantity(entry, &SIZE_UNITS, "a size", &example, problems).map(Self)
    }

    fn written(&self) -> String {
        format!("\"{}\"", with_unit(self.0, &SIZE_UNITS, "0B"))
    }
}

/// A quantity in its smallest unit. Zero needs no unit: it means the same in all of them.
fn quantity(
    entry: &Entry<'_>,
    units: &[(&str, u64)],
    what: &str,
    example: &dyn Fn(&str) -> String,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    match entry.value {
        DeValue::Integer(number) if number.as_str() == "0" => Some(0),
        DeValue::Integer(number) => {
            entry.unexpected(&format!("{what} with a unit"), example(number.as_str()), problems);
            None
        }
        DeValue::String(text) => {
            let value = parse_quantity(text, units);
            if value.is_none() {
                let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
                let number = if digits.is_empty() { "5" } else { digits.as_str() };
                problems
                    .error(Some(&entry.span), format!("`{}` is {what}, and `{text}` is none", entry.path))
                    .hint(example(number));
            }
            value
        }
        _ => {
            entry.unexpected(what, example("5"), problems);
            None
        }
    }
}

/// `250ms`, `1m30s`, `64KiB`: whole numbers with units, each unit once, the larger ones first.
fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut units, mut sum) = (text, units, 0_u64);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let index = units.iter().position(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(units[index].1)?)?;
        (rest, units) = (after, &units[index + 1..]);
    }
    Some(sum).filter(|_| !text.is_empty())
}

/// In the largest unit that needs no fraction.
fn with_unit(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, size)| value.is_multiple_of(*size)) {
        Some((unit, size)) if value > 0 => format!("{}{unit}", value / size),
        _ => zero.to_owned(),
    }
}

/// A duration as it would be written in the file: `250ms`, `90s`.
#[must_use]
pub(super) fn duration_text(duration: Duration) -> String {
    with_unit(duration.as_millis() as u64, &DURATION_UNITS, "0s")
}

// Words

/// A type that is written as one of a few words.
macro_rules! words {
    ($type:ty { $($word:literal => $variant:path,)* }) => {
        impl Value for $type {
            fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
                match word(entry, &[$($word),*], problems)? {
                    $($word => Some($variant),)*
                    _ => None,
                }
            }

            fn written(&self) -> String {
                match self { $($variant => concat!("\"", $word, "\"").to_owned(),)* }
            }

            fn choices() -> Option<String> {
                Some([$(concat!("\"", $word, "\"")),*].join(", "))
            }
        }
    };
}

words!(Balance {
    "least_connections" => Self::LeastConnections,
    "round_robin" => Self::RoundRobin,
    "random_of_two" => Self::RandomOfTwo,
});
words!(OnDown {
    "keep" => Self::Keep,
    "cut" => Self::Cut,
});
words!(Protocol {
    "h1" => Self::H1,
    "h2" => Self::H2,
    "h2c" => Self::H2c,
    "auto" => Self::Auto,
});
words!(ProbeKindWord {
    "http" => Self::Http,
    "tcp" => Self::Tcp,
    "grpc" => Self::Grpc,
});
words!(LogLevel {
    "error" => Self::Error,
    "warn" => Self::Warn,
    "info" => Self::Info,
    "debug" => Self::Debug,
    "trace" => Self::Trace,
});
words!(TlsVersion {
    "1.2" => Self::Tls12,
    "1.3" => Self::Tls13,
});
words!(ClientCertificate {
    "off" => Self::Off,
    "optional" => Self::Optional,
    "required" => Self::Required,
});
words!(RouteCertificateWord {
    "optional" => Self::Optional,
    "required" => Self::Required,
});
words!(Alpn {
    "h2" => Self::Http2,
    "http/1.1" => Self::Http11,
});
words!(LogFormat {
    "json" => Self::Json,
    "text" => Self::Text,
});

/// The one of `words` that is written.
fn word<'w>(entry: &Entry<'_>, words: &[&'w str], problems: &mut Problems<'_>) -> Option<&'w str> {
    let one_of = format!("write one of `\"{}\"`", words.join("\"`, `\""));
    let DeValue::String(text) = entry.value else {
        entry.unexpected("a word in quotes", one_of, problems);
        return None;
    };
    let found = words.iter().find(|word| *word == text);
    if found.is_none() {
        // Numbers of versions are all alike.
        let near = nearest(text, words.iter().copied()).filter(|near| near.chars().any(char::is_alphabetic));
        let hint = match near {
            Some(near) => format!("did you mean `\"{near}\"`?"),
            None => one_of,
        };
        problems.error(Some(&entry.span), format!("`{}` cannot be `\"{text}\"`", entry.path)).hint(hint);
    }
    found.copied()
}

// Statuses

impl Value for Statuses {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        let statuses = match entry.value {
            DeValue::Integer(number) => parse_statuses(&number.to_string()),
            DeValue::String(text) => parse_statuses(text),
            _ => None,
        };
        if statuses.is_none() {
            problems
                .error(Some(&entry.span), format!("`{}` is a status or a range of them, 100 to 599", entry.path))
                .hint("write `200`, `\"200-299\"` or a list of them");
        }
        statuses
    }

    fn written(&self) -> String {
        if self.0 == self.1 { self.0.to_string() } else { format!("\"{}-{}\"", self.0, self.1) }
    }
}

fn parse_statuses(text: &str) -> Option<Statuses> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (100 <= first && first <= last && last <= 599).then_some(Statuses(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_whole_numbers_with_units() {
        for (text, expected) in [
            ("5s", Some(5_000)),
            ("250ms", Some(250)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-5s", None),
            ("1.5s", None),
            ("5sec", None),
            ("5s1m", None),
            ("5s5s", None),
            ("99999999999999999999h", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(parse_quantity(text, &DURATION_UNITS), expected, "{text}");
        }
        for (text, expected) in [("64KiB", Some(65_536)), ("1MiB", Some(1 << 20)), ("10B", Some(10)), ("1KB", None)] {
            assert_eq!(parse_quantity(text, &SIZE_UNITS), expected, "{text}");
        }
    }

    #[test]
    fn quantities_are_shown_in_the_largest_unit_without_a_fraction() {
        for (millis, text) in
            [(0, "0s"), (250, "250ms"), (5_000, "5s"), (90_000, "90s"), (60_000, "1m"), (7_200_000, "2h")]
        {
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        for (bytes, text) in [(0, "0B"), (100, "100B"), (65_536, "64KiB"), (1 << 20, "1MiB")] {
            assert_eq!(Bytes(bytes).plain(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_parses_back(value in 0_u64..u64::MAX) {
            proptest::prop_assert_eq!(parse_quantity(&with_unit(value, &SIZE_UNITS, "0B"), &SIZE_UNITS), Some(value));
            proptest::prop_assert_eq!(parse_quantity(&with_unit(value, &DURATION_UNITS, "0s"), &DURATION_UNITS), Some(value));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,20}") {
            let _quantity = parse_quantity(&text, &DURATION_UNITS);
            let _statuses = parse_statuses(&text);
        }
    }
}
