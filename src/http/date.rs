//! The `Date` of answers (RFC 9110 section 6.6.1), formatted at most once per second and worker.
//!
//! A worker owns one [`HttpDate`] and hands it down: a thread-local would hide a clock in the layers, which are pure, and
//! cost a look-up with every use. The clock comes in as an argument, because a worker reads it once per round anyway.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::http1::{Head, Name};

/// The present second as an IMF-fixdate (RFC 9110 section 5.6.7).
#[derive(Debug, Clone)]
pub struct HttpDate {
    unix_seconds: u64,
    text: [u8; HttpDate::LENGTH],
}

impl HttpDate {
    /// An IMF-fixdate always has this length.
    pub const LENGTH: usize = 29;

    /// The date at `now`.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        let unix_seconds = unix_seconds(now);
        Self { unix_seconds, text: format(unix_seconds) }
    }

    /// Moves to `now`. Costs a comparison within the same second.
    #[inline]
    pub fn refresh(&mut self, now: SystemTime) {
        let unix_seconds = unix_seconds(now);
        if unix_seconds != self.unix_seconds {
            *self = Self { unix_seconds, text: format(unix_seconds) };
        }
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[inline]
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Gives a response of an instance without a clock the date that it must have when it is forwarded.
    #[inline]
    pub fn add_if_missing(&self, response: &mut Head) {
        if !response.has(Name::Date) {
            response.add("Date", &[self.text()]);
        }
    }
}

/// Whole seconds since the epoch; a clock before it counts as the epoch.
fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn format(unix_seconds: u64) -> [u8; HttpDate::LENGTH] {
    /// The last second of the year 9999: the format has no later one.
    const LAST: u64 = 253_402_300_799;
    let text = httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(unix_seconds.min(LAST)));
    let mut bytes = [b' '; HttpDate::LENGTH];
    bytes.copy_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_imf_fixdates_and_follow_the_clock() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (253_402_300_800, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        let mut date = HttpDate::at(UNIX_EPOCH);
        for (seconds, expected) in cases {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            date.refresh(now);
            assert_eq!(std::str::from_utf8(date.text()), Ok(expected));
            date.refresh(now + Duration::from_millis(999));
            assert_eq!(std::str::from_utf8(date.text()), Ok(expected), "RFC 9110 5.6.7: no fractions");
        }
        date.refresh(UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!(date.text(), HttpDate::at(UNIX_EPOCH).text(), "a clock before the epoch");
    }
}
