//! Copies of a vault: the same vault at another place, with some of its objects.
//!
//! A copy has the id and the key of the vault that it is a copy of, so its objects are the very same bytes: what was sealed for
//! the one opens in the other, and whoever has a copy and the master key has all that is in it without the first. What tells the
//! two apart is a mark, `copy.json`: nobody works in a marked place as in the vault itself, and nobody copies to one that is not
//! marked, under whatever name it is reached. So what is deleted at a place was copied there.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Delta, Error, Location, Manifest, MasterKey, ObjectKind, ObjectName, Result, SealedObject, Slice, Vault,
    crypt::random, manifest::open_page, segment, vault::off_the_runtime,
};

/// Where a place says that it holds copies.
pub(crate) const MARK_PATH: &str = "copy.json";
const MARK_FORMAT: &str = "ebbtide-copy";

/// What a place that holds copies says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyMark {
    format: String,
    /// What the place is called by those who copy to it.
    pub region: String,
    /// Which place it is: 32 random hexadecimal digits.
    pub place: String,
    /// Who has worked there last. A catalog that is behind that has forgotten something.
    pub generation: i64,
}

impl Vault {
    /// Opens the copy of this vault at `location` that is called `region`, and marks who works there now: `generation`. `known` is
    /// which place that is, where something was put there before. Otherwise it is begun, if it is empty, or taken up, if another
    /// catalog has begun it. Where the master key of this vault was changed since, the copy gets the new one. Gives the mark as it
    /// was before, if there was one.
    ///
    /// # Errors
    /// [`Error::NoVault`] when a known place is empty, such as a disk that is not mounted; [`Error::Location`] when it is no place for
    /// these copies; whatever the stores say.
    pub async fn open_copy(
        &self,
        location: &Location,
        region: &str,
        known: Option<&str>,
        generation: i64,
    ) -> Result<(Self, Option<CopyMark>, CopyMark)> {
        let copy = self.beside(location, known.is_none())?;
        let refuse = |why: String| Err(Error::Location { text: copy.location().to_owned(), why });
        // Not what lies there now: should that have rotted, or be another vault's, it must not take the place of the good one.
        let own = self.own_description();
        let (found, before) = (copy.description_bytes().await?, copy.copy_mark().await?);
        let place = match (&found, &before, known) {
            (None, None, None) => {
                copy.refuse_objects().await?;
                hex::encode(random::<16>())
            }
            (None, None, Some(_)) => return Err(copy.gone()),
            // Begun, and not got any further.
            (None, Some(mark), None) => mark.place.clone(),
            (Some(_), None, _) => {
                return refuse(
                    "a vault is there that is no place of copies: it may be the first one itself".to_owned(),
                );
            }
            (_, Some(mark), Some(known)) if mark.place != known => {
                return refuse("the copies of another catalog, or of another place, are there".to_owned());
            }
            (None, Some(_), Some(_)) => return Err(copy.gone()),
            (Some(_), Some(mark), _) => mark.place.clone(),
        };
        if let Some(mark) = before.as_ref().filter(|mark| mark.region != region) {
            return refuse(format!("it is the place of the copies in {}", mark.region));
        }
        if found.is_some() && found.as_ref() != Some(&own) && !copy.is_described_as(self.id()).await? {
            let why = format!("another vault is there, which is no copy of the one at {}", self.location());
            return refuse(why);
        }
        // A catalog that was put back must not hide that somebody was here after it.
        let generation = before.as_ref().map_or(generation, |mark| mark.generation.max(generation));
        let mark = CopyMark { format: MARK_FORMAT.to_owned(), region: region.to_owned(), place, generation };
        // Before anything else is there, so that it is never taken for a vault of its own.
        copy.set_mark(&mark).await?;
        if found.as_ref() != Some(&own) {
            copy.describe(own).await?;
        }
        Ok((copy, before, mark))
    }

    /// Tells a copy of a master key that was changed.
    ///
    /// # Errors
    /// As [`Vault::open_copy`] of a place that is known.
    pub async fn tell_copy(&self, location: &Location) -> Result<()> {
        let copy = self.beside(location, false)?;
        // Not what lies there now: should that have rotted, or be another vault's, it must not take the place of the good one.
        let own = self.own_description();
        if copy.copy_mark().await?.is_none() || !copy.is_described_as(self.id()).await? {
            return Err(copy.gone());
        }
        copy.describe(own).await
    }

    /// Opens a vault, be it the first one or a copy, to look at it.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn open_to_read(location: &Location, master: &MasterKey) -> Result<Self> {
        Self::open_marked(location, master).await
    }

    /// From now on this is a vault of its own, and nobody copies to it any more.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn become_first(&self) -> Result<()> {
        self.delete_file(MARK_PATH).await
    }

    /// Whether this is still the place that bears that mark: whoever makes a vault of its own of it takes the mark away.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn is_place(&self, mark: &CopyMark) -> Result<bool> {
        Ok(self.copy_mark().await?.is_some_and(|found| found.place == mark.place))
    }

    /// What says that copies are here.
    pub(crate) async fn copy_mark(&self) -> Result<Option<CopyMark>> {
        let Some(bytes) = self.file(MARK_PATH).await? else { return Ok(None) };
        let broken = |why: String| Error::Location {
            text: self.location().to_owned(),
            why: format!("its {MARK_PATH} {why}"),
        };
        let mark: CopyMark = serde_json::from_slice(&bytes).map_err(|e| broken(format!("is broken: {e}")))?;
        if mark.format == MARK_FORMAT {
            Ok(Some(mark))
        } else {
            Err(broken("is not that of copies".to_owned()))
        }
    }

    async fn set_mark(&self, mark: &CopyMark) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(mark).expect("a mark is plain data");
        text.push(b'\n');
        self.put_file(MARK_PATH, text.into()).await
    }

    /// An object as it is stored, after every block of it was opened and checked: what goes on from here is whole.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] with the block that is, [`Error::NewerFormat`], [`Error::Refused`] for parts of
    /// archives, and whatever the store says.
    pub async fn sealed(&self, name: &ObjectName) -> Result<SealedObject> {
        let bytes = self.get(name).await?;
        self.check(*name, bytes.clone()).await?;
        Ok(SealedObject { name: *name, bytes })
    }

    async fn check(&self, name: ObjectName, object: Bytes) -> Result<()> {
        let vault = self.clone();
        match name.kind {
            ObjectKind::Segment => {
                off_the_runtime(move || segment::check_sealed(&vault, &name, &object)).await
            }
            ObjectKind::Delta => off_the_runtime(move || Delta::check_sealed(&vault, &name, &object)).await,
            ObjectKind::Page => off_the_runtime(move || open_page(&vault, &name, &object)).await.map(drop),
            ObjectKind::Manifest => Manifest::from_sealed(self, &name, &object).map(drop),
            ObjectKind::Slice => Slice::from_sealed(self, &name, object)?.verify().await,
            ObjectKind::Archive => Err(Error::Refused {
                what: "a copy of a part of an archive",
                why: "archives are made anew wherever they are wanted".to_owned(),
            }),
        }
    }
}
