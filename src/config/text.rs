//! Checked values as text, as they would be written in the file (without quotes): what `diff` shows.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::model::{
    Alpn, Balance, CertificateFiles, ClientCertificate, FileRef, HostField, HostPattern, InstanceName, ListenerName,
    LogFormat, LogLevel, OnDown, PoolName, Protocol, Redirect, TlsVersion,
};
use super::read::Value;
use super::values::{Bytes, duration_text};

/// A value that can be shown.
pub(super) trait Text {
    /// As in the file, without quotes.
    fn text(&self) -> String;
}

/// A number of bytes.
pub(super) struct Size(pub(super) u64);

impl Text for Size {
    fn text(&self) -> String {
        Bytes(self.0).plain()
    }
}

impl Text for Duration {
    fn text(&self) -> String {
        duration_text(*self)
    }
}

impl<T: Text> Text for Option<T> {
    fn text(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Text::text)
    }
}

impl<T: Text> Text for Vec<T> {
    fn text(&self) -> String {
        let items: Vec<_> = self.iter().map(Text::text).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Text for HostField {
    fn text(&self) -> String {
        match self {
            Self::Keep => "keep".to_owned(),
            Self::Instance => "instance".to_owned(),
            Self::Fixed(host) => host.clone(),
        }
    }
}

impl Text for Redirect {
    fn text(&self) -> String {
        self.port.map_or_else(|| "https".to_owned(), |port| format!("https:{port}"))
    }
}

impl Text for FileRef {
    fn text(&self) -> String {
        self.written.to_string()
    }
}

impl Text for CertificateFiles {
    fn text(&self) -> String {
        let Self { certificate, key } = self;
        if certificate == key { certificate.text() } else { format!("{} with {}", certificate.text(), key.text()) }
    }
}

/// A range of statuses.
impl Text for (u16, u16) {
    fn text(&self) -> String {
        if self.0 == self.1 { self.0.to_string() } else { format!("{}-{}", self.0, self.1) }
    }
}

/// A header field.
impl Text for (String, String) {
    fn text(&self) -> String {
        format!("{}: {}", self.0, self.1)
    }
}

/// Types that already know how they are shown, or how they are written in the file.
macro_rules! text_by {
    ($method:ident: $($type:ty),*) => {
        $(impl Text for $type {
            fn text(&self) -> String {
                self.$method()
            }
        })*
    };
}

text_by!(to_string: bool, u16, u32, usize, String, SocketAddr, IpNet, ListenerName, PoolName, InstanceName, HostPattern);
text_by!(plain: Balance, Protocol, OnDown, LogLevel, LogFormat, TlsVersion, Alpn, ClientCertificate);
