//! What a client asked and was answered, with what was done beside it, in order.

use std::path::{Path, PathBuf};

use bson::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A recording: a line for what it is, and one for each step.
#[derive(Debug)]
pub struct Recording {
    pub about: About,
    pub steps: Vec<Step>,
}

/// What a recording is of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The client, as it says which version it is.
    pub client: String,
    /// Where the server was.
    pub url: String,
    pub project: String,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// All documents were put into a state, at this operation time.
    Write { state: String, at: [u32; 2] },
    /// It was waited until the deployment `main` could be restored to here.
    Restorable { at: [u32; 2] },
    /// All documents were in this state.
    State { state: String },
    /// A command of our own.
    Cli { words: Vec<String>, answer: Value },
    /// A command of our own that waits for the end of a job, whatever that is.
    Watch { words: Vec<String> },
    /// `ebbtide admin …`
    Admin { words: Vec<String>, answer: Value },
    /// The client's own doing.
    Ask(Box<Exchange>),
}

/// A request and its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    pub by: By,
    pub method: String,
    /// Path and query.
    pub target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_type: Option<String>,
    /// None where it is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
}

/// How somebody showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    Nobody,
    Digest,
    Bearer,
}

pub fn seconds_and_increment(at: Timestamp) -> [u32; 2] {
    [at.time, at.increment]
}

/// Where recordings lie.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/recordings")
}

impl Recording {
    pub fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (about, steps) = text.split_once('\n').unwrap();
        let steps = steps.lines().map(|line| serde_json::from_str(line).unwrap());
        Self { about: serde_json::from_str(about).unwrap(), steps: steps.collect() }
    }

    pub fn write(&self, file: &Path) {
        let mut text = serde_json::to_string(&self.about).unwrap();
        for step in &self.steps {
            text.push('\n');
            text.push_str(&serde_json::to_string(step).unwrap());
        }
        text.push('\n');
        std::fs::write(file, text).unwrap();
    }
}
