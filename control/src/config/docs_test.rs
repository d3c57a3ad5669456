//! Holds `docs/configuration.md` to the schema, and its examples to the parser.

use std::collections::BTreeMap;

use super::parse;
use super::reader::header;
use super::schema::{Fallback, SCHEMA};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

fn docs() -> String {
    std::fs::read_to_string(DOCS).expect("docs/configuration.md is there")
}

/// The rows of each section's table, by the section's title: key -> the other cells.
fn rows() -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut sections: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut section = String::new();
    for line in docs().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.trim_matches('`').to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.trim_end_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
            let key = cells.next().unwrap().trim_end_matches('`').to_owned();
            let twice = sections.entry(section.clone()).or_default().insert(key.clone(), cells.collect());
            assert!(twice.is_none(), "{key} stands twice in {section}");
        }
    }
    sections
}

#[test]
fn every_key_is_documented_and_nothing_else() {
    let mut sections = rows();
    for table in SCHEMA {
        let title = header(table.kind);
        let mut documented = sections.remove(&title).unwrap_or_else(|| panic!("no section for {title}"));
        for key in table.keys {
            let cells = documented
                .remove(key.name)
                .unwrap_or_else(|| panic!("{title} {} is not documented", key.name));
            let [default, allowed, reload, meaning] = &cells[..] else {
                panic!("{title} {}: {cells:?}", key.name);
            };
            match key.default {
                Fallback::Required => {
                    assert!(default.starts_with("*required*"), "{title} {}: {default}", key.name)
                }
                Fallback::Value(value) => assert_eq!(*default, format!("`{value}`"), "{title} {}", key.name),
                Fallback::Words(words) => assert_eq!(*default, words, "{title} {}", key.name),
            }
            assert_eq!(reload, if table.reload { "yes" } else { "no" }, "{title} {}", key.name);
            assert!(!allowed.is_empty() && meaning.ends_with('.'), "{title} {}: {cells:?}", key.name);
        }
        assert!(documented.is_empty(), "{title} has no such keys: {documented:?}");
    }
    assert!(sections.is_empty(), "no such tables: {sections:?}");
}

#[test]
fn the_examples_are_right() {
    let docs = docs();
    let examples: Vec<&str> =
        docs.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        if let Err(errors) = parse(example, "docs/configuration.md") {
            panic!("{}", errors.iter().map(|e| format!("{e}\n")).collect::<String>());
        }
    }
}
