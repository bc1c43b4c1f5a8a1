//! Starting, stopping and quieting real processes.

use transhume::instance::services::{self, ActiveState, ServiceError};

use super::{LIMIT, host, names, service, systemd};
use crate::harness::units::Units;
use crate::harness::wait_for;

#[tokio::test]
async fn sidekiq_hands_its_jobs_back_although_its_unit_allows_too_little_time() {
    let units = Units::new();
    units.install_program(
        "sidekiq",
        "#!/bin/sh\ntrap 'sleep 2.5; echo back > \"$0.jobs\"; exit 0' TERM\n\
         echo up > \"$0.up\"\nwhile :; do sleep 0.05; done\n",
    );
    let unit = service("sidekiq", "").replace("TimeoutSec=15", "TimeoutSec=1");
    units.install("mastodon-sidekiq.service", &unit.replace("User=nobody\n", ""));
    let sidekiq = names(&["mastodon-sidekiq.service"]);
    services::start(&host(), &systemd(&units), &sidekiq, LIMIT).await.unwrap();
    wait_for("Sidekiq's start", LIMIT, || units.path("live/bin/sidekiq.up").exists());

    for _ in 0..2 {
        services::stop(&host(), &systemd(&units), &sidekiq).await.unwrap();
    }
    assert!(units.path("live/bin/sidekiq.jobs").exists(), "it was killed before it was done");
    assert!(!units.path("run/systemd/system/mastodon-sidekiq.service.d").exists());
    assert_eq!(
        units.run_ok(&["show", "-p", "TimeoutStopUSec", "--value", "mastodon-sidekiq"]),
        "1s\n"
    );
}

#[tokio::test]
async fn quieting_tells_sidekiq_and_not_what_its_jobs_started() {
    let units = Units::new();
    units.install_program(
        "sidekiq",
        "#!/bin/sh\ntrap 'echo quiet > \"$0.main\"' TSTP\n\
         sh -c 'trap \"echo frozen > $0.child\" TSTP; echo up > $0.up; while :; do sleep 0.05; done' \"$0\" &\n\
         while :; do sleep 0.05; done\n",
    );
    let unit = service("sidekiq", "").replace("User=nobody\n", "");
    units.install("mastodon-sidekiq.service", &unit);
    units.install("mastodon-web.service", &unit);
    let both = names(&["mastodon-sidekiq.service", "mastodon-web.service"]);
    services::start(&host(), &systemd(&units), &both[..1], LIMIT).await.unwrap();
    wait_for("the job's process", LIMIT, || units.path("live/bin/sidekiq.up").exists());

    services::quiet(&host(), &systemd(&units), &both).await.unwrap();
    wait_for("Sidekiq to hear", LIMIT, || units.path("live/bin/sidekiq.main").exists());
    services::stop(&host(), &systemd(&units), &both).await.unwrap();
    assert!(!units.path("live/bin/sidekiq.child").exists());
}

#[tokio::test]
async fn a_unit_that_fails_to_start_is_named() {
    let units = Units::new();
    units.install("mastodon-web.service", "[Service]\nExecStart=/bin/false\n");
    let web = names(&["mastodon-web.service"]);
    let error = loop {
        // It may be seen alive for a moment.
        match services::start(&host(), &systemd(&units), &web, LIMIT).await {
            Ok(()) => services::stop(&host(), &systemd(&units), &web).await.unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, ServiceError::StartFailed { unit } if unit == &web[0]), "{error}");
}

#[tokio::test]
async fn parts_stop_with_the_whole_and_start_with_it() {
    let units = super::mastodon();
    let parts = names(&["mastodon-streaming.service", "mastodon-streaming@4000.service"]);
    services::stop(&host(), &systemd(&units), &parts[..1]).await.unwrap();
    let states = services::states(&host(), &systemd(&units), &parts).await.unwrap();
    assert!(states.iter().all(|(_, state)| *state == ActiveState::Inactive), "{states:?}");
    services::restart(&host(), &systemd(&units), &parts[..1], LIMIT).await.unwrap();
    services::wait(&host(), &systemd(&units), &parts, ActiveState::Active, LIMIT).await.unwrap();
}
