-- The tables of a Mastodon 4.6 instance that matter for a move, with their real column types,
-- keys and defaults. Indexes, foreign keys and views follow in indexes.sql, after the rows.

CREATE FUNCTION timestamp_id(table_name text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
  time_part bigint;
  sequence_base bigint;
BEGIN
  time_part := (date_part('epoch', now()) * 1000)::bigint << 16;
  sequence_base :=
    ('x' || substr(md5(table_name || '@SALT@' || time_part::text), 1, 4))::bit(16)::bigint;
  RETURN time_part | ((sequence_base + nextval(table_name || '_id_seq')) & 65535);
END
$body$;

-- Nothing owns these: timestamp_id names them at run time.
CREATE SEQUENCE accounts_id_seq;
CREATE SEQUENCE statuses_id_seq;
CREATE SEQUENCE media_attachments_id_seq;
CREATE SEQUENCE notification_requests_id_seq;
CREATE SEQUENCE quotes_id_seq;

CREATE TABLE schema_migrations (version varchar PRIMARY KEY);
CREATE TABLE ar_internal_metadata (
  key varchar PRIMARY KEY, value varchar,
  created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);

CREATE TABLE accounts (
  id bigint PRIMARY KEY DEFAULT timestamp_id('accounts'::text),
  username varchar NOT NULL DEFAULT '', domain varchar,
  private_key text, public_key text NOT NULL DEFAULT '',
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  note text NOT NULL DEFAULT '', display_name varchar NOT NULL DEFAULT '',
  uri varchar NOT NULL DEFAULT '', url varchar,
  avatar_file_name varchar, avatar_content_type varchar, avatar_file_size integer,
  avatar_updated_at timestamp,
  header_file_name varchar, header_content_type varchar, header_file_size integer,
  header_updated_at timestamp,
  avatar_remote_url varchar, locked boolean NOT NULL DEFAULT false,
  header_remote_url varchar NOT NULL DEFAULT '', last_webfingered_at timestamp,
  inbox_url varchar NOT NULL DEFAULT '', outbox_url varchar NOT NULL DEFAULT '',
  shared_inbox_url varchar NOT NULL DEFAULT '', followers_url varchar NOT NULL DEFAULT '',
  protocol integer NOT NULL DEFAULT 0, memorial boolean NOT NULL DEFAULT false,
  moved_to_account_id bigint, featured_collection_url varchar, fields jsonb, actor_type varchar,
  discoverable boolean, also_known_as varchar[], silenced_at timestamp, suspended_at timestamp,
  hide_collections boolean, avatar_storage_schema_version integer,
  header_storage_schema_version integer, sensitized_at timestamp, suspension_origin integer,
  trendable boolean, reviewed_at timestamp, requested_review_at timestamp,
  indexable boolean NOT NULL DEFAULT false, attribution_domains varchar[] DEFAULT '{}',
  following_url varchar NOT NULL DEFAULT '', id_scheme integer DEFAULT 1,
  feature_approval_policy integer NOT NULL DEFAULT 0
);

CREATE TABLE account_stats (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL,
  statuses_count bigint NOT NULL DEFAULT 0, following_count bigint NOT NULL DEFAULT 0,
  followers_count bigint NOT NULL DEFAULT 0, created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, last_status_at timestamp
);

CREATE TABLE account_conversations (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, conversation_id bigint NOT NULL,
  participant_account_ids bigint[] NOT NULL DEFAULT '{}', status_ids bigint[] NOT NULL DEFAULT '{}',
  last_status_id bigint, lock_version integer NOT NULL DEFAULT 0, unread boolean NOT NULL DEFAULT false
);

CREATE TABLE account_domain_blocks (
  id bigserial PRIMARY KEY, domain varchar NOT NULL, created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, account_id bigint NOT NULL
);

CREATE TABLE backups (
  id bigserial PRIMARY KEY, user_id bigint, dump_file_name varchar, dump_content_type varchar,
  dump_updated_at timestamp, processed boolean NOT NULL DEFAULT false,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL, dump_file_size bigint
);

CREATE TABLE blocks (
  id bigserial PRIMARY KEY, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  account_id bigint NOT NULL, target_account_id bigint NOT NULL, uri varchar
);

CREATE TABLE bookmarks (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, status_id bigint NOT NULL,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL
);

CREATE TABLE conversations (
  id bigserial PRIMARY KEY, uri varchar, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  parent_status_id bigint, parent_account_id bigint
);

CREATE TABLE custom_emojis (
  id bigserial PRIMARY KEY, shortcode varchar NOT NULL DEFAULT '', domain varchar,
  image_file_name varchar, image_content_type varchar, image_file_size integer,
  image_updated_at timestamp, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  disabled boolean NOT NULL DEFAULT false, uri varchar, image_remote_url varchar,
  visible_in_picker boolean NOT NULL DEFAULT true, category_id bigint,
  image_storage_schema_version integer
);

CREATE TABLE custom_filters (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, expires_at timestamp,
  phrase text NOT NULL DEFAULT '', context varchar[] NOT NULL DEFAULT '{}',
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL, action integer NOT NULL DEFAULT 0
);

CREATE TABLE domain_allows (
  id bigserial PRIMARY KEY, domain varchar NOT NULL DEFAULT '',
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL
);

CREATE TABLE domain_blocks (
  id bigserial PRIMARY KEY, domain varchar NOT NULL DEFAULT '', created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, severity integer DEFAULT 0, reject_media boolean NOT NULL DEFAULT false,
  reject_reports boolean NOT NULL DEFAULT false, private_comment text, public_comment text,
  obfuscate boolean NOT NULL DEFAULT false
);

CREATE TABLE favourites (
  id bigserial PRIMARY KEY, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  account_id bigint NOT NULL, status_id bigint NOT NULL
);

CREATE TABLE follows (
  id bigserial PRIMARY KEY, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  account_id bigint NOT NULL, target_account_id bigint NOT NULL,
  show_reblogs boolean NOT NULL DEFAULT true, uri varchar, notify boolean NOT NULL DEFAULT false,
  languages varchar[]
);

CREATE TABLE follow_requests (
  id bigserial PRIMARY KEY, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  account_id bigint NOT NULL, target_account_id bigint NOT NULL,
  show_reblogs boolean NOT NULL DEFAULT true, uri varchar, notify boolean NOT NULL DEFAULT false,
  languages varchar[]
);

CREATE TABLE invites (
  id bigserial PRIMARY KEY, user_id bigint NOT NULL, code varchar NOT NULL DEFAULT '',
  expires_at timestamp, max_uses integer, uses integer NOT NULL DEFAULT 0,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  autofollow boolean NOT NULL DEFAULT false, comment text
);

CREATE TABLE ip_blocks (
  id bigserial PRIMARY KEY, ip inet NOT NULL DEFAULT '0.0.0.0', severity integer NOT NULL DEFAULT 0,
  expires_at timestamp, comment text NOT NULL DEFAULT '', created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL
);

CREATE TABLE lists (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, title varchar NOT NULL DEFAULT '',
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  replies_policy integer NOT NULL DEFAULT 0, exclusive boolean NOT NULL DEFAULT false
);

CREATE TABLE list_accounts (
  id bigserial PRIMARY KEY, list_id bigint NOT NULL, account_id bigint NOT NULL,
  follow_id bigint, follow_request_id bigint
);

CREATE TABLE login_activities (
  id bigserial PRIMARY KEY, user_id bigint NOT NULL, authentication_method varchar,
  provider varchar, success boolean, failure_reason varchar, ip inet, user_agent varchar,
  created_at timestamp
);

CREATE TABLE markers (
  id bigserial PRIMARY KEY, user_id bigint NOT NULL, timeline varchar NOT NULL DEFAULT '',
  last_read_id bigint NOT NULL DEFAULT 0, lock_version integer NOT NULL DEFAULT 0,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL
);

CREATE TABLE media_attachments (
  id bigint PRIMARY KEY DEFAULT timestamp_id('media_attachments'::text), status_id bigint,
  file_file_name varchar, file_content_type varchar, file_file_size integer,
  file_updated_at timestamp, remote_url varchar NOT NULL DEFAULT '', created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, shortcode varchar, type integer NOT NULL DEFAULT 0, file_meta json,
  account_id bigint, description text, scheduled_status_id bigint, blurhash varchar,
  processing integer, file_storage_schema_version integer, thumbnail_file_name varchar,
  thumbnail_content_type varchar, thumbnail_file_size integer, thumbnail_updated_at timestamp,
  thumbnail_remote_url varchar, thumbnail_storage_schema_version integer
);

CREATE TABLE mentions (
  id bigserial PRIMARY KEY, status_id bigint NOT NULL, created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, account_id bigint NOT NULL, silent boolean NOT NULL DEFAULT false
);

CREATE TABLE mutes (
  id bigserial PRIMARY KEY, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  hide_notifications boolean NOT NULL DEFAULT true, account_id bigint NOT NULL,
  target_account_id bigint NOT NULL, expires_at timestamp
);

CREATE TABLE notifications (
  id bigserial PRIMARY KEY, activity_id bigint NOT NULL, activity_type varchar NOT NULL,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL, account_id bigint NOT NULL,
  from_account_id bigint NOT NULL, type varchar, filtered boolean NOT NULL DEFAULT false,
  group_key varchar
);

CREATE TABLE notification_requests (
  id bigint PRIMARY KEY DEFAULT timestamp_id('notification_requests'::text),
  account_id bigint NOT NULL, from_account_id bigint NOT NULL, last_status_id bigint,
  notifications_count bigint NOT NULL DEFAULT 0, created_at timestamp(6) NOT NULL,
  updated_at timestamp(6) NOT NULL
);

CREATE TABLE oauth_applications (
  id bigserial PRIMARY KEY, name varchar NOT NULL, uid varchar NOT NULL, secret varchar NOT NULL,
  redirect_uri text NOT NULL, scopes varchar NOT NULL DEFAULT '', created_at timestamp,
  updated_at timestamp, superapp boolean NOT NULL DEFAULT false, website varchar,
  owner_type varchar, owner_id bigint, confidential boolean NOT NULL DEFAULT true
);

CREATE TABLE oauth_access_tokens (
  id bigserial PRIMARY KEY, token varchar NOT NULL, refresh_token varchar, expires_in integer,
  revoked_at timestamp, created_at timestamp NOT NULL, scopes varchar, application_id bigint,
  resource_owner_id bigint, last_used_at timestamp, last_used_ip inet
);

CREATE TABLE polls (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, status_id bigint NOT NULL,
  expires_at timestamp, options varchar[] NOT NULL DEFAULT '{}',
  cached_tallies bigint[] NOT NULL DEFAULT '{}', multiple boolean NOT NULL DEFAULT false,
  hide_totals boolean NOT NULL DEFAULT false, votes_count bigint NOT NULL DEFAULT 0,
  last_fetched_at timestamp, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  lock_version integer NOT NULL DEFAULT 0, voters_count bigint
);

CREATE TABLE poll_votes (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, poll_id bigint NOT NULL,
  choice integer NOT NULL DEFAULT 0, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  uri varchar
);

CREATE TABLE preview_cards (
  id bigserial PRIMARY KEY, url varchar NOT NULL DEFAULT '', title varchar NOT NULL DEFAULT '',
  description varchar NOT NULL DEFAULT '', image_file_name varchar, image_content_type varchar,
  image_file_size integer, image_updated_at timestamp, type integer NOT NULL DEFAULT 0,
  html text NOT NULL DEFAULT '', author_name varchar NOT NULL DEFAULT '',
  author_url varchar NOT NULL DEFAULT '', provider_name varchar NOT NULL DEFAULT '',
  provider_url varchar NOT NULL DEFAULT '', width integer NOT NULL DEFAULT 0,
  height integer NOT NULL DEFAULT 0, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  embed_url varchar NOT NULL DEFAULT '', image_storage_schema_version integer, blurhash varchar,
  language varchar, max_score double precision, max_score_at timestamp, trendable boolean,
  link_type integer, published_at timestamp(6), image_description varchar NOT NULL DEFAULT '',
  author_account_id bigint, image_remote_url varchar
);

CREATE TABLE preview_cards_statuses (
  preview_card_id bigint NOT NULL, status_id bigint NOT NULL, url varchar,
  PRIMARY KEY (status_id, preview_card_id)
);

CREATE TABLE quotes (
  id bigint PRIMARY KEY DEFAULT timestamp_id('quotes'::text), account_id bigint NOT NULL,
  status_id bigint NOT NULL, quoted_status_id bigint, quoted_account_id bigint,
  state integer NOT NULL DEFAULT 0, approval_uri varchar, activity_uri varchar,
  created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL,
  legacy boolean NOT NULL DEFAULT false
);

CREATE TABLE reports (
  id bigserial PRIMARY KEY, status_ids bigint[] NOT NULL DEFAULT '{}',
  comment text NOT NULL DEFAULT '', created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  account_id bigint NOT NULL, action_taken_by_account_id bigint, target_account_id bigint NOT NULL,
  assigned_account_id bigint, uri varchar, forwarded boolean, category integer NOT NULL DEFAULT 0,
  action_taken_at timestamp, rule_ids bigint[], application_id bigint
);

CREATE TABLE rules (
  id bigserial PRIMARY KEY, priority integer NOT NULL DEFAULT 0, deleted_at timestamp,
  text text NOT NULL DEFAULT '', created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  hint text NOT NULL DEFAULT ''
);

CREATE TABLE scheduled_statuses (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, scheduled_at timestamp, params jsonb
);

CREATE TABLE session_activations (
  id bigserial PRIMARY KEY, session_id varchar NOT NULL, created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, user_agent varchar NOT NULL DEFAULT '', ip inet,
  access_token_id bigint, user_id bigint NOT NULL, web_push_subscription_id bigint
);

CREATE TABLE settings (
  id bigserial PRIMARY KEY, var varchar NOT NULL, value text, created_at timestamp,
  updated_at timestamp
);

CREATE TABLE site_uploads (
  id bigserial PRIMARY KEY, var varchar NOT NULL DEFAULT '', file_file_name varchar,
  file_content_type varchar, file_file_size integer, file_updated_at timestamp, meta json,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL, blurhash varchar
);

CREATE TABLE statuses (
  id bigint PRIMARY KEY DEFAULT timestamp_id('statuses'::text), uri varchar,
  text text NOT NULL DEFAULT '', created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  in_reply_to_id bigint, reblog_of_id bigint, url varchar, sensitive boolean NOT NULL DEFAULT false,
  visibility integer NOT NULL DEFAULT 0, spoiler_text text NOT NULL DEFAULT '',
  reply boolean NOT NULL DEFAULT false, language varchar, conversation_id bigint, local boolean,
  account_id bigint NOT NULL, application_id bigint, in_reply_to_account_id bigint, poll_id bigint,
  deleted_at timestamp, edited_at timestamp, trendable boolean,
  ordered_media_attachment_ids bigint[], fetched_replies_at timestamp(6),
  quote_approval_policy integer NOT NULL DEFAULT 0
);

CREATE TABLE status_pins (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, status_id bigint NOT NULL,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL
);

CREATE TABLE status_stats (
  id bigserial PRIMARY KEY, status_id bigint NOT NULL, replies_count bigint NOT NULL DEFAULT 0,
  reblogs_count bigint NOT NULL DEFAULT 0, favourites_count bigint NOT NULL DEFAULT 0,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL, untrusted_favourites_count bigint,
  untrusted_reblogs_count bigint, quotes_count bigint NOT NULL DEFAULT 0
);

CREATE TABLE statuses_tags (
  status_id bigint NOT NULL, tag_id bigint NOT NULL, PRIMARY KEY (tag_id, status_id)
);

CREATE TABLE tags (
  id bigserial PRIMARY KEY, name varchar NOT NULL DEFAULT '', created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, usable boolean, trendable boolean, listable boolean,
  reviewed_at timestamp, requested_review_at timestamp, last_status_at timestamp,
  max_score double precision, max_score_at timestamp, display_name varchar
);

CREATE TABLE tag_follows (
  id bigserial PRIMARY KEY, tag_id bigint NOT NULL, account_id bigint NOT NULL,
  created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);

CREATE TABLE tombstones (
  id bigserial PRIMARY KEY, account_id bigint NOT NULL, uri varchar NOT NULL,
  created_at timestamp NOT NULL, updated_at timestamp NOT NULL, by_moderator boolean
);

CREATE TABLE unavailable_domains (
  id bigserial PRIMARY KEY, domain varchar NOT NULL DEFAULT '', created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL
);

CREATE TABLE user_roles (
  id bigserial PRIMARY KEY, name varchar NOT NULL DEFAULT '', color varchar NOT NULL DEFAULT '',
  position integer NOT NULL DEFAULT 0, permissions bigint NOT NULL DEFAULT 0,
  highlighted boolean NOT NULL DEFAULT false, created_at timestamp(6) NOT NULL,
  updated_at timestamp(6) NOT NULL
);

CREATE TABLE users (
  id bigserial PRIMARY KEY, email varchar NOT NULL DEFAULT '', created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL, encrypted_password varchar NOT NULL DEFAULT '',
  reset_password_token varchar, reset_password_sent_at timestamp,
  sign_in_count integer NOT NULL DEFAULT 0, current_sign_in_at timestamp, last_sign_in_at timestamp,
  confirmation_token varchar, confirmed_at timestamp, confirmation_sent_at timestamp,
  unconfirmed_email varchar, locale varchar, consumed_timestep integer,
  otp_required_for_login boolean NOT NULL DEFAULT false, last_emailed_at timestamp,
  otp_backup_codes varchar[], account_id bigint NOT NULL, disabled boolean NOT NULL DEFAULT false,
  invite_id bigint, chosen_languages varchar[], created_by_application_id bigint,
  approved boolean NOT NULL DEFAULT true, sign_in_token varchar, sign_in_token_sent_at timestamp,
  webauthn_id varchar, sign_up_ip inet, skip_sign_in_token boolean, role_id bigint, settings text,
  time_zone varchar, otp_secret varchar, age_verified_at timestamp(6),
  require_tos_interstitial boolean NOT NULL DEFAULT false
);

CREATE TABLE web_push_subscriptions (
  id bigserial PRIMARY KEY, endpoint varchar NOT NULL, key_p256dh varchar NOT NULL,
  key_auth varchar NOT NULL, data json, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  access_token_id bigint NOT NULL, user_id bigint NOT NULL, standard boolean NOT NULL DEFAULT false
);

CREATE TABLE web_settings (
  id bigserial PRIMARY KEY, data json, created_at timestamp NOT NULL, updated_at timestamp NOT NULL,
  user_id bigint NOT NULL
);

-- Not Mastodon's: where the stand-in for Sidekiq writes down each job that it carried out, so that
-- a test can prove that none was lost and none ran twice.
CREATE TABLE job_ledger (
  id bigserial PRIMARY KEY, jid varchar NOT NULL, worker varchar NOT NULL, process varchar NOT NULL,
  done_at timestamp NOT NULL
);
