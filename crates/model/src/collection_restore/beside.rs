//! Names that are free, for what is restored beside what is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::selection::Name;

/// What a name that is taken gets at its end, with a number from the second try on.
const SUFFIX: &str = "_restored";
/// So many names are tried.
const TRIES_MAX: usize = 1_000;

/// Where something is to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// The name that was asked for.
    pub name: Name,
    /// Whether it goes there with its whole database, which then has one name for all that is in it.
    pub whole_database: bool,
}

/// The names under which these are restored when nothing may be touched of what is `there`: their own, where those are free.
/// A database that is there gets another name as a whole. The same things always give the same names.
///
/// # Errors
/// In words: what finds no name, and what to do.
pub fn beside<'a>(
    wanted: &[Destination],
    there: impl IntoIterator<Item = &'a Name>,
) -> Result<BTreeMap<Name, Name>, String> {
    let there: BTreeSet<&Name> = there.into_iter().collect();
    // No server holds two databases whose names differ only by case.
    let there_databases: BTreeSet<String> = there.iter().map(|name| folded(&name.db)).collect();
    let mut databases: BTreeSet<String> = there_databases.clone();
    databases.extend(wanted.iter().map(|to| folded(&to.name.db)));
    let mut taken: BTreeSet<Name> = there.iter().copied().cloned().collect();
    taken.extend(wanted.iter().map(|to| to.name.clone()));
    let mut renamed: BTreeMap<&str, String> = BTreeMap::new();
    let mut free = BTreeMap::new();
    for Destination { name, whole_database } in wanted {
        let to = if *whole_database && there_databases.contains(&folded(&name.db)) {
            let db = match renamed.get(name.db.as_str()) {
                Some(db) => db.clone(),
                None => {
                    let db = first_free(&name.db, |db| {
                        !databases.contains(&folded(db)) && Name::new(db, "x").is_bad(false).is_none()
                    })?;
                    databases.insert(folded(&db));
                    renamed.entry(&name.db).or_insert(db).clone()
                }
            };
            let to = Name::new(db, &name.collection);
            if let Some(why) = to.is_bad(false) {
                return Err(format!(
                    "{name} is there already and cannot become {to}: {why}; name another target"
                ));
            }
            to
        } else if !*whole_database && there.contains(name) {
            let collection = first_free(&name.collection, |text| {
                let to = Name::new(&name.db, text);
                !taken.contains(&to) && to.is_bad(false).is_none()
            });
            let collection = collection.map_err(|_| none_free(&name.to_string()))?;
            let to = Name::new(&name.db, collection);
            taken.insert(to.clone());
            to
        } else {
            name.clone()
        };
        free.insert(name.clone(), to);
    }
    Ok(free)
}

fn folded(db: &str) -> String {
    db.to_ascii_lowercase()
}

fn first_free(name: &str, is_free: impl Fn(&str) -> bool) -> Result<String, String> {
    (1..=TRIES_MAX)
        .map(|n| if n == 1 { format!("{name}{SUFFIX}") } else { format!("{name}{SUFFIX}_{n}") })
        .find(|text| is_free(text))
        .ok_or_else(|| none_free(name))
}

fn none_free(name: &str) -> String {
    format!(
        "{name} is there already, and no name like {name}{SUFFIX} is free and short enough; name another target"
    )
}
