//! Files beside Mastodon that come along when asked: nginx's site, units, PgBouncer, certificates.

use async_trait::async_trait;
use serde_json::Value;

use super::{Scene, recalled, remembered};
use crate::host::{Command, RunAs, run_ok};
use crate::instance::config_files;
use crate::instance::services;
use crate::migration::step::{Check, Step, StepError};

const PGBOUNCER: &str = "/etc/pgbouncer";

pub struct ConfigFiles(pub Scene);

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
        let gathered = config_files::gather(self.0.world.source.host(), &self.paths()).await?;
        let paths: Vec<String> = gathered.files.iter().map(|file| file.path.clone()).collect();
        remembered(&paths)
    }

    async fn run(&self, _: &Value) -> Result<(), StepError> {
        let world = &self.0.world;
        let gathered = config_files::gather(world.source.host(), &self.paths()).await?;
        if !gathered.missing.is_empty() {
            let text = format!("the source has no {}", gathered.missing.join(", "));
            return Err(StepError::new(text, Some("correct `copy` in transhume.toml")));
        }
        let target = &world.target;
        config_files::install(target.host(), &gathered.files, &self.keep_dir()).await?;
        if let Some(enabled) =
            target.side.nginx.enabled.as_ref().filter(|_| world.config.copy.nginx)
        {
            let link = Command::new(["ln", "-sfnT", "--", &target.side.nginx.site, enabled]);
            run_ok(target.host(), &link.run_as(RunAs::Root)).await?;
        }
        if world.config.copy.systemd {
            services::daemon_reload(target.host(), &target.systemd()).await?;
        }
        Ok(())
    }

    async fn verify(&self) -> Result<String, StepError> {
        let world = &self.0.world;
        let source = config_files::gather(world.source.host(), &self.paths()).await?;
        let paths: Vec<String> = source.files.iter().map(|file| file.path.clone()).collect();
        let target = config_files::gather(world.target.host(), &paths).await?;
        for file in &source.files {
            let copy = target.files.iter().find(|copy| copy.path == file.path);
            if copy.is_none_or(|copy| copy.content != file.content) {
                return Err(StepError::new(format!("{} differs on the target", file.path), None));
            }
        }
        Ok(format!("{} the same on both sides", crate::units::counted(paths.len() as u64, "file")))
    }

    async fn undo(&self, memory: &Value) -> Result<(), StepError> {
        let paths: Vec<String> = recalled(memory)?;
        let target = &self.0.world.target;
        config_files::undo(target.host(), &self.keep_dir(), &paths).await?;
        Ok(())
    }
}
