//! Watches the frames of a connection from beneath `h2`, and says when there are too many of those that cost us work and
//! their sender nothing.
//!
//! `h2` limits some of them by itself (streams that are reset before they are taken, empty DATA frames, CONTINUATION), but
//! not SETTINGS, PING, PRIORITY or resets of requests that have begun (CVE-2019-9512 and its kin, CVE-2023-44487), and it
//! does not tell which. So the heads of all frames are counted here, per window of time: nine bytes of each are looked at,
//! nothing is kept. What a sound client answers to with such frames, the bytes that we send, raises their limits.

use crate::config::model::Http2;

/// What a connection was ended for, as label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// `RST_STREAM`: requests that are begun and given up.
    Resets,
    /// SETTINGS, each of which must be acknowledged.
    Settings,
    /// PING, likewise.
    Pings,
    /// PRIORITY, and kinds of frames that nobody knows.
    Priorities,
    /// `WINDOW_UPDATE`.
    WindowUpdates,
    /// DATA without a byte.
    EmptyFrames,
    /// CONTINUATION.
    Continuations,
    /// Frames that the protocol does not allow on their stream.
    Errors,
    /// What `h2` itself has put an end to: DATA in crumbs, far too many fields, streams reset before they were taken.
    Other,
}

impl Flood {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Resets,
        Self::Settings,
        Self::Pings,
        Self::Priorities,
        Self::WindowUpdates,
        Self::EmptyFrames,
        Self::Continuations,
        Self::Errors,
        Self::Other,
    ];

    /// In log and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::Settings => "settings",
            Self::Pings => "pings",
            Self::Priorities => "priorities",
            Self::WindowUpdates => "window_updates",
            Self::EmptyFrames => "empty_frames",
            Self::Continuations => "continuations",
            Self::Errors => "errors",
            Self::Other => "other",
        }
    }
}

/// Bytes of ours that a client may answer to with one PING or `WINDOW_UPDATE` more: some send both for each small frame.
const BYTES_PER_ANSWER: u64 = 256;

const HEAD_BYTES: usize = 9;

/// The frames of one direction of a connection.
#[derive(Debug)]
pub(super) struct Guard {
    limits: [u32; Flood::ALL.len()],
    counts: [u32; Flood::ALL.len()],
    /// What may be answered to, of this window.
    answers: u64,
    sent: u64,
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// Bytes that are no head: of a payload, or of the preface.
    skip: usize,
}

impl Guard {
    /// At the first byte of a connection, after which come `skip` bytes of preface.
    pub(super) fn new(settings: &Http2, skip: usize) -> Self {
        let mut limits = [u32::MAX; Flood::ALL.len()];
        for (flood, limit) in [
            (Flood::Resets, settings.resets_max),
            (Flood::Settings, settings.settings_max),
            (Flood::Pings, settings.pings_max),
            (Flood::Priorities, settings.priorities_max),
            (Flood::WindowUpdates, settings.window_updates_max),
            (Flood::EmptyFrames, settings.empty_frames_max),
            (Flood::Continuations, settings.continuations_max),
        ] {
            limits[flood as usize] = limit;
        }
        let counts = [0; Flood::ALL.len()];
        Self { limits, counts, answers: 0, sent: 0, head: [0; HEAD_BYTES], filled: 0, skip }
    }

    /// A new window of time begins.
    pub(super) fn renew(&mut self) {
        // A field block goes on over windows.
        let continuations = self.counts[Flood::Continuations as usize];
        self.counts = [0; Flood::ALL.len()];
        self.counts[Flood::Continuations as usize] = continuations;
        self.answers = 0;
    }

    /// We have sent this much.
    #[inline]
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.answers += self.sent / BYTES_PER_ANSWER;
        self.sent %= BYTES_PER_ANSWER;
    }

    /// Looks at what has come, which follows what it has seen before.
    ///
    /// # Errors
    /// Too many frames of a kind.
    #[inline]
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEAD_BYTES - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    /// Counts the frame whose head has come (RFC 9113 section 4.1).
    fn frame(&mut self) -> Result<(), Flood> {
        const END_STREAM: u8 = 1;
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let flood = match kind {
            0 if self.skip == 0 && flags & END_STREAM == 0 => Flood::EmptyFrames,
            1 => {
                self.counts[Flood::Continuations as usize] = 0;
                return Ok(());
            }
            3 => Flood::Resets,
            4 => Flood::Settings,
            6 => Flood::Pings,
            8 => Flood::WindowUpdates,
            9 => Flood::Continuations,
            // Payload is what connections are for; a connection ends with GOAWAY, and a client does not send promises.
            0 | 5 | 7 => return Ok(()),
            _ => Flood::Priorities,
        };
        let count = &mut self.counts[flood as usize];
        *count += 1;
        let answers = if matches!(flood, Flood::Pings | Flood::WindowUpdates) { self.answers } else { 0 };
        if u64::from(*count) > u64::from(self.limits[flood as usize]) + answers { Err(flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::testing::http2;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("small").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![kind; payload]].concat()
    }

    fn guard() -> Guard {
        Guard::new(&Http2 { continuations_max: 2, ..http2(3) }, 24)
    }

    fn looked_at(guard: &mut Guard, frames: &[Vec<u8>], cut: usize) -> Result<(), Flood> {
        frames.concat().chunks(cut).try_for_each(|bytes| guard.look(bytes))
    }

    /// (what, its frame)
    fn floods() -> [(Flood, Vec<u8>); 8] {
        [
            (Flood::Resets, frame(3, 0, 4)),
            (Flood::Settings, frame(4, 0, 0)),
            (Flood::Settings, frame(4, 1, 0)),
            (Flood::Pings, frame(6, 0, 8)),
            (Flood::Priorities, frame(2, 0, 5)),
            (Flood::Priorities, frame(200, 0, 300)),
            (Flood::WindowUpdates, frame(8, 0, 4)),
            (Flood::EmptyFrames, frame(0, 0, 0)),
        ]
    }

    #[test]
    fn one_frame_more_than_allowed_is_a_flood_under_any_cut_into_reads() {
        for (flood, bytes) in floods() {
            for cut in 1..40 {
                let preface = vec![0xff; 24];
                let allowed = [vec![preface], vec![bytes.clone(); 3]].concat();
                let mut guard = guard();
                assert_eq!(looked_at(&mut guard, &allowed, cut), Ok(()), "{flood:?}");
                assert_eq!(looked_at(&mut guard, std::slice::from_ref(&bytes), cut), Err(flood));
                guard.renew();
                assert_eq!(
                    looked_at(&mut guard, std::slice::from_ref(&bytes), cut),
                    Ok(()),
                    "{flood:?} in a new window"
                );
            }
        }
    }

    #[test]
    fn requests_and_data_are_no_flood() {
        let mut guard = guard();
        let sound = [vec![0; 24], frame(1, 4, 30), frame(0, 0, 1), frame(0, 1, 0), frame(7, 0, 8)].concat();
        assert_eq!(guard.look(&sound), Ok(()));
        for _ in 0..100 {
            assert_eq!(guard.look(&[frame(1, 5, 20), frame(0, 0, 10)].concat()), Ok(()));
        }
    }

    #[test]
    fn continuations_are_counted_per_field_block_and_over_windows() {
        let mut guard = guard();
        let block = [frame(1, 0, 5), frame(9, 0, 5), frame(9, 4, 5)].concat();
        assert_eq!(guard.look(&[0; 24]), Ok(()));
        for _ in 0..10 {
            assert_eq!(guard.look(&block), Ok(()));
        }
        guard.renew();
        assert_eq!(guard.look(&frame(9, 0, 0)), Err(Flood::Continuations));
    }

    #[test]
    fn what_we_send_may_be_answered_to() {
        for kind in [6, 8] {
            let mut guard = guard();
            guard.look(&[0; 24]).expect("the preface");
            for _ in 0..100 {
                guard.sent(100);
            }
            let answers = 3 + 10_000 / BYTES_PER_ANSWER;
            for _ in 0..answers {
                assert_eq!(guard.look(&frame(kind, 0, 8)), Ok(()));
            }
            assert!(guard.look(&frame(kind, 0, 8)).is_err());
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_looked_at_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1_usize..50) {
            let whole = guard().look(&bytes);
            let mut guard = guard();
            let pieces = bytes.chunks(cut).try_for_each(|piece| guard.look(piece));
            prop_assert_eq!(whole, pieces);
        }
    }
}
