//! The files of one side: Mastodon's directory, its units, its nginx site, its wrappers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::side::{DOMAIN, Plan, Ports};

/// The commit that both sides have checked out.
const COMMIT: &str = "5f3c2a1b0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a";

/// Mastodon's directory as a git checkout with compiled assets, without `.env.production`.
pub fn write_live(live: &Path, program: &Path) {
    let write = |path: &str, text: &str| {
        let path = live.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make directories");
        fs::write(path, text).expect("write a file");
    };
    write(".git/HEAD", "ref: refs/heads/main\n");
    write(".git/refs/heads/main", &format!("{COMMIT}\n"));
    write(".git/objects/info/packs", "\n");
    write(".git/config", "[core]\n\trepositoryformatversion = 0\n\tbare = false\n");
    let version = [("major", 4), ("minor", 6), ("patch", 0)]
        .map(|(name, number)| format!("    def {name}\n      {number}\n    end\n\n"))
        .concat();
    let version = format!(
        "# frozen_string_literal: true\n\nmodule Mastodon\n  module Version\n    module_function\n\n\
         {version}    def default_prerelease\n      ''\n    end\n  end\nend\n"
    );
    write("lib/mastodon/version.rb", &version);
    write(".ruby-version", "3.4.7\n");
    write("config/database.yml", "production:\n  adapter: postgresql\n");
    write("public/assets/500.html", "<!DOCTYPE html>\n<title>Something went wrong</title>\n");
    write("public/robots.txt", "User-agent: GPTBot\nDisallow: /\n");
    write("log/production.log", "");
    symlink("assets/500.html", live.join("public/500.html")).expect("make a symlink");
    for name in ["tootctl", "rails"] {
        let text = format!(
            "#!/bin/sh\ncd \"$(dirname \"$0\")/..\" || exit 1\nexec {} stand-in {name} \"$@\"\n",
            program.display()
        );
        script(&live.join("bin").join(name), &text);
    }
}

/// Writes an executable script.
pub fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("make directories");
    fs::write(path, text).expect("write a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// The units of Mastodon's `dist/`, a second Sidekiq for one queue, a drop-in, and a timer.
pub fn write_units(plan: &Plan<'_>, live: &Path, user: Option<&str>) {
    let dir = plan.dir.join("etc/systemd/system");
    fs::create_dir_all(dir.join("mastodon-sidekiq.service.d")).expect("make directories");
    let write = |name: &str, text: String| fs::write(dir.join(name), text).expect("write a unit");
    let user = user.map(|user| format!("User={user}\n")).unwrap_or_default();
    let Ports { web: web_port, streaming: streaming_port, .. } = plan.ports;
    let service = |description: &str, environment: &str, command: &str| {
        format!(
            "[Unit]\nDescription={description}\nAfter=network.target\n\n[Service]\nType=simple\n\
             {user}WorkingDirectory={}\n{environment}ExecStart={} stand-in {command}\n\
             TimeoutSec=15\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n",
            live.display(),
            plan.program.display(),
        )
    };
    let rails = "Environment=\"RAILS_ENV=production\"\n";
    let bind = format!("Environment=\"BIND={}\"\n", plan.address);
    let web = format!("{rails}Environment=\"PORT={web_port}\"\n{bind}");
    write("mastodon-web.service", service("mastodon-web", &web, "web"));
    let queues = "sidekiq -c 5 -q default,8 -q push,6 -q ingress,4 -q mailers,2 -q scheduler";
    write("mastodon-sidekiq.service", service("mastodon-sidekiq", rails, queues));
    write("mastodon-sidekiq.service.d/pool.conf", "[Service]\nEnvironment=\"DB_POOL=5\"\n".into());
    let pull = service("mastodon-sidekiq for pull", rails, "sidekiq -c 2 -q pull");
    write("mastodon-sidekiq-pull.service", pull);
    write(
        "mastodon-streaming.service",
        format!(
            "[Unit]\nDescription=Mastodon Streaming Servers\nAfter=network.target\n\
             Wants=mastodon-streaming@{streaming_port}.service\n\n[Service]\nType=oneshot\n\
             ExecStart=/bin/echo \"mastodon-streaming exists only to collectively start and stop \
             mastodon-streaming@ instances\"\nRemainAfterExit=yes\n\n[Install]\n\
             WantedBy=multi-user.target\n"
        ),
    );
    let node = format!("Environment=\"NODE_ENV=production\"\nEnvironment=\"PORT=%i\"\n{bind}");
    let streaming = service("mastodon-streaming on port %I", &node, "streaming")
        .replace(
            "After=network.target\n",
            "After=network.target\nPartOf=mastodon-streaming.service\n",
        )
        .replace("multi-user.target\n", "multi-user.target mastodon-streaming.service\n");
    write("mastodon-streaming@.service", streaming);
    let cleaning = service("mastodon-media-remove", rails, "tootctl media remove --days=30");
    let cleaning = cleaning.replace("Type=simple", "Type=oneshot").replace("Restart=always\n", "");
    write(
        "mastodon-media-remove.service",
        cleaning.replace("\n[Install]\nWantedBy=multi-user.target\n", ""),
    );
    write(
        "mastodon-media-remove.timer",
        "[Unit]\nDescription=Schedules a media remove every day\n\n[Timer]\nOnCalendar=daily\n\n\
         [Install]\nWantedBy=timers.target\n"
            .into(),
    );
}

/// The site in the manner of Mastodon's `dist/nginx.conf`.
pub fn nginx_site(plan: &Plan<'_>, live: &Path) -> String {
    let Ports { web: web_port, streaming: streaming_port, https: port } = plan.ports;
    let public = live.join("public");
    let public = public.display();
    let headers = "proxy_set_header Host $host;\n    proxy_set_header X-Real-IP $remote_addr;\n    \
                   proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    \
                   proxy_set_header X-Forwarded-Proto $scheme;\n    proxy_set_header Proxy \"\";\n    \
                   proxy_http_version 1.1;";
    format!(
        "upstream backend {{\n  server {address}:{web_port} fail_timeout=0;\n}}\n\n\
         upstream streaming {{\n  least_conn;\n  server {address}:{streaming_port} fail_timeout=0;\n}}\n\n\
         server {{\n  listen {address}:{port} ssl;\n  server_name {DOMAIN};\n\n  \
         ssl_certificate     {certificate};\n  ssl_certificate_key {key};\n\n  \
         keepalive_timeout    70;\n  sendfile             on;\n  client_max_body_size 99m;\n\n  \
         root {public};\n\n  \
         location / {{\n    try_files $uri @proxy;\n  }}\n\n  \
         location ^~ /system/ {{\n    add_header Cache-Control \"public, max-age=2419200, immutable\";\n    \
         try_files $uri =404;\n  }}\n\n  \
         location ^~ /api/v1/streaming {{\n    {headers}\n    proxy_pass http://streaming;\n    \
         proxy_buffering off;\n  }}\n\n  \
         location @proxy {{\n    {headers}\n    proxy_pass_header Server;\n    \
         proxy_pass http://backend;\n    proxy_buffering on;\n    proxy_redirect off;\n  }}\n\n  \
         error_page 404 500 501 502 503 504 /500.html;\n}}\n",
        address = plan.address,
        certificate = plan.certificate.certificate.display(),
        key = plan.certificate.key.display(),
    )
}
