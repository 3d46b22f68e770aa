//! A real nginx with several servers, as instances and as a second opinion on HTTP.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use super::folder::Folder;
use super::tls::Issued;
use super::wait::eventually;
use super::{ports, proxy};

/// A running nginx, one process; killed when dropped.
pub(crate) struct Nginx {
    child: Child,
    folder: Folder,
    /// One server each, named `n0`, `n1`, …
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Nginx {
    /// Servers that answer `/health` and `/name`, send files from `/files/` and take any body at `/take`.
    #[track_caller]
    pub(crate) fn start(servers: usize) -> Self {
        Self::start_with(servers, None, "")
    }

    /// As [`Nginx::start`], but it speaks HTTP/2: over TLS by ALPN, and without it nothing else.
    #[track_caller]
    pub(crate) fn start_http2(servers: usize, issued: Option<&Issued>) -> Self {
        Self::start_with(servers, issued, "http2")
    }

    /// As [`Nginx::start`], over TLS.
    #[track_caller]
    pub(crate) fn start_tls(servers: usize, issued: &Issued) -> Self {
        Self::start_with(servers, Some(issued), "")
    }

    #[track_caller]
    fn start_with(servers: usize, issued: Option<&Issued>, http2: &str) -> Self {
        let folder = Folder::new();
        let addresses: Vec<_> = (0..servers).map(|_| ports::free()).collect();
        let root = folder.path().display();
        let tls = issued.map_or_else(String::new, |issued| {
            issued.write(&folder, "own");
            format!(
                "ssl_certificate {root}/own.pem; ssl_certificate_key {root}/own.key; ssl_protocols TLSv1.2 TLSv1.3;"
            )
        });
        let (ssl, scheme) = if issued.is_some() { ("ssl", "https") } else { ("", "http") };
        let mut text = format!(
            "daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_requests 100000; client_max_body_size 0;\n\
             client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;\n\
             uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n"
        );
        for (index, address) in addresses.iter().enumerate() {
            write!(
                text,
                "server {{ listen {address} {ssl} {http2} backlog=1024; {tls} add_header Instance n{index} always;\n\
                 location = /health {{ return 200 ok; }}\n\
                 location = /name {{ return 200 n{index}; }}\n\
                 location = /take {{ proxy_pass {scheme}://{address}/taken; }}\n\
                 location = /taken {{ return 200 \"$http_content_length\"; }}\n\
                 location = /204 {{ return 204; }}\n\
                 location = /redirect {{ return 302 http://elsewhere.test/; }}\n\
                 location /files/ {{ alias {root}/files/; }} }}\n"
            )
            .expect("a String takes all");
        }
        text.push_str("}\n");
        std::fs::create_dir_all(folder.path().join("files")).expect("a folder");
        let path = folder.write("nginx.conf", text);
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx (`bash tests/all.sh` installs it)");
        let nginx = Self { child, folder, addresses };
        for address in &nginx.addresses {
            eventually("nginx listens", || TcpStream::connect(address).ok());
        }
        nginx
    }

    /// Puts a file where `/files/NAME` finds it.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        self.folder.write(&format!("files/{name}"), bytes);
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        proxy::signal(self.child.id(), name);
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
