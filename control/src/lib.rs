//! weft's control plane: the model of what is wanted, its file, its checks, the API and the command line.
//!
//! One path leads from wish to forwarding, whoever wishes: file or API request -> [`model`] -> [`validate`] -> engine.
#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod cores;
pub mod engine;
pub mod model;
pub mod status;
pub mod units;
pub mod validate;
