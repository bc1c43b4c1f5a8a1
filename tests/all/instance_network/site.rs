//! A site as Mastodon's `dist/nginx.conf` has it, on loopback, and a client for it.

use std::path::Path;
use std::process::Command;

use transhume::config;

use super::backend;
use crate::harness::free_port;
use crate::harness::nginx::{Certificate, Nginx};

pub const DOMAIN: &str = "social.example";

/// A running site: plain HTTP that redirects, HTTPS, an onion service, and a neighbour.
pub struct Running {
    pub nginx: Nginx,
    pub http: u16,
    pub https: u16,
    pub onion: u16,
    pub neighbour: u16,
}

/// An answer as curl shows it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| {
            line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name))
        })?;
        line.split_once(": ").map(|(_, value)| value)
    }
}

impl Running {
    pub fn start() -> Self {
        Running::start_in_front_of(backend::start(), "client_max_body_size 1k;")
    }

    /// `more` is put into the HTTPS block.
    pub fn start_in_front_of(backend: u16, more: &str) -> Self {
        let [http, https, onion, neighbour] = [(); 4].map(|()| free_port());
        let nginx = Nginx::start(|dir| {
            files(dir);
            let text = SITE.replace("DIR", &dir.display().to_string());
            [
                ("BACKEND", backend),
                ("HTTPS", https),
                ("HTTP", http),
                ("ONION", onion),
                ("NEIGHBOUR", neighbour),
            ]
            .iter()
            .fold(text.replace("MORE", more), |text, (name, port)| {
                text.replace(&format!("@{name}"), &port.to_string())
            })
        });
        Running { nginx, http, https, onion, neighbour }
    }

    pub fn config(&self) -> config::Nginx {
        config::Nginx {
            site: self.nginx.site_path().to_string_lossy().into_owned(),
            test: self.nginx.test_words(),
            reload: self.nginx.reload_words(),
            address: format!("127.0.0.1:{}", self.https),
            tls: Some(true),
            ca_file: Some(self.nginx.path("ca.pem")),
            ..config::Nginx::default()
        }
    }

    pub fn keep_dir(&self) -> String {
        self.nginx.path("kept").to_string_lossy().into_owned()
    }

    /// `curl` with more options, on the HTTPS block.
    pub fn https(&self, path: &str, options: &[&str]) -> Answer {
        self.curl(&format!("https://{DOMAIN}:{}{path}", self.https), options)
    }

    pub fn http(&self, port: u16, name: &str, path: &str, options: &[&str]) -> Answer {
        self.curl(&format!("http://{name}:{port}{path}"), options)
    }

    fn curl(&self, url: &str, options: &[&str]) -> Answer {
        let (name, port) =
            url.split_once("://").unwrap().1.split('/').next().unwrap().split_once(':').unwrap();
        let output = Command::new("curl")
            .args(["-s", "-i", "--path-as-is", "--max-time", "20", "-H", "Expect:", "--cacert"])
            .arg(self.nginx.path("ca.pem"))
            .args(["--resolve", &format!("{name}:{port}:127.0.0.1")])
            .args(options)
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer from {url}: {output:?}"));
        Answer { status, head: head.replace('\r', ""), body: body.to_owned() }
    }
}

fn files(dir: &Path) {
    Certificate::make(dir, &[DOMAIN]);
    let public = dir.join("public");
    for name in ["system/media_attachments", ".well-known/acme-challenge"] {
        std::fs::create_dir_all(public.join(name)).unwrap();
    }
    std::fs::write(public.join("system/media_attachments/cat.png"), "a cat").unwrap();
    std::fs::write(public.join(".well-known/acme-challenge/token"), "proof").unwrap();
    std::fs::write(public.join("robots.txt"), "static").unwrap();
    std::fs::write(public.join("500.html"), "the site's own error page").unwrap();
}

const SITE: &str = r#"
map $http_upgrade $connection_upgrade {
  default upgrade;
  ''      close;
}

upstream backend { server 127.0.0.1:@BACKEND fail_timeout=0; }
upstream streaming { least_conn; server 127.0.0.1:@BACKEND fail_timeout=0; }

server {
  listen 127.0.0.1:@HTTP;
  server_name social.example;
  root DIR/public;
  location /.well-known/acme-challenge/ { allow all; }
  location / { return 301 https://$host$request_uri; }
}

server { # the real one; "quoted { brace"
  listen 127.0.0.1:@HTTPS ssl http2;
  server_name social.example;
  ssl_certificate DIR/site.pem;
  ssl_certificate_key DIR/site.key;
  keepalive_timeout 70;
  sendfile on;
  MORE
  root DIR/public;
  gzip on;
  add_header Strict-Transport-Security "max-age=63072000; includeSubDomains";
  location / { try_files $uri @proxy; }
  location = /sw.js { try_files $uri =404; }
  location ~ ^/assets/ { try_files $uri =404; }
  location ^~ /system/ {
    add_header Cache-Control "public, max-age=2419200, immutable";
    try_files $uri =404;
  }
  location ^~ /api/v1/streaming {
    proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_http_version 1.1;
    proxy_pass http://streaming;
  }
  location = /inbox { limit_except POST { deny all; } proxy_pass http://backend; }
  location @proxy {
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_pass http://backend;
  }
  error_page 404 500 501 502 503 504 /500.html;
}

server {
  listen 127.0.0.1:@ONION;
  server_name abcdef.onion;
  location / { proxy_set_header Host $host; proxy_pass http://backend; }
}

server {
  listen 127.0.0.1:@NEIGHBOUR;
  server_name blog.example;
  return 200 "the neighbour";
}
"#;
