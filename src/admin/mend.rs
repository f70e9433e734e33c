//! Puts back, from a copy, what the vault has lost.

use std::collections::BTreeSet;

use anyhow::Context;
use catalog::Catalog;
use model::copy::RegionName;
use vault::{ObjectName, Vault};

use super::verify;
use crate::config::Config;

/// A copy to put things back from, and what was put back.
pub(super) struct Mender {
    copies: Vault,
    mended: BTreeSet<ObjectName>,
}

impl Mender {
    /// Opens the copies in a region.
    pub(super) async fn open(config: &Config, region: &RegionName) -> anyhow::Result<Self> {
        let copies = verify::open_copies(config, region).await?;
        Ok(Self { copies, mended: BTreeSet::new() })
    }

    /// How many objects were put back so far.
    pub(super) fn count(&self) -> usize {
        self.mended.len()
    }

    /// Puts those of these objects back that the copy has whole, each once. Whether any was: then it is worth another look, since
    /// behind a page that could not be read there may be more.
    pub(super) async fn put_back(
        &mut self,
        vault: &Vault,
        catalog: &Catalog,
        damaged: &[ObjectName],
    ) -> anyhow::Result<bool> {
        let before = self.mended.len();
        for name in damaged {
            if self.mended.contains(name) {
                continue;
            }
            let object = match self.copies.sealed(name).await {
                Ok(object) => object,
                // What is not whole there either cannot be mended from there.
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error).context("read the copies"),
            };
            vault.put(&object).await.with_context(|| format!("put {name} back"))?;
            catalog
                .objects()
                .mended(&[name.to_string()])
                .await
                .context("note in the catalog what is whole")?;
            self.mended.insert(*name);
        }
        Ok(self.mended.len() > before)
    }
}
