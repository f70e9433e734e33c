//! Documents that repeat what the program says have to say the same.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

#[test]
fn the_roles_in_the_documentation_are_those_that_the_program_prints() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/privileges.md")).unwrap();
    for purpose in ["backup", "restore", "restore-users"] {
        for version in ["5.0", "6.0"] {
            let arguments = ["cluster", "role", "--purpose", purpose, "--mongodb", version];
            let output = support::program().args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", support::stderr(&output));
            let command = String::from_utf8(output.stdout).unwrap();
            assert!(
                page.contains(command.trim()),
                "docs/privileges.md lacks what {arguments:?} prints: {command}"
            );
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md"), root.join("CHANGELOG.md")];
    pages.extend(
        support::files(&root.join("docs")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "md")),
    );
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(page.parent().unwrap().join(file).exists(), "{} links to {target}", page.display());
            }
        }
    }
}

#[test]
fn the_page_of_coverage_is_what_the_program_prints() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/coverage.md")).unwrap();
    let output = support::program().args(["openapi", "--coverage"]).output().unwrap();
    assert!(output.status.success(), "{}", support::stderr(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(page == printed, "write it anew: ebbtide openapi --coverage > docs/coverage.md");
}

#[test]
fn the_document_of_what_is_served_is_printed_as_json() {
    let output = support::program().args(["openapi"]).output().unwrap();
    assert!(output.status.success(), "{}", support::stderr(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["openapi"], "3.0.3");
    let path = "/api/atlas/v2/groups/{groupId}/clusters/{clusterName}/backup/restoreJobs";
    assert_eq!(document["paths"][path]["post"]["operationId"], "createGroupClusterBackupRestoreJob");
}
