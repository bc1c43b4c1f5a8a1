//! What an operator reads, verb by verb, as it stands on the screen, from real runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use insta::assert_snapshot;

use super::PROGRAM;
use super::normal::Names;
use crate::harness::sandbox::{DATABASE, Options, Sandbox};

/// A sandbox whose verbs are read.
struct Reader {
    sandbox: Sandbox,
    names: Names,
}

impl Reader {
    fn start() -> Reader {
        let sandbox = Sandbox::start(&Options::small());
        let names = Names::of(&sandbox);
        Reader { sandbox, names }
    }

    /// Runs a verb and gives what it told.
    fn read(&self, words: &[&str]) -> String {
        let config = self.sandbox.config_path().display().to_string();
        self.names.transcript(&transhume(&config, words))
    }
}

fn transhume(config: &str, words: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.env("TZ", "UTC").args(["--config", config]).args(words).stdin(Stdio::null());
    command.output().expect("run transhume")
}

#[test]
fn before_the_move() {
    let reader = Reader::start();
    assert_snapshot!(reader.read(&["status"]), @"
    No move has been started here.
    Next: `transhume check`, then `transhume plan`
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["--json", "status"]), @r#"
    {"phase":"none"}
    [exit 0]
    "#);
    assert_snapshot!(reader.read(&["report"]), @"
    ! transhume: DIR/state/events.jsonl tells of no run
    !   hint: `transhume migrate` begins one
    [exit 2]
    ");
    assert_snapshot!(reader.read(&["rollback", "--yes"]), @"
    ! transhume: there is no unfinished move to roll back
    !   hint: `transhume status` shows what was done
    [exit 2]
    ");
    assert_snapshot!(reader.read(&["check"]), @"
    16 in order
      ✓ source  … MACHINE
      ✓ target  … MACHINE
      ✓ clocks                        they agree
      ✓ Mastodon's version            4.6.0 (5f3c2a1b0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a)
      ✓ units on the source           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-streaming@PORT, mastodon-web
      ✓ units on the target           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-web
      ✓ environment                   all secrets are there
      ✓ database: PostgreSQL version  source VERSION, target VERSION
      ✓ database: locale              UTF8, collate C.UTF-8, ctype C.UTF-8: the target has it
      ✓ database: disk                the target has SIZE free, the database takes SIZE on the source
      ✓ database: unique indexes      25 over texts, no duplicates
      ✓ Redis                         N keys, Redis VERSION on both sides
      ✓ media                         71 files, SIZE, in OLD/home/mastodon/live/public/system
      ✓ disk on the target            SIZE free on MOUNT
      ✓ nginx on the source           OLD/site.conf
      ✓ nginx on the target           NEW/site.conf

    Nothing stands in the way of a move: `transhume plan` shows its steps.
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["-q", "check"]), @"[exit 0]");
    assert_snapshot!(reader.read(&["--json", "check"]), @r#"
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"source","text":"MACHINE"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"target","text":"MACHINE"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"clocks","text":"they agree"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"Mastodon's version","text":"4.6.0 (5f3c2a1b0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a)"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"units on the source","text":"mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-streaming@PORT, mastodon-web"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"units on the target","text":"mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-web"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"environment","text":"all secrets are there"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"database: PostgreSQL version","text":"source VERSION, target VERSION"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"database: locale","text":"UTF8, collate C.UTF-8, ctype C.UTF-8: the target has it"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"database: disk","text":"the target has SIZE free, the database takes SIZE on the source"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"database: unique indexes","text":"25 over texts, no duplicates"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"Redis","text":"N keys, Redis VERSION on both sides"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"media","text":"71 files, SIZE, in OLD/home/mastodon/live/public/system"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"disk on the target","text":"SIZE free on MOUNT"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"nginx on the source","text":"OLD/site.conf"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"nginx on the target","text":"NEW/site.conf"}
    [exit 0]
    "#);
    assert_snapshot!(reader.read(&["plan"]), @"
    Prepare: the old server serves as usual
       1  lock         Lock both servers against a second move
       2  files        Copy configuration files to the new server
       3  media        Copy the media while the old server is live

    Cutover: nobody can post
       4  maintenance  Answer 503 with Retry-After on the old server
       5  quiet        Let Sidekiq finish its jobs and take no more
       6  fence        Stop the old Mastodon and keep it from starting again
       7  media-final  Copy what changed in the media since
       8  database     Copy the database and compare it
       9  redis        Copy Redis: queued jobs, feeds, counters
      10  env          Write .env.production on the new server
      11  dark-probe   Try the new web process in the dark
          ── point of no return: from here on the run only goes forward ──
      12  adopt        Hand database and Redis of the new server over to Mastodon
      13  start        Start the new Mastodon
      14  prove        Prove the new server through its nginx
      15  proxy        Pass requests on from the old server to the new one

    Settle: the new server serves
      16  feeds        Build home feeds
      17  search       Fill the search index
      18  media-check  Look at all media on both sides once more
      19  unlock       Release the lock on both servers
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["--json", "plan"]), @r#"
    {"digest":"DIGEST","job":"this server:OLD/home/mastodon/live → 127.0.0.1:NEW/home/mastodon/live","run":null,"steps":[{"done":false,"number":1,"past_no_return":false,"segment":"prepare","step":"lock","title":"Lock both servers against a second move"},{"done":false,"number":2,"past_no_return":false,"segment":"prepare","step":"files","title":"Copy configuration files to the new server"},{"done":false,"number":3,"past_no_return":false,"segment":"prepare","step":"media","title":"Copy the media while the old server is live"},{"done":false,"number":4,"past_no_return":false,"segment":"cutover","step":"maintenance","title":"Answer 503 with Retry-After on the old server"},{"done":false,"number":5,"past_no_return":false,"segment":"cutover","step":"quiet","title":"Let Sidekiq finish its jobs and take no more"},{"done":false,"number":6,"past_no_return":false,"segment":"cutover","step":"fence","title":"Stop the old Mastodon and keep it from starting again"},{"done":false,"number":7,"past_no_return":false,"segment":"cutover","step":"media-final","title":"Copy what changed in the media since"},{"done":false,"number":8,"past_no_return":false,"segment":"cutover","step":"database","title":"Copy the database and compare it"},{"done":false,"number":9,"past_no_return":false,"segment":"cutover","step":"redis","title":"Copy Redis: queued jobs, feeds, counters"},{"done":false,"number":10,"past_no_return":false,"segment":"cutover","step":"env","title":"Write .env.production on the new server"},{"done":false,"number":11,"past_no_return":false,"segment":"cutover","step":"dark-probe","title":"Try the new web process in the dark"},{"done":false,"number":12,"past_no_return":true,"segment":"cutover","step":"adopt","title":"Hand database and Redis of the new server over to Mastodon"},{"done":false,"number":13,"past_no_return":true,"segment":"cutover","step":"start","title":"Start the new Mastodon"},{"done":false,"number":14,"past_no_return":true,"segment":"cutover","step":"prove","title":"Prove the new server through its nginx"},{"done":false,"number":15,"past_no_return":true,"segment":"cutover","step":"proxy","title":"Pass requests on from the old server to the new one"},{"done":false,"number":16,"past_no_return":true,"segment":"settle","step":"feeds","title":"Build home feeds"},{"done":false,"number":17,"past_no_return":true,"segment":"settle","step":"search","title":"Fill the search index"},{"done":false,"number":18,"past_no_return":true,"segment":"settle","step":"media-check","title":"Look at all media on both sides once more"},{"done":false,"number":19,"past_no_return":true,"segment":"settle","step":"unlock","title":"Release the lock on both servers"}]}
    [exit 0]
    "#);
    assert_snapshot!(reader.read(&["verify"]), @"
    ! transhume: there is no database mastodon_production on 127.0.0.1:PORT (127.0.0.1)
    !   hint: `psql -l` on that server lists its databases; is DB_NAME right?
    [exit 1]
    ");
    assert_snapshot!(reader.read(&["sync", "--dry-run"]), @"
    ! yyyy-mm-dd hh:mm:ss  sync started, run sync, times in UTC
    ! yyyy-mm-dd hh:mm:ss  Media: 71 files to copy, SIZE; nothing was changed
    ! yyyy-mm-dd hh:mm:ss  sync ended after T: done
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["sync"]), @"
    Source files        72
    Source directories  272
    Source size         SIZE
    Files transferred   71
    Size of these       SIZE
    Literal data        SIZE
    Matched data        SIZE
    Other changes       544
    Deleted             0
    Bytes sent          SIZE
    Bytes received      SIZE
    Time                T
    ! yyyy-mm-dd hh:mm:ss  sync started, run sync, times in UTC
    ! yyyy-mm-dd hh:mm:ss  Media: 71 files copied, SIZE
    ! yyyy-mm-dd hh:mm:ss  sync ended after T: done
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["--json", "sync"]), @r#"
    {"at":"AT","event":"run_started","run":"sync","verb":"sync"}
    {"at":"AT","event":"note","run":"sync","text":"Media: nothing to copy: 72 files are there"}
    {"at":"AT","event":"run_finished","exit":0,"millis":"MILLIS","run":"sync"}
    [exit 0]
    "#);
    assert_snapshot!(reader.read(&["migrate"]), @"
    ! transhume: there is no terminal to ask on
    !   hint: give --yes when you have read the plan (`transhume plan`)
    [exit 2]
    ");
    assert_snapshot!(reader.read(&["migrate", "--yes", "--until", "nonsense"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  The report: DIR/state/report-RUN.html
    ! yyyy-mm-dd hh:mm:ss  migrate ended after T: wrong arguments or configuration; nothing was changed
    ! transhume: there is no step called nonsense
    !   hint: the steps are: lock, files, media, maintenance, quiet, fence, media-final, database, redis, env, dark-probe, adopt, start, prove, proxy, feeds, search, media-check, unlock
    [exit 2]
    ");

    let mut config = reader.sandbox.config();
    config.remove("media");
    config["target"]["env"].as_table_mut().unwrap().insert("REDIS_PORT".into(), "1".into());
    reader.sandbox.write_config(&config);
    assert_snapshot!(reader.read(&["check"]), @"
    15 in order
      ✓ source  … MACHINE
      ✓ target  … MACHINE
      ✓ clocks                        they agree
      ✓ Mastodon's version            4.6.0 (5f3c2a1b0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a)
      ✓ units on the source           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-streaming@PORT, mastodon-web
      ✓ units on the target           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-web
      ✓ environment                   all secrets are there
      ✓ database: PostgreSQL version  source VERSION, target VERSION
      ✓ database: locale              UTF8, collate C.UTF-8, ctype C.UTF-8: the target has it
      ✓ database: disk                the target has SIZE free, the database takes SIZE on the source
      ✓ database: unique indexes      25 over texts, no duplicates
      ✓ media                         71 files, SIZE, in OLD/home/mastodon/live/public/system
      ✓ disk on the target            SIZE free on MOUNT
      ✓ nginx on the source           OLD/site.conf
      ✓ nginx on the target           NEW/site.conf

    1 warning
      ! deleted media                 what is deleted on the source between two passes stays on the target
                                      → set `media.delete = true` if the target's media directory is the move's alone

    1 refusal: migrate will not start
      ✗ Redis on the target           cannot connect to 127.0.0.1:1 from 127.0.0.1: nothing answers there
                                      → check that it runs (`systemctl status redis-server`) and listens there, or correct REDIS_HOST and REDIS_PORT of that side

    Follow the remedies, then run `transhume check` again.
    [exit 4]
    ");
    assert_snapshot!(reader.read(&["migrate", "--yes"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  refusal: Redis on the target: cannot connect to 127.0.0.1:1 from 127.0.0.1: nothing answers there
    !                      remedy: check that it runs (`systemctl status redis-server`) and listens there, or correct REDIS_HOST and REDIS_PORT of that side
    ! yyyy-mm-dd hh:mm:ss  warning: deleted media: what is deleted on the source between two passes stays on the target
    !                      remedy: set `media.delete = true` if the target's media directory is the move's alone
    ! yyyy-mm-dd hh:mm:ss  The report: DIR/state/report-RUN.html
    ! yyyy-mm-dd hh:mm:ss  migrate ended after T: refused; nothing was touched
    ! transhume: check found 1 refusal; nothing was touched
    !   hint: follow the remedies above; `transhume check` looks again
    [exit 4]
    ");
    assert_snapshot!(reader.read(&["status"]), @"
    migrate (run RUN), started T ago
      refused; nothing was touched
    Next: `transhume check`, then `transhume plan`
    [exit 0]
    ");
}

#[test]
fn a_first_configuration() {
    let reader = Reader::start();
    let path = reader.sandbox.dir().join("first.toml").display().to_string();
    let (root, user) = (reader.sandbox.old.live().display().to_string(), &reader.sandbox.old.user);
    let init = ["init", "root@new.example.com", "--root", &root, "--user", user];
    assert_snapshot!(reader.names.transcript(&transhume(&path, &init)), @"
    Wrote DIR/first.toml. Read it, then run `transhume check`.
    [exit 0]
    ");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert_snapshot!(reader.names.lines(&text).join("\n"), @r#"
    # The move of this server's Mastodon. docs/config.md explains every key.
    # Found here: Mastodon 4.6.0, commit 5f3c2a1b0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a
    # Units: UNITS

    [source]
    root = "OLD/home/mastodon/live"
    user = "USER"

    [target]
    host = "root@new.example.com"
    # root = "OLD/home/mastodon/live"
    # user = "USER"
    # The addresses that DNS will name; with one, the old nginx passes requests on to it.
    # public_addresses = ["203.0.113.7", "2001:db8::7"]

    # Values of .env.production that differ on the new server.
    [target.env]
    # DB_HOST = "/var/run/postgresql"
    # DB_PASS = ""

    [media]
    # What is deleted here between two passes goes there too: safe while nothing else is kept in
    # the new server's media directory.
    # delete = true
    # bwlimit = 20000000

    # Files beside Mastodon that come along.
    [copy]
    # nginx = true
    # systemd = true
    # certificates = ["/etc/letsencrypt/live/example.com"]
    "#);
    assert_snapshot!(reader.names.transcript(&transhume(&path, &init)), @"
    ! transhume: cannot write DIR/first.toml: File exists (os error 17)
    !   hint: name another file with -c; one that exists is not overwritten
    [exit 2]
    ");
    let nobody = ["init", "root@new.example.com", "--root", &root, "--user", "no-such-user"];
    assert_snapshot!(reader.names.transcript(&transhume(&path, &nobody)), @"
    ! transhume: there is no user no-such-user on this server
    !   hint: set `user` in transhume.toml, or create it: `adduser --disabled-password no-such-user`; name what is right with --root and --user
    [exit 1]
    ");
}

#[test]
fn a_move_that_is_stopped_and_undone() {
    let reader = Reader::start();
    assert_snapshot!(reader.read(&["migrate", "--yes", "--until", "media"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  step 1/19 lock: Lock both servers against a second move
    ! yyyy-mm-dd hh:mm:ss  step 1/19 lock done after T: both servers name this move
    ! yyyy-mm-dd hh:mm:ss  step 2/19 files: Copy configuration files to the new server
    ! yyyy-mm-dd hh:mm:ss  step 2/19 files skipped: `copy` asks for none
    ! yyyy-mm-dd hh:mm:ss  step 3/19 media: Copy the media while the old server is live
    ! yyyy-mm-dd hh:mm:ss  step 3/19 media done after T: 71 files copied, SIZE
    ! yyyy-mm-dd hh:mm:ss  Stopped after `media`: people can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.
    ! yyyy-mm-dd hh:mm:ss  The report: DIR/state/report-RUN.html
    ! yyyy-mm-dd hh:mm:ss  migrate ended after T: stopped as asked, before its end
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["migrate", "--yes", "--until", "fence"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  Going on where it stopped: 3 of 19 steps are behind it.
    ! yyyy-mm-dd hh:mm:ss  downtime started: nobody can post from now on
    ! yyyy-mm-dd hh:mm:ss  step 4/19 maintenance: Answer 503 with Retry-After on the old server
    ! yyyy-mm-dd hh:mm:ss  step 4/19 maintenance done after T: 503 with Retry-After: 300
    ! yyyy-mm-dd hh:mm:ss  step 5/19 quiet: Let Sidekiq finish its jobs and take no more
    ! yyyy-mm-dd hh:mm:ss  step 5/19 quiet done after T: idle after T
    ! yyyy-mm-dd hh:mm:ss  step 6/19 fence: Stop the old Mastodon and keep it from starting again
    ! yyyy-mm-dd hh:mm:ss  step 6/19 fence done after T: nothing of the old Mastodon runs, is enabled, or can be started
    ! yyyy-mm-dd hh:mm:ss  Stopped after `fence`: nobody can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.
    ! yyyy-mm-dd hh:mm:ss  The report: DIR/state/report-RUN.html
    ! yyyy-mm-dd hh:mm:ss  migrate ended after T: stopped as asked, before its end
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["status"]), @"
    migrate (run RUN), started T ago
      stopped as asked, before its end; steps done: 6 of 19
      ✓  1  Lock both servers against a second move: done in T
      –  2  Copy configuration files to the new server: skipped: `copy` asks for none
      ✓  3  Copy the media while the old server is live: done in T
      ✓  4  Answer 503 with Retry-After on the old server: done in T
      ✓  5  Let Sidekiq finish its jobs and take no more: done in T
      ✓  6  Stop the old Mastodon and keep it from starting again: done in T
      downtime: T so far: nobody can post
    Next: `transhume migrate` goes on; `transhume rollback` puts the old server back
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["--json", "status"]), @r#"
    {"downtime_millis":"MILLIS","job":"this server:OLD/home/mastodon/live → 127.0.0.1:NEW/home/mastodon/live","phase":"running","run":"RUN","started":"STARTED","steps_done":["lock","files","media","maintenance","quiet","fence"]}
    [exit 0]
    "#);
    assert_snapshot!(reader.read(&["plan"]), @"
    Prepare: the old server serves as usual
    ✓  1  lock         Lock both servers against a second move
    ✓  2  files        Copy configuration files to the new server
    ✓  3  media        Copy the media while the old server is live

    Cutover: nobody can post
    ✓  4  maintenance  Answer 503 with Retry-After on the old server
    ✓  5  quiet        Let Sidekiq finish its jobs and take no more
    ✓  6  fence        Stop the old Mastodon and keep it from starting again
       7  media-final  Copy what changed in the media since
       8  database     Copy the database and compare it
       9  redis        Copy Redis: queued jobs, feeds, counters
      10  env          Write .env.production on the new server
      11  dark-probe   Try the new web process in the dark
          ── point of no return: from here on the run only goes forward ──
      12  adopt        Hand database and Redis of the new server over to Mastodon
      13  start        Start the new Mastodon
      14  prove        Prove the new server through its nginx
      15  proxy        Pass requests on from the old server to the new one

    Settle: the new server serves
      16  feeds        Build home feeds
      17  search       Fill the search index
      18  media-check  Look at all media on both sides once more
      19  unlock       Release the lock on both servers
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["report"]), @"
    sandbox.example is on its way to 127.0.0.1: stopped as asked
    DAY, hh:mm:ss UTC to hh:mm:ss. It was taken up again once. Nobody could post for T so far.

    result      stopped as asked, before its end
    downtime    T
    whole run   T
    steps done  6 of 19
    problems    0

    What to do next
      - Stopped after `fence`: nobody can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.

    Steps
        1  hh:mm:ss           T  Lock both servers against a second move: done
        2  hh:mm:ss              Copy configuration files to the new server: skipped: `copy` asks for none
        3  hh:mm:ss           T  Copy the media while the old server is live: done
        4  hh:mm:ss           T  Answer 503 with Retry-After on the old server: done
        5  hh:mm:ss           T  Let Sidekiq finish its jobs and take no more: done
        6  hh:mm:ss           T  Stop the old Mastodon and keep it from starting again: done

    What was verified
      - Lock both servers against a second move: both servers name this move
      - Copy the media while the old server is live: 71 files copied, SIZE
      - Answer 503 with Retry-After on the old server: 503 with Retry-After: 300
      - Let Sidekiq finish its jobs and take no more: idle after T
      - Stop the old Mastodon and keep it from starting again: nothing of the old Mastodon runs, is enabled, or can be started

    Notes
      hh:mm:ss  Stopped after `media`: people can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.
      hh:mm:ss  Going on where it stopped: 3 of 19 steps are behind it.

    Environment
      from           this server
      to             127.0.0.1
      transhume      0.1.0
      run            RUN
      old directory  OLD/home/mastodon/live
      new directory  NEW/home/mastodon/live

    As a page: DIR/state/report-RUN.html
    [exit 0]
    ");
    let events = reader.sandbox.state_dir().join("events.jsonl");
    let kept = fs::read(&events).unwrap();
    fs::remove_file(&events).unwrap();
    assert_snapshot!(reader.read(&["status"]), @"
    run RUN of this server:OLD/home/mastodon/live → 127.0.0.1:NEW/home/mastodon/live
      started T ago and not ended; its events are lost
      done: lock, files, media, maintenance, quiet, fence
      nobody can post
    Next: if no transhume works on it any more: `transhume migrate` goes on; `transhume rollback` puts the old server back
    [exit 0]
    ");
    fs::write(&events, kept).unwrap();
    // Both sides are at rest: they can be compared, and what is done to one of them is found.
    assert_snapshot!(reader.read(&["migrate", "--yes", "--until", "dark-probe"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  Going on where it stopped: 6 of 19 steps are behind it.
    ! yyyy-mm-dd hh:mm:ss  Redis: N keys copied, SIZE
    ! yyyy-mm-dd hh:mm:ss  step 10/19 env done after T: 0600; the new server's own: DB_PASS, DB_PORT, REDIS_PASSWORD, REDIS_PORT
    ! yyyy-mm-dd hh:mm:ss  step 10/19 env: Write .env.production on the new server
    ! yyyy-mm-dd hh:mm:ss  step 7/19 media-final done after T: nothing to copy: 72 files are there; scanned again: no difference
    ! yyyy-mm-dd hh:mm:ss  step 7/19 media-final: Copy what changed in the media since
    ! yyyy-mm-dd hh:mm:ss  step 8/19 database done after T: equal on both sides: 54 tables with N rows, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
    ! yyyy-mm-dd hh:mm:ss  step 8/19 database: Copy the database and compare it
    ! yyyy-mm-dd hh:mm:ss  step 9/19 redis done after T: N keys the same on both sides
    ! yyyy-mm-dd hh:mm:ss  step 9/19 redis: Copy Redis: queued jobs, feeds, counters
    ! yyyy-mm-dd hh:mm:ss  step 11/19 dark-probe: Try the new web process in the dark
    ! yyyy-mm-dd hh:mm:ss  step 11/19 dark-probe done after T: it started, answered /health, also through nginx, and was stopped; Mastodon 4.6.0; a secret was decrypted
    ! yyyy-mm-dd hh:mm:ss  Stopped after `dark-probe`: nobody can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.
    ! yyyy-mm-dd hh:mm:ss  The report: DIR/state/report-RUN.html
    ! yyyy-mm-dd hh:mm:ss  migrate ended after T: stopped as asked, before its end
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["verify"]), @"
    ! yyyy-mm-dd hh:mm:ss  Database: compared 54 tables with N rows, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
    ! yyyy-mm-dd hh:mm:ss  Redis: N keys the same
    ! yyyy-mm-dd hh:mm:ss  Media: 72 files looked at
    ! yyyy-mm-dd hh:mm:ss  No difference: both servers hold the same.
    [exit 0]
    ");
    reader.sandbox.new.postgres.sql(DATABASE, "DELETE FROM mentions WHERE id % 2 = 0");
    let accounts = reader.sandbox.new.media().join("accounts");
    fs::remove_dir_all(accounts).unwrap();
    reader.sandbox.new.redis.cli(&["DEL", "feed:home:1:reblogs"]);
    assert_snapshot!(reader.read(&["verify"]), @r#"
    ! yyyy-mm-dd hh:mm:ss  problem: database: table "public"."mentions" has N rows on the target, 100 on the source
    ! yyyy-mm-dd hh:mm:ss  problem: redis: feed:home:1:reblogs: not on the new server
    ! yyyy-mm-dd hh:mm:ss  problem: media: 12 files missing or different
    ! yyyy-mm-dd hh:mm:ss  Database: compared 54 tables with N rows, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
    ! yyyy-mm-dd hh:mm:ss  Redis: N keys the same
    ! yyyy-mm-dd hh:mm:ss  Media: 72 files looked at
    ! yyyy-mm-dd hh:mm:ss  14 differences; the problems above name them.
    [exit 3]
    "#);
    assert_snapshot!(reader.read(&["rollback", "--yes"]), @"
    ! yyyy-mm-dd hh:mm:ss  rollback started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  step dark-probe undone
    ! yyyy-mm-dd hh:mm:ss  step database undone
    ! yyyy-mm-dd hh:mm:ss  step env undone
    ! yyyy-mm-dd hh:mm:ss  step media-final undone
    ! yyyy-mm-dd hh:mm:ss  step redis undone
    ! yyyy-mm-dd hh:mm:ss  step fence undone
    ! yyyy-mm-dd hh:mm:ss  step quiet undone
    ! yyyy-mm-dd hh:mm:ss  step maintenance undone
    ! yyyy-mm-dd hh:mm:ss  step media undone
    ! yyyy-mm-dd hh:mm:ss  step lock undone
    ! yyyy-mm-dd hh:mm:ss  downtime ended after T
    ! yyyy-mm-dd hh:mm:ss  The report: DIR/state/report-RUN.html
    ! yyyy-mm-dd hh:mm:ss  rollback ended after T: done; the old server serves as before
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["status"]), @"
    rollback (run RUN), started T ago
      done; the old server serves as before; steps undone: 10 of 10
      ↩  1  Lock both servers against a second move: undone
      –  2  Copy configuration files to the new server: skipped: `copy` asks for none
      ↩  3  Copy the media while the old server is live: undone
      ↩  4  Answer 503 with Retry-After on the old server: undone
      ↩  5  Let Sidekiq finish its jobs and take no more: undone
      ↩  6  Stop the old Mastodon and keep it from starting again: undone
      ↩  7  Copy what changed in the media since: undone
      ↩  8  Copy the database and compare it: undone
      ↩  9  Copy Redis: queued jobs, feeds, counters: undone
      ↩ 10  Write .env.production on the new server: undone
      ↩ 11  Try the new web process in the dark: undone
      downtime: T
    Next: the old server serves; `transhume migrate` starts anew
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["--json", "status"]), @r#"
    {"downtime_millis":"MILLIS","job":"this server:OLD/home/mastodon/live → 127.0.0.1:NEW/home/mastodon/live","phase":"unwound","run":"RUN","started":"STARTED","steps_done":["files"]}
    [exit 0]
    "#);
    assert_snapshot!(reader.read(&["report"]), @"
    sandbox.example is back on this server
    DAY, hh:mm:ss UTC to hh:mm:ss. It was taken up again 3 times. Nobody could post for T.

    result        done; the old server serves as before
    downtime      T
    whole run     T
    steps undone  10 of 10
    problems      0

    Steps
        1  hh:mm:ss           T  Lock both servers against a second move: undone
        2  hh:mm:ss              Copy configuration files to the new server: skipped: `copy` asks for none
        3  hh:mm:ss           T  Copy the media while the old server is live: undone
        4  hh:mm:ss           T  Answer 503 with Retry-After on the old server: undone
        5  hh:mm:ss           T  Let Sidekiq finish its jobs and take no more: undone
        6  hh:mm:ss           T  Stop the old Mastodon and keep it from starting again: undone
        7  hh:mm:ss           T  Copy what changed in the media since: undone
        8  hh:mm:ss           T  Copy the database and compare it: undone
        9  hh:mm:ss           T  Copy Redis: queued jobs, feeds, counters: undone
       10  hh:mm:ss           T  Write .env.production on the new server: undone
       11  hh:mm:ss           T  Try the new web process in the dark: undone

    Notes
      hh:mm:ss  Stopped after `media`: people can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.
      hh:mm:ss  Going on where it stopped: 3 of 19 steps are behind it.
      hh:mm:ss  Stopped after `fence`: nobody can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.
      hh:mm:ss  Going on where it stopped: 6 of 19 steps are behind it.
      hh:mm:ss  Redis: N keys copied, SIZE
      hh:mm:ss  Stopped after `dark-probe`: nobody can post. `transhume migrate` goes on; `transhume rollback` puts the old server back.

    Environment
      from           this server
      to             127.0.0.1
      transhume      0.1.0
      run            RUN
      old directory  OLD/home/mastodon/live
      new directory  NEW/home/mastodon/live

    As a page: DIR/state/report-RUN.html
    [exit 0]
    ");
}

#[test]
fn a_whole_move() {
    let reader = Reader::start();
    assert_snapshot!(reader.read(&["migrate", "--yes"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  step 1/19 lock: Lock both servers against a second move
    ! yyyy-mm-dd hh:mm:ss  step 1/19 lock done after T: both servers name this move
    ! yyyy-mm-dd hh:mm:ss  step 2/19 files: Copy configuration files to the new server
    ! yyyy-mm-dd hh:mm:ss  step 2/19 files skipped: `copy` asks for none
    ! yyyy-mm-dd hh:mm:ss  step 3/19 media: Copy the media while the old server is live
    ! yyyy-mm-dd hh:mm:ss  step 3/19 media done after T: 71 files copied, SIZE
    ! yyyy-mm-dd hh:mm:ss  downtime started: nobody can post from now on
    ! yyyy-mm-dd hh:mm:ss  step 4/19 maintenance: Answer 503 with Retry-After on the old server
    ! yyyy-mm-dd hh:mm:ss  step 4/19 maintenance done after T: 503 with Retry-After: 300
    ! yyyy-mm-dd hh:mm:ss  step 5/19 quiet: Let Sidekiq finish its jobs and take no more
    ! yyyy-mm-dd hh:mm:ss  step 5/19 quiet done after T: idle after T
    ! yyyy-mm-dd hh:mm:ss  step 6/19 fence: Stop the old Mastodon and keep it from starting again
    ! yyyy-mm-dd hh:mm:ss  step 6/19 fence done after T: nothing of the old Mastodon runs, is enabled, or can be started
    ! yyyy-mm-dd hh:mm:ss  Redis: N keys copied, SIZE
    ! yyyy-mm-dd hh:mm:ss  step 10/19 env done after T: 0600; the new server's own: DB_PASS, DB_PORT, REDIS_PASSWORD, REDIS_PORT
    ! yyyy-mm-dd hh:mm:ss  step 10/19 env: Write .env.production on the new server
    ! yyyy-mm-dd hh:mm:ss  step 7/19 media-final done after T: nothing to copy: 72 files are there; scanned again: no difference
    ! yyyy-mm-dd hh:mm:ss  step 7/19 media-final: Copy what changed in the media since
    ! yyyy-mm-dd hh:mm:ss  step 8/19 database done after T: equal on both sides: 54 tables with N rows, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
    ! yyyy-mm-dd hh:mm:ss  step 8/19 database: Copy the database and compare it
    ! yyyy-mm-dd hh:mm:ss  step 9/19 redis done after T: N keys the same on both sides
    ! yyyy-mm-dd hh:mm:ss  step 9/19 redis: Copy Redis: queued jobs, feeds, counters
    ! yyyy-mm-dd hh:mm:ss  step 11/19 dark-probe: Try the new web process in the dark
    ! yyyy-mm-dd hh:mm:ss  step 11/19 dark-probe done after T: it started, answered /health, also through nginx, and was stopped; Mastodon 4.6.0; a secret was decrypted
    ! yyyy-mm-dd hh:mm:ss  point of no return: from here on the run only goes forward
    ! yyyy-mm-dd hh:mm:ss  step 12/19 adopt: Hand database and Redis of the new server over to Mastodon
    ! yyyy-mm-dd hh:mm:ss  step 12/19 adopt done after T: no mark of ours is left
    ! yyyy-mm-dd hh:mm:ss  step 13/19 start: Start the new Mastodon
    ! yyyy-mm-dd hh:mm:ss  step 13/19 start done after T: 6 units run; /health answered 200 OK; /api/v1/streaming/health answered 200 OK
    ! yyyy-mm-dd hh:mm:ss  step 14/19 prove: Prove the new server through its nginx
    ! yyyy-mm-dd hh:mm:ss  step 14/19 prove done after T: through nginx: /health answered 200 OK; / answered 200; /actor is https://sandbox.example/actor
    ! yyyy-mm-dd hh:mm:ss  step 15/19 proxy: Pass requests on from the old server to the new one
    ! yyyy-mm-dd hh:mm:ss  step 15/19 proxy done after T: a request to the old server: 200, passed on to the new server
    ! yyyy-mm-dd hh:mm:ss  downtime ended after T
    ! yyyy-mm-dd hh:mm:ss  step 16/19 feeds: Build home feeds
    ! yyyy-mm-dd hh:mm:ss  step 16/19 feeds done after T: Regenerated feeds for 3 accounts
    ! yyyy-mm-dd hh:mm:ss  step 17/19 search: Fill the search index
    ! yyyy-mm-dd hh:mm:ss  step 17/19 search skipped: no Elasticsearch
    ! yyyy-mm-dd hh:mm:ss  step 18/19 media-check: Look at all media on both sides once more
    ! yyyy-mm-dd hh:mm:ss  step 18/19 media-check done after T: 72 files of the old server are all there
    ! yyyy-mm-dd hh:mm:ss  step 19/19 unlock: Release the lock on both servers
    ! yyyy-mm-dd hh:mm:ss  step 19/19 unlock done after T: both servers are free
    ! yyyy-mm-dd hh:mm:ss  Point A and AAAA of the instance's names at NEW-IP; `transhume dns` tells what the world sees.
    ! yyyy-mm-dd hh:mm:ss  Keep the old server running as a proxy until `transhume dns` says that its addresses are forgotten.
    ! yyyy-mm-dd hh:mm:ss  Renew certificates on the new server once DNS points there (certbot).
    ! yyyy-mm-dd hh:mm:ss  The old Mastodon stays fenced; keep its data until you trust the new one.
    ! yyyy-mm-dd hh:mm:ss  The report: DIR/state/report-RUN.html
    ! yyyy-mm-dd hh:mm:ss  migrate ended after T: done
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["status"]), @"
    migrate (run RUN), started T ago
      done; steps done: 19 of 19
      ✓  1  Lock both servers against a second move: done in T
      –  2  Copy configuration files to the new server: skipped: `copy` asks for none
      ✓  3  Copy the media while the old server is live: done in T
      ✓  4  Answer 503 with Retry-After on the old server: done in T
      ✓  5  Let Sidekiq finish its jobs and take no more: done in T
      ✓  6  Stop the old Mastodon and keep it from starting again: done in T
      ✓  7  Copy what changed in the media since: done in T
      ✓  8  Copy the database and compare it: done in T
      ✓  9  Copy Redis: queued jobs, feeds, counters: done in T
      ✓ 10  Write .env.production on the new server: done in T
      ✓ 11  Try the new web process in the dark: done in T
      ✓ 12  Hand database and Redis of the new server over to Mastodon: done in T
      ✓ 13  Start the new Mastodon: done in T
      ✓ 14  Prove the new server through its nginx: done in T
      ✓ 15  Pass requests on from the old server to the new one: done in T
      ✓ 16  Build home feeds: done in T
      – 17  Fill the search index: skipped: no Elasticsearch
      ✓ 18  Look at all media on both sides once more: done in T
      ✓ 19  Release the lock on both servers: done in T
      downtime: T
      the point of no return is passed
    Next: `transhume report` tells what is left for you to do
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["--json", "status"]), @r#"
    {"downtime_millis":"MILLIS","job":"this server:OLD/home/mastodon/live → 127.0.0.1:NEW/home/mastodon/live","phase":"finished","run":"RUN","started":"STARTED","steps_done":["lock","files","media","maintenance","quiet","fence","database","env","media-final","redis","dark-probe","adopt","start","prove","proxy","feeds","search","media-check","unlock"]}
    [exit 0]
    "#);
    assert_snapshot!(reader.read(&["report"]), @"
    sandbox.example moved to 127.0.0.1
    DAY, hh:mm:ss UTC to hh:mm:ss. Nobody could post for T.

    result      done
    downtime    T
    whole run   T
    steps done  19 of 19
    problems    0

    What to do next
      - Point A and AAAA of the instance's names at NEW-IP; `transhume dns` tells what the world sees.
      - Keep the old server running as a proxy until `transhume dns` says that its addresses are forgotten.
      - Renew certificates on the new server once DNS points there (certbot).
      - The old Mastodon stays fenced; keep its data until you trust the new one.

    Steps
        1  hh:mm:ss           T  Lock both servers against a second move: done
        2  hh:mm:ss              Copy configuration files to the new server: skipped: `copy` asks for none
        3  hh:mm:ss           T  Copy the media while the old server is live: done
        4  hh:mm:ss           T  Answer 503 with Retry-After on the old server: done
        5  hh:mm:ss           T  Let Sidekiq finish its jobs and take no more: done
        6  hh:mm:ss           T  Stop the old Mastodon and keep it from starting again: done
        7  hh:mm:ss           T  Copy what changed in the media since: done
        8  hh:mm:ss           T  Copy the database and compare it: done
        9  hh:mm:ss           T  Copy Redis: queued jobs, feeds, counters: done
       10  hh:mm:ss           T  Write .env.production on the new server: done
       11  hh:mm:ss           T  Try the new web process in the dark: done
       12  hh:mm:ss           T  Hand database and Redis of the new server over to Mastodon: done
       13  hh:mm:ss           T  Start the new Mastodon: done
       14  hh:mm:ss           T  Prove the new server through its nginx: done
       15  hh:mm:ss           T  Pass requests on from the old server to the new one: done
       16  hh:mm:ss           T  Build home feeds: done
       17  hh:mm:ss              Fill the search index: skipped: no Elasticsearch
       18  hh:mm:ss           T  Look at all media on both sides once more: done
       19  hh:mm:ss           T  Release the lock on both servers: done

    What was verified
      - Lock both servers against a second move: both servers name this move
      - Copy the media while the old server is live: 71 files copied, SIZE
      - Answer 503 with Retry-After on the old server: 503 with Retry-After: 300
      - Let Sidekiq finish its jobs and take no more: idle after T
      - Stop the old Mastodon and keep it from starting again: nothing of the old Mastodon runs, is enabled, or can be started
      - Copy what changed in the media since: nothing to copy: 72 files are there; scanned again: no difference
      - Copy the database and compare it: equal on both sides: 54 tables with N rows, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
      - Copy Redis: queued jobs, feeds, counters: N keys the same on both sides
      - Write .env.production on the new server: 0600; the new server's own: DB_PASS, DB_PORT, REDIS_PASSWORD, REDIS_PORT
      - Try the new web process in the dark: it started, answered /health, also through nginx, and was stopped; Mastodon 4.6.0; a secret was decrypted
      - Hand database and Redis of the new server over to Mastodon: no mark of ours is left
      - Start the new Mastodon: 6 units run; /health answered 200 OK; /api/v1/streaming/health answered 200 OK
      - Prove the new server through its nginx: through nginx: /health answered 200 OK; / answered 200; /actor is https://sandbox.example/actor
      - Pass requests on from the old server to the new one: a request to the old server: 200, passed on to the new server
      - Build home feeds: Regenerated feeds for 3 accounts
      - Look at all media on both sides once more: 72 files of the old server are all there
      - Release the lock on both servers: both servers are free

    Notes
      hh:mm:ss  Redis: N keys copied, SIZE

    Environment
      from           this server
      to             127.0.0.1
      transhume      0.1.0
      run            RUN
      old directory  OLD/home/mastodon/live
      new directory  NEW/home/mastodon/live

    As a page: DIR/state/report-RUN.html
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["migrate", "--yes"]), @"
    ! yyyy-mm-dd hh:mm:ss  This move is done; `transhume report` tells what happened.
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["plan"]), @"
    ! yyyy-mm-dd hh:mm:ss  This move is done; `transhume report` tells what happened.
    [exit 0]
    ");
    assert_snapshot!(reader.read(&["rollback", "--yes"]), @"
    ! transhume: there is no unfinished move to roll back
    !   hint: `transhume status` shows what was done
    [exit 2]
    ");
}
