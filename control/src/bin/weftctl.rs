//! weftctl: the command line of a running weftd.

fn main() {}
