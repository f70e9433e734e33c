//! Copies: wanted as settings say, known by who holds the place, and swept when nothing needs them.

use catalog::{
    Catalog, Conflict, CopiedState, CopiesDecided, CopyLease, Deployment, Error, NewSlice, ScheduleChange,
    Snapshot, SnapshotType, StoredObject,
};
use model::{
    WallTime,
    compliance::Forbidden,
    copy::{CloudProvider, CopyState, RegionName},
    id::SnapshotId,
    schedule::{
        AutoExport, Copied, CopySetting, CopySettings, FrequencyType, Policy, Schedule, SnapshotKind,
    },
};

use serde_json::json;

use crate::support::{self, LEASE_MS, T0, at, names};

const DAILY: SnapshotKind = SnapshotKind::Scheduled(FrequencyType::Daily);

fn region(name: &str) -> RegionName {
    name.parse().unwrap()
}

fn west() -> RegionName {
    region("EU_WEST_1")
}

fn setting(copied: Copied, oplogs: bool, since: WallTime) -> CopySetting {
    CopySetting { provider: CloudProvider::Aws, region: west(), zone: None, copied, oplogs, since }
}

/// Sets what is copied; which copies that lets go of.
async fn set(
    catalog: &Catalog,
    deployment: &Deployment,
    settings: Vec<CopySetting>,
    delete_copies: Vec<RegionName>,
    now: WallTime,
) -> u64 {
    let seen = catalog.schedules().get(deployment.id).await.unwrap();
    let change = ScheduleChange {
        of_revision: seen.map(|seen| seen.revision),
        schedule: Schedule::default(),
        auto_export: AutoExport::Unset,
        names_in_exports: false,
        copies: CopySettings::new(settings.clone()).unwrap(),
        delete_copies,
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    };
    let applied = catalog.schedules().change(deployment.id, &change, now).await.unwrap();
    assert_eq!(applied.schedule.copies.settings(), settings);
    applied.copies_deleted
}

async fn decide(catalog: &Catalog, now: WallTime) -> (u64, u64) {
    let CopiesDecided { wanted, unwanted } = catalog.copies().decide(now).await.unwrap();
    (wanted, unwanted)
}

async fn states(catalog: &Catalog, snapshots: &[&Snapshot]) -> Vec<Option<CopyState>> {
    let ids: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
    let found = catalog.copies().of(&ids).await.unwrap();
    ids.iter().map(|id| found.get(id).map(|copies| copies[0].state)).collect()
}

async fn claim(catalog: &Catalog, now: WallTime) -> CopyLease {
    catalog.copies().claim(&west(), now, LEASE_MS).await.unwrap().expect("nobody holds it")
}

pub(crate) async fn what_settings_want_is_copied_and_what_they_let_go_is_not(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let early = support::snapshot(&catalog, &deployment, "manifest/early", T0).await;
    let on_demand = || Copied::Kinds(vec![DAILY, SnapshotKind::OnDemand]);
    set(&catalog, &deployment, vec![setting(on_demand(), false, at(5))], vec![], at(5)).await;
    assert_eq!(decide(&catalog, at(6)).await, (0, 0), "it was completed before");
    let first = support::snapshot(&catalog, &deployment, "manifest/first", at(10)).await;
    let unfinished = support::request_snapshot(&catalog, &deployment, at(11)).await;
    assert_eq!(decide(&catalog, at(12)).await, (1, 0));
    assert_eq!(decide(&catalog, at(13)).await, (0, 0), "once");
    let made = Some(CopyState::Wanted);
    assert_eq!(states(&catalog, &[&early, &first, &unfinished]).await, [None, made, None]);
    let lease = support::claim(&catalog, "w", at(14)).await;
    catalog.jobs().finish(&lease, support::completion("manifest/second"), at(14)).await.unwrap();

    // Only daily ones: what was wanted before stays, what is on demand is not copied any more.
    let daily = vec![setting(Copied::Kinds(vec![DAILY]), false, at(14))];
    assert_eq!(set(&catalog, &deployment, daily, vec![], at(14)).await, 0);
    assert_eq!(decide(&catalog, at(15)).await, (0, 0));
    assert_eq!(states(&catalog, &[&first, &unfinished]).await, [made, None]);

    // The last two, whenever they were taken, and no others: but not before these are there.
    set(&catalog, &deployment, vec![setting(Copied::Latest(2), false, at(16))], vec![], at(16)).await;
    assert_eq!(decide(&catalog, at(17)).await, (1, 0));
    let third = support::snapshot(&catalog, &deployment, "manifest/third", at(20)).await;
    assert_eq!(decide(&catalog, at(21)).await, (1, 0));
    let holder = claim(&catalog, at(21)).await;
    let make = async |snapshot: &Snapshot| {
        assert!(catalog.copies().made(&holder, snapshot.id, at(21)).await.unwrap());
    };
    make(&first).await;
    make(&third).await;
    assert_eq!(
        decide(&catalog, at(22)).await,
        (0, 0),
        "two are made, and one of the last two is not among them"
    );
    make(&unfinished).await;
    assert_eq!(decide(&catalog, at(22)).await, (0, 1));
    let (wanted, unwanted, made) = (made, Some(CopyState::Unwanted), Some(CopyState::Made));
    assert_eq!(states(&catalog, &[&early, &first, &unfinished, &third]).await, [None, unwanted, made, made]);
    assert_eq!(decide(&catalog, at(22)).await, (0, 0));

    // A snapshot that goes takes its copy along, and the one before it comes into its place once it is gone itself.
    catalog.snapshots().delete(third.id, at(23)).await.unwrap();
    assert_eq!(decide(&catalog, at(24)).await, (0, 1));
    let gone = catalog.copies().in_state(&west(), CopyState::Unwanted).await.unwrap();
    assert_eq!(gone.len(), 2);
    for copy in &gone {
        catalog.copies().forget(&holder, copy.snapshot_id).await.unwrap();
    }
    assert!(catalog.copies().upkeep(&west()).await.unwrap().is_sweep_due);
    assert_eq!(decide(&catalog, at(26)).await, (1, 0));
    assert_eq!(states(&catalog, &[&first, &unfinished, &third]).await, [wanted, made, None]);

    // Nothing any more: copies stay, unless they are said to go.
    assert_eq!(set(&catalog, &deployment, vec![], vec![], at(27)).await, 0);
    assert_eq!(decide(&catalog, at(28)).await, (0, 0));
    assert_eq!(states(&catalog, &[&first, &unfinished]).await, [wanted, made]);
    assert_eq!(set(&catalog, &deployment, vec![], vec![region("CENTRAL_US")], at(29)).await, 0);
    assert_eq!(set(&catalog, &deployment, vec![], vec![west()], at(29)).await, 2);
    assert_eq!(states(&catalog, &[&first, &unfinished]).await, [unwanted, unwanted]);
    assert!(!catalog.copies().made(&holder, first.id, at(30)).await.unwrap(), "it is not wanted any more");
}

pub(crate) async fn snapshots_that_are_not_on_demand_are_told_apart(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let kinds = vec![setting(Copied::Kinds(vec![DAILY]), false, T0)];
    set(&catalog, &deployment, kinds, vec![], T0).await;
    let new = support::new_snapshot(&deployment, SnapshotType::Scheduled);
    let base = catalog.snapshots().request(new, at(1)).await.unwrap();
    let lease = support::claim(&catalog, "w", at(1)).await;
    catalog.jobs().finish(&lease, support::completion("manifest/base"), at(1)).await.unwrap();
    assert_eq!(decide(&catalog, at(2)).await, (0, 0), "the base of a timeline is of no schedule");
    set(&catalog, &deployment, vec![setting(Copied::Latest(1), false, at(3))], vec![], at(3)).await;
    assert_eq!(decide(&catalog, at(4)).await, (1, 0));
    assert_eq!(states(&catalog, &[&base]).await, [Some(CopyState::Wanted)]);
}

pub(crate) async fn a_record_has_something_to_begin_with(catalog: Catalog) {
    const DAY: i64 = 24 * 3600;
    let (_, deployment) = support::source(&catalog).await;
    let older = support::snapshot(&catalog, &deployment, "manifest/older", T0).await;
    let old = support::snapshot(&catalog, &deployment, "manifest/old", at(1)).await;
    let daily = |oplogs| vec![setting(Copied::Kinds(vec![DAILY]), oplogs, at(2))];
    set(&catalog, &deployment, daily(false), vec![], at(2)).await;
    assert_eq!(decide(&catalog, at(3)).await, (0, 0));
    set(&catalog, &deployment, daily(true), vec![], at(4)).await;
    assert_eq!(decide(&catalog, at(5)).await, (1, 0));
    let wanted = Some(CopyState::Wanted);
    assert_eq!(states(&catalog, &[&older, &old]).await, [None, wanted], "the last one there was");
    // A new timeline, and its base.
    let new = support::new_snapshot(&deployment, SnapshotType::Scheduled);
    let base = catalog.snapshots().request(new, at(6)).await.unwrap();
    let lease = support::claim(&catalog, "w", at(6)).await;
    catalog.jobs().finish(&lease, support::completion("manifest/base"), at(6)).await.unwrap();
    let soon = support::snapshot(&catalog, &deployment, "manifest/soon", at(6 + DAY - 1)).await;
    assert_eq!(decide(&catalog, at(6 + DAY)).await, (1, 0));
    assert_eq!(states(&catalog, &[&older, &old, &base, &soon]).await, [None, wanted, wanted, None]);
    // And one of every day.
    let next_day = support::snapshot(&catalog, &deployment, "manifest/next", at(6 + DAY)).await;
    assert_eq!(decide(&catalog, at(7 + DAY)).await, (1, 0));
    let later = support::snapshot(&catalog, &deployment, "manifest/later", at(8 + DAY)).await;
    assert_eq!(decide(&catalog, at(9 + DAY)).await, (0, 0));
    assert_eq!(states(&catalog, &[&soon, &next_day, &later]).await, [None, wanted, None]);
}

pub(crate) async fn a_policy_that_protects_copies_keeps_them(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let mut policy = crate::compliance::policy(None, None);
    policy.scheduled = Policy::none();
    policy.copies_protected = true;
    catalog.compliance().set(deployment.project_id, &policy, true, T0).await.unwrap();
    set(&catalog, &deployment, vec![setting(Copied::Latest(1), false, T0)], vec![], T0).await;
    let old = support::snapshot(&catalog, &deployment, "manifest/old", at(1)).await;
    assert_eq!(decide(&catalog, at(2)).await, (1, 0));
    let new = support::snapshot(&catalog, &deployment, "manifest/new", at(3)).await;
    assert_eq!(decide(&catalog, at(4)).await, (1, 0));
    let holder = claim(&catalog, at(4)).await;
    assert!(catalog.copies().made(&holder, new.id, at(4)).await.unwrap());
    assert_eq!(decide(&catalog, at(4)).await, (0, 0), "the one before stays");
    let seen = catalog.schedules().get(deployment.id).await.unwrap().unwrap();
    let change = ScheduleChange {
        of_revision: Some(seen.revision),
        schedule: Schedule::default(),
        auto_export: AutoExport::Unset,
        names_in_exports: false,
        copies: CopySettings::default(),
        delete_copies: vec![west()],
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    };
    let refused = catalog.schedules().change(deployment.id, &change, at(5)).await.unwrap_err();
    let is_forbidden = matches!(&refused, Error::Conflict(Conflict::Forbidden(Forbidden::CopyDeletion)));
    assert!(is_forbidden, "{refused}");
    let mut weaker = policy.clone();
    weaker.copies_protected = false;
    let refused = catalog.compliance().set(deployment.project_id, &weaker, true, at(6)).await.unwrap_err();
    assert!(refused.to_string().contains("the protection of copies"), "{refused}");
    // A setting that goes leaves them, and they go with their snapshots.
    set(&catalog, &deployment, vec![], vec![], at(7)).await;
    assert_eq!(decide(&catalog, at(8)).await, (0, 0));
    let (wanted, made) = (Some(CopyState::Wanted), Some(CopyState::Made));
    assert_eq!(states(&catalog, &[&old, &new]).await, [wanted, made]);
    let over = old.expires_at.unwrap();
    assert!(catalog.snapshots().expire(old.id, over).await.unwrap());
    assert_eq!(decide(&catalog, over).await, (0, 1));
}

pub(crate) async fn only_the_holder_of_a_place_changes_what_is_known_of_it(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    set(&catalog, &deployment, vec![setting(Copied::Latest(5), false, T0)], vec![], T0).await;
    let snapshot = support::snapshot(&catalog, &deployment, "manifest/m", at(1)).await;
    decide(&catalog, at(2)).await;
    let copies = catalog.copies();
    let old = claim(&catalog, at(3)).await;
    assert_eq!(copies.claim(&west(), at(4), LEASE_MS).await.unwrap(), None, "it is held");
    assert!(copies.claim(&region("CENTRAL_US"), at(4), LEASE_MS).await.unwrap().is_some(), "another place");
    let object =
        |name: &str| StoredObject { name: name.to_owned(), kind: "page".to_owned(), stored_bytes: 7 };
    copies.copied(&old, &[object("page/a"), object("page/b"), object("manifest/m")]).await.unwrap();
    copies.renew(&old, at(5), LEASE_MS).await.unwrap();

    let late = at(5).plus_ms(LEASE_MS);
    let new = copies.claim(&west(), late, LEASE_MS).await.unwrap().expect("the lease ran out");
    let lost = |done: Result<(), Error>| assert!(matches!(done, Err(Error::LeaseLost { .. })), "{done:?}");
    lost(copies.renew(&old, late, LEASE_MS).await);
    lost(copies.copied(&old, &[object("page/c")]).await);
    lost(copies.adopt(&old, &[object("page/c")]).await.map(drop));
    lost(copies.made(&old, snapshot.id, late).await.map(drop));
    lost(copies.found(&old, snapshot.id, late).await);
    lost(copies.failed(&old, snapshot.id, "why", late).await);
    lost(copies.all_failed(&old, "why", late).await);
    lost(copies.forget(&old, snapshot.id).await);
    lost(copies.listed(&old, late).await.map(drop));
    lost(copies.settle(&old, "place", None).await);
    lost(copies.swept(&old, true, None, late).await);
    lost(copies.condemn(&old, "page/a").await);
    lost(copies.unreadable(&old, "slice/a").await);
    lost(copies.needed(&old, &names(&["page/a"])).await.map(drop));
    lost(copies.condemn_unneeded(&old).await);
    lost(copies.condemn_slices(&old, &[]).await.map(drop));
    lost(copies.condemned(&old, 9).await.map(drop));
    lost(copies.deleted(&old, &names(&["page/a"])).await);
    // Giving back what is another's by now changes nothing.
    copies.release(&old).await.unwrap();
    assert_eq!(copies.claim(&west(), late.plus_ms(1), LEASE_MS).await.unwrap(), None);

    // What could not be made waits until its time.
    copies.failed(&new, snapshot.id, "the disk\0is full", late.plus_ms(60)).await.unwrap();
    assert_eq!(copies.due(&west(), late).await.unwrap(), []);
    let due = copies.due(&west(), late.plus_ms(60)).await.unwrap();
    assert_eq!(due[0].error.as_deref(), Some("the disk\u{fffd}is full"));
    // The place is away: what is due tells so, and what waits already keeps its reason.
    copies.all_failed(&new, "earlier", late).await.unwrap();
    assert_eq!(copies.due(&west(), late.plus_ms(60)).await.unwrap(), due);
    copies.all_failed(&new, &"away\0".repeat(1000), late.plus_ms(60)).await.unwrap();
    let due = copies.due(&west(), late.plus_ms(60)).await.unwrap();
    assert_eq!(due[0].error.as_deref(), Some("away\u{fffd}".repeat(200).as_str()));
    assert!(copies.made(&new, snapshot.id, late).await.unwrap());
    let made = &copies.of(&[snapshot.id]).await.unwrap()[&snapshot.id][0];
    assert_eq!((made.state, made.made_at, &made.error), (CopyState::Made, Some(late), &None));

    // A sweep keeps what is needed, and what came in while it was held.
    copies.copied(&new, &[object("page/new")]).await.unwrap();
    assert_eq!(copies.needed(&new, &names(&["page/a", "manifest/m"])).await.unwrap(), 2);
    assert_eq!(copies.needed(&new, &names(&["page/a", "manifest/m"])).await.unwrap(), 0);
    copies.condemn_unneeded(&new).await.unwrap();
    assert_eq!(copies.condemned(&new, 9).await.unwrap(), ["page/b"]);
    let held = async |wanted: &[&str]| {
        let held = copies.held(&west(), &names(wanted)).await.unwrap();
        let mut held: Vec<_> = held.into_iter().collect();
        held.sort_by(|a, b| a.0.cmp(&b.0));
        held
    };
    let is_held = |name: &str| (name.to_owned(), CopiedState::Held);
    let all = ["page/a", "page/b", "page/new", "page/x"];
    assert_eq!(
        held(&all).await,
        [is_held("page/a"), is_held("page/new")],
        "nobody relies on what is condemned"
    );
    copies.deleted(&new, &names(&["page/a", "page/b"])).await.unwrap();
    assert_eq!(copies.condemned(&new, 9).await.unwrap(), [""; 0]);
    assert_eq!(held(&["page/a"]).await.len(), 1, "only what is condemned goes");
    copies.swept(&new, true, Some(&json!(["why"])), late.plus_ms(9)).await.unwrap();
    let upkeep = copies.upkeep(&west()).await.unwrap();
    assert_eq!(upkeep.held, Some(json!(["why"])));
    assert!(!upkeep.is_sweep_due && !upkeep.is_condemned && upkeep.sweep_after == late.plus_ms(9));
    copies.release(&new).await.unwrap();

    // Damage makes copies wanted again, and what is damaged is not there, though it is seen there, until it is copied anew.
    let holder = claim(&catalog, late.plus_ms(2)).await;
    copies.report_damage(&west(), &names(&["page/a"])).await.unwrap();
    assert_eq!(states(&catalog, &[&snapshot]).await, [Some(CopyState::Wanted)]);
    lost(copies.made(&holder, snapshot.id, late).await.map(drop));
    assert_eq!(
        copies.claim(&west(), late.plus_ms(3), LEASE_MS).await.unwrap(),
        None,
        "it is lost, and not free"
    );
    assert_eq!(copies.due(&west(), T0).await.unwrap().len(), 1);
    let holder = claim(&catalog, late.plus_ms(2 + LEASE_MS)).await;
    copies.adopt(&holder, &[object("page/a"), object("page/seen"), object("page/new")]).await.unwrap();
    let found = |name: &str| (name.to_owned(), CopiedState::Found);
    let all = ["page/a", "page/new", "page/seen"];
    assert_eq!(held(&all).await, [is_held("page/new"), found("page/seen")]);
    copies.report_damage(&west(), &names(&["page/a", "page/nowhere"])).await.unwrap();
    copies.renew(&holder, late.plus_ms(2 + LEASE_MS), LEASE_MS).await.expect("it was known");
    copies.copied(&holder, &[object("page/a"), object("page/seen")]).await.unwrap();
    assert_eq!(held(&all).await, all.map(is_held));

    // What a listing does not meet is not there.
    assert!(copies.made(&holder, snapshot.id, late).await.unwrap());
    assert_eq!(copies.listed(&holder, late).await.unwrap(), 1, "the manifest");
    assert_eq!(states(&catalog, &[&snapshot]).await, [Some(CopyState::Wanted)]);
    assert_eq!(held(&["manifest/m"]).await, []);
    assert!(copies.made(&holder, snapshot.id, late).await.unwrap());
    assert_eq!(copies.listed(&holder, late).await.unwrap(), 0);
    assert_eq!(states(&catalog, &[&snapshot]).await, [Some(CopyState::Made)]);

    // Which place it is, and that a catalog is behind what is marked there.
    copies.settle(&holder, "here", None).await.unwrap();
    copies.settle(&holder, "here", Some(100)).await.unwrap();
    lost(copies.renew(&holder, late, LEASE_MS).await);
    let holder = claim(&catalog, late.plus_ms(3 + LEASE_MS)).await;
    assert_eq!((holder.generation, holder.place.as_deref()), (101, Some("here")));
    assert_eq!(copies.upkeep(&west()).await.unwrap().listed_at, WallTime(0));
    let forget = async |now| copies.forget_region(&west(), now).await;
    lost(forget(late.plus_ms(4 + LEASE_MS)).await);
    copies.release(&holder).await.unwrap();
    forget(late.plus_ms(4 + LEASE_MS)).await.unwrap();
    assert_eq!(states(&catalog, &[&snapshot]).await, [None]);
    assert!(held(&all).await.is_empty() && !copies.upkeep(&west()).await.unwrap().is_begun);
}

pub(crate) async fn slices_are_copied_where_the_record_is_wanted(catalog: Catalog) {
    let (deployment, capture, mut timeline) = support::recorded(&catalog).await;
    let copies = catalog.copies();
    for (to, is_stored) in [(10, true), (20, true), (30, false)] {
        let slice = support::next_slice(&timeline, to);
        let slice = NewSlice { name: format!("slice/{to}"), ..slice };
        timeline = catalog.timelines().append(&capture, timeline.id, &slice).await.unwrap();
        if is_stored {
            timeline = catalog.timelines().mark_stored(&capture, &slice.name).await.unwrap();
        }
    }
    set(&catalog, &deployment, vec![setting(Copied::Latest(1), false, T0)], vec![], T0).await;
    assert_eq!(copies.recorded_in(&west()).await.unwrap(), []);
    set(&catalog, &deployment, vec![setting(Copied::Latest(1), true, T0)], vec![], T0).await;
    assert_eq!(copies.recorded_in(&region("CENTRAL_US")).await.unwrap(), []);
    let recorded = copies.recorded_in(&west()).await.unwrap();
    assert_eq!(recorded, [deployment.id]);
    let due = copies.slices_due(&west(), deployment.id, 9).await.unwrap();
    assert_eq!(due, ["slice/10", "slice/20"], "what waits for the vault is not there yet");
    let holder = claim(&catalog, at(1)).await;
    let object =
        |name: &str| StoredObject { name: name.to_owned(), kind: "slice".to_owned(), stored_bytes: 7 };
    copies.copied(&holder, &[object("slice/10"), object("page/a")]).await.unwrap();
    copies.adopt(&holder, &[object("slice/of-nobody")]).await.unwrap();
    assert_eq!(copies.slices_due(&west(), deployment.id, 1).await.unwrap(), ["slice/20"]);
    copies.adopt(&holder, &[object("slice/20")]).await.unwrap();
    copies.unreadable(&holder, "slice/20").await.unwrap();
    assert_eq!(copies.slices_due(&west(), deployment.id, 1).await.unwrap(), [""; 0]);
    // No copy names slices: what is swept by what copies need leaves them, and one that nobody knows stays in any case.
    copies.release(&holder).await.unwrap();
    let holder = claim(&catalog, at(2)).await;
    copies.condemn_unneeded(&holder).await.unwrap();
    assert_eq!(copies.condemn_slices(&holder, &recorded).await.unwrap(), 0);
    assert_eq!(copies.condemned(&holder, 9).await.unwrap(), ["page/a"]);
    copies.deleted(&holder, &names(&["page/a"])).await.unwrap();
    assert_eq!(
        copies.condemn_slices(&holder, &[]).await.unwrap(),
        1,
        "nobody wants the record there any more"
    );
    assert_eq!(copies.condemned(&holder, 9).await.unwrap(), ["slice/10"]);
    copies.adopt(&holder, &[object("slice/of-nobody")]).await.unwrap();
    copies.listed(&holder, at(3)).await.unwrap();
    assert_eq!(
        copies.slices_due(&west(), deployment.id, 9).await.unwrap(),
        ["slice/10", "slice/20"],
        "tried again"
    );
}
