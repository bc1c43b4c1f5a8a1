//! Units, fence and cron with real processes, and the stand-in for systemctl against the real one.

mod fencing;
mod oracle;
mod stopping;

use std::time::Duration;

use transhume::host::local::Local;
use transhume::instance::cron::Cron;
use transhume::instance::fence::Fence;
use transhume::instance::services::Systemd;

use crate::harness::units::{USER, Units};

const LIMIT: Duration = Duration::from_secs(20);

/// A program that lives until it is told to end, known by its name. It ends its child itself: one
/// that starts while the signals are sent gets none.
const LIVES: &str = "#!/bin/sh\ntrap 'kill $!; exit 0' TERM\nsleep 1000 &\nwait\n";

const CRONTAB: &str = "MAILTO=admin@example.com\n\
    @daily cd live && RAILS_ENV=production bin/tootctl media remove\n\
    0 3 * * * backup.sh # keep";

fn service(program: &str, more: &str) -> String {
    format!(
        "[Unit]\nDescription={program}\n[Service]\nType=simple\nUser={USER}\n\
         WorkingDirectory={{live}}\nExecStart={{live}}/bin/{program} {more}\nTimeoutSec=15\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

/// A Mastodon with everything that an administrator may have made of it.
fn mastodon() -> Units {
    let units = Units::new();
    for program in ["puma", "sidekiq", "streaming"] {
        units.install_program(program, LIVES);
    }
    units.install("mastodon-web.service", &service("puma", "-C config/puma.rb"));
    units.install("mastodon-sidekiq.service", &service("sidekiq", "-c 25"));
    units.install("mastodon-sidekiq@.service", &service("sidekiq", "-q %i"));
    let drop_in = "[Service]\nEnvironment=DB_POOL=25\n";
    units.install("mastodon-sidekiq.service.d/pool.conf", drop_in);
    units.install(
        "mastodon-streaming.service",
        "[Unit]\nWants=mastodon-streaming@4000.service\n[Service]\nType=oneshot\n\
         ExecStart=/bin/true\nRemainAfterExit=yes\n[Install]\nWantedBy=multi-user.target\n\
         Alias=mastodon-stream.service streaming.service\n",
    );
    let streaming =
        service("streaming", "").replace("[Unit]", "[Unit]\nPartOf=mastodon-streaming.service");
    units.install("mastodon-streaming@.service", streaming.split("[Install]").next().unwrap());
    units.install("mastodon-clean.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n");
    let timer = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n";
    units.install("mastodon-clean.timer", timer);
    units.install("mastodon-spare.service", &service("puma", ""));
    units.install(
        "ssh.service",
        "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
    );
    let vendor = service("puma", "--vendor").replace("{live}", &units.text("live"));
    units.write("usr/lib/systemd/system/mastodon-vendor.service", &vendor);
    units.run_ok(&["mask", "mastodon-old"]);
    let enabled = [
        "mastodon-web",
        "mastodon-sidekiq",
        "mastodon-sidekiq@pull",
        "mastodon-streaming",
        "mastodon-clean.timer",
        "mastodon-vendor",
        "ssh",
    ];
    units.run_ok(&[&["enable"][..], &enabled].concat());
    let started = [
        "mastodon-web",
        "mastodon-sidekiq",
        "mastodon-streaming",
        "mastodon-clean.timer",
        "mastodon-vendor",
    ];
    units.run_ok(&[&["start"][..], &started].concat());
    units.crontab();
    units.write("crontab/table", CRONTAB);
    units.write(
        "etc/cron.d/mastodon",
        &format!("@weekly {USER} cd {} && bin/tootctl x\n", units.text("live")),
    );
    units.write(
        "etc/cron.daily/mastodon",
        &format!("#!/bin/sh\n{}/bin/tootctl y\n", units.text("live")),
    );
    let script = units.path("etc/cron.daily/mastodon");
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    units
}

fn fence(units: &Units) -> Fence {
    Fence {
        systemd: systemd(units),
        cron: Cron {
            user: USER.into(),
            root: units.text("live"),
            crontab: units.crontab(),
            system_dir: units.text("etc"),
        },
    }
}

fn systemd(units: &Units) -> Systemd {
    Systemd {
        systemctl: units.systemctl(),
        unit_dir: units.text("etc/systemd/system"),
        patterns: vec!["mastodon*".into()],
    }
}

fn host() -> Local {
    Local::new()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
