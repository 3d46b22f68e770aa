//! Session tickets: what lets a client come back without a full handshake (RFC 5077, RFC 8446 section 4.6.1).
//!
//! A ticket is the session itself, encrypted for us and kept by the client, so nodes that share their keys resume each
//! other's sessions. Keys come from a file, as nginx and `HAProxy` have it (the first one encrypts, all decrypt), or are
//! random and change by themselves. A key of a file is 16 bytes of name and 64 of secret; the secret goes through HKDF to
//! AES-256-GCM-SIV, which forgives a repeated nonce: two nodes draw theirs at random under one key for months.
//! The time of issue is inside, so that a ticket dies on time though its key lives on.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, PAD};
use base64::{Engine as _, alphabet};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;

use super::certificate::Digest;
use super::pem::{Fault, FileError};

/// A key in a file, as nginx and `HAProxy` have it for AES-256.
const KEY_BYTES: usize = 80;
const NAME_BYTES: usize = 16;
/// Seconds since 1970.
const TIME_BYTES: usize = 8;
/// Keys in one file: a week of hourly ones.
const KEYS_MAX: usize = 168;
/// By how much the clocks of two nodes may differ.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// Keys from a file, the first of which encrypts.
#[derive(Debug)]
pub struct SharedKeys {
    /// Of the file.
    pub digest: Digest,
    keys: Vec<Key>,
}

/// Random keys: the present one and the one before it.
#[derive(Debug)]
pub struct RandomKeys(ArcSwap<Ring>);

#[derive(Debug)]
struct Ring {
    keys: Vec<Key>,
    /// When the first one was made, in seconds since 1970.
    made: u64,
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum Keys {
    /// A file.
    Shared(Arc<SharedKeys>),
    /// Nowhere: they are made here, and live as long as the listener does.
    Random(Arc<RandomKeys>),
}

/// Makes and reads the tickets of a listener.
#[derive(Debug)]
pub struct Tickets {
    keys: Keys,
    lifetime: Duration,
    /// What the listener asks of clients, which a resumed session is not asked again: a ticket of another policy is none.
    policy: Digest,
}

#[derive(Clone)]
struct Key {
    name: [u8; NAME_BYTES],
    cipher: Arc<LessSafeKey>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Key {
    fn of(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let (name, secret) = bytes.split_first_chunk::<NAME_BYTES>()?;
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let derived = derived.expand(&[b"plimsoll session ticket"], &AES_256_GCM_SIV).ok()?;
        Some(Self { name: *name, cipher: Arc::new(LessSafeKey::new(UnboundKey::from(derived))) })
    }

    fn random() -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).ok()?;
        Self::of(&bytes)
    }
}

impl SharedKeys {
    /// Reads a file: 80 bytes for each key, or a line of base64 that decodes to them.
    ///
    /// # Errors
    /// If it is neither.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let fault = |line, text: String| FileError { path: path.to_path_buf(), line, fault: Fault::TicketKeys(text) };
        let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        let mut keys = Vec::new();
        if is_text {
            for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
                let line = line.trim_ascii();
                if line.is_empty() || line.starts_with(b"#") {
                    continue;
                }
                let Some(decoded) = base64(line) else {
                    return Err(fault(Some(index + 1), "is no base64".to_owned()));
                };
                let Ok(key) = <&[u8; KEY_BYTES]>::try_from(decoded.as_slice()) else {
                    let found = decoded.len();
                    return Err(fault(Some(index + 1), format!("a key has {KEY_BYTES} bytes, this one has {found}")));
                };
                keys.push(*key);
            }
        } else {
            let (whole, rest) = bytes.as_chunks::<KEY_BYTES>();
            if !rest.is_empty() {
                let found = bytes.len();
                return Err(fault(None, format!("a key has {KEY_BYTES} bytes, and {found} are no multiple of them")));
            }
            keys.extend_from_slice(whole);
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(fault(None, format!("has {} ticket keys; 1 to {KEYS_MAX} can be used", keys.len())));
        }
        let keys: Option<Vec<Key>> = keys.iter().map(Key::of).collect();
        let keys = keys.ok_or_else(|| fault(None, "no key can be derived from it".to_owned()))?;
        Ok(Self { digest: Digest::of(bytes), keys })
    }
}

impl RandomKeys {
    /// Makes a first key.
    #[must_use]
    pub fn new() -> Self {
        Self(ArcSwap::from_pointee(Ring { keys: Key::random().into_iter().collect(), made: now() }))
    }

    /// The keys that hold at `now`: each encrypts for a lifetime, and decrypts for one more.
    fn at(&self, now: u64, lifetime: u64) -> Arc<Ring> {
        let ring = self.0.load_full();
        if now.saturating_sub(ring.made) < lifetime {
            return ring;
        }
        self.0.rcu(|ring| {
            let age = now.saturating_sub(ring.made);
            if age < lifetime {
                // Another worker was first.
                return Arc::clone(ring);
            }
            let before = ring.keys.first().filter(|_| age < 2 * lifetime).cloned();
            Arc::new(Ring { keys: Key::random().into_iter().chain(before).collect(), made: now })
        });
        self.0.load_full()
    }
}

impl Default for RandomKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl Tickets {
    /// Tickets with these keys; `policy` is what the listener asks of its clients in a full handshake.
    #[must_use]
    pub fn new(keys: Keys, lifetime: Duration, policy: Digest) -> Self {
        Self { keys, lifetime, policy }
    }

    /// The keys, for the tickets of the listener's next snapshot.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    fn with_keys<T>(&self, now: u64, act: impl FnOnce(&[Key]) -> T) -> T {
        match &self.keys {
            Keys::Shared(shared) => act(&shared.keys),
            Keys::Random(random) => act(&random.at(now, self.lifetime.as_secs()).keys),
        }
    }

    fn aad(&self, name: &[u8; NAME_BYTES]) -> Aad<[u8; NAME_BYTES + 32]> {
        let mut bytes = [0; NAME_BYTES + 32];
        bytes[..NAME_BYTES].copy_from_slice(name);
        bytes[NAME_BYTES..].copy_from_slice(self.policy.bytes());
        Aad::from(bytes)
    }

    /// Name of the key, nonce, then encrypted: time of issue and session.
    fn seal(&self, session: &[u8], now: u64) -> Option<Vec<u8>> {
        let key = self.with_keys(now, |keys| keys.first().cloned())?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + NONCE_LEN + TIME_BYTES + session.len() + 16);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        let mut secret = Vec::with_capacity(TIME_BYTES + session.len() + 16);
        secret.extend_from_slice(&now.to_be_bytes());
        secret.extend_from_slice(session);
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.cipher.seal_in_place_append_tag(nonce, self.aad(&key.name), &mut secret).ok()?;
        ticket.append(&mut secret);
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        // The name is no secret: it stands in the ticket for all to see.
        let key = self.with_keys(now, |keys| keys.iter().find(|key| key.name == *name).cloned())?;
        let mut secret = sealed.to_vec();
        let opened =
            key.cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), self.aad(name), &mut secret).ok()?;
        let (issued, session) = opened.split_first_chunk::<TIME_BYTES>()?;
        let issued = u64::from_be_bytes(*issued);
        let alive = issued <= now + CLOCK_SKEW_SECONDS && now.saturating_sub(issued) <= self.lifetime.as_secs();
        alive.then(|| session.to_vec())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

/// The wall clock, since two nodes must agree on it.
fn now() -> u64 {
    UnixTime::now().as_secs()
}

/// Decodes base64 (RFC 4648 section 4), with or without its padding: what generates keys differs in that.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, CONFIG).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "tickets.keys";
    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: u64 = 1_000_000;

    fn shared(bytes: &[u8]) -> Tickets {
        let keys = SharedKeys::read(Path::new(PATH), bytes).unwrap_or_else(|error| panic!("{error}"));
        Tickets::new(Keys::Shared(Arc::new(keys)), HOUR, Digest::of(b"policy"))
    }

    fn random() -> Tickets {
        let keys = RandomKeys::new();
        keys.0.rcu(|ring| Ring { keys: ring.keys.clone(), made: NOW });
        Tickets::new(Keys::Random(Arc::new(keys)), HOUR, Digest::of(b"policy"))
    }

    #[test]
    fn nodes_with_a_common_key_read_each_others_tickets_and_the_first_key_encrypts() {
        let (one, two) = ([1; KEY_BYTES], [2; KEY_BYTES]);
        let (old, turned, new) = (shared(&one), shared(&[two, one].concat()), shared(&two));
        let ticket = old.seal(b"session", NOW).expect("a ticket");
        assert_eq!(turned.open(&ticket, NOW).as_deref(), Some(&b"session"[..]));
        assert_eq!(new.open(&ticket, NOW), None);
        let ticket = turned.seal(b"session", NOW).expect("a ticket");
        assert_eq!(new.open(&ticket, NOW).as_deref(), Some(&b"session"[..]));
        assert_eq!(old.open(&ticket, NOW), None);
    }

    #[test]
    fn a_ticket_dies_on_time_though_its_key_lives_on() {
        let tickets = shared(&[1; KEY_BYTES]);
        let ticket = tickets.seal(b"session", NOW).expect("a ticket");
        assert!(tickets.open(&ticket, NOW + HOUR.as_secs()).is_some());
        assert!(tickets.open(&ticket, NOW + HOUR.as_secs() + 1).is_none());
        assert!(tickets.open(&ticket, NOW - CLOCK_SKEW_SECONDS).is_some());
        assert!(tickets.open(&ticket, NOW - CLOCK_SKEW_SECONDS - 1).is_none());
    }

    #[test]
    fn random_keys_change_with_each_lifetime_and_are_forgotten_after_a_second_one() {
        let tickets = random();
        let first = tickets.seal(b"first", NOW + 1).expect("a ticket");
        let late = tickets.seal(b"late", NOW + HOUR.as_secs() - 1).expect("a ticket");
        let next = tickets.seal(b"next", NOW + HOUR.as_secs()).expect("a ticket");
        assert_eq!(first[..NAME_BYTES], late[..NAME_BYTES]);
        assert_ne!(late[..NAME_BYTES], next[..NAME_BYTES]);
        assert!(tickets.open(&late, NOW + HOUR.as_secs()).is_some());
        let idle = random();
        let ticket = idle.seal(b"old", NOW).expect("a ticket");
        let Keys::Random(keys) = idle.keys() else { panic!("random ones") };
        assert_eq!(keys.at(NOW + 2 * HOUR.as_secs(), HOUR.as_secs()).keys.len(), 1);
        assert!(idle.open(&ticket, NOW).is_none());
    }

    #[test]
    fn a_ticket_of_another_policy_or_with_a_changed_bit_is_none() {
        let tickets = shared(&[1; KEY_BYTES]);
        let ticket = tickets.seal(b"session", NOW).expect("a ticket");
        let other = Tickets { policy: Digest::of(b"another"), ..shared(&[1; KEY_BYTES]) };
        assert_eq!(other.open(&ticket, NOW), None);
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert_eq!(tickets.open(&changed, NOW), None, "{index}");
            assert_eq!(tickets.open(&ticket[..index], NOW), None, "{index}");
        }
    }

    #[test]
    fn a_file_of_keys_is_binary_or_base64_and_says_what_it_is_not() {
        let line = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk8=";
        let raw: Vec<u8> = (0..KEY_BYTES as u8).collect();
        assert_eq!(base64(line.as_bytes()), Some(raw.clone()));
        let text = shared(format!("# the present one\n{line}\r\n\n{line}").as_bytes());
        let ticket = text.seal(b"session", NOW).expect("a ticket");
        assert!(shared(&raw).open(&ticket, NOW).is_some());
        for (bytes, expected) in [
            (&b"\n"[..], "`tickets.keys`: has 0 ticket keys; 1 to 168 can be used"),
            (&raw[..79], "`tickets.keys`: a key has 80 bytes, and 79 are no multiple of them"),
            (b"# x\nAAECAw==", "`tickets.keys`, line 2: a key has 80 bytes, this one has 4"),
            (b"not base64!", "`tickets.keys`, line 1: is no base64"),
        ] {
            let error = SharedKeys::read(Path::new(PATH), bytes).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_ticket_and_no_file_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _none = shared(&[1; KEY_BYTES]).open(&bytes, NOW);
            let _read = SharedKeys::read(Path::new(PATH), &bytes);
        }
    }
}
