//! What a site file says: its `server` blocks, whom they serve, and what they pass requests to.
//! Pure. A file holds either the blocks themselves (`sites-available/…`) or a whole `http` block.

use std::ops::Range;

use super::syntax::{Directive, SyntaxError, parse};

/// A site file and what was understood of it.
#[derive(Clone, Debug)]
pub struct Site {
    pub servers: Vec<Server>,
    pub upstreams: Vec<Upstream>,
    /// Files that the site includes at the level of its server blocks; they are not read.
    pub includes: Vec<String>,
}

/// A `server` block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pub names: Vec<String>,
    /// The words of each `listen`.
    pub listens: Vec<Vec<String>>,
    pub tls: bool,
    pub certificates: Vec<String>,
    pub keys: Vec<String>,
    pub root: Option<String>,
    /// Where its locations pass requests to, as `proxy_pass` says it.
    pub passes: Vec<String>,
    /// Whether all it does is send the client somewhere else.
    pub redirects_only: bool,
    /// The words of its own `real_ip_header`.
    pub real_ip_header: Option<String>,
    /// The whole directive in the file.
    pub span: Range<usize>,
    /// The bytes between its braces.
    pub inside: Range<usize>,
}

/// An `upstream` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub name: String,
    pub servers: Vec<String>,
}

impl Site {
    pub fn parse(bytes: &[u8]) -> Result<Site, SyntaxError> {
        let mut site = Site { servers: Vec::new(), upstreams: Vec::new(), includes: Vec::new() };
        for directive in parse(bytes)? {
            match directive.name() {
                "http" => directive.children().iter().for_each(|inner| site.take(inner)),
                _ => site.take(&directive),
            }
        }
        Ok(site)
    }

    fn take(&mut self, directive: &Directive) {
        match (directive.name(), &directive.block) {
            ("server", Some(block)) => {
                let mut server = Server::read(&block.directives);
                server.span = directive.span.clone();
                server.inside = block.inside.clone();
                self.servers.push(server);
            }
            ("upstream", Some(block)) => self.upstreams.push(Upstream {
                name: directive.arguments().first().cloned().unwrap_or_default(),
                servers: arguments_of(&block.directives, "server"),
            }),
            ("include", None) => self.includes.extend_from_slice(directive.arguments()),
            _ => {}
        }
    }

    /// The server blocks that serve one of `domains`: by name, or, as an onion service does,
    /// from the same root or the same upstream as one of those. All of them without domains.
    pub fn serving(&self, domains: &[String]) -> Vec<&Server> {
        let named = |server: &&Server| {
            domains.is_empty() || domains.iter().any(|domain| server.answers_to(domain))
        };
        let named: Vec<&Server> = self.servers.iter().filter(named).collect();
        let kin = |server: &&Server| {
            named.iter().any(|other| {
                let same_root = server.root.is_some() && server.root == other.root;
                *server == *other
                    || same_root
                    || server.passes.iter().any(|pass| other.passes.contains(pass))
            })
        };
        self.servers.iter().filter(kin).collect()
    }
}

impl Server {
    fn read(directives: &[Directive]) -> Server {
        let listens: Vec<Vec<String>> = directives
            .iter()
            .filter(|directive| directive.name() == "listen")
            .map(|directive| directive.arguments().to_vec())
            .collect();
        let first = |name| arguments_of(directives, name).into_iter().next();
        let tls = listens.iter().flatten().any(|word| word == "ssl")
            || first("ssl").is_some_and(|word| word == "on");
        let passes = deep(directives, "proxy_pass");
        Server {
            names: arguments_of(directives, "server_name"),
            tls,
            certificates: arguments_of(directives, "ssl_certificate"),
            keys: arguments_of(directives, "ssl_certificate_key"),
            root: first("root"),
            redirects_only: passes.is_empty() && redirects(directives),
            real_ip_header: first("real_ip_header"),
            passes,
            listens,
            span: 0..0,
            inside: 0..0,
        }
    }

    /// Whether nginx would choose this block for `domain` by its names. Names that are regular
    /// expressions are not evaluated and do not count.
    pub fn answers_to(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        self.names.iter().any(|name| {
            let name = name.to_ascii_lowercase();
            if let Some(suffix) = name.strip_prefix("*.") {
                domain.strip_suffix(suffix).is_some_and(|front| front.ends_with('.'))
            } else if let Some(suffix) = name.strip_prefix('.') {
                let front = domain.strip_suffix(suffix);
                front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
            } else if let Some(prefix) = name.strip_suffix(".*") {
                domain.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
            } else {
                name == domain
            }
        })
    }
}

fn arguments_of(directives: &[Directive], name: &str) -> Vec<String> {
    let matching = directives.iter().filter(|directive| directive.name() == name);
    matching.flat_map(|directive| directive.arguments().iter().cloned()).collect()
}

/// The arguments of `name` at any depth.
fn deep(directives: &[Directive], name: &str) -> Vec<String> {
    let mut found = arguments_of(directives, name);
    for directive in directives {
        found.extend(deep(directive.children(), name));
    }
    found
}

/// Whether a `return 3xx` stands in the block itself or in its `location /`.
fn redirects(directives: &[Directive]) -> bool {
    directives.iter().any(|directive| match directive.name() {
        "return" => {
            let code = directive.arguments().first();
            code.is_some_and(|code| {
                code.starts_with("http") || (code.len() == 3 && code.starts_with('3'))
            })
        }
        "location" => {
            directive.arguments().last().is_some_and(|path| path == "/")
                && redirects(directive.children())
        }
        "if" => redirects(directive.children()),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mastodon's own `dist/nginx.conf`, shortened, with an onion service and a neighbour.
    const SITE: &str = r#"
        map $http_upgrade $connection_upgrade { default upgrade; '' close; }
        upstream backend { server 127.0.0.1:3000 fail_timeout=0; }
        upstream streaming { least_conn; server 127.0.0.1:4000 fail_timeout=0; }
        proxy_cache_path /var/cache/nginx levels=1:2 keys_zone=CACHE:10m;
        server {
          listen 80; listen [::]:80; server_name example.com;
          root /home/mastodon/live/public;
          location /.well-known/acme-challenge/ { allow all; }
          location / { return 301 https://$host$request_uri; }
        }
        server {
          listen 443 ssl http2; server_name example.com www.example.com;
          ssl_certificate /etc/letsencrypt/live/example.com/fullchain.pem;
          ssl_certificate_key /etc/letsencrypt/live/example.com/privkey.pem;
          root /home/mastodon/live/public;
          location / { try_files $uri @proxy; }
          location @proxy { proxy_pass http://backend; }
          location ^~ /api/v1/streaming { proxy_pass http://streaming; }
        }
        server { listen 127.0.0.1:80; server_name abc.onion; location / { proxy_pass http://backend; } }
        server { listen 80; server_name blog.example.com; root /srv/blog; }
        include snippets/more.conf;
    "#;

    #[test]
    fn reads_mastodons_own_site() {
        let site = Site::parse(SITE.as_bytes()).unwrap();
        assert_eq!(site.servers.len(), 4);
        assert_eq!(site.upstreams[0].servers, ["127.0.0.1:3000", "fail_timeout=0"]);
        assert_eq!(site.includes, ["snippets/more.conf"]);
        let [http, https, onion, blog] = site.servers.as_slice() else { panic!() };
        assert!(http.redirects_only && !https.redirects_only && !onion.redirects_only);
        assert!(https.tls && !http.tls);
        assert_eq!(https.certificates, ["/etc/letsencrypt/live/example.com/fullchain.pem"]);
        assert_eq!(https.passes, ["http://backend", "http://streaming"]);
        assert_eq!(blog.root.as_deref(), Some("/srv/blog"));
    }

    #[test]
    fn the_onion_service_belongs_to_the_site_and_the_neighbour_does_not() {
        let site = Site::parse(SITE.as_bytes()).unwrap();
        let names: Vec<&str> = site
            .serving(&["example.com".into()])
            .iter()
            .map(|server| server.names[0].as_str())
            .collect();
        assert_eq!(names, ["example.com", "example.com", "abc.onion"]);
        assert_eq!(site.serving(&[]).len(), 4);
        assert!(site.serving(&["other.example".into()]).is_empty());
    }

    #[test]
    fn wildcard_names_are_matched_as_nginx_does() {
        let server = |name: &str| Server { names: vec![name.into()], ..Server::default() };
        assert!(server("*.example.com").answers_to("social.example.com"));
        assert!(!server("*.example.com").answers_to("example.com"));
        assert!(server(".example.com").answers_to("example.com"));
        assert!(!server(".example.com").answers_to("badexample.com"));
        assert!(server("social.*").answers_to("SOCIAL.example.com"));
        assert!(!server("~^social").answers_to("social.example.com"));
    }

    #[test]
    fn a_whole_nginx_conf_is_a_site_too() {
        let site = Site::parse(b"events {} http { server { server_name a.b; } }").unwrap();
        assert_eq!(site.servers[0].names, ["a.b"]);
    }
}
