-- Rows for a small but complete instance, made inside the database so that 100,000 statuses take
-- seconds. Settings tell how much: seed.statuses, seed.files, seed.accounts, seed.local; and
-- seed.domain, seed.canary (a text that every secret starts with). The same settings give the
-- same rows, apart from times.

SET seed.base_ms = @BASE_MS@;

CREATE FUNCTION pg_temp.n(name text) RETURNS bigint LANGUAGE sql STABLE AS
  $$ SELECT current_setting('seed.' || name)::bigint $$;
-- One year, evenly: when the n-th status was written, and the snowflake id that follows from it.
CREATE FUNCTION pg_temp.ms(n bigint) RETURNS bigint LANGUAGE sql STABLE AS
  $$ SELECT pg_temp.n('base_ms') + n * (31536000000 / pg_temp.n('statuses')) $$;
CREATE FUNCTION pg_temp.at(n bigint) RETURNS timestamp LANGUAGE sql STABLE AS
  $$ SELECT to_timestamp(pg_temp.ms(n) / 1000.0) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION pg_temp.id(n bigint) RETURNS bigint LANGUAGE sql STABLE AS
  $$ SELECT (pg_temp.ms(n) << 16) | (n & 65535) $$;
-- Numbers and names that look random and are the same each time.
CREATE FUNCTION pg_temp.pick(n bigint, bound bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $$ SELECT (hashint8(n)::bigint + 2147483648) % bound $$;
-- Who wrote the n-th status: local people write three in ten.
CREATE FUNCTION pg_temp.author(n bigint) RETURNS bigint LANGUAGE sql STABLE AS
  $$ SELECT 1 + CASE WHEN n % 10 < 3 THEN pg_temp.pick(n, pg_temp.n('local')) ELSE pg_temp.n('local') + pg_temp.pick(n, pg_temp.n('accounts') - pg_temp.n('local')) END $$;
CREATE FUNCTION pg_temp.name(kind text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT substr(md5(kind || n), 1, 16) $$;
CREATE FUNCTION pg_temp.secret(kind text, n bigint) RETURNS text LANGUAGE sql STABLE AS
  $$ SELECT current_setting('seed.canary') || md5(kind || n || current_setting('seed.canary')) $$;

INSERT INTO schema_migrations SELECT to_char(timestamp '2016-02-20 17:49:43' + n * interval '7 days', 'YYYYMMDDHH24MISS') FROM generate_series(0, 510) n;
INSERT INTO schema_migrations VALUES ('20251217091936');
INSERT INTO ar_internal_metadata VALUES
  ('environment', 'production', pg_temp.at(0), pg_temp.at(0)),
  ('schema_sha1', md5('schema'), pg_temp.at(0), pg_temp.at(0));

-- The instance's own actor, local accounts, then accounts of forty other servers.
INSERT INTO accounts (id, username, actor_type, created_at, updated_at, uri, inbox_url, locked)
  VALUES (-99, current_setting('seed.domain'), 'Application', pg_temp.at(0), pg_temp.at(0),
    'https://' || current_setting('seed.domain') || '/actor',
    'https://' || current_setting('seed.domain') || '/actor/inbox', true);

INSERT INTO accounts (id, username, domain, private_key, public_key, created_at, updated_at, note,
    display_name, uri, url, avatar_file_name, avatar_content_type, avatar_file_size, avatar_updated_at,
    avatar_storage_schema_version, header_file_name, header_content_type, header_file_size,
    header_updated_at, header_storage_schema_version, avatar_remote_url, last_webfingered_at,
    inbox_url, outbox_url, shared_inbox_url, followers_url, protocol, fields, actor_type,
    discoverable, also_known_as, locked, silenced_at, suspended_at, suspension_origin)
SELECT (pg_temp.ms(0) - (pg_temp.n('accounts') - n) * 60000 << 16) | (n & 65535), username, domain,
  CASE WHEN local THEN '-----BEGIN RSA PRIVATE KEY-----' || E'\n' || pg_temp.secret('key', n) || E'\n-----END RSA PRIVATE KEY-----' END,
  E'-----BEGIN PUBLIC KEY-----\n' || md5('public' || n) || E'\n-----END PUBLIC KEY-----',
  pg_temp.at(0), pg_temp.at(pg_temp.pick(n, pg_temp.n('statuses'))),
  CASE n % 3 WHEN 0 THEN '' WHEN 1 THEN 'Gärtner. Tee & "Katzen"' || E'\n\tC:\\temp' ELSE '<p>こんにちは 🌻</p>' END,
  CASE WHEN n % 5 = 0 THEN 'Ünïcödé ' || n ELSE initcap(username) END,
  'https://' || host || '/users/' || username, 'https://' || host || '/@' || username,
  CASE WHEN avatar THEN pg_temp.name('avatar', n) || '.png' END, CASE WHEN avatar THEN 'image/png' END,
  CASE WHEN avatar THEN 5000 + pg_temp.pick(n, 35000) END, CASE WHEN avatar THEN pg_temp.at(n) END, 1,
  CASE WHEN header THEN pg_temp.name('header', n) || '.jpg' END, CASE WHEN header THEN 'image/jpeg' END,
  CASE WHEN header THEN 20000 + pg_temp.pick(n, 40000) END, CASE WHEN header THEN pg_temp.at(n + 1) END, 1,
  CASE WHEN avatar AND NOT local THEN 'https://' || host || '/avatars/' || n || '.png' END,
  CASE WHEN NOT local THEN pg_temp.at(1) END,
  'https://' || host || '/users/' || username || '/inbox',
  'https://' || host || '/users/' || username || '/outbox', 'https://' || host || '/inbox',
  'https://' || host || '/users/' || username || '/followers', 1,
  CASE WHEN n % 4 = 0 THEN jsonb_build_array(jsonb_build_object('name', 'Web', 'value', 'https://' || host)) END,
  'Person', n % 3 > 0, CASE WHEN n % 50 = 0 THEN ARRAY['https://elsewhere.example/users/' || username] END,
  n % 11 = 0, CASE WHEN n % 31 = 0 THEN pg_temp.at(5) END, CASE WHEN n % 17 = 0 THEN pg_temp.at(6) END,
  CASE WHEN n % 17 = 0 THEN 0 END
FROM (
  SELECT n, n <= pg_temp.n('local') AS local,
    CASE WHEN n = 1 THEN 'admin' ELSE (ARRAY['Ada', 'grace', 'linus', 'Björk', 'radia', 'ken'])[1 + n % 6] || '_' || n END AS username,
    CASE WHEN n > pg_temp.n('local') THEN 'host' || n % 40 || '.example' END AS domain,
    CASE WHEN n > pg_temp.n('local') THEN 'host' || n % 40 || '.example' ELSE current_setting('seed.domain') END AS host,
    n <= pg_temp.n('files') * 12 / 100 AS avatar, n <= pg_temp.n('files') * 6 / 100 AS header
  FROM generate_series(1, pg_temp.n('accounts')) n
) AS each;

CREATE TEMP TABLE numbered AS
  SELECT row_number() OVER (ORDER BY id) AS n, id, domain IS NULL AS local, username, domain
  FROM accounts WHERE id > 0;
CREATE UNIQUE INDEX ON numbered (n);
ANALYZE numbered;

INSERT INTO user_roles (id, name, color, position, permissions, highlighted, created_at, updated_at) VALUES
  (-99, '', '', -1, 65536, false, pg_temp.at(0), pg_temp.at(0)),
  (1, 'Moderator', '', 10, 1308, true, pg_temp.at(0), pg_temp.at(0)),
  (2, 'Admin', '', 100, 983036, true, pg_temp.at(0), pg_temp.at(0)),
  (3, 'Owner', '', 1000, 1, true, pg_temp.at(0), pg_temp.at(0));
SELECT setval('user_roles_id_seq', 3);

INSERT INTO users (email, created_at, updated_at, encrypted_password, sign_in_count,
    current_sign_in_at, confirmed_at, locale, otp_required_for_login, otp_backup_codes, account_id,
    chosen_languages, sign_up_ip, role_id, settings, time_zone)
SELECT lower(username) || '@mail.example', pg_temp.at(0), pg_temp.at(1),
  '$2a$10$' || pg_temp.secret('password', n), n % 90,
  CASE WHEN n % 3 > 0 THEN now() AT TIME ZONE 'UTC' - n * interval '10 minutes' ELSE pg_temp.at(2) END,
  pg_temp.at(0), (ARRAY['de', 'en', 'ja'])[1 + n % 3], n % 4 = 1,
  CASE WHEN n % 4 = 1 THEN ARRAY['$2a$10$' || pg_temp.secret('backup', n)] END, id,
  CASE WHEN n % 7 = 0 THEN ARRAY['de', 'en'] END, ('192.0.2.' || n % 250)::inet,
  CASE WHEN n = 1 THEN 3 WHEN n = 2 THEN 1 END, '{"theme":"system","notification_emails.mention":true}',
  'Berlin'
FROM numbered WHERE local ORDER BY n;

INSERT INTO oauth_applications (name, uid, secret, redirect_uri, scopes, created_at, updated_at, superapp)
SELECT 'App ' || n, md5('app' || n), pg_temp.secret('app', n), 'urn:ietf:wg:oauth:2.0:oob', 'read write push',
  pg_temp.at(0), pg_temp.at(0), n = 1 FROM generate_series(1, 3) n;
INSERT INTO oauth_access_tokens (token, created_at, scopes, application_id, resource_owner_id, last_used_ip)
SELECT pg_temp.secret('token', id), pg_temp.at(3), 'read write', 1, id, ('2001:db8::' || id)::inet FROM users ORDER BY id;
INSERT INTO session_activations (session_id, created_at, updated_at, user_agent, ip, access_token_id, user_id)
SELECT pg_temp.secret('session', id), pg_temp.at(3), pg_temp.at(4), 'Mozilla/5.0', '198.51.100.7', id, id FROM users ORDER BY id;
INSERT INTO login_activities (user_id, authentication_method, success, ip, user_agent, created_at)
SELECT u.id, 'password', k > 1, ('203.0.113.' || k)::inet, 'Mozilla/5.0', pg_temp.at(k) FROM users u, generate_series(1, 3) k ORDER BY 1;
INSERT INTO web_push_subscriptions (endpoint, key_p256dh, key_auth, data, created_at, updated_at, access_token_id, user_id)
SELECT 'https://push.example/' || id, md5('p256' || id), pg_temp.secret('push', id), '{"policy": "all",  "alerts": {"mention": true}}',
  pg_temp.at(3), pg_temp.at(3), id, id FROM users WHERE id % 2 = 0;
INSERT INTO web_settings (data, created_at, updated_at, user_id)
SELECT '{"onboarded":true, "home":{"shows":{"reply":true}}}', pg_temp.at(3), pg_temp.at(3), id FROM users;
INSERT INTO markers (user_id, timeline, last_read_id, created_at, updated_at)
SELECT id, 'home', pg_temp.id(pg_temp.n('statuses') / 2), pg_temp.at(3), pg_temp.at(3) FROM users;
INSERT INTO invites (user_id, code, max_uses, created_at, updated_at, comment)
SELECT id, pg_temp.name('invite', id), 5, pg_temp.at(3), pg_temp.at(3), 'für Freunde' FROM users WHERE id % 5 = 0;

INSERT INTO conversations (id, uri, created_at, updated_at)
SELECT n, CASE WHEN n % 2 = 0 THEN 'tag:host' || n % 40 || '.example,2025:objectId=' || n || ':objectType=Conversation' END,
  pg_temp.at(n), pg_temp.at(n) FROM generate_series(1, pg_temp.n('statuses')) n WHERE n % 5 > 0;

INSERT INTO statuses (id, uri, text, created_at, updated_at, in_reply_to_id, reblog_of_id, url,
    sensitive, visibility, spoiler_text, reply, language, conversation_id, local, account_id,
    in_reply_to_account_id, deleted_at, edited_at, fetched_replies_at)
SELECT pg_temp.id(s.n), 'https://' || COALESCE(a.domain, current_setting('seed.domain')) || '/users/' || a.username || '/statuses/' || pg_temp.id(s.n),
  CASE WHEN s.n % 10 = 9 THEN '' ELSE s.text END, pg_temp.at(s.n), pg_temp.at(s.n),
  CASE WHEN s.n % 5 = 0 THEN pg_temp.id(s.n - 1) END,
  CASE WHEN s.n % 10 = 9 THEN pg_temp.id(s.n - 1) END,
  CASE WHEN s.n % 10 <> 9 THEN 'https://' || COALESCE(a.domain, current_setting('seed.domain')) || '/@' || a.username || '/' || pg_temp.id(s.n) END,
  s.n % 20 = 0, (ARRAY[0, 0, 0, 1, 2, 3])[1 + pg_temp.pick(s.n, 6)],
  CASE WHEN s.n % 20 = 0 THEN 'CW: Essen' ELSE '' END, s.n % 5 = 0,
  CASE WHEN s.n % 10 <> 9 THEN (ARRAY['de', 'en', 'en', 'ja'])[1 + s.n % 4] END,
  CASE WHEN s.n % 5 = 0 THEN s.n - 1 ELSE s.n END, a.local, a.id,
  CASE WHEN s.n % 5 = 0 THEN parent.id END, CASE WHEN s.n % 97 = 0 THEN pg_temp.at(s.n + 1) END,
  CASE WHEN s.n % 61 = 0 THEN pg_temp.at(s.n + 1) END, CASE WHEN s.n % 40 = 0 THEN pg_temp.at(s.n) + interval '0.123456 s' END
FROM (
  SELECT n, pg_temp.author(n) AS author, pg_temp.author(n - 1) AS parent_author, (
    SELECT string_agg((ARRAY['das', 'ist', 'ein', 'Haus', 'the', 'server', 'moves', 'today', 'ネコ', 'größer',
      '🐘', 'https://blog.example/post?id=' || n, '#Mastodon', '@ada', '\N', E'zwei\nZeilen', E'tab\there', 'naïve',
      'back\slash', 'coffee', 'tomorrow', '"quoted"', 'it''s', '42'])[1 + pg_temp.pick(n * 101 + k, 24)], ' ')
    FROM generate_series(1, 8 + n % 24) k) AS text
  FROM generate_series(1, pg_temp.n('statuses')) n
) AS s
JOIN numbered a ON a.n = s.author LEFT JOIN numbered parent ON parent.n = s.parent_author;

INSERT INTO status_stats (status_id, replies_count, reblogs_count, favourites_count, created_at, updated_at)
SELECT id, pg_temp.pick(id, 4), pg_temp.pick(id + 1, 7), pg_temp.pick(id + 2, 30), created_at, created_at
FROM statuses WHERE reblog_of_id IS NULL AND pg_temp.pick(id, 3) = 0 ORDER BY id;
INSERT INTO account_stats (account_id, statuses_count, following_count, followers_count, created_at, updated_at, last_status_at)
SELECT account_id, count(*), 3, 5, pg_temp.at(0), max(created_at), max(created_at) FROM statuses GROUP BY account_id ORDER BY account_id;

INSERT INTO follows (created_at, updated_at, account_id, target_account_id, uri, languages)
SELECT pg_temp.at(1), pg_temp.at(1), a.id, b.id, 'https://' || current_setting('seed.domain') || '/' || md5(a.n || '-' || b.n),
  CASE WHEN b.n % 30 = 0 THEN ARRAY['de'] END
FROM numbered a CROSS JOIN LATERAL (
  SELECT DISTINCT 1 + pg_temp.pick(a.n * 1000 + k, pg_temp.n('accounts')) AS n FROM generate_series(1, 20) k
) AS pick JOIN numbered b ON b.n = pick.n WHERE a.local AND a.n <> b.n ORDER BY a.n, b.n;
INSERT INTO follow_requests (created_at, updated_at, account_id, target_account_id)
SELECT pg_temp.at(2), pg_temp.at(2), b.id, a.id FROM numbered a JOIN numbered b ON b.n = a.n + pg_temp.n('local') WHERE a.local;
INSERT INTO blocks (created_at, updated_at, account_id, target_account_id)
SELECT pg_temp.at(2), pg_temp.at(2), a.id, b.id FROM numbered a JOIN numbered b ON b.n = a.n + 2 WHERE a.local AND a.n % 4 = 0;
INSERT INTO mutes (created_at, updated_at, account_id, target_account_id, expires_at)
SELECT pg_temp.at(2), pg_temp.at(2), a.id, b.id, 'infinity' FROM numbered a JOIN numbered b ON b.n = a.n + 3 WHERE a.local AND a.n % 4 = 1;
INSERT INTO favourites (created_at, updated_at, account_id, status_id)
SELECT pg_temp.at(k), pg_temp.at(k), a.id, pg_temp.id(k) FROM generate_series(1, pg_temp.n('statuses'), 3) k
JOIN numbered a ON a.n = 1 + pg_temp.pick(k, pg_temp.n('local')) ORDER BY k;
INSERT INTO bookmarks (created_at, updated_at, account_id, status_id)
SELECT pg_temp.at(k), pg_temp.at(k), a.id, pg_temp.id(k) FROM generate_series(1, pg_temp.n('statuses'), 17) k
JOIN numbered a ON a.n = 1 + pg_temp.pick(k, pg_temp.n('local')) ORDER BY k;
INSERT INTO mentions (created_at, updated_at, account_id, status_id)
SELECT pg_temp.at(k), pg_temp.at(k), a.id, pg_temp.id(k) FROM generate_series(5, pg_temp.n('statuses'), 5) k
JOIN numbered a ON a.n = pg_temp.author(k - 1) ORDER BY k;
INSERT INTO notifications (activity_id, activity_type, created_at, updated_at, account_id, from_account_id, type, group_key)
SELECT f.id, 'Favourite', f.created_at, f.created_at, s.account_id, f.account_id, 'favourite',
  CASE WHEN f.id % 2 = 0 THEN 'favourite-' || f.status_id END
FROM favourites f JOIN statuses s ON s.id = f.status_id WHERE s.local ORDER BY f.id;
INSERT INTO notification_requests (account_id, from_account_id, last_status_id, notifications_count, created_at, updated_at)
SELECT a.id, b.id, pg_temp.id(a.n), 2, pg_temp.at(2), pg_temp.at(2) FROM numbered a JOIN numbered b ON b.n = a.n + 5 WHERE a.local AND a.n % 6 = 0;
INSERT INTO quotes (account_id, status_id, quoted_status_id, quoted_account_id, state, created_at, updated_at)
SELECT account_id, id, reblog_of_id, NULL, 1, created_at, created_at FROM statuses WHERE reblog_of_id IS NOT NULL AND pg_temp.pick(id, 50) = 0;
INSERT INTO status_pins (account_id, status_id, created_at, updated_at)
SELECT account_id, max(id), pg_temp.at(4), pg_temp.at(4) FROM statuses WHERE local GROUP BY account_id;
INSERT INTO account_conversations (account_id, conversation_id, participant_account_ids, status_ids, last_status_id)
SELECT account_id, conversation_id, ARRAY[account_id], ARRAY[id], id FROM statuses WHERE visibility = 3 AND local AND conversation_id % 5 > 0;

INSERT INTO tags (name, created_at, updated_at, usable, display_name, max_score)
SELECT name, pg_temp.at(1), pg_temp.at(2), true, initcap(name), length(name) / 3.0
FROM unnest(ARRAY['mastodon', 'größe', 'straße', 'ネコ', 'caturday', 'éire', 'rust', 'fediverse', '日本', 'тест']) name;
INSERT INTO tags (name, created_at, updated_at) SELECT 'tag' || n, pg_temp.at(1), pg_temp.at(1) FROM generate_series(11, 200) n;
INSERT INTO statuses_tags (status_id, tag_id)
SELECT DISTINCT pg_temp.id(n), 1 + pg_temp.pick(n + k, 200) FROM generate_series(1, pg_temp.n('statuses'), 4) n, generate_series(1, 2) k;
INSERT INTO tag_follows (tag_id, account_id, created_at, updated_at) SELECT 1 + n % 10, id, pg_temp.at(3), pg_temp.at(3) FROM numbered WHERE local;
INSERT INTO lists (account_id, title, created_at, updated_at) SELECT id, 'Freunde', pg_temp.at(3), pg_temp.at(3) FROM numbered WHERE local AND n % 3 = 0;
INSERT INTO list_accounts (list_id, account_id, follow_id)
SELECT l.id, f.target_account_id, f.id FROM lists l JOIN follows f ON f.account_id = l.account_id WHERE f.id % 2 = 0;
INSERT INTO polls (account_id, status_id, expires_at, options, cached_tallies, votes_count, created_at, updated_at)
SELECT a.id, pg_temp.id(k), pg_temp.at(k + 9), ARRAY['Ja, "klar"', 'Nein', 'a,b{c}'], ARRAY[3, 2, 0], 5, pg_temp.at(k), pg_temp.at(k)
FROM generate_series(11, pg_temp.n('statuses'), 500) k JOIN numbered a ON a.n = pg_temp.author(k);
INSERT INTO poll_votes (account_id, poll_id, choice, created_at, updated_at)
SELECT a.id, p.id, a.n % 3, p.created_at, p.created_at FROM polls p JOIN numbered a ON a.n <= 5;
INSERT INTO reports (status_ids, comment, created_at, updated_at, account_id, target_account_id, rule_ids)
SELECT ARRAY[pg_temp.id(a.n)], 'Spam?', pg_temp.at(5), pg_temp.at(5), a.id, b.id, ARRAY[1] FROM numbered a JOIN numbered b ON b.n = a.n + 7 WHERE a.local AND a.n % 9 = 0;
INSERT INTO rules (text, created_at, updated_at) VALUES ('Seid nett', pg_temp.at(0), pg_temp.at(0)), ('Kein Spam', pg_temp.at(0), pg_temp.at(0));
INSERT INTO domain_blocks (domain, created_at, updated_at, severity, public_comment) VALUES
  ('spam.example', pg_temp.at(1), pg_temp.at(1), 1, 'spam'), ('host3.example', pg_temp.at(1), pg_temp.at(1), 0, NULL);
INSERT INTO unavailable_domains (domain, created_at, updated_at) VALUES ('gone.example', pg_temp.at(1), pg_temp.at(1));
INSERT INTO account_domain_blocks (domain, created_at, updated_at, account_id) SELECT 'spam.example', pg_temp.at(1), pg_temp.at(1), id FROM numbered WHERE local AND n % 5 = 0;
INSERT INTO ip_blocks (ip, severity, created_at, updated_at) VALUES ('198.51.100.0/24', 9999, pg_temp.at(1), pg_temp.at(1)), ('2001:db8:bad::/48', 5000, pg_temp.at(1), pg_temp.at(1));
INSERT INTO tombstones (account_id, uri, created_at, updated_at) SELECT id, 'https://host1.example/gone/' || n, pg_temp.at(2), pg_temp.at(2) FROM numbered WHERE n % 10 = 0;
INSERT INTO custom_filters (account_id, phrase, context, created_at, updated_at) SELECT id, 'Politik', ARRAY['home', 'public'], pg_temp.at(2), pg_temp.at(2) FROM numbered WHERE local AND n % 4 = 0;
INSERT INTO settings (var, value, created_at, updated_at) VALUES
  ('site_title', E'--- Sandbox für transhume\n', pg_temp.at(0), pg_temp.at(0)), ('registrations_mode', E'--- approved\n', pg_temp.at(0), pg_temp.at(0));
INSERT INTO scheduled_statuses (account_id, scheduled_at, params)
SELECT id, now() AT TIME ZONE 'UTC' + interval '30 days', jsonb_build_object('text', 'später', 'visibility', 'public') FROM numbered WHERE local AND n % 6 = 0;

-- Rows that have files: what lies where is told by files.sql.
INSERT INTO media_attachments (id, status_id, file_file_name, file_content_type, file_file_size,
    file_updated_at, remote_url, created_at, updated_at, type, file_meta, account_id, description,
    blurhash, file_storage_schema_version)
SELECT pg_temp.id(s.n) + 7, pg_temp.id(s.n), pg_temp.name('media', m) || CASE WHEN m % 300 = 20 THEN '.mp4' ELSE '.jpg' END,
  CASE WHEN m % 300 = 20 THEN 'video/mp4' ELSE 'image/jpeg' END,
  CASE WHEN m % 300 = 20 THEN 1500000 + pg_temp.pick(m, 2500000) ELSE 5000 + pg_temp.pick(m, 55000) END,
  pg_temp.at(s.n), CASE WHEN a.local THEN '' ELSE 'https://' || a.domain || '/media/' || m END, pg_temp.at(s.n), pg_temp.at(s.n),
  CASE WHEN m % 300 = 20 THEN 2 ELSE 0 END, '{"original": {"width":1280,  "height":720}}', a.id,
  CASE WHEN m % 4 = 0 THEN 'Eine Katze auf dem Dach' END, 'UBL_:rOpGG-;~qRjWBay', 1
FROM (SELECT m, m * pg_temp.n('statuses') / (pg_temp.n('files') * 35 / 100 + 1) + 1 AS n
  FROM generate_series(1, pg_temp.n('files') * 35 / 100) m) s
JOIN numbered a ON a.n = pg_temp.author(s.n);
UPDATE statuses SET ordered_media_attachment_ids = ARRAY[m.id] FROM media_attachments m WHERE m.status_id = statuses.id;
INSERT INTO preview_cards (url, title, image_file_name, image_content_type, image_file_size, image_updated_at,
    created_at, updated_at, image_storage_schema_version, max_score, published_at)
SELECT 'https://news.example/' || n, 'Nachricht ' || n, pg_temp.name('card', n) || '.jpg', 'image/jpeg',
  8000 + pg_temp.pick(n, 40000), pg_temp.at(n), pg_temp.at(n), pg_temp.at(n), 1, n / 7.0, pg_temp.at(n)
FROM generate_series(1, pg_temp.n('files') * 8 / 100) n;
INSERT INTO preview_cards_statuses (preview_card_id, status_id) SELECT id, pg_temp.id(id) FROM preview_cards WHERE id <= pg_temp.n('statuses');
INSERT INTO custom_emojis (shortcode, domain, image_file_name, image_content_type, image_file_size,
    image_updated_at, created_at, updated_at, image_remote_url, image_storage_schema_version)
SELECT 'emoji' || n, CASE WHEN n % 2 = 0 THEN 'host' || n % 40 || '.example' END, pg_temp.name('emoji', n) || '.png', 'image/png',
  1500 + pg_temp.pick(n, 6000), pg_temp.at(n), pg_temp.at(n), pg_temp.at(n), CASE WHEN n % 2 = 0 THEN 'https://host.example/e/' || n END, 1
FROM generate_series(1, greatest(1, pg_temp.n('files') * 2 / 100)) n;
INSERT INTO site_uploads (var, file_file_name, file_content_type, file_file_size, file_updated_at, created_at, updated_at, meta)
VALUES ('thumbnail', pg_temp.name('site', 1) || '.png', 'image/png', 40000, pg_temp.at(1), pg_temp.at(1), pg_temp.at(1), '{}'),
  ('app_icon', pg_temp.name('site', 2) || '.png', 'image/png', 9000, pg_temp.at(2), pg_temp.at(2), pg_temp.at(2), '{}');
INSERT INTO backups (user_id, dump_file_name, dump_content_type, dump_updated_at, processed, created_at, updated_at, dump_file_size)
VALUES (1, 'archive-20260101120000-' || pg_temp.name('backup', 1) || '.zip', 'application/zip', pg_temp.at(3), true, pg_temp.at(3), pg_temp.at(3), 700000);

SELECT setval('conversations_id_seq', pg_temp.n('statuses')), setval('accounts_id_seq', pg_temp.n('accounts')),
  setval('statuses_id_seq', pg_temp.n('statuses')), setval('media_attachments_id_seq', 1 + pg_temp.n('files') * 35 / 100);
