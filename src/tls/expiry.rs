//! When to say that a certificate expires: 30, 7 and 1 days before, and when it has; once each.
//!
//! Pure: the time comes in as an argument. A certificate that is renewed begins anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::material::Material;

const DAY: Duration = Duration::from_secs(86_400);

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Less than 30 days are left.
    Month,
    /// Less than 7.
    Week,
    /// Less than one.
    Day,
    /// It is over.
    Expired,
}

impl Stage {
    /// Where a certificate stands that is valid until `not_after`; `None`: it has time.
    #[must_use]
    pub fn of(not_after: SystemTime, now: SystemTime) -> Option<Self> {
        match not_after.duration_since(now) {
            Err(_) => Some(Self::Expired),
            Ok(left) if left < DAY => Some(Self::Day),
            Ok(left) if left < 7 * DAY => Some(Self::Week),
            Ok(left) if left < 30 * DAY => Some(Self::Month),
            Ok(_) => None,
        }
    }
}

/// What has been said already.
#[derive(Debug, Default)]
pub struct Notices(HashMap<PathBuf, (SystemTime, Stage)>);

/// Something to say of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// Its file.
    pub path: &'a Path,
    /// Whom it is about.
    pub subject: &'a str,
    /// Its last second.
    pub not_after: SystemTime,
    /// How near that is.
    pub stage: Stage,
}

impl Notices {
    /// What has not been said yet at `now`, in the order of the files.
    pub fn due<'a>(&mut self, material: &'a Material, now: SystemTime) -> Vec<Notice<'a>> {
        let mut due = Vec::new();
        let mut said = HashMap::new();
        for ((path, _), certificate) in &material.certificates {
            let not_after = certificate.about.not_after;
            let Some(stage) = Stage::of(not_after, now) else { continue };
            if self.0.get(path) != Some(&(not_after, stage)) {
                due.push(Notice { path, subject: &certificate.about.subject, not_after, stage });
            }
            said.insert(path.clone(), (not_after, stage));
        }
        self.0 = said;
        due.sort_by_key(|notice| notice.path);
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tls::certificate::{About, Certificate};

    fn certificate(not_after: SystemTime) -> Arc<Certificate> {
        let authority = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        let (pem, key) = (authority.cert.pem(), authority.signing_key.serialize_pem());
        let path = Path::new("a.pem");
        let read = Certificate::read((path, pem.as_bytes()), (path, key.as_bytes())).expect("a good one");
        Arc::new(Certificate { about: About { not_after, ..read.about.clone() }, ..read })
    }

    #[test]
    fn each_stage_is_said_once_and_a_renewed_certificate_begins_anew() {
        let end = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let mut material = Material::default();
        let files = (PathBuf::from("a.pem"), PathBuf::from("a.key"));
        material.certificates.insert(files.clone(), certificate(end));
        let mut notices = Notices::default();
        let mut said = |material: &Material, days_left: f64| {
            let now = end + DAY - Duration::from_secs_f64((days_left + 1.0) * 86_400.0);
            notices.due(material, now).first().map(|notice| notice.stage)
        };
        for (days_left, expected) in [
            (31.0, None),
            (29.9, Some(Stage::Month)),
            (29.0, None),
            (7.1, None),
            (6.9, Some(Stage::Week)),
            (0.9, Some(Stage::Day)),
            (0.1, None),
            (-0.5, Some(Stage::Expired)),
            (-0.9, None),
        ] {
            assert_eq!(said(&material, days_left), expected, "{days_left} days");
        }
        material.certificates.insert(files, certificate(end + 5 * DAY));
        assert_eq!(said(&material, 0.0), Some(Stage::Week));
    }
}
