//! What names one collection, or all of a database that begin alike.

use std::{fmt, str::FromStr};

use super::SelectionError;

/// Stored functions: the one `system.` collection that is its users'.
pub(super) const FUNCTIONS: &str = "system.js";
const SYSTEM: &str = "system.";
const BUCKETS: &str = "system.buckets.";
const VIEWS: &str = "system.views";
/// As `mongo::STAGING_PREFIX`, which this layer does not see.
const STAGING: &str = "ebbtide.staging.";
/// Databases of the server.
const SERVER_DATABASES: [&str; 3] = ["admin", "config", "local"];
/// What the name of a database cannot hold.
const NOT_IN_DATABASES: [char; 7] = ['/', '\\', '.', ' ', '"', '$', '\0'];
/// The server's limits.
const DATABASE_BYTES_MAX: usize = 63;
const NAMESPACE_BYTES_MAX: usize = 255;

/// A collection, a view or a time series, by the name that its users know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The database.
    pub db: String,
    /// The name in it; of a time series not that of its buckets.
    pub collection: String,
}

impl Name {
    /// Joins the two.
    pub fn new(db: impl Into<String>, collection: impl Into<String>) -> Self {
        Self { db: db.into(), collection: collection.into() }
    }

    /// Whether these are stored functions, which have the same name in every database.
    pub fn is_functions(&self) -> bool {
        self.collection == FUNCTIONS
    }

    /// Why no server holds anything under this name; nothing when one may. Of a time series its buckets have to fit too.
    pub(crate) fn is_bad(&self, is_series: bool) -> Option<&'static str> {
        let Self { db, collection } = self;
        let prefix = if is_series { BUCKETS.len() } else { 0 };
        if is_bad_database(db) {
            Some("a database has 1 to 63 bytes and none of / \\ . \" $ and space")
        } else if db.len() + 1 + prefix + collection.len() > NAMESPACE_BYTES_MAX {
            Some(if is_series {
                "database and name with `system.buckets.` between them are longer than 255 bytes"
            } else {
                "it is longer than 255 bytes"
            })
        } else {
            is_bad_collection(collection)
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.db, self.collection)
    }
}

fn is_bad_database(db: &str) -> bool {
    db.is_empty() || db.len() > DATABASE_BYTES_MAX || db.contains(NOT_IN_DATABASES)
}

fn is_bad_collection(collection: &str) -> Option<&'static str> {
    if collection.is_empty() {
        Some("the collection has no name")
    } else if collection.contains(['$', '\0']) || collection.starts_with('.') {
        Some("no new collection has a $ or a null byte in its name, or begins with a dot")
    } else if collection.starts_with(STAGING) {
        Some("names that begin so are Ebbtide's own")
    } else if collection.starts_with(SYSTEM) && collection != FUNCTIONS {
        Some("names that begin with `system.` belong to the server")
    } else {
        None
    }
}

/// `db.collection`, or `db.prefix*` for everything in the database that begins so, or `db.*` or `db` for the whole of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    db: String,
    /// The whole name, or how it begins.
    text: String,
    /// Whether names go on.
    is_open: bool,
}

impl Pattern {
    /// Whether it means this one. Stored functions are meant by their name, or with the whole database.
    pub fn matches(&self, name: &Name) -> bool {
        self.db == name.db
            && if self.is_open {
                name.collection.starts_with(&self.text) && (self.text.is_empty() || !name.is_functions())
            } else {
                name.collection == self.text
            }
    }

    /// What means this one alone.
    pub fn just(name: &Name) -> Self {
        Self { db: name.db.clone(), text: name.collection.clone(), is_open: false }
    }

    /// What means everything in a database.
    pub fn all_of(db: &str) -> Self {
        Self { db: db.to_owned(), text: String::new(), is_open: true }
    }

    /// The one that it means, if it means only one.
    pub fn one(&self) -> Option<Name> {
        (!self.is_open).then(|| Name::new(&self.db, &self.text))
    }

    /// The database.
    pub fn db(&self) -> &str {
        &self.db
    }

    /// Whether there may be something that both mean.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self.one(), other.one()) {
            (Some(one), _) => other.matches(&one),
            (None, Some(one)) => self.matches(&one),
            (None, None) => {
                self.db == other.db
                    && (self.text.starts_with(&other.text) || other.text.starts_with(&self.text))
            }
        }
    }

    /// What can be selected: not what belongs to the server, and nothing by the name under which it is stored.
    pub(crate) fn to_select(text: &str) -> Result<Self, SelectionError> {
        let pattern: Self = text.parse()?;
        let refuse = |why: &str| Err(SelectionError::of(text, why));
        let name = pattern.text.as_str();
        if SERVER_DATABASES.contains(&pattern.db.as_str()) {
            return refuse(
                "the databases admin, config and local belong to the server, and nothing of them is restored by itself",
            );
        }
        if let Some(series) = name.strip_prefix(BUCKETS) {
            let why = format!("buckets go with their time series; select {}.{series}", pattern.db);
            return refuse(&why);
        }
        if name == VIEWS {
            return refuse("views are selected by their own names");
        }
        if name.starts_with(SYSTEM) && (pattern.is_open || name != FUNCTIONS) {
            return refuse("of what begins with `system.`, only system.js can be selected");
        }
        if name.starts_with(STAGING) {
            return refuse("names that begin so are Ebbtide's own, and in no snapshot");
        }
        Ok(pattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let write_escaped = |f: &mut fmt::Formatter<'_>, text: &str| {
            text.chars().try_for_each(|c| {
                if matches!(c, '*' | '=' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(c)
            })
        };
        write_escaped(f, &self.db)?;
        f.write_char('.')?;
        write_escaped(f, &self.text)?;
        if self.is_open { f.write_char('*') } else { Ok(()) }
    }
}

impl FromStr for Pattern {
    type Err = SelectionError;

    fn from_str(said: &str) -> Result<Self, SelectionError> {
        let refuse = |why: &str| Err(SelectionError::of(said, why));
        let (mut db, mut text, mut is_open) = (String::new(), None::<String>, false);
        let mut rest = said.chars();
        while let Some(c) = rest.next() {
            if is_open {
                return refuse("a * stands at the end; one that is part of the name is written \\*");
            }
            let literal = match c {
                '\\' => match rest.next() {
                    Some(escaped @ ('*' | '=' | '\\')) => escaped,
                    _ => {
                        return refuse(
                            "a backslash is followed by what it makes literal: \\* or \\= or \\\\",
                        );
                    }
                },
                '*' if text.is_some() => {
                    is_open = true;
                    continue;
                }
                '*' => return refuse("a * stands for collections of one database; name the database"),
                // Databases have no dot in their names.
                '.' if text.is_none() => {
                    text = Some(String::new());
                    continue;
                }
                other => other,
            };
            text.as_mut().unwrap_or(&mut db).push(literal);
        }
        if db.is_empty() {
            return refuse("it names no database");
        }
        match text {
            None => Ok(Self { db, text: String::new(), is_open: true }),
            Some(text) if text.is_empty() && !is_open => {
                refuse("it names no collection; the whole database is db.*")
            }
            Some(text) => Ok(Self { db, text, is_open }),
        }
    }
}

/// What something is called at its destination: one name becomes another, or one beginning another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    from: Pattern,
    db: String,
    /// What becomes of the text of `from`.
    text: String,
}

impl Rename {
    /// From what to what. Either both name one, or both end in `*`.
    pub(crate) fn parse(from: &str, to: &str) -> Result<Self, SelectionError> {
        let said = format!("{from}={to}");
        let refuse = |why: &str| Err(SelectionError::of(&said, why));
        let from = Pattern::to_select(from)?;
        let to: Pattern = to.parse()?;
        if from.is_open != to.is_open {
            return refuse("either both sides name one collection, or both end in * (or are databases)");
        }
        if from == to {
            return refuse("both sides are the same");
        }
        if SERVER_DATABASES.contains(&to.db.as_str()) {
            return refuse("nothing is restored into admin, config or local");
        }
        // Whatever the names go on with, a beginning that is bad makes bad names.
        let sample = if to.is_open { format!("{}x", to.text) } else { to.text.clone() };
        if let Some(why) = Name::new(&to.db, sample).is_bad(false) {
            return refuse(why);
        }
        if !from.is_open && (from.text == FUNCTIONS) != (to.text == FUNCTIONS) {
            return refuse("stored functions are called system.js in every database, and nothing else is");
        }
        Ok(Self { from, db: to.db, text: to.text })
    }

    /// What it renames.
    pub fn from(&self) -> &Pattern {
        &self.from
    }

    /// To what.
    pub fn to(&self) -> Pattern {
        Pattern { db: self.db.clone(), text: self.text.clone(), is_open: self.from.is_open }
    }

    /// The new name, of what it is for; nothing for stored functions that it would give another one.
    pub(super) fn apply(&self, name: &Name) -> Option<Name> {
        let rest = name.collection.strip_prefix(&self.from.text).unwrap_or_default();
        let renamed = Name::new(&self.db, format!("{}{rest}", self.text));
        (renamed.is_functions() == name.is_functions()).then_some(renamed)
    }

    /// Of two renames that are for one name, the one that says more of it counts.
    pub(super) fn weight(&self) -> (bool, usize) {
        (!self.from.is_open, self.from.text.len())
    }
}
