//! Chosen databases and collections of a state, and under which names they are restored.
//!
//! What is chosen is said by patterns ([`Pattern`]), close to the `--nsInclude`, `--nsFrom` and `--nsTo` of mongorestore.
//! A [`Selection`] is one that makes sense as far as that can be told without the state; [`Selection::resolve`] tells the
//! rest, and gives every name its one destination.

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use pattern::{Name, Pattern, Rename};

/// So many names or patterns at once; more is a whole deployment.
pub const PATTERNS_MAX: usize = 1_000;

/// Why a selection cannot be, in words: what was said, what is wrong with it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectionError(String);

impl SelectionError {
    fn of(said: &str, why: &str) -> Self {
        // Bodies of requests may hold anything.
        let shown: String = said.chars().take(512).collect();
        Self(format!("{shown:?}: {why}"))
    }

    /// More than one, in one.
    pub fn joined(errors: &[Self]) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// What is restored of a state, and as what. Never empty, and no two renames are for the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Said", into = "Said")]
pub struct Selection {
    namespaces: Vec<Pattern>,
    renames: Vec<Rename>,
    overwrite: bool,
}

/// A selection in the words in which it is asked for and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Said {
    /// Patterns of what is restored.
    pub namespaces: Vec<String>,
    /// What is called otherwise at its destination.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renames: Vec<SaidRename>,
    /// Whether what stands at a destination that is not something's own name is replaced.
    #[serde(skip_serializing_if = "is_false")]
    pub overwrite: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A rename in the words in which it is asked for and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaidRename {
    /// Which.
    pub from: String,
    /// As what.
    pub to: String,
}

impl SaidRename {
    /// Reads `FROM=TO`. A `=` that is part of a name is written `\=`.
    ///
    /// # Errors
    /// When there is no `=`.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        let mut is_escaped = false;
        let at = text.char_indices().find(|(_, c)| {
            let found = *c == '=' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            found
        });
        let Some((at, _)) = at else {
            return Err(SelectionError::of(
                text,
                "a rename is FROM=TO, such as db.coll=db.coll_old or db=db2",
            ));
        };
        Ok(Self { from: text[..at].to_owned(), to: text[at + 1..].to_owned() })
    }
}

impl TryFrom<Said> for Selection {
    type Error = SelectionError;

    fn try_from(said: Said) -> Result<Self, SelectionError> {
        if said.namespaces.is_empty() {
            return Err(SelectionError("nothing is selected: name a database or a collection".to_owned()));
        }
        if said.namespaces.len() + said.renames.len() > PATTERNS_MAX {
            return Err(SelectionError(format!("more than {PATTERNS_MAX} namespaces and renames are named")));
        }
        let mut namespaces = Vec::new();
        for text in &said.namespaces {
            let pattern = Pattern::to_select(text)?;
            if !namespaces.contains(&pattern) {
                namespaces.push(pattern);
            }
        }
        let mut renames: Vec<Rename> = Vec::new();
        for SaidRename { from, to } in &said.renames {
            let rename = Rename::parse(from, to)?;
            if renames.iter().any(|other| other.from() == rename.from()) {
                return Err(SelectionError::of(from, "it is renamed twice; name it once"));
            }
            if !namespaces.iter().any(|selected| selected.overlaps(rename.from())) {
                return Err(SelectionError::of(
                    from,
                    "it is renamed and not selected; select it too, or leave it out",
                ));
            }
            renames.push(rename);
        }
        let selection = Self { namespaces, renames, overwrite: said.overwrite };
        selection.check_without_a_state()?;
        Ok(selection)
    }
}

impl From<Selection> for Said {
    fn from(selection: Selection) -> Self {
        let said =
            |rename: &Rename| SaidRename { from: rename.from().to_string(), to: rename.to().to_string() };
        Self {
            namespaces: selection.namespaces.iter().map(ToString::to_string).collect(),
            renames: selection.renames.iter().map(said).collect(),
            overwrite: selection.overwrite,
        }
    }
}

/// A name of a state, and whether it is that of a time series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct There<'a> {
    /// The name.
    pub name: &'a Name,
    /// Its buckets have a longer one, which has to fit too.
    pub is_series: bool,
}

/// What a selection means in one state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Every name that is selected, and what it is called at its destination. No two have one destination.
    pub names: BTreeMap<Name, Name>,
    /// Stored functions that a rename would have put beside others, where there can be none.
    pub left_out: Vec<Name>,
}

impl Selection {
    /// Whether what stands at a destination that is not something's own name is replaced.
    pub fn overwrites(&self) -> bool {
        self.overwrite
    }

    /// Whether it has this one.
    pub fn selects(&self, name: &Name) -> bool {
        self.namespaces.iter().any(|pattern| pattern.matches(name))
    }

    /// The patterns.
    pub fn namespaces(&self) -> &[Pattern] {
        &self.namespaces
    }

    /// Finds what is selected among everything that is there.
    ///
    /// # Errors
    /// All of: patterns and renames that match nothing, names that no server takes, two with one destination, databases
    /// that differ only by case.
    pub fn resolve<'a>(
        &self,
        there: impl IntoIterator<Item = There<'a>>,
    ) -> Result<Resolved, Vec<SelectionError>> {
        let (mut resolved, mut errors) = (Resolved::default(), Vec::new());
        let mut destinations: BTreeMap<Name, Name> = BTreeMap::new();
        let mut unmatched: Vec<&Pattern> =
            self.namespaces.iter().chain(self.renames.iter().map(Rename::from)).collect();
        for There { name, is_series } in there {
            if !self.selects(name) {
                continue;
            }
            unmatched.retain(|pattern| !pattern.matches(name));
            let Some(to) = self.destination(name) else {
                resolved.left_out.push(name.clone());
                continue;
            };
            // What is there under its own name can be there again.
            if let Some(why) = to.is_bad(is_series).filter(|_| to != *name) {
                errors.push(SelectionError(format!("{name} cannot become {to}: {why}")));
            }
            if let Some(other) = destinations.insert(to.clone(), name.clone()) {
                errors.push(SelectionError(format!(
                    "{other} and {name} would both become {to}; rename one of them"
                )));
            }
            resolved.names.insert(name.clone(), to);
        }
        errors.extend(
            unmatched.into_iter().map(|pattern| SelectionError(format!("nothing is called {pattern}"))),
        );
        errors.extend(differing_by_case(destinations.keys().map(|name| name.db.as_str())));
        if errors.is_empty() { Ok(resolved) } else { Err(errors) }
    }

    /// What it is called at its destination; nothing for stored functions that would get another name.
    pub fn destination(&self, name: &Name) -> Option<Name> {
        let renames = self.renames.iter().filter(|rename| rename.from().matches(name));
        match renames.max_by_key(|rename| rename.weight()) {
            Some(rename) => rename.apply(name),
            None => Some(name.clone()),
        }
    }

    /// What can be told of the names that are said in full.
    fn check_without_a_state(&self) -> Result<(), SelectionError> {
        let mut destinations: BTreeMap<Name, Name> = BTreeMap::new();
        let in_full: BTreeSet<Name> = self
            .namespaces
            .iter()
            .chain(self.renames.iter().map(Rename::from))
            .filter_map(Pattern::one)
            .collect();
        for name in in_full {
            let Some(to) = self.destination(&name) else { continue };
            if let Some(why) = to.is_bad(false).filter(|_| to != name) {
                return Err(SelectionError(format!("{name} cannot become {to}: {why}")));
            }
            if let Some(other) = destinations.insert(to.clone(), name.clone()) {
                return Err(SelectionError(format!(
                    "{other} and {name} would both become {to}; rename one of them"
                )));
            }
        }
        let renamed: Vec<Pattern> = self.renames.iter().map(Rename::to).collect();
        let databases =
            destinations.keys().map(|name| name.db.as_str()).chain(renamed.iter().map(Pattern::db));
        differing_by_case(databases).into_iter().next().map_or(Ok(()), Err)
    }
}

/// No server holds two databases whose names differ only by case.
fn differing_by_case<'a>(databases: impl Iterator<Item = &'a str>) -> Vec<SelectionError> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let mut errors = Vec::new();
    for db in databases {
        match seen.insert(db.to_ascii_lowercase(), db) {
            Some(other) if other != db => errors.push(SelectionError(format!(
                "no server holds the databases {other} and {db} beside each other; rename one of them"
            ))),
            _ => {}
        }
    }
    errors.dedup();
    errors
}
