//! The catalog's promises, kept by SQLite and PostgreSQL alike: every case of the suite is a plain async function
//! over a catalog and runs on both.

#![allow(clippy::unwrap_used)]

// The name that the rest of the workspace knows it by.
extern crate ebbtide_catalog as catalog;

mod captures;
mod collector;
mod compliance;
mod copies;
mod credentials;
mod deployments;
mod exports;
mod fencing;
mod files;
mod jobs;
mod live_checks;
mod objects;
mod postgres;
mod races;
mod rest;
mod restores;
mod retention;
mod schedules;
mod snapshots;
mod support;
mod timelines;

/// The suite: one line per case, two tests per line.
macro_rules! suite {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod sqlite_suite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let (catalog, _directory) = crate::support::sqlite().await;
                crate::$module::$case(catalog).await;
            })*
        }

        /// All cases on one server; each has a database of its own.
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn postgres_suite() {
            let Some(server) = testbed::postgres::Postgres::start() else { return };
            $(
                let name = stringify!($case);
                println!("{name}");
                crate::$module::$case(postgres::catalog(&server, name).await).await;
            )*
            let catalog = postgres::catalog(&server, "unfinished_pin").await;
            collector::a_mark_waits_for_an_unfinished_pin(catalog, &server.url("unfinished_pin")).await;
        }
    };
}

suite![
    compliance::a_policy_guards_snapshots_until_their_time_is_over,
    compliance::a_schedule_is_held_to_the_policy,
    compliance::a_policy_is_made_weaker_or_lifted_only_after_it_was_released,
    copies::what_settings_want_is_copied_and_what_they_let_go_is_not,
    copies::snapshots_that_are_not_on_demand_are_told_apart,
    copies::a_record_has_something_to_begin_with,
    copies::a_policy_that_protects_copies_keeps_them,
    copies::only_the_holder_of_a_place_changes_what_is_known_of_it,
    copies::slices_are_copied_where_the_record_is_wanted,
    deployments::projects_are_made_once_and_listed,
    deployments::a_project_is_renamed_and_deleted_when_it_is_empty,
    deployments::a_removed_deployment_keeps_its_id_and_snapshots,
    deployments::a_connection_string_leads_to_the_set_that_is_known,
    deployments::a_busy_deployment_is_not_removed,
    deployments::a_deployment_is_kept_while_something_has_to_be_undone_on_it,
    deployments::sealed_values_are_rotated_all_or_none,
    deployments::the_token_of_a_link_is_rotated_with_the_rest,
    credentials::credentials_carry_their_roles,
    credentials::a_credential_leaves_a_project_with_all_its_roles,
    credentials::roles_are_replaced_where_they_are_given,
    credentials::a_deleted_credential_takes_its_tokens_along,
    credentials::an_access_list_is_changed_entry_by_entry,
    credentials::a_service_account_has_two_secrets_at_a_time,
    credentials::tokens_expire_and_are_revoked,
    snapshots::one_on_demand_snapshot_at_a_time,
    snapshots::a_snapshot_lives_and_dies_as_the_model_says,
    snapshots::what_is_not_to_be_deleted_stays,
    snapshots::lists_are_paged_newest_first,
    snapshots::manifests_stay_while_a_restore_reads_them,
    restores::a_restore_is_finished_only_through_a_cut_over,
    restores::a_target_takes_one_restore_at_a_time,
    restores::one_replica_set_takes_one_restore_under_whatever_names,
    restores::downloads_are_limited,
    restores::an_archive_is_fetched_once_or_expires,
    restores::an_archive_is_fetched_as_often_as_it_may_be,
    restores::a_cancel_in_the_queue_ends_the_job_too,
    restores::a_running_restore_is_cancelled_by_its_worker,
    restores::what_cannot_be_restored_is_refused,
    restores::a_point_in_time_stays_with_its_restore,
    restores::no_fold_goes_backwards,
    restores::a_collection_restore_is_listed_with_its_kind_and_tells_of_each_collection,
    exports::an_export_goes_from_its_request_to_its_end,
    exports::what_cannot_be_exported_is_refused,
    exports::manifests_stay_while_an_export_reads_them,
    exports::a_removed_deployment_takes_its_exports_along,
    jobs::oldest_first_and_by_kind,
    jobs::an_expired_lease_is_taken_over_with_its_checkpoint,
    jobs::an_item_that_kills_its_workers_is_given_up,
    jobs::a_released_item_costs_no_attempt,
    jobs::a_retry_waits_for_its_time,
    jobs::a_postponed_item_has_no_fewer_attempts_left,
    jobs::outcomes_have_to_fit,
    jobs::restores_that_were_taken_over_are_remembered,
    jobs::obligations_outlive_their_job,
    fencing::who_lost_the_lease_changes_nothing,
    races::cancel_against_cut_over,
    races::many_workers_claim_each_item_once,
    races::many_requests_for_one_target,
    races::a_download_too_many_is_never_granted,
    races::a_policy_a_trim_and_a_download_never_wait_in_a_circle,
    objects::pins_hold_and_end_with_the_job,
    objects::what_is_damaged_counts_as_not_stored,
    collector::garbage_goes_after_two_cycles,
    collector::every_interleaving_of_reuse_and_collection,
    collector::a_pin_and_a_mark_at_the_same_time,
    collector::collectors_take_turns,
    captures::one_keeper_at_a_time,
    captures::a_lease_that_is_not_renewed_is_taken_over_whatever_it_says,
    captures::many_keepers_claim_a_capture_once,
    captures::what_is_switched_off_is_finished_first,
    captures::what_is_written_to_a_replica_set_is_followed_under_all_its_names,
    captures::a_keeper_does_not_stand_in_the_way_of_a_removal,
    captures::who_lost_the_capture_changes_nothing,
    timelines::settings_of_continuous_backup_are_kept,
    timelines::only_what_continues_a_timeline_joins_it,
    timelines::durable_is_what_is_stored_with_all_before_it,
    timelines::what_was_not_stored_can_be_taken_back,
    timelines::slices_are_found_by_time,
    timelines::ranges_begin_with_a_snapshot_that_is_complete,
    timelines::a_fork_keeps_two_histories_apart,
    timelines::a_snapshot_amid_a_restore_is_no_base,
    timelines::a_timeline_is_imported_once,
    timelines::an_open_timeline_goes_on_after_a_rebuild,
    timelines::of_two_open_timelines_the_one_that_ends_last_stays_open,
    timelines::a_known_timeline_goes_on_with_what_follows_in_the_vault,
    retention::nothing_goes_while_somebody_may_read_it,
    retention::a_clock_that_is_behind_shortens_no_window,
    retention::what_goes_is_outside_the_window_and_never_needed,
    schedules::a_flex_cluster_has_a_snapshot_a_day,
    schedules::a_schedule_is_kept_changed_and_deleted,
    schedules::what_a_schedule_exports_it_exports_once,
    schedules::what_is_due_is_taken_with_its_retention,
    schedules::many_servers_take_each_time_once,
    schedules::who_was_away_takes_one_and_a_clock_that_jumps_none_twice,
    schedules::one_of_a_schedule_at_a_time,
    schedules::snapshots_follow_a_change_when_they_are_asked_to,
    live_checks::one_holder_compares_and_the_next_goes_on,
    live_checks::a_defect_stays_until_it_is_mended,
    rest::settings_are_decided_once,
    rest::the_audit_log_is_newest_first,
    rest::a_line_is_begun_and_concluded_or_withdrawn,
    rest::old_lines_are_forgotten_oldest_first,
    rest::an_import_can_be_repeated,
    rest::an_import_completes_what_was_still_to_be_taken,
    rest::an_import_ends_the_cycle_that_does_not_know_of_it,
    rest::odd_texts_are_kept_or_mended,
];
