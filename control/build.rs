//! Generates the API's messages, client and server from the `.proto` file. protox stands in for protoc, so that
//! building weft needs no protobuf compiler.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/weft/v1/weft.proto");
    let descriptors = protox::compile(["weft/v1/weft.proto"], ["proto"])?;
    tonic_prost_build::configure().btree_map(".").emit_rerun_if_changed(false).compile_fds(descriptors)?;
    Ok(())
}
