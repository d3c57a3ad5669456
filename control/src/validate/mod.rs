//! Semantic checks over a whole [`Model`]: what types and ranges cannot say.
//!
//! The same checks serve the file and the API. They report everything at once, and each finding names its object and
//! field, so that the configuration reader can attach the place in the file. They never look at the host (is there
//! such a device? such a core?): a file can be checked on any machine.

mod fdb;
mod objects;
pub mod range;
mod settings;

use std::fmt;

pub use fdb::FdbChecker;
pub use objects::device_id;

use crate::model::Model;

/// Longest name of an object, in bytes.
pub const MAX_NAME: usize = 63;
/// Longest path of a Unix socket, in bytes (`sun_path` is 108 with its NUL).
pub const MAX_SOCKET_PATH: usize = 107;

/// Kinds of things a finding can be about; also the tables of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// `[daemon]`.
    Daemon,
    /// `[dpdk]`.
    Dpdk,
    /// `[workers]`.
    Workers,
    /// `[tunnel]`.
    Tunnel,
    /// `[[uplink]]`.
    Uplink,
    /// `[[vtep]]`.
    Vtep,
    /// `[[bd]]`.
    Bd,
    /// `[[port]]`.
    Port,
    /// `[[fdb]]`.
    Fdb,
}

impl ObjectKind {
    /// The word for it: the table's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            ObjectKind::Daemon => "daemon",
            ObjectKind::Dpdk => "dpdk",
            ObjectKind::Workers => "workers",
            ObjectKind::Tunnel => "tunnel",
            ObjectKind::Uplink => "uplink",
            ObjectKind::Vtep => "vtep",
            ObjectKind::Bd => "bd",
            ObjectKind::Port => "port",
            ObjectKind::Fdb => "fdb",
        }
    }
}

/// Which object a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its place in the model's list of that kind (0 for settings that exist once).
    pub index: usize,
    /// Its name (an FDB entry's: `BD MAC`); empty for settings that exist once.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if !self.name.is_empty() { write!(f, " {}", self.name) } else { Ok(()) }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object.
    pub object: ObjectRef,
    /// The field's name as in the file; empty when the object as a whole is meant.
    pub field: &'static str,
    /// The element of a list field.
    pub item: Option<usize>,
    /// What is wrong; it names the value.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

/// Checks everything. An empty result means that the model can be compiled.
pub fn validate(model: &Model) -> Vec<Finding> {
    let mut findings = validate_intent(model);
    let checker = FdbChecker::new(&model.objects);
    let mut sink = Sink { findings: Vec::new() };
    checker.check_all(&model.fdb, &mut sink);
    findings.append(&mut sink.findings);
    findings
}

/// Checks all but the FDB, which may be large and changes in small steps: see [`FdbChecker`].
pub fn validate_intent(model: &Model) -> Vec<Finding> {
    let mut sink = Sink { findings: Vec::new() };
    settings::check(model, &mut sink);
    objects::check(model, &mut sink);
    sink.findings
}

/// Collects findings.
struct Sink {
    findings: Vec<Finding>,
}

/// One object under inspection: shortens the reporting of findings about it.
struct Subject<'a> {
    sink: &'a mut Sink,
    kind: ObjectKind,
    index: usize,
    name: String,
}

impl Sink {
    fn subject(&mut self, kind: ObjectKind, index: usize, name: impl Into<String>) -> Subject<'_> {
        Subject { sink: self, kind, index, name: name.into() }
    }
}

impl Subject<'_> {
    fn report(&mut self, field: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        self.report_item(field, None, message, hint);
    }

    fn report_item(
        &mut self,
        field: &'static str,
        item: Option<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.sink.findings.push(Finding {
            object: ObjectRef { kind: self.kind, index: self.index, name: self.name.clone() },
            field,
            item,
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Names go into paths, tables and command lines: letters, digits, `.`, `_`, `-`, a letter or digit first.
    fn check_name(&mut self, field: &'static str, name: &str) {
        if name.is_empty() {
            self.report(field, format!("{field} is empty"), "");
            return;
        }
        let starts_well = name.as_bytes()[0].is_ascii_alphanumeric();
        let all_well = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !starts_well || !all_well {
            self.report(
                field,
                format!("{field} {name:?} has a character that names may not have"),
                "use letters, digits, '.', '_' and '-', with a letter or digit first",
            );
        }
        if name.len() > MAX_NAME {
            self.report(
                field,
                format!("{field} is {} characters long", name.len()),
                format!("a name has at most {MAX_NAME} characters"),
            );
        }
    }

    fn check_range(&mut self, field: &'static str, value: u64, range: &range::Range) {
        if let Some((message, hint)) = range::check(field, value, range) {
            self.report(field, message, hint);
        }
    }

    fn check_socket_path(&mut self, field: &'static str, path: &std::path::Path) {
        let bytes = path.as_os_str().len();
        if bytes == 0 {
            self.report(field, format!("{field} is empty"), "give the absolute path of a Unix socket");
        } else if !path.is_absolute() {
            self.report(
                field,
                format!("{field} \"{}\" is a relative path", path.display()),
                "give an absolute path: weftd and its peers run in different directories",
            );
        } else if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            self.report(field, format!("{field} \"{}\" is a directory", path.display()), "name a file in it");
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            self.report(field, format!("{field} contains a NUL character"), "");
        }
        if bytes > MAX_SOCKET_PATH {
            self.report(
                field,
                format!("{field} is {bytes} bytes long"),
                format!("the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes"),
            );
        }
    }
}

/// The known name closest to `wrong`, if one is close.
pub(crate) fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        // Up to a third of the letters wrong, but one wrong letter always.
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Hint for an unknown reference: the name that was probably meant, or which there are.
fn suggest<'a>(wrong: &str, kind: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = closest(wrong, known.clone()) {
        return format!("did you mean \"{name}\"?");
    }
    let mut names: Vec<&str> = known.filter(|name| !name.is_empty()).take(6).collect();
    names.sort_unstable();
    match names.len() {
        0 => format!("there is no {kind} yet: add one first"),
        1..=5 => format!("there is: {}", names.join(", ")),
        _ => format!("there is: {}, ...", names[..5].join(", ")),
    }
}

#[cfg(test)]
mod tests;
