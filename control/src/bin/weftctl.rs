//! weftctl: the command line of a running weftd.
#![deny(unsafe_code)]

fn main() -> std::process::ExitCode {
    weft_control::cli::main()
}
