//! Collations whose versions are not those that their indexes were built with.

use super::super::{DatabaseError, Session};

/// What there is to say about the collations in use on the target. Its indexes have just been
/// built; but a system that was upgraded under a server may sort otherwise since.
pub(super) async fn warnings(target: &Session) -> Result<Vec<String>, DatabaseError> {
    let action = "read the versions of the collations";
    let of_database = match target.version().major() {
        15.. => {
            "UNION ALL SELECT 'the database', datcollversion::text,
                 pg_database_collation_actual_version(oid)::text
             FROM pg_database WHERE datname = current_database()"
        }
        _ => "",
    };
    let sql = format!(
        "SELECT format('%s: built with collation version %s, the system has %s', name, built, now)
         FROM (SELECT format('collation %s', c.oid::regcollation), c.collversion::text,
                      pg_collation_actual_version(c.oid)::text
               FROM pg_collation c
               WHERE EXISTS (SELECT FROM pg_attribute a
                             WHERE a.attcollation = c.oid AND a.attrelid >= 16384)
                  OR EXISTS (SELECT FROM pg_index x WHERE c.oid = ANY (x.indcollation::oid[])
                             AND x.indrelid >= 16384)
               {of_database}) AS v(name, built, now)
         WHERE built <> now ORDER BY 1"
    );
    // Its type came with 13; before that its name does.
    let sql = match target.version().major() {
        ..13 => sql.replace("c.oid::regcollation", "quote_ident(c.collname)"),
        13.. => sql,
    };
    let rows = target.rows(action, &sql, &[]).await?;
    rows.iter().map(|row| target.get(action, row, 0)).collect()
}
