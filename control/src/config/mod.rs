//! The configuration file: TOML in, [`Model`] out, or every error at once with its place and a hint.
//!
//! The document is walked by hand, table by table ([`tables`](self) below), so that reading goes on after an error.
//! A wrong field gets a stand-in value and is remembered; validation then runs over the whole model, and only what
//! it says about those fields is left out.

mod diagnostic;
mod reader;
pub mod schema;
mod tables;

use std::path::Path;

use thiserror::Error;
use toml_edit::{Document, Item, TableLike, Value};

pub use diagnostic::Diagnostic;
pub use reader::Places;

use crate::model::Model;
use crate::validate::{ObjectKind, closest, validate};
use reader::{Reader, header, type_name};

/// Largest configuration file that is read, in bytes.
pub const MAX_FILE: u64 = 64 << 20;

/// A good file: the model, and where everything stands in it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the file asks for. All objects have [`Owner::File`](crate::model::Owner::File).
    pub model: Model,
    /// Gives later findings (of a model in which file and API meet) their place, as long as the file's objects keep
    /// their indices.
    pub places: Places,
}

/// Why a file could not be used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It could not be read.
    #[error("cannot read {file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It has errors.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Diagnostic>),
}

impl LoadError {
    /// The errors, each ready to print.
    pub fn messages(&self) -> Vec<String> {
        match self {
            LoadError::Io { .. } => vec![self.to_string()],
            LoadError::Invalid(diagnostics) => diagnostics.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let file = path.display().to_string();
    let text = read(path).map_err(|error| LoadError::Io { file: file.clone(), error })?;
    parse_with_places(&text, &file).map_err(LoadError::Invalid)
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read};
    let mut text = String::new();
    // A limit, as /dev/zero is a path as well.
    let size = std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)? as u64;
    if size > MAX_FILE {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(text)
}

/// Reads and checks a file's text; `file` is its name for messages. All errors are returned, in the order of the
/// file, except that an error of TOML's syntax is returned alone.
pub fn parse(text: &str, file: &str) -> Result<Model, Vec<Diagnostic>> {
    parse_with_places(text, file).map(|loaded| loaded.model)
}

/// As [`parse`], with the places of all objects.
pub fn parse_with_places(text: &str, file: &str) -> Result<Loaded, Vec<Diagnostic>> {
    let mut reader = Reader::new(file, text);
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let message = format!("this is no valid TOML: {}", error.message().replace('\n', "; "));
            reader.error(error.span(), message, "");
            return Err(reader.finish().1);
        }
    };
    let model = read_document(&mut reader, document.as_table());
    reader.findings(&validate(&model));
    let (places, diagnostics) = reader.finish();
    if diagnostics.is_empty() { Ok(Loaded { model, places }) } else { Err(diagnostics) }
}

fn read_document(reader: &mut Reader, root: &toml_edit::Table) -> Model {
    let mut model = Model::default();
    for (name, item) in root {
        let key_span = root.key(name).and_then(toml_edit::Key::span);
        let Some(table) = schema::SCHEMA.iter().find(|table| table.kind.name() == name) else {
            let kinds = schema::SCHEMA.iter().map(|table| table.kind);
            let hint = if let Some(close) = closest(name, kinds.clone().map(ObjectKind::name)) {
                let kind = kinds.into_iter().find(|kind| kind.name() == close).unwrap_or(ObjectKind::Daemon);
                format!("did you mean {}?", header(kind))
            } else if let Some(home) = schema::home_of(name) {
                format!("{name} belongs to {}", header(home.kind))
            } else {
                format!("known tables: {}", kinds.map(header).collect::<Vec<_>>().join(", "))
            };
            let what = if item.is_value() { "key" } else { "table" };
            reader.error(key_span.or_else(|| item.span()), format!("unknown {what} {name}"), hint);
            continue;
        };
        let kind = table.kind;
        if table.repeated {
            read_repeated(reader, kind, item, key_span, &mut model);
        } else if let Some(fields) = item.as_table_like() {
            let span = item.span().or(key_span);
            tables::read(reader, kind, 0, fields, span, &mut model);
        } else {
            wrong_shape(reader, kind, item, key_span);
        }
    }
    model
}

/// `[[name]]` any number of times, or `name = [{...}, ...]`.
fn read_repeated(
    reader: &mut Reader,
    kind: ObjectKind,
    item: &Item,
    key_span: Option<std::ops::Range<usize>>,
    model: &mut Model,
) {
    match item {
        Item::ArrayOfTables(array) => {
            for (index, fields) in array.iter().enumerate() {
                let span = fields.span().or_else(|| key_span.clone());
                tables::read(reader, kind, index, fields as &dyn TableLike, span, model);
            }
        }
        Item::Value(Value::Array(array)) => {
            let mut index = 0;
            for value in array {
                if let Some(fields) = value.as_inline_table() {
                    let span = value.span().or_else(|| key_span.clone());
                    tables::read(reader, kind, index, fields, span, model);
                    index += 1;
                } else {
                    reader.error(
                        value.span(),
                        format!("every element of {} must be a table", kind.name()),
                        "",
                    );
                    reader.poison(kind, 0, "");
                }
            }
        }
        _ => wrong_shape(reader, kind, item, key_span),
    }
}

fn wrong_shape(reader: &mut Reader, kind: ObjectKind, item: &Item, key_span: Option<std::ops::Range<usize>>) {
    let message = format!("{} must be written {}, but is {}", kind.name(), header(kind), type_name(item));
    let hint = match item {
        Item::Table(_) => format!("write {} with two brackets: there may be several", header(kind)),
        Item::ArrayOfTables(_) => format!("write {} with one pair of brackets, once", header(kind)),
        _ => format!("write {} on a line of its own and its keys below", header(kind)),
    };
    let span = match item {
        Item::ArrayOfTables(array) => array.iter().next().and_then(toml_edit::Table::span).or(key_span),
        _ => key_span.or_else(|| item.span()),
    };
    reader.error(span, message, hint);
    reader.poison(kind, 0, "");
}

#[cfg(test)]
mod docs_test;
#[cfg(test)]
mod tests;
