//! A typed reader over a TOML table that reports every mistake and goes on.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use toml_edit::{Item, TableLike, Value};

use super::diagnostic::{Diagnostic, Source};
use super::schema;
use crate::validate::range::{self, Range as NumberRange};
use crate::validate::{Finding, ObjectKind, closest};

type Span = Option<Range<usize>>;
type Field = (ObjectKind, usize, &'static str);

/// Where a field stands in the file.
#[derive(Debug, Clone, Default)]
struct Place {
    value: Span,
    items: Vec<Span>,
}

/// The places of all objects and fields, to show findings where they belong.
#[derive(Debug, Clone)]
pub struct Places {
    source: Source,
    /// Header of each object, or the object itself where it is written inline.
    objects: HashMap<(ObjectKind, usize), Span>,
    fields: HashMap<Field, Place>,
}

impl Places {
    /// The finding at its place: the item, else the field, else the object, else the file.
    pub fn diagnostic(&self, finding: &Finding) -> Diagnostic {
        let (kind, index) = (finding.object.kind, finding.object.index);
        let span = match self.fields.get(&(kind, index, finding.field)) {
            Some(place) => finding
                .item
                .and_then(|i| place.items.get(i).cloned())
                .flatten()
                .or_else(|| place.value.clone()),
            None => self.objects.get(&(kind, index)).cloned().flatten(),
        };
        self.source.diagnostic(span, finding.message.clone(), finding.hint.clone())
    }
}

/// State of one pass over a file.
pub(super) struct Reader {
    pub(super) places: Places,
    diagnostics: Vec<Diagnostic>,
    /// Fields with an error already: what validation says about their stand-in values is noise.
    poisoned: HashSet<Field>,
}

impl Reader {
    pub(super) fn new(file: &str, text: &str) -> Reader {
        Reader {
            places: Places {
                source: Source::new(file, text),
                objects: HashMap::new(),
                fields: HashMap::new(),
            },
            diagnostics: Vec::new(),
            poisoned: HashSet::new(),
        }
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        let diagnostic = self.places.source.diagnostic(span, message.into(), hint.into());
        self.diagnostics.push(diagnostic);
    }

    pub(super) fn poison(&mut self, kind: ObjectKind, index: usize, field: &'static str) {
        self.poisoned.insert((kind, index, field));
    }

    /// Adds what validation found, except about fields that are known to be wrong.
    pub(super) fn findings(&mut self, findings: &[Finding]) {
        for finding in findings {
            if !self.poisoned.contains(&(finding.object.kind, finding.object.index, finding.field)) {
                let diagnostic = self.places.diagnostic(finding);
                self.diagnostics.push(diagnostic);
            }
        }
    }

    /// All errors in the order of the file.
    pub(super) fn finish(mut self) -> (Places, Vec<Diagnostic>) {
        self.diagnostics.sort_by_key(|d| (d.line, d.column));
        (self.places, self.diagnostics)
    }

    /// Starts on one table of kind `kind`.
    pub(super) fn fields<'r, 't>(
        &'r mut self,
        kind: ObjectKind,
        index: usize,
        table: &'t dyn TableLike,
        span: Span,
    ) -> Fields<'r, 't> {
        self.places.objects.insert((kind, index), span.clone());
        Fields {
            reader: self,
            kind,
            index,
            table,
            span,
            allowed: schema::table(kind).keys.iter().map(|k| k.name).collect(),
            not_here: Vec::new(),
        }
    }
}

/// One table being read. Every reading method returns `None` when the key is absent or wrong; what is wrong is
/// reported and poisoned.
pub(super) struct Fields<'r, 't> {
    reader: &'r mut Reader,
    kind: ObjectKind,
    index: usize,
    table: &'t dyn TableLike,
    span: Span,
    allowed: Vec<&'static str>,
    /// Keys that exist but not in this variant, with the reason.
    not_here: Vec<(&'static str, String)>,
}

impl<'t> Fields<'_, 't> {
    fn item(&mut self, key: &'static str) -> Option<&'t Item> {
        debug_assert!(self.allowed.contains(&key), "{key} is missing in the schema");
        let (_, item) = self.table.get_key_value(key)?;
        let place = Place { value: item.span(), items: Vec::new() };
        self.reader.places.fields.insert((self.kind, self.index, key), place);
        Some(item)
    }

    /// The place of `key` itself, for what is wrong about its presence.
    fn key_span(&self, key: &str) -> Span {
        self.table.get_key_value(key).and_then(|(key, item)| key.span().or_else(|| item.span()))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports an error about the value of `key`, or about the table if it is absent.
    pub(super) fn wrong(&mut self, key: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.table.get(key).and_then(Item::span).or_else(|| self.span.clone());
        self.reader.error(span, message, hint);
        self.reader.poison(self.kind, self.index, key);
    }

    fn wrong_type(&mut self, key: &'static str, wanted: &str, item: &Item, hint: &str) {
        self.wrong(key, format!("{key} must be {wanted}, not {}", type_name(item)), hint);
    }

    /// Keeps validation from speaking about `key`.
    pub(super) fn ignore(&mut self, key: &'static str) {
        self.reader.poison(self.kind, self.index, key);
    }

    /// Reports `key` as missing unless it is there (then, if it is wrong, that has been said).
    pub(super) fn missing(&mut self, key: &'static str, example: &str) {
        if !self.has(key) {
            let table = self.kind.name();
            self.wrong(key, format!("{table} needs the key {key}"), format!("add for example: {example}"));
        }
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<&'t str> {
        let item = self.item(key)?;
        let string = item.as_str();
        if string.is_none() {
            self.wrong_type(key, "a string", item, "put the value in double quotes");
        }
        string
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let item = self.item(key)?;
        let boolean = item.as_bool();
        if boolean.is_none() {
            self.wrong_type(key, "true or false", item, "write true or false, without quotes");
        }
        boolean
    }

    /// A number within `range`, which must fit into `T`.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, key: &'static str, range: &NumberRange) -> Option<T> {
        let item = self.item(key)?;
        let Some(number) = item.as_integer() else {
            let hint = match item.as_str().map(str::trim).filter(|s| s.parse::<i64>().is_ok()) {
                Some(digits) => format!("write {key} = {digits}, without quotes"),
                None => format!("allowed: {} to {}", range.start(), range.end()),
            };
            self.wrong_type(key, "a whole number", item, &hint);
            return None;
        };
        if let Some((message, hint)) = range::check(key, number, range) {
            self.wrong(key, message, hint);
            return None;
        }
        u64::try_from(number).ok().and_then(|number| T::try_from(number).ok())
    }

    /// A string that `parse` understands; its error is (message, hint).
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<T> {
        match parse(self.string(key)?) {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.wrong(key, message, hint);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(*value);
            }
            let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let hint = match closest(text, words.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean \"{word}\"? Allowed: {}", all.join(", ")),
                None => format!("allowed: {}", all.join(", ")),
            };
            Err((format!("{key} = {text:?} is not known"), hint))
        })
    }

    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        let item = self.item(key)?;
        let Some(array) = item.as_array() else {
            let hint = match item.as_str() {
                Some(one) => format!("write {key} = [{one:?}]"),
                None => format!("write {key} = [\"...\", \"...\"]"),
            };
            self.wrong_type(key, "a list of strings", item, &hint);
            return None;
        };
        let items = array.iter().map(Value::span).collect();
        let place = Place { value: array.span(), items };
        self.reader.places.fields.insert((self.kind, self.index, key), place);
        let mut strings = Vec::with_capacity(array.len());
        let mut good = true;
        for value in array {
            match value.as_str() {
                Some(string) => strings.push(string.to_owned()),
                None => {
                    let message =
                        format!("{key} must be a list of strings, but holds {}", value_type_name(value));
                    self.reader.error(value.span(), message, "put every element in double quotes");
                    good = false;
                }
            }
        }
        if !good {
            self.reader.poison(self.kind, self.index, key);
        }
        good.then_some(strings)
    }

    /// A number within `range`, or the word `word`: `Some(Some(number))` or `Some(None)`.
    pub(super) fn number_or_word(
        &mut self,
        key: &'static str,
        range: &NumberRange,
        word: &'static str,
    ) -> Option<Option<u64>> {
        match self.table.get(key)?.as_str() {
            Some(text) if text == word => {
                self.item(key);
                Some(None)
            }
            Some(text) if text.trim().parse::<i64>().is_err() => {
                let hint = format!("allowed: {} to {}, or \"{word}\"", range.start(), range.end());
                self.wrong(key, format!("{key} = {text:?} is not known"), hint);
                None
            }
            _ => self.number::<u64>(key, range).map(Some),
        }
    }

    /// Says that `keys` do not belong into this variant of the table, should they occur.
    pub(super) fn exclude(&mut self, keys: &[&'static str], reason: &str) {
        self.allowed.retain(|key| !keys.contains(key));
        self.not_here.extend(keys.iter().map(|key| (*key, reason.to_owned())));
    }

    /// Reports all keys that do not belong here.
    pub(super) fn finish(self) {
        let table = self.kind.name();
        let unknown: Vec<&str> =
            self.table.iter().map(|(key, _)| key).filter(|key| !self.allowed.contains(key)).collect();
        for key in unknown {
            let span = self.key_span(key).or_else(|| self.span.clone());
            if let Some((_, reason)) = self.not_here.iter().find(|(other, _)| *other == key) {
                self.reader.error(span, format!("the key {key} does not belong here"), reason.as_str());
                continue;
            }
            let absent = self.allowed.iter().copied().filter(|known| !self.table.contains_key(known));
            let hint = if let Some(known) = closest(key, absent) {
                format!("did you mean {known}?")
            } else if let Some(home) = schema::home_of(key) {
                format!("{key} belongs to {}", header(home.kind))
            } else {
                format!("known keys: {}", self.allowed.join(", "))
            };
            self.reader.error(span, format!("unknown key {key} in {table}"), hint);
        }
    }
}

/// How the header of a table is written.
pub(super) fn header(kind: ObjectKind) -> String {
    let name = kind.name();
    if schema::table(kind).repeated { format!("[[{name}]]") } else { format!("[{name}]") }
}

/// What an item is, with its article.
pub(super) fn type_name(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(value) => value_type_name(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
    }
}

fn value_type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}
