//! nginx, Redis and DNS as the move uses them, on real servers.

use crate::harness::{free_port, nginx, redis};

#[test]
fn the_harness_starts_a_redis_that_wants_its_password() {
    let redis = redis::Redis::with_password("open sesame");
    assert_eq!(redis.cli(&["SET", "a", "b"]), "OK");
    assert_eq!(redis.cli(&["GET", "a"]), "b");
}

#[test]
fn the_harness_starts_an_nginx_with_tls() {
    let port = free_port();
    let nginx = nginx::Nginx::start(|dir| {
        let pair = nginx::Certificate::make(dir, &["old.example"]);
        format!(
            "server {{ listen 127.0.0.1:{port} ssl; server_name old.example; ssl_certificate {}; ssl_certificate_key {}; return 200 hello; }}",
            pair.certificate.display(),
            pair.key.display()
        )
    });
    let output = std::process::Command::new("curl")
        .args(["-s", "--cacert"])
        .arg(nginx.path("ca.pem"))
        .args(["--resolve", &format!("old.example:{port}:127.0.0.1")])
        .arg(format!("https://old.example:{port}/"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello");
}
