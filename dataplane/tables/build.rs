//! Declares the `loom` configuration, so that a mistyped `cfg` is still a warning.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(loom)");
}
