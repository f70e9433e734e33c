//! Live checks and the defects that they find.

use catalog::{Catalog, Defect, Error, LivePlace, LiveRound};
use model::CollectionUuid;

use crate::support::{self, LEASE_MS, T0, at, time};

pub(crate) async fn one_holder_compares_and_the_next_goes_on(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let checks = catalog.live_checks();
    assert_eq!(checks.of(deployment.id).await.unwrap(), None);
    let (first, mut round) = checks.claim(deployment.id, "s0", T0, LEASE_MS).await.unwrap().unwrap();
    assert_eq!(round, LiveRound::begin(T0, None));
    assert_eq!(checks.claim(deployment.id, "s1", T0.plus_ms(LEASE_MS - 1), LEASE_MS).await.unwrap(), None);

    round.next = Some(LivePlace { collection: CollectionUuid([0xF7; 16]), key: Some(vec![0, 0xFF]) });
    (round.documents, round.bytes) = (7, 700);
    checks.save(&first, &round, at(20), LEASE_MS).await.unwrap();
    assert_eq!(checks.of(deployment.id).await.unwrap().as_ref(), Some(&round));
    assert_eq!(checks.claim(deployment.id, "s1", at(40), LEASE_MS).await.unwrap(), None, "it was renewed");
    let (second, found) = checks.claim(deployment.id, "s1", at(50), LEASE_MS).await.unwrap().unwrap();
    assert_eq!(found, round, "the next one goes on");
    for lost in [checks.save(&first, &round, at(51), LEASE_MS).await, checks.release(&first).await] {
        assert!(matches!(lost, Err(Error::LeaseLost { .. })), "{lost:?}");
    }

    (round.next, round.completed_at) = (None, Some(at(52)));
    checks.save(&second, &round, at(52), LEASE_MS).await.unwrap();
    checks.release(&second).await.unwrap();
    let (_, found) = checks.claim(deployment.id, "s0", at(53), LEASE_MS).await.unwrap().unwrap();
    assert_eq!(found, round);
}

pub(crate) async fn a_defect_stays_until_it_is_mended(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let defects = catalog.defects();
    let defect = Defect {
        deployment_id: deployment.id,
        collection: CollectionUuid([7; 16]),
        namespace: "shop.items".to_owned(),
        found: time(9),
        found_at: at(1),
        what: "1 document is another one".to_owned(),
    };
    let other =
        Defect { collection: CollectionUuid([8; 16]), namespace: "shop.\0ther".to_owned(), ..defect.clone() };
    assert!(defects.record(&defect).await.unwrap());
    assert!(defects.record(&other).await.unwrap());
    let found = defects.of(deployment.id).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], defect);

    let again = Defect { found: time(12), ..defect.clone() };
    assert!(!defects.record(&again).await.unwrap(), "it was known");
    defects.mended(&defect).await.unwrap();
    assert_eq!(defects.of(deployment.id).await.unwrap().len(), 2, "it was found again since");
    defects.mended(&again).await.unwrap();
    assert_eq!(defects.of(deployment.id).await.unwrap(), found[1..]);
}
