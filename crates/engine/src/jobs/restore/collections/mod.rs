//! Collection restores: a selection as Atlas has it asked for.
//!
//! What differs from any other selection: collections are restored and nothing else, what is there already may have to stay
//! (then what is restored gets another name), and the catalog is told of each collection how far it is ([`Told`]).

mod told;

use std::collections::BTreeMap;

use catalog::{RestoreJob, RestoredCollection};
use model::{
    collection_restore::{CollectionRestore, CollectionStep, Destination, WriteStrategy, beside},
    selection::Name,
};
use mongo::{Deployment, Namespace};
use vault::Manifest;

use super::{
    checkpoint::Checkpoint,
    cutover,
    errors::job_error,
    plan::Way,
    selected::{self, Picked},
    source::Item,
    specs,
};
use crate::lease::{JobContext, JobError};

pub(super) use told::Told;

/// What of the state is restored, and what is told of everything that was asked for and is not.
pub(super) struct Chosen {
    pub(super) picked: Picked,
    pub(super) not_restored: Vec<RestoredCollection>,
}

impl From<Picked> for Chosen {
    fn from(picked: Picked) -> Self {
        Self { picked, not_restored: vec![] }
    }
}

/// Finds what is asked for.
///
/// # Errors
/// [`JobError::Failed`] when the state lacks something that was asked for by name, or it cannot be restored so. The catalog
/// is told of each, and nothing is touched.
pub(super) async fn choose(
    ctx: &JobContext,
    asked: &CollectionRestore,
    items: Vec<Item>,
    row: &RestoreJob,
    manifest: &Manifest,
) -> Result<Chosen, JobError> {
    let Sorted { mut wanted, not_restored, refusals } = sort(asked, items);
    if !refusals.is_empty() {
        let waiting = wanted.iter().map(|item| line(item, asked, None));
        Told::begin(ctx, waiting.chain(not_restored).map(|line| (None, line)).collect()).await?;
        return Err(JobError::failed(format!(
            "the restore was not begun, and nothing was changed: of what was in {} at {} not everything can be restored \
             that was asked for: {}; mend the request and restore again",
            row.deployment_name,
            manifest.header().cluster_time,
            refusals.join("; ")
        )));
    }
    for item in &mut wanted {
        let indexes = std::mem::take(&mut item.entry.meta.indexes);
        item.entry.meta.indexes = specs::of_strategy(asked.asked().index_strategy, indexes);
    }
    let mut picked = selected::pick(wanted, Some(asked.selection()), row, manifest)?;
    let left_out = not_restored.iter().filter_map(|line| line.error.clone());
    picked.left_out.extend(left_out);
    Ok(Chosen { picked, not_restored })
}

/// Gives everything a name that is free, where nothing may be touched; the same ones in every attempt.
///
/// # Errors
/// [`JobError`]: what finds no name.
pub(super) async fn put_beside(
    asked: &CollectionRestore,
    items: &mut [Item],
    deployment: &Deployment,
    target: &catalog::Deployment,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    if asked.asked().write_strategy == WriteStrategy::OverwriteExisting {
        return Ok(());
    }
    let names = match &state.names {
        Some(names) => names,
        None => {
            let found = cutover::list(deployment).await.map_err(|e| job_error("listing", &target.name, e))?;
            let there: Vec<Name> = found.iter().map(|info| name_of(&info.namespace)).collect();
            let wanted: Vec<Destination> = items
                .iter()
                .map(|item| Destination {
                    name: name_of(&item.ns),
                    whole_database: asked.databases().contains(&item.from.db),
                })
                .collect();
            let free = beside(&wanted, &there).map_err(|why| {
                JobError::failed(format!(
                    "the restore into {} was not begun, and nothing was changed: {why}",
                    target.name
                ))
            })?;
            let named =
                |item: &Item| Some((item.from.to_string(), free.get(&name_of(&item.ns))?.to_string()));
            state.names.insert(items.iter().filter_map(named).collect::<BTreeMap<_, _>>())
        }
    };
    for item in items {
        let to = names.get(&item.from.to_string()).and_then(|name| Namespace::parse(name));
        item.ns = to.ok_or_else(|| {
            JobError::failed(format!(
                "the job's checkpoint has no name for {}; it was written by another version of Ebbtide",
                item.from
            ))
        })?;
    }
    Ok(())
}

/// Tells the catalog what is restored, each under the name that it gets.
///
/// # Errors
/// [`JobError`], when the catalog cannot be told.
pub(super) async fn tell(
    ctx: &JobContext,
    asked: &CollectionRestore,
    items: &[Item],
    not_restored: Vec<RestoredCollection>,
) -> Result<Told, JobError> {
    let lines = items.iter().map(|item| (Some(item.ordinal), line(item, asked, Some(&item.ns))));
    Told::begin(ctx, lines.chain(not_restored.into_iter().map(|line| (None, line))).collect()).await
}

/// What was asked for, sorted by whether it can be restored.
struct Sorted {
    wanted: Vec<Item>,
    not_restored: Vec<RestoredCollection>,
    refusals: Vec<String>,
}

fn sort(asked: &CollectionRestore, items: Vec<Item>) -> Sorted {
    let mut sorted = Sorted { wanted: vec![], not_restored: vec![], refusals: vec![] };
    let mut names_left = asked.collections().clone();
    // Of each database, whether there was anything of it, and anything that can be restored.
    let mut databases: BTreeMap<&str, (bool, bool)> =
        asked.databases().iter().map(|db| (db.as_str(), (false, false))).collect();
    for item in items {
        let name = name_of(&item.from);
        let by_name = names_left.contains(&name);
        let in_database = databases.get_mut(name.db.as_str());
        if !by_name && in_database.is_none() {
            continue;
        }
        let what = match item.way {
            // These go with what they belong to.
            Way::Buckets | Way::Server => continue,
            Way::Renamed | Way::Kept => None,
            Way::TimeSeries => Some("a time series"),
            Way::View => Some("a view"),
            Way::Functions => Some("the stored functions of a database"),
        };
        names_left.remove(&name);
        if let Some((is_there, has_collections)) = in_database {
            *is_there = true;
            *has_collections |= what.is_none();
        }
        let Some(what) = what else {
            sorted.wanted.push(item);
            continue;
        };
        let why = format!(
            "{name} was left out: it is {what}, and a collection restore restores collections only; a restore with a \
             selection restores it (`ebbtide restore start --namespace`)"
        );
        if by_name {
            sorted.refusals.push(why.replacen("was left out: it ", "", 1));
        }
        sorted.not_restored.push(without_item(&name, asked, CollectionStep::Unsupported, &why));
    }
    for name in names_left {
        let why = format!("nothing is called {name}");
        sorted.not_restored.push(without_item(&name, asked, CollectionStep::NotFound, &why));
        sorted.refusals.push(why);
    }
    for (db, (is_there, has_collections)) in databases {
        if !is_there {
            let why = format!("there is no database {db}");
            let target = target_of(&Name::new(db, "x"), asked).db;
            sorted.not_restored.push(RestoredCollection {
                source: db.to_owned(),
                effective_target: target.clone(),
                target,
                ..without_item(&Name::new(db, ""), asked, CollectionStep::NotFound, &why)
            });
            sorted.refusals.push(why);
        } else if !has_collections {
            sorted
                .refusals
                .push(format!("the database {db} has nothing in it that a collection restore restores"));
        }
    }
    sorted
}

/// What is told of something that is restored, before it is. `effective` is the name that it gets, once that is known.
fn line(item: &Item, asked: &CollectionRestore, effective: Option<&Namespace>) -> RestoredCollection {
    let target = target_of(&name_of(&item.from), asked);
    RestoredCollection {
        ordinal: 0,
        source: item.from.to_string(),
        effective_target: effective.map_or_else(|| target.to_string(), ToString::to_string),
        target: target.to_string(),
        step: CollectionStep::Waiting,
        documents_total: item.entry.documents,
        documents_done: 0,
        error: None,
    }
}

/// What is told of something that is not.
fn without_item(
    name: &Name,
    asked: &CollectionRestore,
    step: CollectionStep,
    why: &str,
) -> RestoredCollection {
    let target = target_of(name, asked).to_string();
    RestoredCollection {
        ordinal: 0,
        source: name.to_string(),
        effective_target: target.clone(),
        target,
        step,
        documents_total: 0,
        documents_done: 0,
        error: Some(why.to_owned()),
    }
}

/// The name that was asked for.
fn target_of(name: &Name, asked: &CollectionRestore) -> Name {
    asked.selection().destination(name).unwrap_or_else(|| name.clone())
}

fn name_of(ns: &Namespace) -> Name {
    Name::new(&ns.db, &ns.collection)
}
