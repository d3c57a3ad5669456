//! What was measured: as a table for people, as TSV and as JSON.

use serde_json::{Value, json};

use crate::contenders::NAMES;

/// Median, least and greatest of several rounds.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
        Self { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }

    pub fn one(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }
}

/// One contender's result.
#[derive(Clone, Copy)]
pub struct Cell {
    pub value: Spread,
    /// How many times as good as rte_hash, round by round.
    pub ratio: Option<Spread>,
}

/// Which way is better.
#[derive(Clone, Copy)]
pub enum Better {
    /// Times.
    Less,
    /// Rates.
    More,
}

/// A line of the table.
pub struct Row {
    pub case: &'static str,
    pub size: String,
    /// Of weft's table.
    pub load: Option<f64>,
    pub unit: &'static str,
    pub cells: [Option<Cell>; 4],
    /// What is wanted of weft, and whether it was met.
    pub target: Option<(String, bool)>,
}

impl Row {
    /// A line from each contender's rounds; none of those that do not take part.
    pub fn new(case: &'static str, size: &str, unit: &'static str, rounds: &[Vec<f64>; 4]) -> Self {
        let cells = rounds
            .each_ref()
            .map(|own| (!own.is_empty()).then(|| Cell { value: Spread::of(own), ratio: None }));
        Self { case, size: size.to_owned(), load: None, unit, cells, target: None }
    }

    /// A line of weft alone.
    pub fn weft(case: &'static str, size: &str, unit: &'static str, value: Spread) -> Self {
        let cells = [Some(Cell { value, ratio: None }), None, None, None];
        Self { case, size: size.to_owned(), load: None, unit, cells, target: None }
    }

    /// Adds the ratios to rte_hash.
    pub fn with_ratios(mut self, rounds: &[Vec<f64>; 4], better: Better) -> Self {
        for (i, cell) in self.cells.iter_mut().enumerate() {
            let Some(cell) = cell.as_mut().filter(|_| i != 1) else { continue };
            let ratios: Vec<f64> = rounds[i]
                .iter()
                .zip(&rounds[1])
                .map(|(own, rte)| match better {
                    Better::Less => rte / own,
                    Better::More => own / rte,
                })
                .collect();
            cell.ratio = (!ratios.is_empty()).then(|| Spread::of(&ratios));
        }
        self
    }

    pub fn with_load(mut self, load: f64) -> Self {
        self.load = Some(load);
        self
    }

    /// Wants weft to be so many times as good as rte_hash.
    pub fn wants_ratio(mut self, least: f64) -> Self {
        let ratio = self.cells[0].and_then(|cell| cell.ratio).map_or(0.0, |ratio| ratio.median);
        self.target = Some((format!(">={least:.1}x"), ratio >= least));
        self
    }

    pub fn wants_least(mut self, least: f64) -> Self {
        self.target = Some((format!(">={least}"), self.weft_median() >= least));
        self
    }

    pub fn wants_most(mut self, most: f64) -> Self {
        self.target = Some((format!("<={most}"), self.weft_median() <= most));
        self
    }

    fn weft_median(&self) -> f64 {
        self.cells[0].map_or(f64::NAN, |cell| cell.value.median)
    }
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn shown(cell: &Option<Cell>) -> String {
    let Some(Cell { value, ratio }) = cell else { return "-".into() };
    let mut text = number(value.median);
    if value.max > value.min {
        text += &format!(" [{}-{}]", number(value.min), number(value.max));
    }
    if let Some(ratio) = ratio {
        text += &format!(" {:.2}x", ratio.median);
    }
    text
}

/// All lines, aligned.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![["case", "size", "load", "unit"].map(String::from).to_vec()];
    lines[0].extend(NAMES.map(String::from));
    lines[0].push("target".into());
    for row in rows {
        let load = row.load.map_or("-".into(), |load| format!("{:.0}%", load * 100.0));
        let mut line = vec![row.case.into(), row.size.clone(), load, row.unit.into()];
        line.extend(row.cells.iter().map(shown));
        line.push(match &row.target {
            Some((text, met)) => format!("{text} {}", if *met { "met" } else { "MISSED" }),
            None => "-".into(),
        });
        lines.push(line);
    }
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|c| lines.iter().map(|l| l[c].len()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        out += cells.join("  ").trim_end();
        out += "\n";
    }
    out
}

/// One line a row, every number.
pub fn tsv(rows: &[Row]) -> String {
    let mut out = String::from("case\tsize\tload\tunit");
    for name in NAMES {
        for what in ["median", "min", "max", "ratio", "ratio_min", "ratio_max"] {
            out += &format!("\t{name}_{what}");
        }
    }
    out += "\ttarget\tmet\n";
    for row in rows {
        let load = row.load.map_or(String::new(), |load| format!("{load:.4}"));
        out += &format!("{}\t{}\t{load}\t{}", row.case, row.size, row.unit);
        for cell in &row.cells {
            for spread in [cell.map(|c| c.value), cell.and_then(|c| c.ratio)] {
                match spread {
                    Some(s) => out += &format!("\t{:.4}\t{:.4}\t{:.4}", s.median, s.min, s.max),
                    None => out += "\t\t\t",
                }
            }
        }
        match &row.target {
            Some((text, met)) => out += &format!("\t{text}\t{met}\n"),
            None => out += "\t\t\n",
        }
    }
    out
}

/// The same as a JSON document, with what there is to know about the run.
pub fn json(rows: &[Row], about: Value) -> Value {
    let spread = |s: Spread| json!({"median": s.median, "min": s.min, "max": s.max});
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut peers = serde_json::Map::new();
            for (name, cell) in NAMES.iter().zip(&row.cells) {
                if let Some(cell) = cell {
                    let value = json!({"value": spread(cell.value), "ratio": cell.ratio.map(spread)});
                    peers.insert((*name).to_owned(), value);
                }
            }
            let target = row.target.as_ref().map(|(text, met)| json!({"text": text, "met": met}));
            json!({"case": row.case, "size": row.size, "load": row.load, "unit": row.unit, "peers": peers,
                   "target": target})
        })
        .collect();
    json!({"about": about, "rows": rows})
}
