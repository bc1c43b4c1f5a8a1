use super::*;
use crate::host::fake::{Reply, Scripted};
use crate::instance::services::discover;

fn systemd() -> Systemd {
    Systemd {
        systemctl: vec!["systemctl".into()],
        unit_dir: "/etc/systemd/system".into(),
        patterns: vec!["mastodon*".into()],
    }
}

/// As a server with systemd 252 printed it: a failed streaming instance, a drop-in with a secret,
/// a timer, an instance that is enabled but not loaded, a slice.
fn server() -> Scripted {
    let units = "\
mastodon-sidekiq.service        loaded active running mastodon-sidekiq
mastodon-streaming.service      loaded active exited  Mastodon Streaming API Server
mastodon-streaming@4000.service loaded failed failed  Mastodon Streaming API Server (4000)
mastodon-web.service            loaded active running mastodon-web
mastodon.slice                  loaded active active  Slice /mastodon
mastodon-clean.timer            loaded active waiting clean
";
    let unit_files = "\
mastodon-clean.service      static   -
mastodon-clean.timer        enabled  enabled
mastodon-sidekiq.service    enabled  enabled
mastodon-streaming.service  enabled  enabled
mastodon-streaming@.service disabled enabled
mastodon-web.service        enabled  enabled
";
    let show = "\
TimeoutStopUSec=1min 30s
MainPID=0
Id=mastodon-clean.service
LoadState=loaded
ActiveState=inactive
FragmentPath=/etc/systemd/system/mastodon-clean.service
DropInPaths=
UnitFileState=static
User=mastodon

Id=mastodon-clean.timer
LoadState=loaded
ActiveState=active
FragmentPath=/etc/systemd/system/mastodon-clean.timer
DropInPaths=
UnitFileState=enabled

TimeoutStopUSec=15s
MainPID=812
ExecStart={ path=/home/mastodon/.rbenv/shims/bundle ; argv[]=/home/mastodon/.rbenv/shims/bundle exec sidekiq -c 25 ; ignore_errors=no ; start_time=[Mon 2026-11-23 10:00:00 UTC] ; stop_time=[n/a] ; pid=812 ; code=(null) ; status=0/0 }
Environment=RAILS_ENV=production DB_POOL=25 $'SMTP_PASSWORD=it\\'s one' LD_PRELOAD=libjemalloc.so
EnvironmentFiles=/etc/default/mastodon (ignore_errors=yes)
EnvironmentFiles=/etc/mastodon secrets (ignore_errors=no)
User=mastodon
Id=mastodon-sidekiq.service
LoadState=loaded
ActiveState=active
FragmentPath=/etc/systemd/system/mastodon-sidekiq.service
DropInPaths=/etc/systemd/system/mastodon-sidekiq.service.d/a.conf /run/systemd/system/mastodon-sidekiq.service.d/b.conf
UnitFileState=enabled

Id=mastodon-sidekiq@pull.service
LoadState=loaded
ActiveState=inactive
FragmentPath=/etc/systemd/system/mastodon-sidekiq@.service
UnitFileState=enabled

ExecStart={ path=/bin/true ; argv[]=/bin/true ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Id=mastodon-streaming.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled

TimeoutStopUSec=infinity
ExecStart={ path=/usr/bin/node ; argv[]=/usr/bin/node ./streaming ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Environment=NODE_ENV=production PORT=4000
Id=mastodon-streaming@4000.service
LoadState=loaded
ActiveState=failed
UnitFileState=disabled

ExecStart={ path=/home/mastodon/.rbenv/shims/bundle ; argv[]=/home/mastodon/.rbenv/shims/bundle exec puma -C config/puma.rb ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Id=mastodon-web.service
LoadState=loaded
ActiveState=deactivating
UnitFileState=enabled
";
    Scripted::new("old")
        .on("list-units --all", [Reply::ok(units)])
        .on("list-unit-files", [Reply::ok(unit_files)])
        .on("systemctl show", [Reply::ok(show)])
        .on(
            "multi-user.target.wants",
            [Reply::ok("./mastodon-sidekiq@pull.service\0./ssh.service\0")],
        )
        .on("find . -mindepth", [Reply::ok("./multi-user.target.wants\0./mastodon-web.service\0")])
}

#[tokio::test]
async fn finds_templates_instances_timers_and_failed_units_and_says_what_each_is() {
    let units = discover(&server(), &systemd()).await.unwrap();
    let found: Vec<(&str, UnitKind, ActiveState)> =
        units.iter().map(|unit| (unit.name.as_str(), unit.kind, unit.active)).collect();
    assert_eq!(
        found,
        [
            ("mastodon-clean.service", UnitKind::Other, ActiveState::Inactive),
            ("mastodon-clean.timer", UnitKind::Trigger, ActiveState::Active),
            ("mastodon-sidekiq.service", UnitKind::Sidekiq, ActiveState::Active),
            ("mastodon-sidekiq@pull.service", UnitKind::Sidekiq, ActiveState::Inactive),
            ("mastodon-streaming.service", UnitKind::Streaming, ActiveState::Active),
            ("mastodon-streaming@.service", UnitKind::Streaming, ActiveState::Inactive),
            ("mastodon-streaming@4000.service", UnitKind::Streaming, ActiveState::Failed),
            ("mastodon-web.service", UnitKind::Web, ActiveState::Changing),
        ]
    );
}

#[tokio::test]
async fn understands_environment_drop_ins_and_time_limits() {
    let units = discover(&server(), &systemd()).await.unwrap();
    let sidekiq = units.iter().find(|unit| unit.name == "mastodon-sidekiq.service").unwrap();
    let environment: Vec<(&str, &str)> =
        sidekiq.environment.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    assert_eq!(
        environment,
        [
            ("RAILS_ENV", "production"),
            ("DB_POOL", "25"),
            ("SMTP_PASSWORD", "it's one"),
            ("LD_PRELOAD", "libjemalloc.so")
        ]
    );
    let file = |path: &str, optional| EnvironmentFile { path: path.into(), optional };
    assert_eq!(
        sidekiq.environment_files,
        [file("/etc/default/mastodon", true), file("/etc/mastodon secrets", false)]
    );
    assert_eq!(sidekiq.drop_ins.len(), 2);
    assert_eq!(sidekiq.main_pid, Some(812));
    assert_eq!(sidekiq.command, "/home/mastodon/.rbenv/shims/bundle exec sidekiq -c 25");
    assert_eq!(sidekiq.stop_timeout, Some(Duration::from_secs(15)));
    assert_eq!(units[0].stop_timeout, Some(Duration::from_secs(90)));
    assert_eq!(units[6].stop_timeout, None);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_the_question_is_an_error() {
    let host = Scripted::new("old").on("show", [Reply::ok("Id=a.service\n")]);
    let names = ["a.service".to_owned(), "b.service".to_owned()];
    let error = describe(&host, &systemd(), &names).await.unwrap_err();
    assert!(error.to_string().ends_with("printed 1 blocks for 2 units"), "{error}");
}
