//! A whole move, and what is asked about it afterwards.

use insta::assert_snapshot;

use super::Reader;

#[test]
fn a_whole_move() {
    let reader = Reader::start();
    assert_snapshot!(reader.read(&["migrate", "--yes"]), @"
    ! yyyy-mm-dd hh:mm:ss  migrate started, run RUN, times in UTC
    ! yyyy-mm-dd hh:mm:ss  database is expected to take about T: rows T, indexes T, foreign keys T, comparison T
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
    ! yyyy-mm-dd hh:mm:ss  step 8/19 database done after T: equal on both sides: 54 tables with N rows and their content, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
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
        8  hh:mm:ss           T  Copy the database and compare it: done (predicted: T)
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
      - Copy the database and compare it: equal on both sides: 54 tables with N rows and their content, 50 sequences, 1 schema, 1 extension, 542 columns, 3 views, 128 indexes, 122 constraints, 1 function
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
