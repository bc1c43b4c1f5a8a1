//! Files beside Mastodon that come along when asked: nginx's site, units, PgBouncer, certificates.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Scene, recalled, remembered};
use crate::host::{Command, RunAs, run, run_ok};
use crate::instance::config_files::{self, ConfigFile};
use crate::instance::{nginx, services};
use crate::migration::step::{Check, Step, StepError};

const PGBOUNCER: &str = "/etc/pgbouncer";

pub struct ConfigFiles(pub Scene);

/// What undoing must know.
#[derive(Serialize, Deserialize)]
struct Memory {
    /// Where the files go on the target.
    paths: Vec<String>,
    /// The link that will enable the site there, if there is none yet.
    link: Option<String>,
}

impl ConfigFiles {
    fn paths(&self) -> Vec<String> {
        let Scene { world, facts, .. } = &self.0;
        let copy = &world.config.copy;
        let side = &world.source.side;
        let mut paths = copy.certificates.clone();
        if copy.nginx {
            paths.push(side.nginx.site.clone());
        }
        if copy.systemd {
            paths.extend(config_files::unit_paths(&world.source.systemd(), &facts.units));
        }
        if copy.pgbouncer {
            let ini = side.database.pgbouncer_ini.as_deref().and_then(|ini| ini.rsplit_once('/'));
            paths.push(ini.map_or(PGBOUNCER, |(dir, _)| dir).into());
        }
        paths
    }

    fn keep_dir(&self) -> String {
        self.0.world.target.work_path("files")
    }

    /// The source's files as they are to be on the target: at the same paths, but for the two
    /// that the configuration may place elsewhere there.
    async fn wanted(&self) -> Result<Vec<ConfigFile>, StepError> {
        let world = &self.0.world;
        let gathered = config_files::gather(world.source.host(), &self.paths()).await?;
        if !gathered.missing.is_empty() {
            let text = format!("the source has no {}", gathered.missing.join(", "));
            return Err(StepError::new(text, Some("correct `copy` in transhume.toml")));
        }
        let (source, target) = (&world.source.side, &world.target.side);
        let unit_dir = format!("{}/", source.unit_dir);
        let placed = gathered.files.into_iter().map(|mut file| {
            if file.path == source.nginx.site {
                file.path = target.nginx.site.clone();
            } else if let Some(name) = file.path.strip_prefix(&unit_dir) {
                file.path = format!("{}/{name}", target.unit_dir);
            }
            file
        });
        Ok(placed.collect())
    }

    /// The link that enables the site on the target, where that is asked for.
    fn link(&self) -> Option<&String> {
        let world = &self.0.world;
        world.target.side.nginx.enabled.as_ref().filter(|_| world.config.copy.nginx)
    }

    /// Makes the target's services and its nginx take up what lies there now.
    async fn take_up(&self) -> Result<(), StepError> {
        let copy = &self.0.world.config.copy;
        let target = &self.0.world.target;
        if copy.systemd {
            services::daemon_reload(target.host(), &target.systemd()).await?;
        }
        if !copy.nginx && copy.certificates.is_empty() {
            return Ok(());
        }
        let (host, place) = (target.host(), &target.side.nginx);
        if let Err(output) = nginx::test(host, place).await? {
            let hint = "copy what the site includes, and its certificates, too: see `copy` in \
                        docs/config.md";
            return Err(StepError::new(
                format!("nginx on {} does not accept its configuration: {output}", host.name()),
                Some(hint),
            ));
        }
        nginx::reload(host, place).await?.map_err(|output| {
            let hint = "start nginx on the target, or set `target.nginx.reload`";
            StepError::new(format!("nginx on {} did not reload: {output}", host.name()), Some(hint))
        })
    }
}

#[async_trait]
impl Step for ConfigFiles {
    fn id(&self) -> &'static str {
        "files"
    }

    fn title(&self) -> String {
        "Copy configuration files to the new server".into()
    }

    async fn check(&self) -> Result<Check, StepError> {
        Ok(match self.paths().is_empty() {
            true => Check::NotApplicable("`copy` asks for none".into()),
            false => Check::Needed,
        })
    }

    async fn remember(&self) -> Result<Value, StepError> {
        let paths = self.wanted().await?.into_iter().map(|file| file.path).collect();
        let link = match self.link() {
            Some(link) => {
                let look = Command::script(r#"[ -e "$1" ] || [ -L "$1" ]"#, &[link]);
                let there = run(self.0.world.target.host(), &look.run_as(RunAs::Root)).await?;
                Some(link.clone()).filter(|_| !there.success())
            }
            None => None,
        };
        remembered(&Memory { paths, link })
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let target = &self.0.world.target;
        config_files::install(target.host(), &self.wanted().await?, &self.keep_dir()).await?;
        if let Some(enabled) = self.link() {
            let link = Command::new(["ln", "-sfnT", "--", &target.side.nginx.site, enabled]);
            run_ok(target.host(), &link.run_as(RunAs::Root)).await?;
        }
        self.take_up().await
    }

    async fn verify(&self) -> Result<String, StepError> {
        let wanted = self.wanted().await?;
        let paths: Vec<String> = wanted.iter().map(|file| file.path.clone()).collect();
        let there = config_files::gather(self.0.world.target.host(), &paths).await?;
        for file in &wanted {
            let copy = there.files.iter().find(|copy| copy.path == file.path);
            if copy.is_none_or(|copy| copy.content != file.content) {
                return Err(StepError::new(format!("{} differs on the target", file.path), None));
            }
        }
        Ok(format!("{} the same on both sides", crate::units::counted(paths.len() as u64, "file")))
    }

    async fn undo(&self, memory: &Value) -> Result<(), StepError> {
        let Memory { paths, link } = recalled(memory)?;
        let target = &self.0.world.target;
        config_files::undo(target.host(), &self.keep_dir(), &paths).await?;
        if let Some(link) = link {
            let remove = Command::new(["rm", "-f", "--", &link]);
            run_ok(target.host(), &remove.run_as(RunAs::Root)).await?;
        }
        self.take_up().await
    }
}
