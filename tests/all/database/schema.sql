-- A small database shaped like Mastodon's, with the traps of the real one: snowflake ids from
-- free-standing sequences, expression and partial indexes, materialized views that depend on each
-- other, and names that need quotes.
CREATE FUNCTION timestamp_id(table_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  time_part bigint;
  sequence_base bigint;
  tail bigint;
BEGIN
  time_part := (date_part('epoch', now()) * 1000)::bigint << 16;
  sequence_base := ('x' || substr(md5(table_name || 'b1946ac92492d234' || time_part::text), 1, 4))::bit(16)::bigint;
  tail := ((sequence_base + nextval(table_name || '_id_seq')) & 65535);
  RETURN time_part | tail;
END
$$;

CREATE SEQUENCE accounts_id_seq;
CREATE SEQUENCE statuses_id_seq;
CREATE SEQUENCE media_attachments_id_seq;

CREATE TYPE visibility AS ENUM ('public', 'unlisted', 'private "quoted"');
CREATE DOMAIN handle AS text CHECK (value ~ '^[a-z0-9_]+$');

CREATE TABLE accounts (
  id bigint DEFAULT timestamp_id('accounts') PRIMARY KEY,
  username handle NOT NULL,
  domain varchar,
  private_key text,
  note text DEFAULT '' NOT NULL,
  fields jsonb,
  also_known_as varchar[],
  created_at timestamp(6) without time zone DEFAULT now() NOT NULL
);
CREATE UNIQUE INDEX index_accounts_on_username_and_domain_lower
  ON accounts (lower(username::text), COALESCE(lower(domain::text), ''::text));
CREATE INDEX search_index ON accounts USING gin (to_tsvector('pg_catalog.simple', note));

CREATE TABLE statuses (
  id bigint DEFAULT timestamp_id('statuses') PRIMARY KEY,
  uri varchar,
  text text DEFAULT '' NOT NULL,
  visibility visibility DEFAULT 'public' NOT NULL,
  in_reply_to_id bigint REFERENCES statuses (id) ON DELETE SET NULL,
  account_id bigint NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
  deleted_at timestamp without time zone
);
CREATE UNIQUE INDEX index_statuses_on_uri ON statuses (uri text_pattern_ops) WHERE uri IS NOT NULL;
CREATE INDEX index_statuses_local ON statuses (id DESC, account_id)
  WHERE visibility = 'public' AND deleted_at IS NULL;
COMMENT ON TABLE statuses IS 'posts; it''s what people write';

CREATE TABLE media_attachments (
  id bigint DEFAULT timestamp_id('media_attachments') PRIMARY KEY,
  status_id bigint REFERENCES statuses (id) ON DELETE SET NULL,
  blurhash varchar,
  data bytea
);

CREATE TABLE tags (
  id bigserial PRIMARY KEY,
  name varchar DEFAULT '' NOT NULL
);
CREATE UNIQUE INDEX index_tags_on_name_lower_btree ON tags (lower(name::text) varchar_pattern_ops);

CREATE TABLE statuses_tags (
  status_id bigint NOT NULL REFERENCES statuses (id),
  tag_id bigint NOT NULL REFERENCES tags (id),
  PRIMARY KEY (tag_id, status_id)
);

CREATE TABLE preview_cards (id bigserial PRIMARY KEY, url varchar DEFAULT '' NOT NULL);
CREATE UNIQUE INDEX index_preview_cards_on_url ON preview_cards (url);

CREATE TABLE "Odd ""Names""" (
  "select" integer GENERATED ALWAYS AS IDENTITY,
  "straße; --" text COLLATE "C",
  doubled integer GENERATED ALWAYS AS (length("straße; --") * 2) STORED,
  dropped integer
);
ALTER TABLE "Odd ""Names""" DROP COLUMN dropped;
CREATE TABLE nothing ();
CREATE TABLE schema_migrations (version varchar NOT NULL);
ALTER TABLE media_attachments ADD CONSTRAINT blurhash_is_short CHECK (length(blurhash) < 100) NOT VALID;

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.note := COALESCE(NEW.note, ''); RETURN NEW; END $$;
CREATE TRIGGER touch_account BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION touch();

CREATE VIEW user_ips AS SELECT id AS user_id, created_at FROM accounts WHERE domain IS NULL;
CREATE MATERIALIZED VIEW account_summaries AS
  SELECT a.id AS account_id, count(s.id) AS posts
  FROM accounts a LEFT JOIN statuses s ON s.account_id = a.id GROUP BY a.id;
CREATE UNIQUE INDEX index_account_summaries ON account_summaries (account_id);
CREATE MATERIALIZED VIEW global_follow_recommendations AS
  SELECT account_id FROM account_summaries WHERE posts > 3;
CREATE MATERIALIZED VIEW instances AS SELECT domain FROM accounts GROUP BY domain WITH NO DATA;
CREATE STATISTICS account_statistics ON username, domain FROM accounts;

INSERT INTO accounts (username, domain, private_key, note, fields, also_known_as)
  SELECT 'user_' || i, CASE WHEN i % 3 > 0 THEN 'host' || i % 50 || '.example' END,
    CASE WHEN i % 3 = 0 THEN 'KEY ' || md5(i::text) END, 'hello wörld 🐘 ' || i,
    jsonb_build_object('name', i, 'value', E'a "quote" \\ and\ttab'),
    ARRAY['https://a.example/' || i, 'with, comma', NULL]
  FROM generate_series(1, 500) i;
INSERT INTO statuses (uri, text, visibility, account_id)
  SELECT 'https://host.example/' || a.id || '/' || i, repeat(md5(a.id::text || i), 10),
    (ARRAY['public', 'unlisted', 'private "quoted"'])[1 + i % 3]::visibility, a.id
  FROM accounts a, generate_series(1, 20) i WHERE a.id % 4 > 0;
INSERT INTO media_attachments (status_id, blurhash, data)
  SELECT id, CASE WHEN id % 2 = 0 THEN 'U~' END, decode(repeat(md5(id::text), 4) || '00ff5c0a', 'hex')
  FROM statuses LIMIT 1000;
INSERT INTO tags (name) SELECT 'Tag' || i FROM generate_series(1, 300) i;
INSERT INTO statuses_tags SELECT s.id, t.id FROM (SELECT id FROM statuses LIMIT 200) s, (SELECT id FROM tags LIMIT 5) t;
INSERT INTO preview_cards (url) SELECT 'https://news.example/' || i FROM generate_series(1, 100) i;
INSERT INTO "Odd ""Names""" ("straße; --") VALUES ('a'), (NULL), (E'line\nbreak');
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO schema_migrations VALUES ('20260611150940');
REFRESH MATERIALIZED VIEW account_summaries;
REFRESH MATERIALIZED VIEW global_follow_recommendations;
SELECT lo_from_bytea(424242, '\x00deadbeef');
