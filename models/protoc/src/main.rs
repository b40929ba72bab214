//! Minimal replacement for `protoc`, with only the options that prost build scripts use.
//!
//! It compiles `.proto` files and their imports into one `FileDescriptorSet`, or prints a version. It rejects all other options instead of
//! ignoring them.

use std::{env, fs, path::PathBuf, process::ExitCode};

use prost::Message;

fn run() -> Result<(), String> {
    let (mut includes, mut files, mut output) = (Vec::<PathBuf>::new(), Vec::<PathBuf>::new(), None);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = |what: &str| args.next().ok_or(format!("{what} requires a value"));
        match arg.as_str() {
            "--version" => {
                println!("libprotoc 31.0");
                return Ok(());
            }
            "--include_imports" | "--include_source_info" | "--experimental_allow_proto3_optional" => {}
            "-I" | "--proto_path" => includes.push(value(&arg)?.into()),
            "-o" | "--descriptor_set_out" => output = Some(PathBuf::from(value(&arg)?)),
            _ => match (
                arg.strip_prefix("-I").or(arg.strip_prefix("--proto_path=")),
                arg.strip_prefix("--descriptor_set_out="),
            ) {
                (Some(path), _) => includes.push(path.into()),
                (_, Some(path)) => output = Some(path.into()),
                _ if arg.starts_with('-') => return Err(format!("this protoc replacement does not support {arg}; install protoc")),
                _ => files.push(arg.into()),
            },
        }
    }
    let output = output.ok_or("the option -o is missing")?;
    let set = protox::compile(&files, &includes).map_err(|error| format!("{error:?}"))?;
    fs::write(&output, set.encode_to_vec()).map_err(|error| format!("{}: {error}", output.display()))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("protoc replacement: {error}");
            ExitCode::FAILURE
        }
    }
}
