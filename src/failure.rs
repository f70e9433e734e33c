//! How an error is told: in sentences for people, as one JSON object for programs. To standard error in both cases.

use serde_json::{Map, Value};

use crate::{args::Output, client::Refused};

/// Tells why the process fails.
pub(crate) fn report(error: &anyhow::Error, output: Output) {
    match output {
        Output::Text => eprint!("{}", sentences(error)),
        Output::Json => eprintln!("{}", object(error)),
    }
}

/// An error and its causes, each once.
fn sentences(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in causes(error) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    text
}

/// The same as an object; with what the server told, when the server refused.
fn object(error: &anyhow::Error) -> Value {
    let mut object = Map::new();
    object.insert("causes".to_owned(), causes(error).into());
    object.insert("detail".to_owned(), error.to_string().into());
    if let Some(refused) = error.downcast_ref::<Refused>() {
        object.insert("detail".to_owned(), refused.detail.as_str().into());
        object.insert("status".to_owned(), refused.status.into());
        if let Some(code) = &refused.code {
            object.insert("errorCode".to_owned(), code.as_str().into());
        }
        if !refused.fields.is_null() {
            object.insert("fields".to_owned(), refused.fields.clone());
        }
    }
    object.into()
}

/// What led to an error: no sentence that the one before it holds already.
fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut last = error.to_string();
    let mut told = Vec::new();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !last.contains(&text) {
            told.push(text.clone());
        }
        last = text;
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use serde_json::json;

    use super::*;

    #[test]
    fn causes_are_told_once_each() {
        let error = anyhow!("disk is full").context("write x: disk is full").context("keep the key");
        assert_eq!(sentences(&error), "error: keep the key\n  caused by: write x: disk is full\n");
        let expected = json!({"causes": ["write x: disk is full"], "detail": "keep the key"});
        assert_eq!(object(&error), expected);
    }

    #[test]
    fn what_the_server_refused_is_told_in_its_words() {
        let refused = Refused {
            sentence: "No cluster (404 CLUSTER_NOT_FOUND)".to_owned(),
            status: 404,
            code: Some("CLUSTER_NOT_FOUND".to_owned()),
            detail: "No cluster".to_owned(),
            fields: Value::Null,
        };
        let error = anyhow::Error::new(refused);
        assert_eq!(sentences(&error), "error: No cluster (404 CLUSTER_NOT_FOUND)\n");
        let expected =
            json!({"causes": [], "detail": "No cluster", "errorCode": "CLUSTER_NOT_FOUND", "status": 404});
        assert_eq!(object(&error), expected);
    }
}
