//! Generates the agent's gRPC services from `proto/`. The message types are generated in the `models` crate.

use std::error::Error;

const SERVICES: [&str; 4] = [
    "ligato/configurator/configurator.proto",
    "ligato/configurator/statspoller.proto",
    "ligato/generic/manager.proto",
    "ligato/generic/meta.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(SERVICES, ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".ligato", "::models::proto::ligato")
        .extern_path(".netns_agent", "::models::proto::netns_agent")
        .compile_fds(descriptors)?;
    Ok(())
}
