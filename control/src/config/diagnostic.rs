//! One error in the file, shown with its line and a caret under the spot.

use std::fmt;
use std::ops::Range;

/// One error and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Name of the file as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    /// The line itself, shortened if long; empty if the error has no place of its own.
    pub source: String,
    /// Where in `source` the caret goes: first character, and how many.
    pub caret: (usize, usize),
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: error: {}", self.file, self.line, self.column, self.message)?;
        if !self.source.is_empty() {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            let (start, width) = self.caret;
            write!(f, "\n   {number} | {}", self.source)?;
            write!(f, "\n   {gutter} | {}{}", " ".repeat(start), "^".repeat(width.max(1)))?;
        }
        for line in self.hint.lines() {
            write!(f, "\n  hint: {line}")?;
        }
        Ok(())
    }
}

/// Longest piece of a source line that is shown, in characters.
const SHOWN: usize = 100;

/// The text of a file, with the places of its lines.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    file: String,
    text: String,
    /// Byte offset of the first character of each line.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(file: &str, text: &str) -> Source {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { file: file.to_owned(), text: text.to_owned(), lines }
    }

    /// An error at `span` (bytes); without a span it belongs to the file as a whole.
    pub(crate) fn diagnostic(&self, span: Option<Range<usize>>, message: String, hint: String) -> Diagnostic {
        let file = self.file.clone();
        // Keys and values of the file are quoted in messages: none may drive the reader's terminal.
        let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let Some(span) = span else {
            return Diagnostic {
                file,
                line: 1,
                column: 1,
                message,
                hint,
                source: String::new(),
                caret: (0, 0),
            };
        };
        let start = self.char_boundary(span.start);
        let line = self.lines.partition_point(|first| *first <= start).max(1) - 1;
        let first = self.lines[line];
        let end_of_line = self.text[first..].find(['\n', '\r']).map_or(self.text.len(), |at| first + at);
        let end = self.char_boundary(span.end).clamp(start.min(end_of_line), end_of_line);
        let column = self.text[first..start].chars().count();
        let width = if end > start { self.text[start..end].chars().count() } else { 1 };

        // Control characters would shift the caret or worse; long lines are cut around the spot.
        let whole = self.text[first..end_of_line].chars().map(|c| if c.is_control() { ' ' } else { c });
        let skip = if column > SHOWN * 3 / 4 { column - SHOWN / 4 } else { 0 };
        let source: String = whole.skip(skip).take(SHOWN).collect();
        let caret = (column - skip, width.min(SHOWN.saturating_sub(column - skip)).max(1));
        Diagnostic { file, line: line + 1, column: column + 1, message, hint, source, caret }
    }

    /// `at`, or the start of the character that it lies in.
    fn char_boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}
