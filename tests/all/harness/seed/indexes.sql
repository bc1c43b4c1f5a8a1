-- Indexes, foreign keys and views, with the expressions and predicates that make a restore
-- interesting: collation-sensitive unique indexes, text_pattern_ops, partial and GIN indexes,
-- a materialized view that reads two large tables.

CREATE INDEX search_index ON accounts USING gin ((setweight(to_tsvector('simple'::regconfig, display_name::text), 'A') || setweight(to_tsvector('simple'::regconfig, username::text), 'B') || setweight(to_tsvector('simple'::regconfig, COALESCE(domain, ''::varchar)::text), 'C')));
CREATE UNIQUE INDEX index_accounts_on_username_and_domain_lower ON accounts (lower(username::text), COALESCE(lower(domain::text), ''::text));
CREATE INDEX index_accounts_on_domain_and_id ON accounts (domain, id);
CREATE INDEX index_accounts_on_moved_to_account_id ON accounts (moved_to_account_id) WHERE moved_to_account_id IS NOT NULL;
CREATE INDEX index_accounts_on_uri ON accounts (uri);
CREATE INDEX index_accounts_on_url ON accounts (url text_pattern_ops) WHERE url IS NOT NULL;
CREATE UNIQUE INDEX index_account_stats_on_account_id ON account_stats (account_id);
CREATE INDEX index_account_stats_on_last_status_at_and_account_id ON account_stats (last_status_at DESC NULLS LAST, account_id);
CREATE UNIQUE INDEX index_unique_conversations ON account_conversations (account_id, conversation_id, participant_account_ids);
CREATE UNIQUE INDEX index_account_domain_blocks_on_account_id_and_domain ON account_domain_blocks (account_id, domain);
CREATE UNIQUE INDEX index_blocks_on_account_id_and_target_account_id ON blocks (account_id, target_account_id);
CREATE UNIQUE INDEX index_bookmarks_on_account_id_and_status_id ON bookmarks (account_id, status_id);
CREATE UNIQUE INDEX index_conversations_on_uri ON conversations (uri text_pattern_ops) WHERE uri IS NOT NULL;
CREATE UNIQUE INDEX index_custom_emojis_on_shortcode_and_domain ON custom_emojis (shortcode, domain);
CREATE UNIQUE INDEX index_domain_allows_on_domain ON domain_allows (domain);
CREATE UNIQUE INDEX index_domain_blocks_on_domain ON domain_blocks (domain);
CREATE INDEX index_favourites_on_account_id_and_id ON favourites (account_id, id);
CREATE UNIQUE INDEX index_favourites_on_account_id_and_status_id ON favourites (account_id, status_id);
CREATE INDEX index_favourites_on_status_id ON favourites (status_id);
CREATE UNIQUE INDEX index_follows_on_account_id_and_target_account_id ON follows (account_id, target_account_id);
CREATE INDEX index_follows_on_target_account_id_and_account_id ON follows (target_account_id, account_id);
CREATE UNIQUE INDEX index_follow_requests_on_account_id_and_target_account_id ON follow_requests (account_id, target_account_id);
CREATE UNIQUE INDEX index_invites_on_code ON invites (code);
CREATE UNIQUE INDEX index_ip_blocks_on_ip ON ip_blocks (ip);
CREATE UNIQUE INDEX index_list_accounts_on_account_id_and_list_id ON list_accounts (account_id, list_id);
CREATE INDEX index_list_accounts_on_follow_id ON list_accounts (follow_id) WHERE follow_id IS NOT NULL;
CREATE INDEX index_login_activities_on_user_id ON login_activities (user_id);
CREATE UNIQUE INDEX index_markers_on_user_id_and_timeline ON markers (user_id, timeline);
CREATE INDEX index_media_attachments_on_account_id_and_status_id ON media_attachments (account_id, status_id DESC);
CREATE UNIQUE INDEX index_media_attachments_on_shortcode ON media_attachments (shortcode text_pattern_ops) WHERE shortcode IS NOT NULL;
CREATE INDEX index_media_attachments_on_status_id ON media_attachments (status_id);
CREATE UNIQUE INDEX index_mentions_on_account_id_and_status_id ON mentions (account_id, status_id);
CREATE INDEX index_mentions_on_status_id ON mentions (status_id);
CREATE INDEX index_notifications_on_account_id_and_group_key ON notifications (account_id, group_key) WHERE group_key IS NOT NULL;
CREATE INDEX index_notifications_on_filtered ON notifications (account_id, id DESC, type) WHERE filtered = false;
CREATE INDEX index_notifications_on_activity_id_and_activity_type ON notifications (activity_id, activity_type);
CREATE UNIQUE INDEX index_notification_requests_on_account_id_and_from_account_id ON notification_requests (account_id, from_account_id);
CREATE UNIQUE INDEX index_oauth_applications_on_uid ON oauth_applications (uid);
CREATE INDEX index_oauth_applications_on_superapp ON oauth_applications (superapp) WHERE superapp = true;
CREATE UNIQUE INDEX index_oauth_access_tokens_on_token ON oauth_access_tokens (token);
CREATE UNIQUE INDEX index_oauth_access_tokens_on_refresh_token ON oauth_access_tokens (refresh_token text_pattern_ops) WHERE refresh_token IS NOT NULL;
CREATE INDEX index_polls_on_status_id ON polls (status_id);
CREATE INDEX index_poll_votes_on_poll_id ON poll_votes (poll_id);
CREATE UNIQUE INDEX index_preview_cards_on_url ON preview_cards (url);
CREATE UNIQUE INDEX index_quotes_on_status_id ON quotes (status_id);
CREATE INDEX index_scheduled_statuses_on_scheduled_at ON scheduled_statuses (scheduled_at);
CREATE UNIQUE INDEX index_session_activations_on_session_id ON session_activations (session_id);
CREATE UNIQUE INDEX index_settings_on_var ON settings (var);
CREATE UNIQUE INDEX index_site_uploads_on_var ON site_uploads (var);
CREATE INDEX index_statuses_20190820 ON statuses (account_id, id DESC, visibility, updated_at) WHERE deleted_at IS NULL;
CREATE INDEX index_statuses_on_account_id ON statuses (account_id);
CREATE INDEX index_statuses_on_conversation_id ON statuses (conversation_id);
CREATE INDEX index_statuses_on_deleted_at ON statuses (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX index_statuses_local_20190824 ON statuses (id DESC, account_id) WHERE (local OR uri IS NULL) AND deleted_at IS NULL AND visibility = 0 AND reblog_of_id IS NULL AND (NOT reply OR in_reply_to_account_id = account_id);
CREATE INDEX index_statuses_public_20250129 ON statuses (id DESC, language, account_id) WHERE deleted_at IS NULL AND visibility = 0 AND reblog_of_id IS NULL AND (NOT reply OR in_reply_to_account_id = account_id);
CREATE INDEX index_statuses_on_in_reply_to_id ON statuses (in_reply_to_id) WHERE in_reply_to_id IS NOT NULL;
CREATE INDEX index_statuses_on_reblog_of_id_and_account_id ON statuses (reblog_of_id, account_id);
CREATE UNIQUE INDEX index_statuses_on_uri ON statuses (uri text_pattern_ops) WHERE uri IS NOT NULL;
CREATE UNIQUE INDEX index_status_pins_on_account_id_and_status_id ON status_pins (account_id, status_id);
CREATE UNIQUE INDEX index_status_stats_on_status_id ON status_stats (status_id);
CREATE INDEX index_statuses_tags_on_status_id ON statuses_tags (status_id);
CREATE UNIQUE INDEX index_tags_on_name_lower_btree ON tags (lower(name::text) text_pattern_ops);
CREATE UNIQUE INDEX index_tag_follows_on_account_id_and_tag_id ON tag_follows (account_id, tag_id);
CREATE INDEX index_tombstones_on_uri ON tombstones (uri);
CREATE UNIQUE INDEX index_unavailable_domains_on_domain ON unavailable_domains (domain);
CREATE INDEX index_users_on_account_id ON users (account_id);
CREATE UNIQUE INDEX index_users_on_confirmation_token ON users (confirmation_token);
CREATE UNIQUE INDEX index_users_on_email ON users (email);
CREATE UNIQUE INDEX index_users_on_reset_password_token ON users (reset_password_token text_pattern_ops) WHERE reset_password_token IS NOT NULL;
CREATE INDEX index_users_on_role_id ON users (role_id) WHERE role_id IS NOT NULL;
CREATE UNIQUE INDEX index_web_settings_on_user_id ON web_settings (user_id);

ALTER TABLE account_conversations ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (conversation_id) REFERENCES conversations ON DELETE CASCADE;
ALTER TABLE account_domain_blocks ADD CONSTRAINT fk_206c6029bd FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE account_stats ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE accounts ADD FOREIGN KEY (moved_to_account_id) REFERENCES accounts ON DELETE SET NULL;
ALTER TABLE backups ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL;
ALTER TABLE blocks ADD CONSTRAINT fk_9571bfabc1 FOREIGN KEY (target_account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_4269e03e65 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE bookmarks ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE;
ALTER TABLE custom_filters ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE favourites ADD CONSTRAINT fk_5eb6c2b873 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_b0e856845e FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE;
ALTER TABLE follows ADD CONSTRAINT fk_745ca29eac FOREIGN KEY (target_account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_32ed1b5560 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE follow_requests ADD CONSTRAINT fk_9291ec025d FOREIGN KEY (target_account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_76d644b0e7 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE invites ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE lists ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE list_accounts ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (list_id) REFERENCES lists ON DELETE CASCADE, ADD FOREIGN KEY (follow_id) REFERENCES follows ON DELETE CASCADE, ADD FOREIGN KEY (follow_request_id) REFERENCES follow_requests ON DELETE CASCADE;
ALTER TABLE login_activities ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE markers ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE media_attachments ADD CONSTRAINT fk_96dd81e81b FOREIGN KEY (account_id) REFERENCES accounts ON DELETE SET NULL, ADD FOREIGN KEY (scheduled_status_id) REFERENCES scheduled_statuses ON DELETE SET NULL, ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE SET NULL;
ALTER TABLE mentions ADD CONSTRAINT fk_970d43f9d1 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE;
ALTER TABLE mutes ADD CONSTRAINT fk_eecff219ea FOREIGN KEY (target_account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_b8d8daf315 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE notifications ADD CONSTRAINT fk_fbd6b0bf9e FOREIGN KEY (from_account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_c141c8ee55 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE notification_requests ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (last_status_id) REFERENCES statuses ON DELETE SET NULL;
ALTER TABLE oauth_access_tokens ADD CONSTRAINT fk_f5fc4c1ee3 FOREIGN KEY (application_id) REFERENCES oauth_applications ON DELETE CASCADE, ADD CONSTRAINT fk_e84df68546 FOREIGN KEY (resource_owner_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE polls ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE;
ALTER TABLE poll_votes ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (poll_id) REFERENCES polls ON DELETE CASCADE;
ALTER TABLE quotes ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE, ADD FOREIGN KEY (quoted_status_id) REFERENCES statuses ON DELETE SET NULL;
ALTER TABLE reports ADD CONSTRAINT fk_4b81f7522c FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_eb37af34f0 FOREIGN KEY (target_account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE scheduled_statuses ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE session_activations ADD CONSTRAINT fk_957e5bda89 FOREIGN KEY (access_token_id) REFERENCES oauth_access_tokens ON DELETE CASCADE, ADD CONSTRAINT fk_e5fda67334 FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE statuses ADD CONSTRAINT fk_9bda1543f7 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD CONSTRAINT fk_c7fa917661 FOREIGN KEY (in_reply_to_account_id) REFERENCES accounts ON DELETE SET NULL, ADD FOREIGN KEY (in_reply_to_id) REFERENCES statuses ON DELETE SET NULL, ADD FOREIGN KEY (reblog_of_id) REFERENCES statuses ON DELETE CASCADE;
ALTER TABLE status_pins ADD CONSTRAINT fk_d4cb435b62 FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE;
ALTER TABLE status_stats ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE;
ALTER TABLE statuses_tags ADD FOREIGN KEY (status_id) REFERENCES statuses ON DELETE CASCADE, ADD CONSTRAINT fk_3081861e21 FOREIGN KEY (tag_id) REFERENCES tags ON DELETE CASCADE;
ALTER TABLE tag_follows ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (tag_id) REFERENCES tags ON DELETE CASCADE;
ALTER TABLE tombstones ADD FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE;
ALTER TABLE users ADD CONSTRAINT fk_50500f500d FOREIGN KEY (account_id) REFERENCES accounts ON DELETE CASCADE, ADD FOREIGN KEY (role_id) REFERENCES user_roles ON DELETE SET NULL, ADD FOREIGN KEY (invite_id) REFERENCES invites ON DELETE SET NULL;
ALTER TABLE web_push_subscriptions ADD FOREIGN KEY (access_token_id) REFERENCES oauth_access_tokens ON DELETE CASCADE, ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE web_settings ADD CONSTRAINT fk_11910667b2 FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;

CREATE MATERIALIZED VIEW instances AS
  WITH counts (domain, accounts_count) AS (
    SELECT domain, count(*) FROM accounts WHERE domain IS NOT NULL GROUP BY domain
  )
  SELECT domain, accounts_count FROM counts
  UNION SELECT b.domain, COALESCE(c.accounts_count, 0)
    FROM domain_blocks b LEFT JOIN counts c ON c.domain::text = b.domain::text
  UNION SELECT a.domain, COALESCE(c.accounts_count, 0)
    FROM domain_allows a LEFT JOIN counts c ON c.domain::text = a.domain::text;
CREATE UNIQUE INDEX index_instances_on_domain ON instances (domain);
CREATE INDEX index_instances_on_reverse_domain ON instances (reverse('.'::text || domain::text), domain);

CREATE MATERIALIZED VIEW account_summaries AS
  SELECT accounts.id AS account_id, mode() WITHIN GROUP (ORDER BY recent.language) AS language,
    mode() WITHIN GROUP (ORDER BY recent.sensitive) AS sensitive
  FROM accounts CROSS JOIN LATERAL (
    SELECT language, sensitive FROM statuses
    WHERE statuses.account_id = accounts.id AND deleted_at IS NULL AND reblog_of_id IS NULL
    ORDER BY statuses.id DESC LIMIT 20
  ) AS recent
  WHERE suspended_at IS NULL AND silenced_at IS NULL AND moved_to_account_id IS NULL
    AND discoverable AND NOT locked
  GROUP BY accounts.id;
CREATE UNIQUE INDEX index_account_summaries_on_account_id ON account_summaries (account_id);

CREATE VIEW user_ips AS
  SELECT user_id, ip, max(used_at) AS used_at FROM (
    SELECT id AS user_id, sign_up_ip AS ip, created_at AS used_at FROM users WHERE sign_up_ip IS NOT NULL
    UNION ALL SELECT user_id, ip, updated_at FROM session_activations
    UNION ALL SELECT user_id, ip, created_at FROM login_activities WHERE success = true
  ) AS uses GROUP BY user_id, ip;
