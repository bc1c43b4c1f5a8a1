-- Every file below public/system that the rows speak of: path|bytes|mode|mtime (seconds).
WITH partition (id, serial, snowflake) AS (
  SELECT id, regexp_replace(lpad(id::text, 9, '0'), '(\d{3})(?=\d)', '\1/', 'g'),
    regexp_replace(lpad(id::text, 18, '0'), '(\d{3})(?=\d)', '\1/', 'g')
  FROM (
    SELECT id FROM accounts WHERE id > 0 UNION SELECT id FROM media_attachments
    UNION SELECT id FROM preview_cards UNION SELECT id FROM custom_emojis
    UNION SELECT id FROM site_uploads UNION SELECT id FROM backups
  ) AS every
), files (path, bytes, hidden, updated_at) AS (
  SELECT CASE WHEN m.remote_url = '' THEN '' ELSE 'cache/' END || 'media_attachments/files/' || p.snowflake || '/' || style || '/' ||
      CASE WHEN style = 'small' THEN replace(file_file_name, '.mp4', '.png') ELSE file_file_name END,
    CASE WHEN style = 'small' THEN least(file_file_size, 60000) / 3 ELSE file_file_size END,
    a.suspended_at IS NOT NULL, file_updated_at
  FROM media_attachments m JOIN partition p USING (id) JOIN accounts a ON a.id = m.account_id, unnest(ARRAY['original', 'small']) style
  UNION ALL
  SELECT CASE WHEN domain IS NULL THEN '' ELSE 'cache/' END || 'accounts/avatars/' || p.snowflake || '/original/' || avatar_file_name,
    avatar_file_size, suspended_at IS NOT NULL, avatar_updated_at
  FROM accounts JOIN partition p USING (id) WHERE avatar_file_name IS NOT NULL
  UNION ALL
  SELECT CASE WHEN domain IS NULL THEN '' ELSE 'cache/' END || 'accounts/headers/' || p.snowflake || '/original/' || header_file_name,
    header_file_size, suspended_at IS NOT NULL, header_updated_at
  FROM accounts JOIN partition p USING (id) WHERE header_file_name IS NOT NULL
  UNION ALL
  SELECT 'cache/preview_cards/images/' || p.serial || '/original/' || image_file_name, image_file_size, false, image_updated_at
  FROM preview_cards JOIN partition p USING (id)
  UNION ALL
  SELECT CASE WHEN domain IS NULL THEN '' ELSE 'cache/' END || 'custom_emojis/images/' || p.serial || '/' || style || '/' || image_file_name,
    image_file_size, false, image_updated_at
  FROM custom_emojis JOIN partition p USING (id), unnest(ARRAY['original', 'static']) style
  UNION ALL
  SELECT 'site_uploads/files/' || p.serial || '/' || style || '/' || file_file_name, file_file_size, false, file_updated_at
  FROM site_uploads JOIN partition p USING (id),
    unnest(CASE var WHEN 'thumbnail' THEN ARRAY['original', '@1x', '@2x'] ELSE ARRAY['original', '36', '48', '72', '192', '512'] END) style
  UNION ALL
  SELECT 'backups/dumps/' || p.serial || '/original/' || dump_file_name, dump_file_size, true, dump_updated_at
  FROM backups JOIN partition p USING (id)
)
SELECT path || '|' || bytes || '|' || CASE WHEN hidden THEN '600' ELSE '644' END || '|' || extract(epoch FROM updated_at)::bigint
FROM files ORDER BY path;
