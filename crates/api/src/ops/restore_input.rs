//! The body of `POST …/restoreJobs`: read strictly, then checked against the matrix of what each delivery
//! type needs. Nothing is looked up here.

use http::HeaderMap;
use model::{
    ClusterTime, DeploymentName, LinkTerms,
    id::{ProjectId, SnapshotId},
    restore::DeliveryType,
    timeline::PointInTime,
};

use crate::{
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
};

/// 2008-01-01: the smallest second that Atlas takes.
const SECONDS_MIN: i32 = 1_199_145_600;

/// Fields of `DiskBackupSnapshotRestoreJob`, read-only ones included: they are taken and ignored, as a client may
/// send back what it was given.
pub(super) const KNOWN: &[&str] = &[
    "cancelled",
    "components",
    "deliveryType",
    "deliveryUrl",
    "desiredTimestamp",
    "expired",
    "expiresAt",
    "failed",
    "finishedAt",
    "id",
    "links",
    "oplogInc",
    "oplogTs",
    "pointInTimeUTCSeconds",
    "privateDownloadDeliveryUrls",
    "snapshotId",
    "targetClusterName",
    "targetDeploymentItemName",
    "targetGroupId",
    "timestamp",
];

/// What is wanted, complete and well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Automated { snapshot: SnapshotId, target: TargetName },
    Download { snapshot: SnapshotId, terms: LinkTerms },
    PointInTime { target: TargetName, at: PointInTime },
}

impl Wanted {
    pub(super) fn delivery(&self) -> DeliveryType {
        match self {
            Self::Automated { .. } => DeliveryType::Automated,
            Self::Download { .. } => DeliveryType::Download,
            Self::PointInTime { .. } => DeliveryType::PointInTime,
        }
    }

    /// On which terms the archive is offered, where there is one.
    pub(super) fn terms(&self) -> LinkTerms {
        match self {
            Self::Download { terms, .. } => *terms,
            Self::Automated { .. } | Self::PointInTime { .. } => LinkTerms::default(),
        }
    }
}

/// A deployment by project and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetName {
    pub(super) project: ProjectId,
    pub(super) cluster: DeploymentName,
}

/// Reads and checks a body. Fields beyond [`KNOWN`] are the caller's, which takes them out first.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Answer<Wanted> {
    let mut fields = Fields::parse(headers, body, KNOWN)?;
    read(&mut fields)
}

/// Reads and checks what is left of a body.
pub(super) fn read(fields: &mut Fields) -> Answer<Wanted> {
    let delivery = fields.text("deliveryType")?;
    let raw = Raw::read(fields, "pointInTimeUTCSeconds")?;
    let delivery = delivery.ok_or_else(|| missing("deliveryType"))?;
    match delivery.parse::<DeliveryType>() {
        Ok(DeliveryType::Automated) => {
            Ok(Wanted::Automated { snapshot: raw.snapshot()?, target: raw.target()? })
        }
        Ok(DeliveryType::Download) => {
            Ok(Wanted::Download { snapshot: raw.snapshot()?, terms: LinkTerms::default() })
        }
        Ok(DeliveryType::PointInTime) => {
            // A snapshot may be named beside it, and isn't read: the same state comes out whichever it is folded from.
            Ok(Wanted::PointInTime { target: raw.target()?, at: raw.point_in_time()? })
        }
        Err(_) => {
            let shown: String = delivery.chars().take(64).collect();
            Err(Problem::new(Code::InvalidEnumValue).with(shown))
        }
    }
}

/// The fields that say of which state and into what, as they came, typed.
pub(super) struct Raw {
    /// What the field of a second is called.
    point_name: &'static str,
    snapshot: Option<String>,
    cluster: Option<String>,
    project: Option<String>,
    oplog_ts: Option<i32>,
    oplog_inc: Option<i32>,
    point: Option<i32>,
}

impl Raw {
    /// Takes them out of a body.
    pub(super) fn read(fields: &mut Fields, point_name: &'static str) -> Answer<Self> {
        Ok(Self {
            point_name,
            snapshot: fields.text("snapshotId")?,
            cluster: fields.text("targetClusterName")?,
            project: fields.text("targetGroupId")?,
            oplog_ts: fields.epoch_seconds("oplogTs")?,
            oplog_inc: fields.int32("oplogInc")?,
            point: fields.epoch_seconds(point_name)?,
        })
    }

    pub(super) fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether any field of a point in time is there.
    pub(super) fn has_point(&self) -> bool {
        self.oplog_ts.is_some() || self.oplog_inc.is_some() || self.point.is_some()
    }

    pub(super) fn snapshot(&self) -> Answer<SnapshotId> {
        let text = self.snapshot.as_deref().ok_or_else(|| missing("snapshotId"))?;
        text.parse().map_err(|_| invalid("snapshotId"))
    }

    pub(super) fn target(&self) -> Answer<TargetName> {
        let cluster = self.cluster.as_deref().ok_or_else(|| missing("targetClusterName"))?;
        let project = self.project.as_deref().ok_or_else(|| missing("targetGroupId"))?;
        let shown: String = cluster.chars().take(64).collect();
        Ok(TargetName {
            project: project.parse().map_err(|_| invalid("targetGroupId"))?,
            cluster: cluster.parse().map_err(|_| Problem::new(Code::ClusterNameInvalid).with(shown))?,
        })
    }

    /// The time asked for: by second, or by oplog entry.
    pub(super) fn point_in_time(&self) -> Answer<PointInTime> {
        let seconds = |name, value: i32| {
            let good = value >= SECONDS_MIN;
            good.then_some(value.unsigned_abs()).ok_or_else(|| invalid(name))
        };
        match (self.oplog_ts, self.oplog_inc, self.point) {
            (None, None, None) => {
                Err(Problem::new(Code::MissingOneOfAttributes).with("oplogTs").with(self.point_name))
            }
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => Err(Problem::new(Code::InvalidPitRestoreTime)
                .because("Both are given, and they are not the same.")),
            (Some(_), None, None) => Err(missing("oplogInc")),
            (None, Some(_), None) => Err(missing("oplogTs")),
            (None, None, Some(point)) => Ok(PointInTime::Second(seconds(self.point_name, point)?)),
            (Some(ts), Some(increment), None) => {
                let seconds = seconds("oplogTs", ts)?;
                let increment = u32::try_from(increment).ok().filter(|inc| *inc > 0);
                let increment = increment.ok_or_else(|| invalid("oplogInc"))?;
                Ok(PointInTime::Operation(ClusterTime { seconds, increment }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ID: &str = "32b6e34b3d91647abb20e7b8";

    fn of(body: Value) -> Answer<Wanted> {
        parse(&HeaderMap::new(), body.to_string().as_bytes())
    }

    fn refused(body: Value) -> (Code, Value) {
        let problem = of(body).unwrap_err();
        (problem.code(), problem.body()["parameters"].clone())
    }

    #[test]
    fn the_sample_of_the_page_is_taken() {
        let wanted = of(json!({
            "deliveryType": "automated", "oplogInc": 1, "oplogTs": 42, "pointInTimeUTCSeconds": 42,
            "snapshotId": ID, "targetClusterName": "string", "targetGroupId": ID,
        }));
        assert_eq!(wanted.unwrap().delivery(), DeliveryType::Automated);
    }

    #[test]
    fn an_answer_sent_back_is_taken() {
        let wanted = of(json!({
            "cancelled": false, "deliveryType": "download", "deliveryUrl": [], "desiredTimestamp": {"date": null},
            "expired": false, "failed": false, "id": ID, "links": [{"href": "x", "rel": "self"}], "snapshotId": ID,
            "targetGroupId": "anything", "timestamp": "2025-05-04T09:42:00Z", "finishedAt": null,
        }));
        let terms = LinkTerms::ONCE_WITHIN_AN_HOUR;
        assert_eq!(wanted.unwrap(), Wanted::Download { snapshot: ID.parse().unwrap(), terms });
    }

    #[test]
    fn every_row_of_the_matrix() {
        use Code::{
            ClusterNameInvalid, FractionalTimestamp, InvalidAttribute, InvalidEnumValue,
            InvalidJsonAttribute, InvalidPitRestoreTime, MissingAttribute, MissingOneOfAttributes,
        };
        let full = json!({"deliveryType": "automated", "snapshotId": ID, "targetClusterName": "c", "targetGroupId": ID});
        for name in ["deliveryType", "snapshotId", "targetClusterName", "targetGroupId"] {
            for absent in [None, Some(Value::Null)] {
                let mut body = full.clone();
                match absent {
                    None => drop(body.as_object_mut().unwrap().remove(name)),
                    Some(null) => body[name] = null,
                }
                assert_eq!(refused(body), (MissingAttribute, json!([name])));
            }
        }
        let with = |changes: Value| {
            let mut body = json!({"deliveryType": "pointInTime", "snapshotId": ID, "targetClusterName": "c", "targetGroupId": ID});
            for (name, value) in changes.as_object().unwrap() {
                body[name] = value.clone();
            }
            refused(body)
        };
        let second = 1_700_000_000;
        for (changes, code, parameters) in [
            (json!({}), MissingOneOfAttributes, json!(["oplogTs", "pointInTimeUTCSeconds"])),
            (json!({"oplogTs": second}), MissingAttribute, json!(["oplogInc"])),
            (json!({"oplogInc": 1}), MissingAttribute, json!(["oplogTs"])),
            (
                json!({"oplogTs": second, "oplogInc": 1, "pointInTimeUTCSeconds": second}),
                InvalidPitRestoreTime,
                json!([]),
            ),
            (json!({"oplogInc": 1, "pointInTimeUTCSeconds": second}), InvalidPitRestoreTime, json!([])),
            (json!({"pointInTimeUTCSeconds": 42}), InvalidAttribute, json!(["pointInTimeUTCSeconds"])),
            (json!({"oplogTs": 42, "oplogInc": 1}), InvalidAttribute, json!(["oplogTs"])),
            (json!({"oplogTs": second, "oplogInc": 0}), InvalidAttribute, json!(["oplogInc"])),
            (json!({"oplogTs": second, "oplogInc": -1}), InvalidAttribute, json!(["oplogInc"])),
            (json!({"pointInTimeUTCSeconds": 1_700_000_000.5}), FractionalTimestamp, json!([])),
            (json!({"oplogTs": 1.5, "oplogInc": 1}), FractionalTimestamp, json!([])),
            (json!({"oplogTs": second, "oplogInc": 1.5}), InvalidJsonAttribute, json!(["oplogInc"])),
            (
                json!({"pointInTimeUTCSeconds": "1700000000"}),
                InvalidJsonAttribute,
                json!(["pointInTimeUTCSeconds"]),
            ),
            (json!({"deliveryType": ""}), InvalidEnumValue, json!([""])),
            (json!({"deliveryType": "Automated"}), InvalidEnumValue, json!(["Automated"])),
            (json!({"deliveryType": 1}), InvalidJsonAttribute, json!(["deliveryType"])),
            (json!({"targetClusterName": "a b"}), ClusterNameInvalid, json!(["a b"])),
            (json!({"targetGroupId": "x"}), InvalidAttribute, json!(["targetGroupId"])),
            (json!({"deliveryType": "download", "snapshotId": "x"}), InvalidAttribute, json!(["snapshotId"])),
            (json!({"surprise": 1}), InvalidAttribute, json!(["surprise"])),
        ] {
            assert_eq!(with(changes.clone()), (code, parameters), "{changes}");
        }
    }

    #[test]
    fn a_point_in_time_is_read_both_ways() {
        let target = json!({"deliveryType": "pointInTime", "targetClusterName": "c", "targetGroupId": ID});
        let mut by_second = target.clone();
        by_second["pointInTimeUTCSeconds"] = json!(1_700_000_000);
        let mut by_entry = target;
        by_entry["oplogTs"] = json!(1_700_000_000);
        by_entry["oplogInc"] = json!(7);
        let at = |body| match of(body).unwrap() {
            Wanted::PointInTime { at, .. } => at,
            other => panic!("{other:?}"),
        };
        // The state at the beginning of the second, and the one after the operation.
        assert_eq!(at(by_second.clone()), PointInTime::Second(1_700_000_000));
        assert_eq!(at(by_second).time(), ClusterTime { seconds: 1_700_000_000, increment: 0 });
        let entry = ClusterTime { seconds: 1_700_000_000, increment: 7 };
        assert_eq!(at(by_entry), PointInTime::Operation(entry));
    }

    proptest! {
        #[test]
        fn no_values_make_it_panic(kind in "(automated|download|pointInTime|.{0,4})", ts in any::<i64>(), inc in any::<i64>(), name in ".{0,8}") {
            let _ = of(json!({"deliveryType": kind, "oplogTs": ts, "oplogInc": inc, "snapshotId": ID, "targetClusterName": name, "targetGroupId": ID}));
        }
    }
}
