//! A move that is stopped on its way, looked at, and undone.

use std::fs;

use insta::assert_snapshot;

use super::Reader;
use crate::harness::sandbox::DATABASE;

#[test]
fn a_move_that_is_stopped_and_undone() {
    let reader = Reader::start();
    assert_snapshot!(reader.read(&["migrate", "--yes", "--until", "media"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  database is expected to take about T: rows T, indexes T, foreign keys T, comparison T
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
    ! yyyy-mm-dd hh:mm:ss  step 8/19 database done after T: equal on both sides: 54 tables with N rows and their content, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
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
    ! yyyy-mm-dd hh:mm:ss  Database: compared 54 tables with N rows and their content, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
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
    ! yyyy-mm-dd hh:mm:ss  problem: database: table "public"."mentions" has N rows on the target, 100 on the source: id 2, 8, 16, 18, 26, 28, 32, 34, 36, 40 missing; and more
    ! yyyy-mm-dd hh:mm:ss  problem: redis: feed:home:1:reblogs: not on the new server
    ! yyyy-mm-dd hh:mm:ss  problem: media: 12 files missing or different
    ! yyyy-mm-dd hh:mm:ss  Database: compared 54 tables with N rows and their content, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
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
        8  hh:mm:ss           T  Copy the database and compare it: undone (predicted: T)
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
