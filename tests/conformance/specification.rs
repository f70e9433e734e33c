//! The OpenAPI document of Atlas, as validators of response bodies. It is not part of this repository: where it is not
//! at hand, everything else is checked without it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

/// Where it lies beside a checkout, for those who have it.
const PLACE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/reference/atlas-backup-openapi.tools.yaml");

/// Answers that Atlas gives and its document leaves out of some or of all operations.
pub const UNDOCUMENTED: [(u16, &str, &str); 15] = [
    (400, "INVALID_QUERY_PARAMETER", "any operation has query parameters, and any can be wrong"),
    (
        400,
        "CANNOT_USE_SERVERLESS_INSTANCE_IN_CLUSTER_API",
        "recorded; the page of getGroupCluster has no 400",
    ),
    (400, "CANNOT_USE_CLUSTER_IN_SERVERLESS_INSTANCE_API", "the same the other way round"),
    (400, "CANNOT_USE_FLEX_CLUSTER_IN_CLUSTER_API", "recorded; the page of getGroupCluster has no 400"),
    (400, "INCORRECT_BACKUP_API_ENDPOINT", "recorded on the legacy pages"),
    (400, "MISSING_ONE_OF_ATTRIBUTES", "the page of updateGroupClusterSnapshot has no 400"),
    (400, "MALFORMED_REQUEST", "HTTP itself"),
    (403, "IP_ADDRESS_NOT_ON_ACCESS_LIST", "any operation may be asked for from elsewhere"),
    (404, "RESOURCE_NOT_FOUND", "HTTP itself"),
    (404, "GROUP_NOT_FOUND", "the page of listRateLimits has no 404, and may be asked about a project"),
    (405, "METHOD_NOT_ALLOWED", "HTTP itself"),
    (406, "INVALID_VERSION_DATE", "recorded everywhere"),
    (413, "PAYLOAD_TOO_LARGE", "HTTP itself"),
    (415, "UNSUPPORTED_MEDIA_TYPE", "HTTP itself"),
    (401, "UNEXPECTED_ERROR", "recorded everywhere"),
];

/// The document, and the validators made of it so far.
pub struct Specification {
    paths: Map<String, Value>,
    responses: Map<String, Value>,
    schemas: BTreeMap<String, Value>,
    validators: Mutex<HashMap<String, Arc<jsonschema::Validator>>>,
}

/// What the document says of one operation.
pub struct Documented<'a> {
    specification: &'a Specification,
    pub id: String,
    operation: &'a Value,
}

impl Specification {
    /// The document, if it is there.
    pub fn find() -> Option<Self> {
        let document = Self::document()?;
        let object = |pointer: &str| document.pointer(pointer).unwrap().as_object().unwrap().clone();
        let mut schemas: BTreeMap<String, Value> = object("/components/schemas").into_iter().collect();
        mend(&mut schemas);
        let closed = schemas.iter().map(|(name, schema)| (name.clone(), close(schema, &schemas))).collect();
        Some(Self {
            paths: object("/paths"),
            responses: object("/components/responses"),
            schemas: closed,
            validators: Mutex::default(),
        })
    }

    /// The document as it lies there.
    pub fn document() -> Option<Value> {
        let text = std::fs::read_to_string(Path::new(PLACE)).ok()?;
        let mut documents = Yaml::load_from_str(&text).unwrap();
        Some(json_of(documents.remove(0)))
    }

    /// The operation of a method and a path, whatever its parameters are called.
    pub fn operation(&self, method: &str, path: &str) -> Option<Documented<'_>> {
        let item = self.paths.iter().find(|(other, _)| shape(other) == shape(path))?.1;
        let operation = item.get(method.to_lowercase())?;
        let id = operation["operationId"].as_str().unwrap().to_owned();
        Some(Documented { specification: self, id, operation })
    }

    /// The names of the operations that have one of these tags.
    pub fn tagged(&self, tags: &[&str]) -> Vec<String> {
        let operations = self.paths.values().filter_map(Value::as_object).flat_map(|item| item.values());
        let has_one = |operation: &&Value| {
            let own = operation["tags"].as_array();
            own.is_some_and(|own| own.iter().filter_map(Value::as_str).any(|tag| tags.contains(&tag)))
        };
        operations.filter(has_one).filter_map(|o| o["operationId"].as_str()).map(str::to_owned).collect()
    }

    fn validator(&self, schema: &Value) -> Arc<jsonschema::Validator> {
        let key = schema.to_string();
        let mut made = self.validators.lock().unwrap();
        let make = || {
            let mut root = whole(schema, &self.schemas);
            root["components"] = json!({"schemas": self.reachable(&root)});
            let mut options = jsonschema::options();
            options = options.with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
            Arc::new(options.build(&root).unwrap_or_else(|e| panic!("{key}: {e}")))
        };
        Arc::clone(made.entry(key.clone()).or_insert_with(make))
    }

    /// The named schemas that a schema leads to.
    fn reachable(&self, schema: &Value) -> Value {
        let mut found = BTreeSet::new();
        let mut waiting = references(schema);
        while let Some(name) = waiting.pop() {
            if found.insert(name.clone()) {
                waiting.extend(references(&self.schemas[&name]));
            }
        }
        found
            .into_iter()
            .map(|name| (name.clone(), self.schemas[&name].clone()))
            .collect::<Map<_, _>>()
            .into()
    }
}

impl Documented<'_> {
    /// Checks status, content type and body of an answer. `content_type` without its parameters; no body for 204.
    pub fn check(
        &self,
        status: u16,
        code: Option<&str>,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<(), String> {
        let mut response = &self.operation["responses"][status.to_string()];
        if let Some(name) = response["$ref"].as_str().and_then(|text| text.rsplit('/').next()) {
            response = &self.specification.responses[name];
        }
        if response.is_null() {
            let known = UNDOCUMENTED.iter().any(|(other, name, _)| (*other, Some(*name)) == (status, code));
            return if known { self.check_error(body) } else { Err(format!("{status} is not documented")) };
        }
        let Some(body) = body else { return Ok(()) };
        if code.is_some() {
            return self.check_error(Some(body));
        }
        match response["content"].get(content_type) {
            Some(content) => self.check_body(&content["schema"], body),
            None => Err(format!("{content_type} is not documented: {}", response["content"])),
        }
    }

    fn check_error(&self, body: Option<&Value>) -> Result<(), String> {
        let schema = json!({"$ref": "#/components/schemas/ApiError"});
        body.map_or(Ok(()), |body| self.check_body(&schema, body))
    }

    fn check_body(&self, schema: &Value, body: &Value) -> Result<(), String> {
        let validator = self.specification.validator(schema);
        let wrong: Vec<String> =
            validator.iter_errors(body).map(|e| format!("{}: {e}", e.instance_path())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// The media types of its success.
    pub fn media_types(&self) -> Vec<&str> {
        let responses = self.operation["responses"].as_object().unwrap();
        let success = responses.iter().find(|(status, _)| status.starts_with('2')).unwrap().1;
        success["content"].as_object().unwrap().keys().map(String::as_str).collect()
    }
}

fn shape(path: &str) -> Vec<&str> {
    path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect()
}

/// Mistakes of the document that the contract lists. Those in most patterns and error parameters are mended in this copy of
/// it already; `frequencyType: "ondemand"`, which its enumeration lacks, is not sent by default.
pub fn mend(schemas: &mut BTreeMap<String, Value>) {
    // Copied from the field of the seconds above it.
    let increment =
        schemas.get_mut("ApiBSONTimestampView").and_then(|view| view.pointer_mut("/properties/increment"));
    increment.unwrap().as_object_mut().unwrap().remove("minimum");
    // Names its two forms in the discriminator only, and sharded ones there are none.
    let form = json!({"$ref": "#/components/schemas/DiskBackupReplicaSet"});
    schemas.insert("DiskBackupSnapshot".to_owned(), json!({"allOf": [form]}));
    // The same, and there are no buckets of other providers.
    let form = json!({"$ref": "#/components/schemas/DiskBackupSnapshotAWSExportBucketResponse"});
    schemas.insert("DiskBackupSnapshotExportBucketResponse".to_owned(), json!({"allOf": [form]}));
    // A pattern that only the names of its own placeholders fit.
    let prefix = schemas.get_mut("DiskBackupExportJob").and_then(|job| job.pointer_mut("/properties/prefix"));
    prefix.unwrap().as_object_mut().unwrap().remove("pattern");
}

/// Schemas of OpenAPI leave objects open. Here, what a schema does not name is an error wherever an object is the whole
/// of a value (and not a part of a composition), and what may only be written is not read.
fn close(schema: &Value, schemas: &BTreeMap<String, Value>) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut out = Map::new();
    let write_only: BTreeSet<&String> = fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, property)| property["writeOnly"] == true)
        .map(|(name, _)| name)
        .collect();
    for (name, value) in fields {
        let closed = match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => properties
                .iter()
                .map(|(name, property)| {
                    let unread = write_only.contains(name);
                    (name.clone(), if unread { json!(false) } else { whole(property, schemas) })
                })
                .collect::<Map<_, _>>()
                .into(),
            ("required", Value::Array(names)) => {
                let read = |name: &&Value| !write_only.iter().any(|other| name.as_str() == Some(other));
                names.iter().filter(read).cloned().collect::<Vec<_>>().into()
            }
            ("items", value) => whole(value, schemas),
            ("allOf" | "oneOf" | "anyOf", Value::Array(parts)) => {
                parts.iter().map(|part| close(part, schemas)).collect::<Vec<_>>().into()
            }
            // Documentation, and OpenAPI's own words.
            ("example" | "default" | "discriminator" | "externalDocs", _) => continue,
            (_, value) => value.clone(),
        };
        out.insert(name.clone(), closed);
    }
    out.into()
}

/// A schema in a place where its value is a whole one.
fn whole(schema: &Value, schemas: &BTreeMap<String, Value>) -> Value {
    let named =
        schema["$ref"].as_str().and_then(|text| text.rsplit('/').next()).and_then(|name| schemas.get(name));
    let target = named.unwrap_or(schema);
    let names_fields = ["properties", "allOf", "oneOf"].iter().any(|word| target.get(word).is_some());
    let closed = close(schema, schemas);
    let is_open = !names_fields || target.get("additionalProperties").is_some();
    if is_open { closed } else { json!({"allOf": [closed], "unevaluatedProperties": false}) }
}

fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(text) if name == "$ref" => {
                    vec![text.rsplit('/').next().unwrap_or_default().to_owned()]
                }
                other => references(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn json_of(yaml: Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(flag)) => flag.into(),
        Yaml::Value(Scalar::Integer(number)) => number.into(),
        Yaml::Value(Scalar::FloatingPoint(number)) => number.into_inner().into(),
        Yaml::Value(Scalar::String(text)) => text.into_owned().into(),
        Yaml::Sequence(items) => items.into_iter().map(json_of).collect::<Vec<_>>().into(),
        Yaml::Mapping(entries) => entries
            .into_iter()
            .map(|(key, value)| match json_of(key) {
                Value::String(text) => (text, json_of(value)),
                other => (other.to_string(), json_of(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        other => panic!("the document holds {other:?}"),
    }
}
