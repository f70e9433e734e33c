//! Users and roles, as of the time of everything else.

use mongo::{CollectionInfo, CollectionKind, Namespace, read};
use vault::Principals;

use super::source::{ReadError, Source};
use crate::lease::{JobContext, JobError};

/// Users or roles are held in memory as a whole, by a snapshot and by a restore. This is some 60,000 users.
const BYTES_MAX: usize = 64 << 20;

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
    let mut held = Held::default();
    while let Some(batch) = ctx.or_stop(cursor.next()).await?? {
        batch.documents().try_for_each(|document| held.push(document, BYTES_MAX))?;
    }
    cursor.close().await?;
    source.give_back(connection);
    Ok(held.documents)
}

/// Documents in memory, up to a limit.
#[derive(Default)]
struct Held {
    documents: Vec<Vec<u8>>,
    bytes: usize,
}

impl Held {
    fn push(&mut self, document: &[u8], bytes_max: usize) -> Result<(), JobError> {
        self.bytes += document.len();
        if self.bytes > bytes_max {
            return Err(JobError::failed(format!(
                "the deployment has more than {bytes_max} bytes of users or of roles, and no more can be kept; drop those \
                 that nobody needs"
            )));
        }
        self.documents.push(document.to_vec());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_may_be() {
        let mut held = Held::default();
        assert!(held.push(&[0; 60], 100).is_ok() && held.push(&[0; 40], 100).is_ok());
        let refused = held.push(&[0], 100);
        assert!(
            matches!(&refused, Err(JobError::Failed { message, .. }) if message.contains("100 bytes of users"))
        );
        assert_eq!(held.documents.len(), 2);
    }
}
