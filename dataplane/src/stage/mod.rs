//! The stages of the packet path; [`path`](crate::path) lists them in order.

pub(crate) mod admit;
pub(crate) mod decap;
pub(crate) mod dispatch;
pub(crate) mod encap;
pub(crate) mod lookup;
