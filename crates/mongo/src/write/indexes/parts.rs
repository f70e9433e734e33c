//! Several builds of one collection's indexes at a time.

use std::{pin::pin, time::Duration};

use bson::doc;
use futures::{Stream, StreamExt as _, stream::FuturesUnordered};

use super::{BuildOptions, Plan, keys, run_watched};
use crate::{Deployment, Namespace, Result, write::command};

/// How often the server is asked whether a build has begun.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The names of the indexes that each build makes.
pub(super) fn of<'a>(plan: &'a Plan, options: &BuildOptions) -> Vec<&'a [String]> {
    let counts: Vec<_> = plan.names.iter().map(|name| options.keys.get(name)).collect();
    let mut rest = plan.names.as_slice();
    let cut = |indexes| {
        let (part, after) = rest.split_at(indexes);
        rest = after;
        part
    };
    keys::shares(&counts, options.builds_max).into_iter().map(cut).collect()
}

/// Builds all indexes of the plan, in no more builds at a time than the options say. After an error some may still run.
///
/// A listing shows indexes in the order in which their builds begin, and a restored collection lists them as the old one
/// did: so a part is not sent before the one before it is listed.
pub(super) async fn run(
    deployment: &Deployment,
    namespace: &Namespace,
    plan: &Plan,
    options: &BuildOptions,
) -> Result<()> {
    let mut running = FuturesUnordered::new();
    let mut rest = plan.specs.as_slice();
    let mut parts = of(plan, options).into_iter().peekable();
    while let Some(names) = parts.next() {
        let (specs, after) = rest.split_at(names.len());
        rest = after;
        running.push(run_watched(deployment, namespace, specs, options));
        if parts.peek().is_some() {
            until_begun(&mut running, begun(deployment, namespace, names)).await?;
        }
    }
    while let Some(ended) = running.next().await {
        ended?;
    }
    Ok(())
}

/// Waits until the build that was sent last is listed. One that ends before it is seen is listed or has failed; another one that
/// ends says nothing of it. With all of them over there is nothing to wait for, whoever has dropped what they made.
async fn until_begun(
    running: &mut (impl Stream<Item = Result<()>> + Unpin),
    begun: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut begun = pin!(begun);
    loop {
        tokio::select! {
            ended = running.next() => match ended {
                Some(ended) => ended?,
                None => return Ok(()),
            },
            begun = &mut begun => return begun,
        }
    }
}

/// Waits until all of these are listed, finished or not.
async fn begun(deployment: &Deployment, namespace: &Namespace, names: &[String]) -> Result<()> {
    let list = doc! { "listIndexes": &namespace.collection };
    loop {
        let reply = command::run_document(deployment, &namespace.db, &list).await?;
        let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let is_listed = |name: &String| {
            let mut specs = batch.iter().flat_map(|batch| batch.iter()).filter_map(|spec| spec.as_document());
            specs.any(|spec| spec.get_str("name").is_ok_and(|listed| listed == name))
        };
        if names.iter().all(is_listed) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::{pending, ready};

    use futures::future::{BoxFuture, FutureExt as _};

    use super::*;
    use crate::Error;

    fn builds(
        builds: Vec<BoxFuture<'static, Result<()>>>,
    ) -> FuturesUnordered<BoxFuture<'static, Result<()>>> {
        builds.into_iter().collect()
    }

    fn failed() -> Result<()> {
        Err(Error::Protocol("a build failed".to_owned()))
    }

    #[test]
    fn a_build_that_is_over_is_not_waited_for_when_its_indexes_are_gone() {
        let mut over = builds(vec![ready(Ok(())).boxed(), ready(Ok(())).boxed()]);
        until_begun(&mut over, pending()).now_or_never().unwrap().unwrap();
        // The next one can be added, and is waited for.
        over.push(pending().boxed());
        assert!(until_begun(&mut over, pending()).now_or_never().is_none());
    }

    #[test]
    fn another_one_that_ends_says_nothing_of_it() {
        let mut running = builds(vec![ready(Ok(())).boxed(), pending().boxed()]);
        assert!(until_begun(&mut running, pending()).now_or_never().is_none());
        until_begun(&mut running, ready(Ok(()))).now_or_never().unwrap().unwrap();
    }

    #[test]
    fn a_failure_ends_the_waiting() {
        let mut running = builds(vec![ready(failed()).boxed(), pending().boxed()]);
        assert!(until_begun(&mut running, pending()).now_or_never().unwrap().is_err());
        let mut running = builds(vec![pending().boxed()]);
        assert!(until_begun(&mut running, ready(failed())).now_or_never().unwrap().is_err());
    }
}
