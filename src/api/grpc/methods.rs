//! Table of the gRPC methods that the agent serves, built from the service descriptors.
//!
//! Calls to paths outside the table are not counted, so clients cannot create arbitrary metric labels.

use std::collections::HashMap;

use models::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;

/// A gRPC method.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Method {
    /// Full name of the service, such as `grpc.health.v1.Health`.
    pub service: String,
    /// Name of the method, such as `Check`.
    pub name: String,
    /// True if the client sends a stream of messages.
    pub client_streams: bool,
    /// True if the server sends a stream of messages.
    pub server_streams: bool,
}

impl Method {
    /// Returns the call kind, service and method name, as used for metric labels.
    pub fn labels(&self) -> [&str; 3] {
        let kind = match (self.client_streams, self.server_streams) {
            (false, false) => "unary",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (true, true) => "bidi_stream",
        };
        [kind, &self.service, &self.name]
    }
}

/// Table of all served methods, by path.
pub struct Methods(HashMap<String, Method>);

impl Methods {
    /// Creates a table of all methods of all services.
    ///
    /// # Errors
    /// Fails if a built-in descriptor cannot be decoded.
    pub fn new() -> Result<Self, prost::DecodeError> {
        let mut methods = HashMap::new();
        for encoded in [
            FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(encoded)?.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    methods.extend(service.method.iter().map(|method| {
                        let path = format!("/{name}/{}", method.name());
                        let method = Method {
                            service: name.clone(),
                            name: method.name().to_owned(),
                            client_streams: method.client_streaming(),
                            server_streams: method.server_streaming(),
                        };
                        (path, method)
                    }));
                }
            }
        }
        Ok(Methods(methods))
    }

    /// Returns the method with this path, or `None` if it is not served.
    pub fn get(&self, path: &str) -> Option<&Method> {
        self.0.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_by_path_with_their_kind() {
        let methods = Methods::new().expect("the descriptors are good");
        for (path, labels) in [
            (
                "/ligato.generic.ManagerService/GetConfig",
                ["unary", "ligato.generic.ManagerService", "GetConfig"],
            ),
            (
                "/ligato.generic.ManagerService/Subscribe",
                ["server_stream", "ligato.generic.ManagerService", "Subscribe"],
            ),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                ["bidi_stream", "grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"],
            ),
            ("/grpc.health.v1.Health/Check", ["unary", "grpc.health.v1.Health", "Check"]),
        ] {
            assert_eq!(methods.get(path).map(Method::labels), Some(labels), "{path}");
        }
        assert_eq!(methods.get("/made.up/Path"), None);
    }
}
