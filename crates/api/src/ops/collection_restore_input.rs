//! The body of `POST …/collectionRestoreJobs`: what, of which state, as what, into what. Nothing is looked up here.

use http::HeaderMap;
use model::collection_restore::{Asked, AskedName, CollectionRestore, IndexStrategy, WriteStrategy};

use super::restore_input::{Raw, Wanted};
use crate::{
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
};

const POINT: &str = "pointInTimeUtcSeconds";
/// Fields of `ApiAtlasCollectionRestoreJobRequest`, and those of the response, which a client may send back.
const KNOWN: &[&str] = &[
    "collectionSuffix",
    "collections",
    "createdAt",
    "databaseSuffix",
    "databases",
    "errorMessage",
    "finishedAt",
    "id",
    "indexStatus",
    "indexStrategy",
    "links",
    "oplogInc",
    "oplogTs",
    POINT,
    "restoredDocuments",
    "snapshotId",
    "state",
    "targetClusterName",
    "targetGroupId",
    "totalDocuments",
    "writeStrategy",
];

/// Reads and checks a body.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Answer<(Wanted, CollectionRestore)> {
    let mut fields = Fields::parse(headers, body, KNOWN)?;
    let raw = Raw::read(&mut fields, POINT)?;
    let asked = Asked {
        databases: names(&mut fields, "databases")?,
        collections: names(&mut fields, "collections")?,
        database_suffix: fields.text("databaseSuffix")?,
        collection_suffix: fields.text("collectionSuffix")?,
        index_strategy: word::<IndexStrategy>(&mut fields, "indexStrategy")?,
        write_strategy: word::<WriteStrategy>(&mut fields, "writeStrategy")?,
    };
    let wanted = wanted(&raw)?;
    if asked.databases.is_empty() && asked.collections.is_empty() {
        return Err(Problem::new(Code::MissingOneOfAttributes).with("databases").with("collections"));
    }
    let restore = CollectionRestore::try_from(asked)
        .map_err(|error| invalid(error.field).because(format!("{}.", error.reason)))?;
    Ok((wanted, restore))
}

/// A snapshot or a point in time.
fn wanted(raw: &Raw) -> Answer<Wanted> {
    let target = raw.target()?;
    match (raw.has_snapshot(), raw.has_point()) {
        (true, false) => Ok(Wanted::Automated { snapshot: raw.snapshot()?, target }),
        (false, true) => Ok(Wanted::PointInTime { target, at: raw.point_in_time()? }),
        (false, false) => Err(Problem::new(Code::MissingOneOfAttributes).with("snapshotId").with(POINT)),
        (true, true) => {
            let why = "a snapshot and a point in time are given; give one of them";
            Err(Problem::new(Code::ValidationError).with(why))
        }
    }
}

fn names(fields: &mut Fields, list: &'static str) -> Answer<Vec<AskedName>> {
    let items = fields.objects(list, &["sourceNamespace", "targetNamespace"])?.unwrap_or_default();
    let name = |mut item: Fields| {
        Ok(AskedName {
            source_namespace: item.required_text("sourceNamespace")?,
            target_namespace: item.text("targetNamespace")?,
        })
    };
    items.into_iter().map(name).collect()
}

fn word<T: std::str::FromStr>(fields: &mut Fields, name: &'static str) -> Answer<T> {
    let text = fields.text(name)?.ok_or_else(|| missing(name))?;
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        Problem::new(Code::InvalidEnumValue).with(shown)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::{ClusterTime, timeline::PointInTime};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ID: &str = "32b6e34b3d91647abb20e7b8";

    fn body(changes: Value) -> Value {
        let mut body = json!({
            "snapshotId": ID, "targetClusterName": "c", "targetGroupId": ID, "indexStrategy": "ALL",
            "writeStrategy": "CREATE_NEW", "collections": [{"sourceNamespace": "shop.orders"}],
        });
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    }

    fn of(changes: Value) -> Answer<(Wanted, CollectionRestore)> {
        parse(&HeaderMap::new(), body(changes).to_string().as_bytes())
    }

    #[test]
    fn an_answer_sent_back_is_taken() {
        let (wanted, restore) = of(json!({
            "id": ID, "state": "INITIALIZING", "createdAt": "2025-05-04T09:42:00Z", "totalDocuments": 0,
            "restoredDocuments": 0, "indexStatus": {"state": "NOT_STARTED", "failedCollectionCount": 0},
            "databases": [], "databaseSuffix": "", "oplogTs": null, "collectionSuffix": "_old",
        }))
        .unwrap();
        assert!(matches!(wanted, Wanted::Automated { .. }));
        assert_eq!(restore.collections().len(), 1);
        assert_eq!(restore.asked().collection_suffix.as_deref(), Some("_old"));
    }

    #[test]
    fn a_state_is_named_once() {
        let at = |changes: Value| match of(changes).unwrap().0 {
            Wanted::PointInTime { at, .. } => at,
            other => panic!("{other:?}"),
        };
        let second = json!({"snapshotId": null, "pointInTimeUtcSeconds": 1_700_000_000});
        assert_eq!(at(second), PointInTime::Second(1_700_000_000));
        let entry = json!({"snapshotId": null, "oplogTs": 1_700_000_000, "oplogInc": 7});
        let time = ClusterTime { seconds: 1_700_000_000, increment: 7 };
        assert_eq!(at(entry), PointInTime::Operation(time));
    }

    #[test]
    fn what_is_wrong_is_named() {
        use Code::{
            InvalidAttribute, InvalidEnumValue, InvalidJsonAttribute, InvalidPitRestoreTime,
            MissingAttribute, MissingOneOfAttributes, ValidationError,
        };
        let many: Vec<Value> = (0..101).map(|n| json!({"sourceNamespace": format!("a.c{n}")})).collect();
        for (changes, code, parameters) in [
            (json!({"indexStrategy": null}), MissingAttribute, json!(["indexStrategy"])),
            (json!({"writeStrategy": null}), MissingAttribute, json!(["writeStrategy"])),
            (json!({"targetClusterName": null}), MissingAttribute, json!(["targetClusterName"])),
            (json!({"targetGroupId": null}), MissingAttribute, json!(["targetGroupId"])),
            (json!({"indexStrategy": "SOME"}), InvalidEnumValue, json!(["SOME"])),
            (json!({"writeStrategy": "create_new"}), InvalidEnumValue, json!(["create_new"])),
            (
                json!({"snapshotId": null}),
                MissingOneOfAttributes,
                json!(["snapshotId", "pointInTimeUtcSeconds"]),
            ),
            (json!({"collections": null}), MissingOneOfAttributes, json!(["databases", "collections"])),
            (
                json!({"pointInTimeUtcSeconds": 1_700_000_000}),
                ValidationError,
                json!(["a snapshot and a point in time are given; give one of them"]),
            ),
            (json!({"snapshotId": null, "oplogTs": 1_700_000_000}), MissingAttribute, json!(["oplogInc"])),
            (
                json!({"snapshotId": null, "oplogTs": 1_700_000_000, "oplogInc": 1, "pointInTimeUtcSeconds": 1_700_000_000}),
                InvalidPitRestoreTime,
                json!([]),
            ),
            (
                json!({"snapshotId": null, "pointInTimeUtcSeconds": 42}),
                InvalidAttribute,
                json!(["pointInTimeUtcSeconds"]),
            ),
            (json!({"snapshotId": "x"}), InvalidAttribute, json!(["snapshotId"])),
            (json!({"collections": [{}]}), MissingAttribute, json!(["sourceNamespace"])),
            (json!({"collections": ["shop.orders"]}), InvalidJsonAttribute, json!(["collections"])),
            (json!({"collections": [{"source": "x"}]}), InvalidAttribute, json!(["source"])),
            (json!({"collections": many}), InvalidAttribute, json!(["collections"])),
            (json!({"databases": [{"sourceNamespace": "admin"}]}), InvalidAttribute, json!(["databases"])),
            (json!({"pointInTimeUTCSeconds": 1}), InvalidAttribute, json!(["pointInTimeUTCSeconds"])),
        ] {
            let problem = of(changes.clone()).unwrap_err();
            assert_eq!((problem.code(), &problem.body()["parameters"]), (code, &parameters), "{changes}");
        }
    }

    proptest! {
        #[test]
        fn no_values_make_it_panic(name in ".{0,12}", to in ".{0,12}", suffix in ".{0,6}", at in any::<i64>()) {
            let names = json!([{"sourceNamespace": name, "targetNamespace": to}]);
            let _ = of(json!({"collections": names, "collectionSuffix": suffix, "snapshotId": null, "oplogTs": at, "oplogInc": at}));
            let _ = of(json!({"databases": names, "databaseSuffix": suffix}));
        }
    }
}
