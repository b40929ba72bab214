//! `MetaService`: the known models and the proto files that define them.

use std::collections::{BTreeMap, BTreeSet};

use models::{
    descriptor_pool,
    proto::Encoded,
    proto::ligato::generic::{
        KnownModelsRequest, KnownModelsResponse, ModelDetail, ModelSpec, ProtoFileDescriptorRequest, ProtoFileDescriptorResponse,
        model_detail::Option as ModelOption,
    },
    registry::{MODELS, ModelInfo},
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::generated::meta_service_server::MetaService;

/// Implementation of `MetaService`.
pub(super) struct Meta;

#[tonic::async_trait]
impl MetaService for Meta {
    async fn known_models(&self, request: Request<KnownModelsRequest>) -> Result<Response<KnownModelsResponse>, Status> {
        let class = request.into_inner().class;
        let known = MODELS.iter().filter(|model| class.is_empty() || model.class == class);
        Ok(Response::new(KnownModelsResponse {
            known_models: known.map(detail).collect(),
            active_modules: Vec::new(),
        }))
    }

    /// Returns a proto file, and all files that it imports directly or indirectly. Custom options are included.
    async fn proto_file_descriptor(
        &self,
        request: Request<ProtoFileDescriptorRequest>,
    ) -> Result<Response<ProtoFileDescriptorResponse>, Status> {
        let name = request.into_inner().full_proto_file_name;
        let file = descriptor_pool().get_file_by_name(&name).ok_or_else(|| {
            let files: BTreeSet<&str> = MODELS.iter().map(|model| model.proto_file).collect();
            let files: Vec<&str> = files.into_iter().collect();
            Status::not_found(format!(
                "unknown proto file {name:?}; the files with models are {}",
                files.join(", ")
            ))
        })?;
        let (mut imports, mut next) = (BTreeMap::new(), vec![file.clone()]);
        while let Some(importing) = next.pop() {
            for import in importing.dependencies() {
                if imports.insert(import.name().to_owned(), import.encode_to_vec()).is_none() {
                    next.push(import);
                }
            }
        }
        let imports = FileSet {
            file: imports.into_values().collect(),
        };
        Ok(Response::new(ProtoFileDescriptorResponse {
            file_descriptor: Some(Encoded::new(file.encode_to_vec())),
            file_import_descriptors: Some(Encoded::new(imports.encode_to_vec())),
        }))
    }
}

/// `google.protobuf.FileDescriptorSet` that contains files in encoded form.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

fn detail(model: &ModelInfo) -> ModelDetail {
    let option = |key: &str, value: &str| ModelOption {
        key: key.to_owned(),
        values: vec![value.to_owned()],
    };
    ModelDetail {
        spec: Some(ModelSpec {
            module: model.module.to_owned(),
            version: model.version.to_owned(),
            r#type: model.type_name.to_owned(),
            class: model.class.to_owned(),
        }),
        proto_name: model.proto_name.to_owned(),
        options: vec![option("nameTemplate", model.name_template), option("protoFile", model.proto_file)],
    }
}
