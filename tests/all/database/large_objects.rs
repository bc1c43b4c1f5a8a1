//! Large objects are compared by their bytes, whoever reads them and however they are stored.

use transhume::database::compare::Way;

use super::content::{compared, told_by, twins};
use super::*;

const WAYS: [Way; 3] = [Way::Record, Way::Sent, Way::Digest];

/// One that is empty, one of some bytes, and one of several pieces.
const OBJECTS: &str = "SELECT lo_from_bytea(4711, '\\x00ff00'), lo_from_bytea(4712, ''),
    lo_from_bytea(4713, decode(repeat('00ab', 2000000), 'hex')), lo_from_bytea(4714, decode(repeat('00', 2097152), 'hex'))";

#[tokio::test]
async fn another_byte_of_a_large_object_is_found_and_the_object_is_named() {
    let pair = twins(OBJECTS);
    let whole = compared(&pair, Default::default()).await;
    assert_eq!(whole.differences, []);
    assert_eq!(whole.large_objects, 4);
    assert!(whole.to_string().contains(", 4 large objects"), "{whole}");
    let changed = "the store of large objects holds other values on the target: oid";
    let planted = [
        ("SELECT lo_put(4711, 1, '\\xfe')", format!("{changed} 4711 changed")),
        ("SELECT lo_put(4712, 0, '\\x00')", format!("{changed} 4712 changed")),
        // In the first piece, in the last one, and at the end.
        ("SELECT lo_put(4713, 70000, '\\xee')", format!("{changed} 4713 changed")),
        ("SELECT lo_put(4713, 3999999, '\\xee')", format!("{changed} 4713 changed")),
        ("SELECT lo_put(4714, 2097152, '\\x00')", format!("{changed} 4714 changed")),
        (
            "SELECT lo_unlink(4711), lo_from_bytea(4799, 'x')",
            format!("{changed} 4711 missing; oid 4799 extra"),
        ),
        (
            "SELECT lo_unlink(4712)",
            "the target has 3 large objects, the source 4: oid 4712 missing".into(),
        ),
    ];
    for (index, (plant, expected)) in planted.into_iter().enumerate() {
        let as_owner =
            |cluster: &Postgres| cluster.sql(DATABASE, &format!("SET ROLE {OWNER}; {plant}"));
        as_owner(&pair.target);
        let way = WAYS[index % WAYS.len()];
        assert_eq!(told_by(&pair, Some(way)).await, [expected], "{way:?} after {plant}");
        // Done to both, it is no difference.
        as_owner(&pair.source);
        assert_eq!(told_by(&pair, Some(way)).await, Vec::<String>::new(), "{way:?} after {plant}");
    }
}

/// Two pieces that changed places keep every sum that does not tell where a piece is.
#[tokio::test]
async fn pieces_of_a_large_object_have_their_places() {
    let pair = twins(
        "SELECT lo_from_bytea(7, decode(repeat('aa', 1048576) || repeat('bb', 1048576), 'hex'))",
    );
    pair.target.sql(
        DATABASE,
        "SELECT lo_put(7, 0, decode(repeat('bb', 1048576) || repeat('aa', 1048576), 'hex'))",
    );
    for way in WAYS {
        assert_eq!(told_by(&pair, Some(way)).await.len(), 1, "{way:?}");
    }
}

/// What was never written reads as zeros; a restore stores them.
#[tokio::test]
async fn a_large_object_with_holes_is_the_same_as_its_copy() {
    let pair = super::kinds::clusters("");
    pair.source.sql(
        DATABASE,
        "SET ROLE mastodon; SELECT lo_from_bytea(7, 'begin'); SELECT lo_put(7, 3000000, 'end'); SELECT lo_from_bytea(8, '')",
    );
    let pages = "SELECT count(*) FROM pg_largeobject WHERE loid = 7";
    let mut destination = pair.destination();
    destination.replace = Some(DATABASE.into());
    for options in [Options::default(), in_parallel(1)] {
        let done = transfer_well_by(&pair.source_server(), &destination, &options).await;
        assert_eq!(done.comparison.unwrap().large_objects, 2);
        assert_ne!(pair.target.sql(DATABASE, pages), pair.source.sql(DATABASE, pages));
    }
}
