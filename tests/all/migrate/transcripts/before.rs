//! Before a move: the verbs that look, and a first configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use super::{Reader, transhume};

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
    18 in order
      ✓ source  … MACHINE
      ✓ target  … MACHINE
      ✓ clocks                        they agree
      ✓ Mastodon's version            4.6.0 (5f3c2a1b0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a)
      ✓ units on the source           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-streaming@PORT, mastodon-web
      ✓ units on the target           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-web
      ✓ environment                   all secrets are there
      ✓ database: PostgreSQL version  source VERSION, target VERSION
      ✓ database: locale              UTF8, collate C.UTF-8, ctype C.UTF-8: the target has it
      ✓ database: disk                the target has SIZE free, the database takes SIZE on the source (SIZE of it indexes); up to SIZE of write-ahead log come on top
      ✓ database: unique indexes      94 looked at, no duplicates
      ✓ database: foreign keys        68 looked at, no row points to nothing
      ✓ Redis                         N keys, Redis VERSION on both sides
      ✓ media                         71 files, SIZE, in OLD/home/mastodon/live/public/system
      ✓ disk on the target            SIZE free on MOUNT
      ✓ nginx on the source           OLD/site.conf
      ✓ nginx on the target           NEW/site.conf
      ✓ expected time                 the step `database` takes about T: rows T, indexes T, foreign keys T, comparison T

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
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"database: disk","text":"the target has SIZE free, the database takes SIZE on the source (SIZE of it indexes); up to SIZE of write-ahead log come on top"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"database: unique indexes","text":"94 looked at, no duplicates"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"database: foreign keys","text":"68 looked at, no row points to nothing"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"Redis","text":"N keys, Redis VERSION on both sides"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"media","text":"71 files, SIZE, in OLD/home/mastodon/live/public/system"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"disk on the target","text":"SIZE free on MOUNT"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"nginx on the source","text":"OLD/site.conf"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"nginx on the target","text":"NEW/site.conf"}
    {"at":"AT","event":"finding","level":"ok","remedy":null,"subject":"expected time","text":"the step `database` takes about T: rows T, indexes T, foreign keys T, comparison T"}
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
       8  database     Copy the database and compare it                            about T
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
    {"digest":"DIGEST","job":"this server:OLD/home/mastodon/live → 127.0.0.1:NEW/home/mastodon/live","run":null,"steps":[{"done":false,"number":1,"past_no_return":false,"predicted_millis":null,"segment":"prepare","step":"lock","title":"Lock both servers against a second move"},{"done":false,"number":2,"past_no_return":false,"predicted_millis":null,"segment":"prepare","step":"files","title":"Copy configuration files to the new server"},{"done":false,"number":3,"past_no_return":false,"predicted_millis":null,"segment":"prepare","step":"media","title":"Copy the media while the old server is live"},{"done":false,"number":4,"past_no_return":false,"predicted_millis":null,"segment":"cutover","step":"maintenance","title":"Answer 503 with Retry-After on the old server"},{"done":false,"number":5,"past_no_return":false,"predicted_millis":null,"segment":"cutover","step":"quiet","title":"Let Sidekiq finish its jobs and take no more"},{"done":false,"number":6,"past_no_return":false,"predicted_millis":null,"segment":"cutover","step":"fence","title":"Stop the old Mastodon and keep it from starting again"},{"done":false,"number":7,"past_no_return":false,"predicted_millis":null,"segment":"cutover","step":"media-final","title":"Copy what changed in the media since"},{"done":false,"number":8,"past_no_return":false,"predicted_millis":"MILLIS","segment":"cutover","step":"database","title":"Copy the database and compare it"},{"done":false,"number":9,"past_no_return":false,"predicted_millis":null,"segment":"cutover","step":"redis","title":"Copy Redis: queued jobs, feeds, counters"},{"done":false,"number":10,"past_no_return":false,"predicted_millis":null,"segment":"cutover","step":"env","title":"Write .env.production on the new server"},{"done":false,"number":11,"past_no_return":false,"predicted_millis":null,"segment":"cutover","step":"dark-probe","title":"Try the new web process in the dark"},{"done":false,"number":12,"past_no_return":true,"predicted_millis":null,"segment":"cutover","step":"adopt","title":"Hand database and Redis of the new server over to Mastodon"},{"done":false,"number":13,"past_no_return":true,"predicted_millis":null,"segment":"cutover","step":"start","title":"Start the new Mastodon"},{"done":false,"number":14,"past_no_return":true,"predicted_millis":null,"segment":"cutover","step":"prove","title":"Prove the new server through its nginx"},{"done":false,"number":15,"past_no_return":true,"predicted_millis":null,"segment":"cutover","step":"proxy","title":"Pass requests on from the old server to the new one"},{"done":false,"number":16,"past_no_return":true,"predicted_millis":null,"segment":"settle","step":"feeds","title":"Build home feeds"},{"done":false,"number":17,"past_no_return":true,"predicted_millis":null,"segment":"settle","step":"search","title":"Fill the search index"},{"done":false,"number":18,"past_no_return":true,"predicted_millis":null,"segment":"settle","step":"media-check","title":"Look at all media on both sides once more"},{"done":false,"number":19,"past_no_return":true,"predicted_millis":null,"segment":"settle","step":"unlock","title":"Release the lock on both servers"}]}
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
    Source directories  N
    Source size         SIZE
    Files transferred   71
    Size of these       SIZE
    Literal data        SIZE
    Matched data        SIZE
    Other changes       N
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
    ! yyyy-mm-dd hh:mm:ss  database is expected to take about T: rows T, indexes T, foreign keys T, comparison T
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
    17 in order
      ✓ source  … MACHINE
      ✓ target  … MACHINE
      ✓ clocks                        they agree
      ✓ Mastodon's version            4.6.0 (5f3c2a1b0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a)
      ✓ units on the source           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-streaming@PORT, mastodon-web
      ✓ units on the target           mastodon-media-remove, mastodon-media-remove.timer, mastodon-sidekiq-pull, mastodon-sidekiq, mastodon-streaming, mastodon-streaming@, mastodon-web
      ✓ environment                   all secrets are there
      ✓ database: PostgreSQL version  source VERSION, target VERSION
      ✓ database: locale              UTF8, collate C.UTF-8, ctype C.UTF-8: the target has it
      ✓ database: disk                the target has SIZE free, the database takes SIZE on the source (SIZE of it indexes); up to SIZE of write-ahead log come on top
      ✓ database: unique indexes      94 looked at, no duplicates
      ✓ database: foreign keys        68 looked at, no row points to nothing
      ✓ media                         71 files, SIZE, in OLD/home/mastodon/live/public/system
      ✓ disk on the target            SIZE free on MOUNT
      ✓ nginx on the source           OLD/site.conf
      ✓ nginx on the target           NEW/site.conf
      ✓ expected time                 the step `database` takes about T: rows T, indexes T, foreign keys T, comparison T

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
    ! transhume: check found 1 refusal; nothing was changed
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
