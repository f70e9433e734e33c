//! Damage in the vault, told to the catalog. What is damaged counts as not stored, so the next snapshot of the same data
//! stores it anew under the same name, and the snapshots that name it are whole again.

use catalog::Catalog;

use crate::lease::JobError;

/// What a read from the vault failed with, as the end of a job; the catalog is told of the object, when one is damaged.
pub(crate) async fn noted(catalog: &Catalog, error: vault::Error) -> JobError {
    let Some(object) = error.damaged_object() else { return error.into() };
    let name = object.to_string();
    if let Err(hindrance) = catalog.objects().report_damage(std::slice::from_ref(&name)).await {
        tracing::warn!(object = %name, error = %hindrance, "{name} is damaged, and the catalog cannot be told: {hindrance}");
    }
    if object.kind == vault::ObjectKind::Slice {
        return JobError::failed_by(
            "a slice of the record of operations is damaged in the vault: times after its beginning can be restored from the \
             next snapshot on, times before it from those before",
            error,
        );
    }
    JobError::failed_by(
        "an object of the snapshot is damaged in the vault; restore another snapshot, or take one: where the source \
         still holds the same data it is stored anew, and this snapshot is whole again",
        error,
    )
}
