//! What the check of a deployment found: one line each, and the commands that mend it, each once.

use std::fmt;

use serde_json::Value;

/// Problems or warnings of one check.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    told: Vec<String>,
    remedies: Vec<String>,
}

impl Findings {
    /// Reads `problems` or `warnings` of a check's report.
    pub(crate) fn of_report(findings: &Value) -> Self {
        let mut all = Self::default();
        for finding in findings.as_array().into_iter().flatten() {
            let text = |name: &str| finding[name].as_str().unwrap_or_default();
            all.told.push(format!("{}: {}", text("code"), text("message")));
            all.add_remedy(text("remedy"));
        }
        all
    }

    /// Reads `badRequestDetail.fields` of an error.
    pub(crate) fn of_fields(fields: &Value) -> Self {
        let mut all = Self::default();
        for field in fields.as_array().into_iter().flatten() {
            let description = field["description"].as_str().unwrap_or_default();
            match field["field"].as_str() {
                Some("remedy") => all.add_remedy(description),
                _ => all.told.push(description.to_owned()),
            }
        }
        all
    }

    fn add_remedy(&mut self, remedy: &str) {
        let known = self.remedies.iter().any(|other| other == remedy);
        if !remedy.is_empty() && !known {
            self.remedies.push(remedy.to_owned());
        }
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.told.iter().map(|line| format!("  {line}")).collect();
        if !self.remedies.is_empty() {
            lines.push("what mends it, in mongosh:".to_owned());
            let commands = self.remedies.iter().flat_map(|remedy| remedy.lines());
            lines.extend(commands.map(|command| format!("  {command}")));
        }
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "  MISSING_PRIVILEGE: find on config\n  MISSING_PRIVILEGE: insert on shop\n\
                        what mends it, in mongosh:\n  db.createRole(…)\n  db.grantRolesToUser(…)";

    #[test]
    fn findings_are_told_one_a_line_and_their_remedy_once() {
        let remedy = "db.createRole(…)\ndb.grantRolesToUser(…)";
        let report = Findings::of_report(&json!([
            {"code": "MISSING_PRIVILEGE", "message": "find on config", "remedy": remedy},
            {"code": "MISSING_PRIVILEGE", "message": "insert on shop", "remedy": remedy},
        ]));
        assert_eq!(report.to_string(), TEXT);
        let fields = Findings::of_fields(&json!([
            {"field": "uri", "description": "MISSING_PRIVILEGE: find on config"},
            {"field": "uri", "description": "MISSING_PRIVILEGE: insert on shop"},
            {"field": "remedy", "description": remedy},
        ]));
        assert_eq!(fields, report);
        assert!(Findings::of_report(&Value::Null).is_empty());
    }
}
