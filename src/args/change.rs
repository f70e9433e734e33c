//! What `ebbtide cluster update` changes.

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, Id, parser::ValueSource};

use super::{Switch, parse_window};

/// What is to be changed of a deployment: at least one thing.
#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true)]
struct Given {
    /// Connection string to reach it by from now on.
    #[arg(long, env = "EBBTIDE_CLUSTER_URI", hide_env_values = true)]
    uri: Option<String>,
    /// Whether every operation is recorded.
    #[arg(long, value_enum)]
    pit: Option<Switch>,
    /// Days back that every point in time can be restored.
    #[arg(long, value_name = "DAYS", value_parser = parse_window())]
    restore_window_days: Option<u32>,
}

/// What is to be changed of a deployment. A connection string in the environment counts only when nothing else is asked
/// for: it may have been left there for another deployment.
#[derive(Debug)]
pub(crate) struct Change {
    /// Connection string to reach it by from now on.
    pub(crate) uri: Option<String>,
    /// Whether every operation is recorded.
    pub(crate) pit: Option<Switch>,
    /// Days back that every point in time can be restored.
    pub(crate) restore_window_days: Option<u32>,
}

impl FromArgMatches for Change {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let Given { uri, pit, restore_window_days } = Given::from_arg_matches(matches)?;
        let was_left_there = matches.value_source("uri") == Some(ValueSource::EnvVariable)
            && (pit.is_some() || restore_window_days.is_some());
        Ok(Self { uri: uri.filter(|_| !was_left_there), pit, restore_window_days })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Change {
    fn group_id() -> Option<Id> {
        Given::group_id()
    }

    fn augment_args(command: Command) -> Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a change where the environment has a connection string, in a variable that every environment has.
    fn read(words: &[&str]) -> Result<Change, Error> {
        let command = Change::augment_args(Command::new("update").no_binary_name(true));
        let command = command.mut_arg("uri", |uri| uri.env("PATH"));
        Change::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn the_environment_counts_when_nothing_else_is_asked_for() -> Result<(), Error> {
        let path = std::env::var("PATH").ok();
        assert!(path.is_some(), "the test needs a variable that is set");
        assert_eq!(read(&[])?.uri, path);
        assert_eq!(read(&["--pit", "on"])?.uri, None);
        assert_eq!(read(&["--restore-window-days", "3"])?.uri, None);
        let both = read(&["--pit", "on", "--uri", "mongodb://db1"])?;
        assert_eq!((both.uri.as_deref(), both.pit), (Some("mongodb://db1"), Some(Switch::On)));
        Ok(())
    }
}
