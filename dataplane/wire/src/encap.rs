//! The two tunnel encapsulations.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How a frame is wrapped for the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encap {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926, sent without options.
    Geneve,
}

/// The text named no encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown encapsulation: expected \"vxlan\" or \"geneve\"")]
pub struct ParseEncapError;

impl Encap {
    /// The UDP destination port that IANA assigned: 4789 (RFC 7348 section 5) or 6081 (RFC 8926 section 3.3).
    pub const fn default_port(self) -> u16 {
        match self {
            Encap::Vxlan => 4789,
            Encap::Geneve => 6081,
        }
    }
}

impl fmt::Display for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Encap::Vxlan => "vxlan",
            Encap::Geneve => "geneve",
        })
    }
}

impl FromStr for Encap {
    type Err = ParseEncapError;

    fn from_str(text: &str) -> Result<Self, ParseEncapError> {
        match text {
            "vxlan" => Ok(Encap::Vxlan),
            "geneve" => Ok(Encap::Geneve),
            _ => Err(ParseEncapError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_port_and_serde_agree() {
        for (encap, text, port) in [(Encap::Vxlan, "vxlan", 4789), (Encap::Geneve, "geneve", 6081)] {
            assert_eq!(encap.to_string(), text);
            assert_eq!(text.parse(), Ok(encap));
            assert_eq!(serde_json::to_string(&encap).unwrap(), format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Encap>(&format!("\"{text}\"")).unwrap(), encap);
            assert_eq!(encap.default_port(), port);
        }
        assert_eq!("VXLAN".parse::<Encap>(), Err(ParseEncapError));
    }
}
