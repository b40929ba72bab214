//! Compiles all `.proto` files below `proto/` into Rust types and a file descriptor set, without the `protoc` program.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use prost_types::{EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Name of the descriptor set within `OUT_DIR`.
const DESCRIPTOR_SET: &str = "netns_agent.fds";
/// Name of the file with the code of [`members`] within `OUT_DIR`.
const MEMBERS: &str = "members.rs";
/// Name of the file with the table of [`comments`] within `OUT_DIR`.
const COMMENTS: &str = "comments.rs";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut sources = Vec::new();
    collect_protos(root, &mut sources)?;
    // The order of directory entries differs between file systems; the output must not.
    sources.sort();

    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true).open_files(&sources)?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    // The encoded form keeps custom options, which the typed `FileDescriptorSet` cannot store. The embedded set has no comments: those
    // that the program shows are in a table of their own.
    fs::write(out_dir.join(DESCRIPTOR_SET), embedded_set(root, &sources)?)?;

    let mut config = prost_build::Config::new();
    config.enable_type_names().include_file("packages.rs");
    // Descriptors in responses must keep their custom options, and messages about VPP in requests their unknown fields.
    for message in [
        ".google.protobuf.FileDescriptorProto",
        ".google.protobuf.FileDescriptorSet",
        ".ligato.vpp.ConfigData",
        ".ligato.vpp.Notification",
    ] {
        config.extern_path(message, "crate::proto::Encoded");
    }
    let set = compiler.file_descriptor_set();
    fs::write(out_dir.join(MEMBERS), members(&set)?)?;
    fs::write(out_dir.join(COMMENTS), comments(&set))?;
    config.compile_fds(set)?;
    Ok(())
}

/// Generates functions that return the member of an interface's oneofs `link` and `port` by name and by reflection.
///
/// The functions are generated so that a new kind of link needs no code for them.
fn members(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let files = set.file.iter().filter(|file| file.package() == "ligato.linux.interfaces");
    let interface = files
        .flat_map(|file| &file.message_type)
        .find(|message| message.name() == "Interface");
    let interface = interface.ok_or("no message ligato.linux.interfaces.Interface")?;
    let mut code = String::new();
    for (oneof, variants) in [("link", "Link"), ("port", "Port")] {
        let position = interface.oneof_decl.iter().position(|declared| declared.name() == oneof);
        let position = i32::try_from(position.ok_or("a oneof is missing")?)?;
        let mut arms = String::new();
        for field in interface.field.iter().filter(|field| field.oneof_index == Some(position)) {
            let words = field.name().split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
            let variant: String = words.collect();
            arms += &format!(
                "        {variants}::{variant}(message) => (\"{}\", by_reflection(message)),\n",
                field.name()
            );
        }
        code += &format!(
            "/// Returns the name of a member of `{oneof}`, and the member by reflection.\n\
             pub(crate) fn {oneof}_member({oneof}: &{variants}) -> (&'static str, Option<DynamicMessage>) {{\n    match {oneof} {{\n{arms}    }}\n}}\n"
        );
    }
    Ok(code)
}

/// Generates a table of the comments on messages, fields, enums and enum values of the configuration, sorted by full name.
fn comments(set: &FileDescriptorSet) -> String {
    let mut table = Vec::new();
    let is_shown = |file: &&FileDescriptorProto| {
        ["ligato.linux", "ligato.netalloc", "netns_agent"]
            .iter()
            .any(|package| file.package().starts_with(package))
    };
    for file in set.file.iter().filter(is_shown) {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        for location in locations.filter(|location| location.leading_comments.is_some()) {
            if let Some(name) = name_at(file, &location.path) {
                table.push((name, location.leading_comments().to_owned()));
            }
        }
    }
    table.sort();
    format!("pub(super) static COMMENTS: &[(&str, &str)] = &{table:?};\n")
}

/// Returns the full name of the element at a path of source code information (google/protobuf/descriptor.proto, `SourceCodeInfo`).
fn name_at(file: &FileDescriptorProto, path: &[i32]) -> Option<String> {
    let at = |index: &i32| usize::try_from(*index).ok();
    // Field numbers of FileDescriptorProto: message_type 4, enum_type 5.
    let (mut message, mut path) = match path {
        [4, index, path @ ..] => (file.message_type.get(at(index)?)?, path),
        [5, index, path @ ..] => return name_in_enum(file.package(), file.enum_type.get(at(index)?)?, path),
        _ => return None,
    };
    let mut name = format!("{}.{}", file.package(), message.name());
    loop {
        // Field numbers of DescriptorProto: field 2, nested_type 3, enum_type 4.
        match path {
            [] => return Some(name),
            [2, index] => return Some(format!("{name}.{}", message.field.get(at(index)?)?.name())),
            [3, index, rest @ ..] => {
                (message, path) = (message.nested_type.get(at(index)?)?, rest);
                name = format!("{name}.{}", message.name());
            }
            [4, index, rest @ ..] => return name_in_enum(&name, message.enum_type.get(at(index)?)?, rest),
            _ => return None,
        }
    }
}

/// Returns the full name of an enum, or of one of its values.
fn name_in_enum(scope: &str, declared: &EnumDescriptorProto, path: &[i32]) -> Option<String> {
    let name = format!("{scope}.{}", declared.name());
    match path {
        [] => Some(name),
        [2, index] => Some(format!("{name}.{}", declared.value.get(usize::try_from(*index).ok()?)?.name())),
        _ => None,
    }
}

/// Returns the encoded descriptor set of all sources and their imports, without comments.
fn embedded_set(root: &Path, sources: &[PathBuf]) -> Result<Vec<u8>, protox::Error> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(false).open_files(sources)?;
    Ok(compiler.encode_file_descriptor_set())
}

/// Adds every `.proto` file below `dir` to `sources`.
fn collect_protos(dir: &Path, sources: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_protos(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            sources.push(path);
        }
    }
    Ok(())
}
