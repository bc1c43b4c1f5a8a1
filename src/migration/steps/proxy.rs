//! After the move: the old nginx passes everything on to the new server, so that nobody waits
//! for DNS, and the new one believes it about the addresses of its clients.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::Scene;
use crate::instance::nginx::Place;
use crate::instance::proxy::{self, Onward, OnwardTls};
use crate::migration::step::{Check, Step, StepError};

const RELOAD_LIMIT: Duration = Duration::from_secs(30);

pub struct Proxy(pub Scene);

impl Proxy {
    /// Where the old nginx sends requests: the new server's first public address, at the port of
    /// its nginx. `None` where the configuration names no address.
    fn onward(&self) -> Option<Onward> {
        let target = &self.0.world.target.side;
        let host = target.public_addresses.first()?;
        let port = target.nginx.address.rsplit_once(':').map_or("443", |(_, port)| port);
        let address = match host {
            std::net::IpAddr::V4(host) => format!("{host}:{port}"),
            std::net::IpAddr::V6(host) => format!("[{host}]:{port}"),
        };
        let ca_file = self.0.world.source.side.nginx.ca_file.as_ref();
        let tls = target.nginx.speaks_tls().then(|| OnwardTls {
            name: self.0.facts.domains.web.clone(),
            ca_file: ca_file.map(|path| path.display().to_string()),
        });
        Some(Onward { address, tls })
    }
}

#[async_trait]
impl Step for Proxy {
    fn id(&self) -> &'static str {
        "proxy"
    }

    fn title(&self) -> String {
        "Pass requests on from the old server to the new one".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        if !self.0.world.config.cutover.proxy {
            return Ok(Check::NotApplicable("`cutover.proxy` is off".into()));
        }
        Ok(match self.onward() {
            None => Check::NotApplicable(
                "`target.public_addresses` names no address to pass requests on to".into(),
            ),
            Some(_) => Check::Needed,
        })
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let Scene { world, facts, .. } = &self.0;
        let names = facts.domains.all();
        let Some(onward) = self.onward() else { return Ok(()) };
        let keep_dir = world.target.work_path("nginx");
        let nginx = &world.target.side.nginx;
        let place = Place { host: world.target.host(), nginx, keep_dir: &keep_dir };
        proxy::trust(&place, &names, &world.source.side.public_addresses).await?;
        let keep_dir = world.source.work_path("nginx");
        let nginx = &world.source.side.nginx;
        let place = Place { host: world.source.host(), nginx, keep_dir: &keep_dir };
        proxy::on(&place, &names, &onward).await?;
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        let front = self.0.front(&self.0.world.source)?;
        let sight = proxy::wait_until(&front, true, RELOAD_LIMIT).await?;
        if sight.on {
            return Ok(format!("a request to the old server: {}", sight.evidence));
        }
        let hint = "can the old server reach the new one's nginx? try curl from there";
        Err(StepError::new(format!("nothing is passed on: {}", sight.evidence), Some(hint)))
    }

    /// Past the point of no return: never called.
    async fn undo(&self, _: &Value) -> Result<(), StepError> {
        Ok(())
    }
}
