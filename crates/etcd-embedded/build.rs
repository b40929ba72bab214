//! Compiles the files in `proto/` into the etcd services that the client crate lacks.
//!
//! The messages for response headers and key-value pairs come from the client crate.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["v3lock.proto", "v3election.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".etcdserverpb.ResponseHeader", "::etcd_client::proto::PbResponseHeader")
        .extern_path(".mvccpb.KeyValue", "::etcd_client::proto::PbKeyValue")
        .compile_fds(descriptors)?;
    Ok(())
}
