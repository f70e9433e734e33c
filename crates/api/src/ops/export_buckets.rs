//! Buckets that snapshots are exported to.
//!
//! At Atlas a bucket is reached by the rights of a role that Atlas takes on. A server of one's own has no such roles: which
//! places there are, where they lie and by which credentials they are written is said in its configuration, by whoever runs
//! it. The name of a bucket is that of such a place; the role is kept and shown, and gives no rights.

use catalog::{ExportBucket, NewExportBucket};
use http::Method;
use model::{
    export::PlaceName,
    id::{CredentialId, ExportBucketId},
    role::Action,
};
use serde_json::{Value, json};

use super::{Operation, SINCE_2023, audit, groups::catalog_page, links};
use crate::{
    access::Scope,
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
    version::Version,
};

const COLLECTION: &str = "/groups/{groupId}/backup/exportBuckets";
const ONE: &str = "/groups/{groupId}/backup/exportBuckets/{exportBucketId}";
/// The newer one knows providers other than AWS, which this server does not serve.
const VERSIONS: &[Version] = &[
    Version::current(2023, 1, 1)
        .deprecated("Thu, 30 May 2024 00:00:00 GMT", Some("Thu, 1 Jul 2027 00:00:00 GMT")),
    Version::current(2024, 5, 30),
];
const SINCE_2024: &[Version] = &[Version::current(2024, 5, 30)];

/// The fields of all providers, so that a request for another one is told what is the matter with it.
const KNOWN: [&str; 8] = [
    "bucketName",
    "cloudProvider",
    "iamRoleId",
    "links",
    "requirePrivateNetworking",
    "roleId",
    "serviceUrl",
    "tenantId",
];
const PROVIDER: &str = "cloudProvider";
const AWS: &str = "AWS";
const OTHER_PROVIDERS: [&str; 2] = ["AZURE", "GCP"];
const PRIVATE: &str = "requirePrivateNetworking";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupBackupExportBuckets",
        method: Method::GET,
        path: COLLECTION,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "createGroupBackupExportBucket",
        method: Method::POST,
        path: COLLECTION,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(create(call)),
    },
    Operation {
        id: "getGroupBackupExportBucket",
        method: Method::GET,
        path: ONE,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "updateGroupBackupExportBucket",
        method: Method::PATCH,
        path: ONE,
        versions: SINCE_2024,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(update(call)),
    },
    Operation {
        id: "deleteGroupBackupExportBucket",
        method: Method::DELETE,
        path: ONE,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(delete(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let buckets = call.server.state.catalog.export_buckets();
    let listing = buckets.list(call.project_id()?, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list export buckets", e))?;
    let results = listing.items.iter().map(|bucket| view(&call, bucket)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn create(call: Call) -> Answer<Reply> {
    let new = wanted(&call)?;
    let bucket = call.server.state.catalog.export_buckets().add(new, call.server.now()).await;
    let bucket = bucket.map_err(|e| call.server.catalog_problem("register an export bucket", e))?;
    let detail = json!({"bucketName": bucket.place.as_str(), "iamRoleId": bucket.iam_role_id});
    audit::record(&call, "exportBucket.create", bucket.id, detail);
    Ok(Reply::object(view(&call, &bucket)))
}

fn wanted(call: &Call) -> Answer<NewExportBucket> {
    let mut fields = Fields::parse(&call.headers, &call.body, &KNOWN)?;
    let provider = fields.required_text(PROVIDER)?;
    if OTHER_PROVIDERS.contains(&provider.as_str()) {
        let why = "Snapshots are exported to local directories and to stores that speak S3, as AWS does: give AWS, and the \
                   name of a place in the server's configuration.";
        return Err(not_done(PROVIDER, why));
    }
    if provider != AWS {
        let shown: String = provider.chars().take(64).collect();
        return Err(Problem::new(Code::InvalidEnumValue).with(shown));
    }
    let name = fields.required_text("bucketName")?;
    let iam_role_id = fields.required_text("iamRoleId")?;
    // It has the form of all ids, whatever it is the id of.
    iam_role_id.parse::<CredentialId>().map_err(|_| invalid("iamRoleId"))?;
    refuse_private_networking(fields.flag(PRIVATE)?.unwrap_or(false))?;
    Ok(NewExportBucket { project_id: call.project_id()?, place: place(call, &name)?, iam_role_id })
}

/// The place that is called so, if the configuration knows one.
fn place(call: &Call, name: &str) -> Answer<PlaceName> {
    let known = &call.server.state.settings.export_places;
    let shown: String = name.chars().take(64).collect();
    let refused = |why: String| Problem::new(Code::ExportBucketNameInvalid).with(shown.as_str()).because(why);
    let place: PlaceName = name.parse().map_err(|bad| refused(format!("It cannot be: {bad}.")))?;
    if known.contains(&place) {
        return Ok(place);
    }
    let others = known.iter().map(PlaceName::as_str).collect::<Vec<_>>().join(", ");
    let known = if others.is_empty() { "none".to_owned() } else { others };
    Err(refused(format!(
        "A bucket is a place that the server's configuration names, and it knows: {known}. Put [exports.{place}] with its \
         url into the configuration, and start the server anew."
    )))
}

/// How a place is reached is said by its address in the configuration.
fn refuse_private_networking(required: bool) -> Answer<()> {
    let why = "The server reaches a place by the endpoint that its configuration names, and can promise nothing about the \
               way there: have the endpoint be a private one.";
    if required { Err(not_done(PRIVATE, why)) } else { Ok(()) }
}

fn not_done(name: &str, why: &str) -> Problem {
    Problem::new(Code::UnsupportedForCurrentConfig).because(why).field(name, why)
}

async fn get(call: Call) -> Answer<Reply> {
    let bucket = one(&call).await?;
    Ok(Reply::object(view(&call, &bucket)))
}

async fn update(call: Call) -> Answer<Reply> {
    let bucket = one(&call).await?;
    let mut fields = Fields::parse(&call.headers, &call.body, &[PRIVATE])?;
    refuse_private_networking(fields.flag(PRIVATE)?.ok_or_else(|| missing(PRIVATE))?)?;
    Ok(Reply::object(view(&call, &bucket)))
}

async fn delete(call: Call) -> Answer<Reply> {
    let bucket = one(&call).await?;
    let deleted = call.server.state.catalog.export_buckets().delete(bucket.id, call.server.now()).await;
    deleted.map_err(|e| match e {
        catalog::Error::NotFound { .. } => unknown(&bucket.id.to_string()),
        catalog::Error::Conflict(conflict) => {
            Problem::new(Code::ExportBucketDeleteFailed).because(format!("It is in use: {conflict}."))
        }
        other => call.server.catalog_problem("delete an export bucket", other),
    })?;
    audit::record(&call, "exportBucket.delete", bucket.id, json!({"bucketName": bucket.place.as_str()}));
    Ok(Reply::no_content())
}

/// The bucket of the path, if it is this project's and not deleted.
async fn one(call: &Call) -> Answer<ExportBucket> {
    let id: ExportBucketId = call.params.export_bucket()?;
    let found = call.server.state.catalog.export_buckets().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read an export bucket", e))?;
    let project = call.project_id()?;
    let found = found.filter(|bucket| bucket.project_id == project && bucket.deleted_at.is_none());
    found.ok_or_else(|| unknown(&id.to_string()))
}

/// There is no such bucket in the project.
pub(super) fn unknown(id: &str) -> Problem {
    Problem::new(Code::ExportBucketNotFound).with(id.chars().take(64).collect::<String>())
}

/// `DiskBackupSnapshotAWSExportBucketResponse`. Its region is not known here: it is the place's own affair.
fn view(call: &Call, bucket: &ExportBucket) -> Value {
    let path = format!("{}/backup/exportBuckets/{}", links::group_path(bucket.project_id), bucket.id);
    json!({
        "_id": bucket.id.to_string(),
        "bucketName": bucket.place.as_str(),
        "cloudProvider": AWS,
        "iamRoleId": bucket.iam_role_id,
        "links": [links::own(call.link(&path))],
        "requirePrivateNetworking": false,
    })
}
