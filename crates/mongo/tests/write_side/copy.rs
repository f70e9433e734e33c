//! A whole deployment copied by nothing but the write side, compared by the server's own hashes and listings.

use bytes::Bytes;
use mongo::{
    ConnectOptions, Deployment, Namespace, Uri,
    privileges::{Purpose, role_definition},
    write::{
        Barrier, BuildOptions, ConnectionPool, LoadOptions, Loader, TtlPolicy, collections, indexes, staging,
        system_js, timeseries, verify, views,
    },
};
use testbed::{
    Options, Server,
    data::{Set, load},
    oracle::{self, CollectionState, DatabaseState},
};

use crate::{documents, on_versions};

const JOB: &str = "5f4007f327a3bd7b6f4103c5";
const SEED: u64 = 7;

async fn everything_arrives_byte_for_byte(version: &str) {
    let source = Server::start(Options::version(version)).await.unwrap();
    let target = Server::start(Options::version(version).with_auth()).await.unwrap();
    let source_client = source.client().await.unwrap();
    load(
        &source_client,
        SEED,
        &Set::ALL.into_iter().filter(|set| *set != Set::Principals).collect::<Vec<_>>(),
    )
    .await
    .unwrap();
    let wanted = oracle::state(&source_client).await.unwrap().without_principals();
    let from = crate::connect(&source.uri()).await;
    let to = connect_as_documented(&target).await;

    for (db, state) in &wanted.databases {
        copy_database(&from, &to, db, state).await;
    }

    let found = oracle::state(&target.client().await.unwrap()).await.unwrap().without_principals();
    oracle::assert_same(&wanted, &found);
    assert_eq!(staging::sweep_staging(&to, JOB).await.unwrap(), []);
}
on_versions!(everything_arrives_byte_for_byte);

/// The role that the documentation names, and nothing else.
async fn connect_as_documented(server: &Server) -> Deployment {
    let root = crate::connect(&server.uri()).await;
    root.run_admin(role_definition(Purpose::Restore, root.version())).await.unwrap();
    let user = bson::doc! { "createUser": "ebbtide", "pwd": "pw", "roles": [Purpose::Restore.role()] };
    root.run_admin(user).await.unwrap();
    let uri = Uri::parse(&server.uri_for("ebbtide", "pw")).unwrap();
    Deployment::connect(&uri, &ConnectOptions::default()).await.unwrap()
}

async fn copy_database(from: &Deployment, to: &Deployment, db: &str, state: &DatabaseState) {
    let pool = ConnectionPool::new(to);
    let barrier = Barrier::begin(to).await.unwrap();
    let mut staged = Vec::new();
    let plain = |(name, state): &(&String, &CollectionState)| {
        state.kind == "collection" && !name.starts_with("system.")
    };
    for (ordinal, (name, collection)) in (0..).zip(state.collections.iter().filter(plain)) {
        let staging = Namespace::new(db, staging::staging_name(JOB, ordinal));
        copy_collection(from, &pool, barrier, name, &staging, collection).await;
        staged.push((name, staging));
    }
    let durable_at = barrier.wait(to).await.unwrap();
    for (name, staging) in staged {
        let source = Namespace::new(db, name.as_str());
        let is_capped = state.capped_sequences.contains_key(name);
        let at = (!is_capped).then_some(durable_at);
        let (wanted, found) =
            (verify::content(from, &source, None).await, verify::content(to, &staging, at).await);
        assert_eq!(wanted.unwrap(), found.unwrap(), "{source}");
        let uuid = collections::uuid_of(to, &staging).await.unwrap();
        for _again in 0..2 {
            collections::rename_over(to, db, &staging.collection, name, uuid).await.unwrap();
        }
        assert_eq!(collections::uuid_of(to, &Namespace::new(db, name.as_str())).await.unwrap(), uuid);
    }
    for (name, collection) in &state.collections {
        if collection.kind == "timeseries" {
            copy_series(from, to, &Namespace::new(db, name.as_str()), state).await;
        }
    }
    copy_views(to, db, state).await;
    if state.collections.contains_key(system_js::NAME) {
        let functions = documents(from, &Namespace::new(db, system_js::NAME)).await;
        system_js::replace(to, db, Bytes::from(functions.concat()), Some(JOB.to_owned())).await.unwrap();
    }
}

async fn copy_collection(
    from: &Deployment,
    pool: &ConnectionPool,
    barrier: Barrier,
    name: &str,
    staging: &Namespace,
    state: &CollectionState,
) {
    let to = pool.deployment();
    let id_index = state.id_index.as_ref().map(|raw| raw.0.as_bytes());
    collections::create_anew(to, &staging.db, &staging.collection, state.options.0.as_bytes(), id_index)
        .await
        .unwrap();
    let capped = history::raw::field(state.options.0.as_bytes(), "capped").unwrap().is_some();
    let options = LoadOptions { insertion_order: capped, ..LoadOptions::default() };
    let mut loader = Loader::open_behind(pool, staging, options, barrier);
    let source = Namespace::new(staging.db.as_str(), name);
    let found = documents(from, &source).await;
    for part in found.chunks(37) {
        loader.insert(Bytes::from(part.concat())).await.unwrap();
    }
    let report = loader.close().await.unwrap();
    assert_eq!(report.documents, found.len() as u64);
    build(to, staging, state, BuildOptions { ttl: TtlPolicy::Keep, ..BuildOptions::default() }).await;
}

async fn build(to: &Deployment, namespace: &Namespace, state: &CollectionState, options: BuildOptions) {
    let specs: Vec<_> = state.indexes.iter().map(|raw| raw.0.clone().into_bytes()).collect();
    let report = indexes::build(to, namespace, &specs, &options).await.unwrap();
    assert_eq!(report.parked, []);
    // Done twice is done.
    assert_eq!(indexes::build(to, namespace, &specs, &options).await.unwrap(), report);
}

async fn copy_series(from: &Deployment, to: &Deployment, series: &Namespace, state: &DatabaseState) {
    let buckets = timeseries::buckets_of(series);
    timeseries::create(to, series, state.collections[&series.collection].options.0.as_bytes()).await.unwrap();
    let mut loader =
        Loader::open(to, &buckets, LoadOptions { mark_as: Some(JOB.to_owned()), ..LoadOptions::default() })
            .await
            .unwrap();
    loader.insert(Bytes::from(documents(from, &buckets).await.concat())).await.unwrap();
    loader.finish().await.unwrap();
    build(to, &buckets, &state.collections[&buckets.collection], BuildOptions::default()).await;
}

async fn copy_views(to: &Deployment, db: &str, state: &DatabaseState) {
    let all: Vec<_> = state
        .collections
        .iter()
        .filter(|(_, state)| state.kind == "view")
        .map(|(name, state)| views::View { name, options: state.options.0.as_bytes() })
        .collect();
    for _again in 0..2 {
        assert!(views::create_in_order(to, db, &all).await.unwrap().is_empty());
    }
}
