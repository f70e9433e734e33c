//! `ebbtide compliance-policy …`: the least that the deployments of a project are backed up.

use clap::{Args, Subcommand};
use model::Retention;

use super::{
    InProject, Rule,
    schedule::{daily, hourly, kept, monthly, weekly, yearly},
};

/// `ebbtide compliance-policy …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CompliancePolicy {
    /// Show the least that the deployments of a project are backed up.
    #[command(after_help = "Example:\n  ebbtide compliance-policy show --project 68a7…")]
    Show {
        #[command(flatten)]
        within: InProject,
    },
    /// Set it. From then on nobody deletes a snapshot before its time, keeps one shorter, or backs up less.
    #[command(after_help = "\
What is given stands for the whole policy, and cannot ask for less than the one that holds. Schedules that fall short of it are
changed to meet it. It cannot be lifted again, unless whoever runs the server releases it first, with
`ebbtide admin release-compliance-policy`.

Examples:
  ebbtide compliance-policy set --project 68a7… --email it@example.com --first-name Ada --last-name Byron --daily 7d
  ebbtide compliance-policy set --project 68a7… --email it@example.com --first-name Ada --last-name Byron --daily 7d --weekly 4w --on-demand 3d --restore-window-days 2 --keep-schedules")]
    Set(Box<Wanted>),
    /// Lift it, after it was released.
    #[command(after_help = "Example:\n  ebbtide compliance-policy lift --project 68a7…")]
    Lift {
        #[command(flatten)]
        within: InProject,
    },
}

/// `ebbtide compliance-policy set`.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    #[command(flatten)]
    pub(crate) within: InProject,
    /// Address of who is responsible.
    #[arg(long)]
    pub(crate) email: String,
    /// First name of who is responsible.
    #[arg(long)]
    pub(crate) first_name: String,
    /// Last name of who is responsible.
    #[arg(long)]
    pub(crate) last_name: String,
    /// Hourly snapshots: at least every so many hours, kept at least so long.
    #[arg(long, value_name = "HOURS=KEEP", value_parser = hourly)]
    hourly: Option<Rule>,
    /// Daily snapshots, kept at least so long.
    #[arg(long, value_name = "KEEP", value_parser = daily)]
    daily: Option<Rule>,
    /// Weekly snapshots, on whatever day, kept at least so long.
    #[arg(long, value_name = "KEEP", value_parser = weekly_kept)]
    weekly: Option<Rule>,
    /// Monthly snapshots, on whatever day, kept at least so long.
    #[arg(long, value_name = "KEEP", value_parser = monthly_kept)]
    monthly: Option<Rule>,
    /// Yearly snapshots, in whatever month, kept at least so long.
    #[arg(long, value_name = "KEEP", value_parser = yearly_kept)]
    yearly: Option<Rule>,
    /// How long snapshots on demand are kept at least.
    #[arg(long, value_name = "KEEP", value_parser = kept)]
    pub(crate) on_demand: Option<Retention>,
    /// Have all deployments recorded, and so many days restorable at least.
    #[arg(long, value_name = "DAYS")]
    pub(crate) restore_window_days: Option<u32>,
    /// Ask for encryption at rest, which there is in any case.
    #[arg(long)]
    pub(crate) encryption_at_rest: bool,
    /// Have copies in other vaults stay as long as their snapshots.
    #[arg(long)]
    pub(crate) protect_copies: bool,
    /// Change no schedule: refuse the policy when one falls short of it.
    #[arg(long)]
    pub(crate) keep_schedules: bool,
}

impl Wanted {
    /// What schedules have to take.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        [&self.hourly, &self.daily, &self.weekly, &self.monthly, &self.yearly].into_iter().flatten()
    }
}

fn weekly_kept(text: &str) -> Result<Rule, String> {
    weekly(&format!("sat={text}"))
}

fn monthly_kept(text: &str) -> Result<Rule, String> {
    monthly(&format!("last={text}"))
}

fn yearly_kept(text: &str) -> Result<Rule, String> {
    yearly(&format!("dec={text}"))
}
