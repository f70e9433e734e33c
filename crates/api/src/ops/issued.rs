//! Credentials as they are made: the secret is told once.

use catalog::{Credential, Grant};

use crate::{
    auth::issue::{NewAccount, issue_api_key, issue_service_account},
    error::{Answer, Code, Problem},
    gate::Call,
};

/// How often a public name is drawn before it is a fault: one collision is one in 200 billion.
const DRAWS_MAX: u32 = 3;

/// What is to be made.
pub(super) enum Wanted {
    ApiKey { description: String, grants: Vec<Grant> },
    ServiceAccount(NewAccount),
}

/// Makes a credential; it and its secret.
pub(super) async fn make(call: &Call, wanted: Wanted) -> Answer<(Credential, String)> {
    for draw in 1.. {
        let issued = match &wanted {
            Wanted::ApiKey { description, grants } => {
                issue_api_key(call.server.state.secrets.as_ref(), description, grants.clone())
                    .map_err(|e| Problem::internal("seal an API key", &e))?
            }
            Wanted::ServiceAccount(new) => issue_service_account(new.clone()),
        };
        match call.server.state.catalog.credentials().create(issued.row, call.server.now()).await {
            Ok(credential) => {
                // A stranger may have asked for this name a moment ago, and been remembered as unknown.
                call.server.forget_credentials();
                return Ok((credential, issued.secret.expose_text().unwrap_or_default().to_owned()));
            }
            Err(catalog::Error::AlreadyExists { .. }) if draw < DRAWS_MAX => {}
            Err(error) => return Err(call.server.catalog_problem("make a credential", error)),
        }
    }
    Err(Problem::new(Code::UnexpectedError))
}
