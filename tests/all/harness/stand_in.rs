//! Stand-ins for Mastodon's own processes, for a machine that has no Ruby: the web process,
//! Sidekiq, the streaming server, `tootctl` and `rails runner`. Each does a real part of the real
//! work on the real PostgreSQL and Redis that `.env.production` in its working directory names,
//! and refuses what the real one refuses. One program holds them all, beside the stand-ins for
//! systemctl(1) and crontab(1).

#[path = "stand_in/application.rs"]
mod application;
#[path = "stand_in/cipher.rs"]
pub mod cipher;
#[path = "stand_in/crontab.rs"]
mod crontab;
#[path = "stand_in/jobs.rs"]
mod jobs;
#[path = "stand_in/json.rs"]
mod json;
#[path = "stand_in/settings.rs"]
pub mod settings;
#[path = "stand_in/sidekiq.rs"]
mod sidekiq;
#[path = "stand_in/streaming.rs"]
mod streaming;
#[path = "stand_in/tootctl.rs"]
mod tootctl;
#[path = "stand_in/web.rs"]
mod web;

use std::path::PathBuf;
use std::time::Duration;

use application::Problem;

/// Runs the program that `args` names (`web …`, `systemctl …`) and gives its exit code.
pub fn main(args: &[String]) -> i32 {
    let Some((name, rest)) = args.split_first() else {
        eprintln!("stand-in: which program?");
        return 2;
    };
    match name.as_str() {
        "systemctl" => super::systemctl::main(rest),
        "crontab" => crontab::main(rest),
        "web" => run(async { web::serve().await.map(|()| 0) }),
        "streaming" => run(async { streaming::serve().await.map(|()| 0) }),
        "sidekiq" => run(async { sidekiq::work(rest).await.map(|()| 0) }),
        "tootctl" => run(tootctl::run(rest)),
        "rails" => run(tootctl::rails(rest)),
        other => {
            eprintln!("stand-in: there is no {other}");
            2
        }
    }
}

fn run(program: impl Future<Output = Result<i32, Problem>>) -> i32 {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("start the runtime");
    let result = runtime.block_on(async {
        tokio::select! {
            result = program => result,
            () = owner_gone() => Err("the sandbox is gone".into()),
        }
    });
    // Blocked tasks must not keep the process: its work is done.
    runtime.shutdown_background();
    result.unwrap_or_else(|problem| {
        eprintln!("{problem}");
        1
    })
}

/// Ends when the process that made the sandbox is no more, however it ended: a service that was
/// started detached must not outlive it.
async fn owner_gone() {
    let program = std::env::current_exe().unwrap_or_default();
    let owner = program.parent().and_then(|bin| bin.parent()).map(|base| base.join("owner"));
    let owner = owner.unwrap_or_else(|| PathBuf::from("/nonexistent"));
    loop {
        let pid = std::fs::read_to_string(&owner).unwrap_or_default();
        if !PathBuf::from(format!("/proc/{}", pid.trim())).is_dir() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
