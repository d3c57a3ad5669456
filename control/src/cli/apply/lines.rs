//! Lines of changes: `add BD MAC vtep NAME`, `add BD MAC port NAME`, `del BD MAC`.

use std::io::{BufRead, BufReader, Read};

use weft_wire::MacAddr;

use crate::api::{FdbBatch, FdbOp};
use crate::model::FdbTarget;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;
/// Longest line, in bytes: two names, an address, two words, and room for a comment.
const LONGEST: usize = 4096;

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// From 1.
    pub line: u64,
    pub message: String,
}

/// A piece of the input.
#[derive(Debug)]
pub(super) enum Piece {
    /// Changes, and the line of each.
    Batch { batch: FdbBatch, lines: Vec<u64> },
    /// Nothing that comes after this line is read.
    Wrong(Mistake),
}

/// A change: bridge domain, what, address.
type Change<'l> = (&'l str, FdbOp, MacAddr);

/// Reads one line; `None` if it has only a comment or nothing.
fn parse(line: &[u8]) -> Result<Option<Change<'_>>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?;
    let mut words = line.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(verb) = words.next() else { return Ok(None) };
    if verb != "add" && verb != "del" {
        return Err(format!("{verb:?} is neither add nor del"));
    }
    let bd = words.next().ok_or("the bridge domain is missing")?;
    let mac = words.next().ok_or("the MAC address is missing")?;
    let mac = mac.parse().map_err(|_| format!("{mac:?} is no MAC address"))?;
    let op = if verb == "del" {
        FdbOp::Discard
    } else {
        let kind = words.next().ok_or("the target is missing: vtep NAME or port NAME")?;
        let name = words.next().ok_or_else(|| format!("the name of the {kind} is missing"));
        match kind {
            "vtep" => FdbOp::Set(FdbTarget::Vtep(name?.to_owned())),
            "port" => FdbOp::Set(FdbTarget::Port(name?.to_owned())),
            _ => return Err(format!("{kind:?} is neither vtep nor port")),
        }
    };
    match words.next() {
        None => Ok(Some((bd, op, mac))),
        Some(word) => Err(format!("{word:?} is too much")),
    }
}

/// Lines with their numbers.
struct Lines<R> {
    input: BufReader<R>,
    number: u64,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(BUFFER, input), number: 0, line: Vec::new() }
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Option<Result<Option<Change<'_>>, Mistake>> {
        self.line.clear();
        self.number += 1;
        let line = self.number;
        let fail = |message| Some(Err(Mistake { line, message }));
        match (&mut self.input).take(LONGEST as u64).read_until(b'\n', &mut self.line) {
            Ok(0) => None,
            Ok(LONGEST) if self.line.last() != Some(&b'\n') => {
                fail(format!("the line is longer than {LONGEST} bytes"))
            }
            Ok(_) => Some(parse(&self.line).map_err(|message| Mistake { line, message })),
            Err(e) => fail(format!("cannot read on: {e}")),
        }
    }

    /// Whether reading on may have to wait.
    fn is_drained(&self) -> bool {
        self.input.buffer().is_empty()
    }
}

/// The first mistakes of an input, at most `most`, and how many more there are.
pub(super) fn check(input: impl Read, most: usize) -> (Vec<Mistake>, usize) {
    let (mut found, mut more) = (Vec::new(), 0);
    let mut lines = Lines::new(input);
    while let Some(line) = lines.next() {
        let Err(mistake) = line else { continue };
        if found.len() < most {
            found.push(mistake);
        } else {
            more += 1;
        }
    }
    (found, more)
}

/// Gives the input to `send` in batches of at most `most` changes, until `send` says that nobody wants more. `eager`: what
/// has arrived is not held back until a batch is full. A mistake ends it; the batch that it would be in is not sent.
pub(super) fn read(input: impl Read, eager: bool, most: usize, mut send: impl FnMut(Piece) -> bool) {
    let mut source = Lines::new(input);
    let (mut batch, mut lines) = (FdbBatch::default(), Vec::new());
    loop {
        let number = source.number + 1;
        match source.next() {
            Some(Ok(change)) => {
                if let Some((bd, op, mac)) = change {
                    batch.push(bd, op, mac);
                    lines.push(number);
                }
            }
            Some(Err(mistake)) => {
                send(Piece::Wrong(mistake));
                return;
            }
            None => {
                if !lines.is_empty() {
                    send(Piece::Batch { batch, lines });
                }
                return;
            }
        }
        let due = lines.len() >= most || eager && !lines.is_empty() && source.is_drained();
        if due && !send(Piece::Batch { batch: std::mem::take(&mut batch), lines: std::mem::take(&mut lines) })
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, eager: bool, most: usize) -> (Vec<Vec<u64>>, Option<Mistake>) {
        let (mut batches, mut wrong) = (Vec::new(), None);
        read(text.as_bytes(), eager, most, |piece| {
            match piece {
                Piece::Batch { batch, lines } => {
                    assert_eq!(batch.len(), lines.len());
                    batches.push(lines);
                }
                Piece::Wrong(mistake) => wrong = Some(mistake),
            }
            true
        });
        (batches, wrong)
    }

    #[test]
    fn changes_are_read() {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let vtep = FdbOp::Set(FdbTarget::Vtep("b".into()));
        assert_eq!(parse(b"add web 02:00:00:00:00:09 vtep b\n"), Ok(Some(("web", vtep, mac))));
        let port = FdbOp::Set(FdbTarget::Port("p".into()));
        assert_eq!(parse(b"\tadd  web 02:00:00:00:00:09 port p # why\r\n"), Ok(Some(("web", port, mac))));
        assert_eq!(parse(b"del web 02:00:00:00:00:09"), Ok(Some(("web", FdbOp::Discard, mac))));
        for empty in ["", "\n", "  # add\n", "#\n"] {
            assert_eq!(parse(empty.as_bytes()), Ok(None), "{empty:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            ("set web 02:00:00:00:00:09", "\"set\" is neither add nor del"),
            ("add", "the bridge domain is missing"),
            ("del web", "the MAC address is missing"),
            ("del web 02:00", "\"02:00\" is no MAC address"),
            ("add web 02:00:00:00:00:09", "the target is missing"),
            ("add web 02:00:00:00:00:09 vtep", "the name of the vtep is missing"),
            ("add web 02:00:00:00:00:09 vtep #b", "the name of the vtep is missing"),
            ("add web 02:00:00:00:00:09 host b", "\"host\" is neither vtep nor port"),
            ("add web 02:00:00:00:00:09 vtep b c", "\"c\" is too much"),
            ("del web 02:00:00:00:00:09 vtep", "\"vtep\" is too much"),
        ] {
            let message = parse(line.as_bytes()).unwrap_err();
            assert!(message.contains(said), "{line}: {message}");
        }
        assert!(parse(b"del \xff 02:00:00:00:00:09").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn batches_are_full_and_know_their_lines() {
        let del = "del web 02:00:00:00:00:09\n";
        let text = format!("# five\n{del}{del}\n{del}{del}{}", del.trim_end());
        assert_eq!(pieces(&text, false, 2), (vec![vec![2, 3], vec![5, 6], vec![7]], None));
        assert_eq!(pieces(&text, true, 100), (vec![vec![2, 3, 5, 6, 7]], None));
        assert_eq!(pieces(&text, true, 1).0.len(), 5);
        let (batches, wrong) = pieces(&format!("{text}\nnonsense\n{del}"), false, 2);
        assert_eq!((batches.len(), wrong.unwrap().line), (2, 8), "the batch of the mistake is not sent");
        assert_eq!(pieces("# nothing\n", false, 2), (vec![], None));
    }

    #[test]
    fn long_lines_and_long_lists_of_mistakes_are_bounded() {
        let long = format!("del web 02:00:00:00:00:09 #{}\n", "x".repeat(LONGEST));
        let (_, wrong) = pieces(&long, false, 2);
        assert!(wrong.unwrap().message.contains("longer than 4096"));
        let (found, more) = check("bad\n".repeat(100).as_bytes(), 20);
        assert_eq!((found.len(), found[19].line, more), (20, 20, 80));
    }
}
