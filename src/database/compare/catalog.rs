//! Objects by name and definition, as each server's catalogs tell them.

use std::collections::BTreeMap;

use super::super::inspect::ours;
use super::super::{DatabaseError, Session};
use super::{Comparison, Difference};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Schema,
    Extension,
    /// Tables, views, materialized views, foreign tables: that they exist, and their options.
    Relation,
    Column,
    /// The query behind a view or materialized view, and whether the latter is populated.
    View,
    Index,
    Constraint,
    Trigger,
    Function,
    Type,
    /// The definition of a sequence; its position is compared apart.
    Sequence,
    Policy,
    Rule,
    Statistics,
    EventTrigger,
    Comment,
}

const KINDS: [Kind; 16] = [
    Kind::Schema,
    Kind::Extension,
    Kind::Relation,
    Kind::Column,
    Kind::View,
    Kind::Index,
    Kind::Constraint,
    Kind::Trigger,
    Kind::Function,
    Kind::Type,
    Kind::Sequence,
    Kind::Policy,
    Kind::Rule,
    Kind::Statistics,
    Kind::EventTrigger,
    Kind::Comment,
];

impl Kind {
    pub fn noun(self, number: u64) -> &'static str {
        let (one, many) = match self {
            Kind::Schema => ("schema", "schemas"),
            Kind::Extension => ("extension", "extensions"),
            Kind::Relation => ("relation", "relations"),
            Kind::Column => ("column", "columns"),
            Kind::View => ("view", "views"),
            Kind::Index => ("index", "indexes"),
            Kind::Constraint => ("constraint", "constraints"),
            Kind::Trigger => ("trigger", "triggers"),
            Kind::Function => ("function", "functions"),
            Kind::Type => ("type", "types"),
            Kind::Sequence => ("sequence definition", "sequence definitions"),
            Kind::Policy => ("row security policy", "row security policies"),
            Kind::Rule => ("rule", "rules"),
            Kind::Statistics => ("statistics object", "statistics objects"),
            Kind::EventTrigger => ("event trigger", "event triggers"),
            Kind::Comment => ("comment", "comments"),
        };
        if number == 1 { one } else { many }
    }

    /// The query for name and definition of every object of this kind that is the operator's.
    fn query(self) -> String {
        let relation_name = "format('%I.%I', n.nspname, c.relname)";
        let of_relations = format!(
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {}",
            ours("c.oid", "pg_class")
        );
        // Parts of relations: `FROM catalog x`, with the relation's oid in `column`.
        let within = |catalog: &str, column: &str| {
            format!(
                "FROM {catalog} x JOIN pg_class c ON c.oid = x.{column}
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {}",
                ours("c.oid", "pg_class")
            )
        };
        match self {
            Kind::Schema => format!(
                "SELECT quote_ident(n.nspname), '' FROM pg_namespace n WHERE {}",
                ours("n.oid", "pg_namespace")
            ),
            Kind::Extension => "SELECT quote_ident(e.extname), n.nspname::text FROM pg_extension e
                 JOIN pg_namespace n ON n.oid = e.extnamespace"
                .into(),
            Kind::Relation => format!(
                "SELECT {relation_name}, concat_ws(' ', c.relkind, c.relpersistence,
                     nullif(c.relreplident::text, 'd'), CASE WHEN c.relrowsecurity THEN 'rls' END,
                     CASE WHEN c.relforcerowsecurity THEN 'forced' END, c.reloptions::text,
                     pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
                     (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                      FROM pg_inherits i WHERE i.inhrelid = c.oid))
                 {of_relations} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
            ),
            Kind::Column => format!(
                "SELECT {relation_name} || '.' || quote_ident(x.attname), concat_ws(' ',
                     count(*) OVER (PARTITION BY c.oid ORDER BY x.attnum),
                     format_type(x.atttypid, x.atttypmod),
                     CASE WHEN x.attcollation <> t.typcollation
                          THEN 'COLLATE ' || x.attcollation::regcollation END,
                     CASE WHEN x.attnotnull THEN 'NOT NULL' END,
                     'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
                     nullif('IDENTITY ' || x.attidentity::text, 'IDENTITY '),
                     nullif('GENERATED ' || x.attgenerated::text, 'GENERATED '),
                     CASE WHEN x.attstorage <> t.typstorage THEN 'STORAGE ' || x.attstorage::text END,
                     x.attoptions::text)
                 FROM pg_attribute x JOIN pg_class c ON c.oid = x.attrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = x.atttypid
                 LEFT JOIN pg_attrdef d ON d.adrelid = x.attrelid AND d.adnum = x.attnum
                 WHERE x.attnum > 0 AND NOT x.attisdropped
                   AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {}",
                ours("c.oid", "pg_class")
            ),
            Kind::View => format!(
                "SELECT {relation_name}, concat_ws(' ', pg_get_viewdef(c.oid),
                     CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN '(not populated)' END)
                 {of_relations} AND c.relkind IN ('v', 'm')"
            ),
            Kind::Index => format!(
                "SELECT format('%I.%I', n.nspname, i.relname), concat_ws(' ',
                     pg_get_indexdef(x.indexrelid), CASE WHEN NOT x.indisvalid THEN '(not valid)' END,
                     CASE WHEN NOT x.indisready THEN '(not ready)' END,
                     CASE WHEN NOT x.indislive THEN '(being dropped)' END,
                     CASE WHEN x.indisclustered THEN '(clustered)' END,
                     CASE WHEN x.indisreplident THEN '(replica identity)' END)
                 FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                 JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind <> 't' AND {}",
                ours("c.oid", "pg_class")
            ),
            // Not-null constraints became rows here in 18; the column tells of them already.
            Kind::Constraint => format!(
                "SELECT {relation_name} || ' ' || quote_ident(x.conname), pg_get_constraintdef(x.oid)
                 {} AND x.contype <> 'n' AND x.contype <> 't'
                 UNION ALL SELECT format('%I.%I %I', n.nspname, c.typname, x.conname),
                     pg_get_constraintdef(x.oid)
                 FROM pg_constraint x JOIN pg_type c ON c.oid = x.contypid
                 JOIN pg_namespace n ON n.oid = c.typnamespace WHERE x.contype <> 'n' AND {}",
                within("pg_constraint", "conrelid"),
                ours("c.oid", "pg_type")
            ),
            Kind::Trigger => format!(
                "SELECT {relation_name} || ' ' || quote_ident(x.tgname),
                     pg_get_triggerdef(x.oid) || ' ' || x.tgenabled::text {} AND NOT x.tgisinternal",
                within("pg_trigger", "tgrelid")
            ),
            Kind::Function => format!(
                "SELECT format('%I.%I(%s)', n.nspname, p.proname,
                            pg_get_function_identity_arguments(p.oid)),
                     CASE WHEN p.prokind = 'a' THEN 'aggregate ' || concat_ws(' ',
                         (SELECT concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.agginitval,
                              format_type(a.aggtranstype, NULL))
                          FROM pg_aggregate a WHERE a.aggfnoid = p.oid))
                     ELSE pg_get_functiondef(p.oid) END
                 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {}",
                ours("p.oid", "pg_proc")
            ),
            Kind::Type => format!(
                "SELECT format('%I.%I', n.nspname, t.typname), CASE t.typtype
                     WHEN 'e' THEN 'enum ' || (SELECT string_agg(quote_literal(e.enumlabel), ', '
                         ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)
                     WHEN 'd' THEN concat_ws(' ', 'domain', format_type(t.typbasetype, t.typtypmod),
                         CASE WHEN t.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || t.typdefault)
                     ELSE t.typtype::text END
                 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                 LEFT JOIN pg_class c ON c.oid = t.typrelid
                 WHERE (t.typtype IN ('e', 'd', 'r', 'b') OR c.relkind = 'c') AND t.typelem = 0 AND {}",
                ours("t.oid", "pg_type")
            ),
            Kind::Sequence => format!(
                "SELECT {relation_name}, concat_ws(' ', format_type(s.seqtypid, NULL), s.seqstart,
                     s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle, (
                         SELECT 'OWNED BY ' || d.refobjid::regclass || '.' || a.attname
                         FROM pg_depend d JOIN pg_attribute a
                           ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                           AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
                 FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {}",
                ours("c.oid", "pg_class")
            ),
            Kind::Policy => format!(
                "SELECT {relation_name} || ' ' || quote_ident(x.polname), concat_ws(' ', x.polcmd,
                     x.polpermissive, pg_get_expr(x.polqual, x.polrelid),
                     pg_get_expr(x.polwithcheck, x.polrelid)) {}",
                within("pg_policy", "polrelid")
            ),
            Kind::Rule => format!(
                "SELECT {relation_name} || ' ' || quote_ident(x.rulename),
                     pg_get_ruledef(x.oid) || ' ' || x.ev_enabled::text {} AND x.rulename <> '_RETURN'",
                within("pg_rewrite", "ev_class")
            ),
            Kind::Statistics => format!(
                "SELECT format('%I.%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid)
                 FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {}",
                ours("s.oid", "pg_statistic_ext")
            ),
            Kind::EventTrigger => "SELECT quote_ident(t.evtname), concat_ws(' ', t.evtevent,
                     t.evtfoid::regprocedure, t.evtenabled, t.evttags::text)
                 FROM pg_event_trigger t WHERE NOT EXISTS (SELECT FROM pg_depend x
                     WHERE x.classid = 'pg_event_trigger'::regclass AND x.objid = t.oid
                       AND x.deptype = 'e')"
                .into(),
            Kind::Comment => COMMENTS.into(),
        }
    }
}

/// Comments on what the operator made; the first of those object ids is 16384.
const COMMENTS: &str = "SELECT o.type || ' ' || o.identity, d.description
     FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) o
     WHERE d.objoid >= 16384 AND d.classoid <> 'pg_extension'::regclass
       AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.classoid
                       AND x.objid = d.objoid AND x.deptype = 'e')";

type Objects = BTreeMap<String, String>;

/// Adds the objects of both sides, and how they differ, to `comparison`.
pub(super) async fn compare(
    source: &Session,
    target: &Session,
    comparison: &mut Comparison,
) -> Result<(), DatabaseError> {
    let same_major = source.version().major() == target.version().major();
    for kind in KINDS {
        let (mut there, here) = tokio::try_join!(objects(source, kind), objects(target, kind))?;
        if kind == Kind::Index {
            // pg_dump leaves these out: an index that never got valid is no use to anybody.
            there.retain(|_, definition| !definition.contains(" (not valid)"));
        }
        if !there.is_empty() {
            comparison.objects.insert(kind, there.len() as u64);
        }
        comparison.differences.extend(differences(kind, &there, &here, same_major));
    }
    Ok(())
}

async fn objects(session: &Session, kind: Kind) -> Result<Objects, DatabaseError> {
    let action = "list the objects";
    let sql = format!("SELECT * FROM ({}) AS o(name, definition)", kind.query());
    let rows = session.rows(action, &sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let definition: Option<String> = session.get(action, row, 1)?;
            Ok((session.get(action, row, 0)?, definition.unwrap_or_default()))
        })
        .collect()
}

fn differences(
    kind: Kind,
    source: &Objects,
    target: &Objects,
    same_major: bool,
) -> Vec<Difference> {
    let agree =
        |one: &str, other: &str| one == other || (!same_major && spelling(one) == spelling(other));
    let mut found = Vec::new();
    for (name, there) in source {
        match target.get(name) {
            None => found.push(Difference::Missing { kind, name: name.clone() }),
            Some(here) if agree(there, here) => {}
            Some(here) => found.push(Difference::Changed {
                kind,
                name: name.clone(),
                source: there.clone(),
                target: here.clone(),
            }),
        }
    }
    let extra = target.keys().filter(|name| !source.contains_key(*name));
    found.extend(extra.map(|name| Difference::Extra { kind, name: name.clone() }));
    found
}

/// A definition without what major versions write differently: the table in front of a column
/// (left out since 16), parentheses, white space.
fn spelling(definition: &str) -> String {
    let words = definition.split(|c: char| c.is_whitespace() || "()".contains(c));
    words
        .filter(|word| !word.is_empty())
        .map(|word| match word.rsplit_once('.') {
            Some((before, column))
                if before.ends_with(|c: char| c.is_alphanumeric() || c == '"') =>
            {
                column
            }
            Some(_) | None => word,
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_major_may_spell_a_view_otherwise() {
        let old = " SELECT accounts.id,\n    max(s.id) AS last\n   FROM (public.accounts JOIN s ON ((a.x = s.y)));";
        let new = " SELECT id,\n    max(id) AS last\n   FROM public.accounts JOIN s ON (x = y);";
        assert_eq!(spelling(old), spelling(new));
        assert_ne!(spelling(old), spelling(&new.replace("max", "min")));
    }
}
