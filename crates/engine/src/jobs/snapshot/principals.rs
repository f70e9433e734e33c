//! Users and roles, as of the time of everything else.

use mongo::{CollectionInfo, CollectionKind, Namespace, read};
use vault::Principals;

use super::source::{ReadError, Source};
use crate::lease::JobContext;

/// Reads `admin.system.users` and `admin.system.roles` at the time of the snapshot, by `_id`.
pub(super) async fn read(ctx: &JobContext, source: &Source) -> Result<Principals, (Namespace, ReadError)> {
    let users = Namespace::new("admin", "system.users");
    let roles = Namespace::new("admin", "system.roles");
    Ok(Principals {
        users: read_all(ctx, source, &users).await.map_err(|error| (users, error))?,
        roles: read_all(ctx, source, &roles).await.map_err(|error| (roles, error))?,
    })
}

async fn read_all(
    ctx: &JobContext,
    source: &Source,
    namespace: &Namespace,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let info = CollectionInfo {
        uuid: None,
        namespace: namespace.clone(),
        kind: CollectionKind::Plain,
        options: vec![],
        id_index: None,
        indexes: vec![],
        collation: false,
    };
    let mut connection = ctx.or_stop(source.connection()).await??;
    let mut cursor = ctx.or_stop(read::sorted(&mut connection, &info, source.at, None)).await??;
    let mut documents = vec![];
    while let Some(batch) = ctx.or_stop(cursor.next()).await?? {
        documents.extend(batch.documents().map(<[u8]>::to_vec));
    }
    cursor.close().await?;
    source.give_back(connection);
    Ok(documents)
}
