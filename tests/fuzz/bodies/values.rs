//! Fuzz target that decodes, validates and encodes any bytes as a value of any model.
//!
//! The first byte selects the model and the decoder. The remaining bytes are the value. See [`run`].

use models::{
    Model,
    key::{Key, TypedKey},
    registry::MODELS,
};
use netns_agent::{descriptors::convert::value_of, desired::decode, sources::etcd::RawKey};

/// Decodes the bytes as the value of a key in the store, or as the binary message of a client.
///
/// # Panics
/// Panics if an invariant is violated.
pub fn run(bytes: &[u8]) {
    let Some((choice, value)) = bytes.split_first() else { return };
    let info = &MODELS[usize::from(*choice) % MODELS.len()];
    let decoded = match *choice < 128 {
        true => Model::decode_message(info.kind, value),
        false => Model::from_protobuf(info.kind, value),
    };
    match decoded {
        Ok(model) => judge(&model),
        Err(error) => assert!(!error.reason.is_empty() && !error.message.is_empty()),
    }
}

fn judge(model: &Model) {
    let (text, binary) = (model.to_json(), model.to_protobuf());
    assert_eq!(Model::decode_message(model.kind(), text.as_bytes()).as_ref(), Ok(model), "{text}");
    assert_eq!(Model::from_protobuf(model.kind(), &binary).as_ref(), Ok(model), "{text}");
    let key = model.key();
    match model.validate() {
        Err(error) => assert!(!error.message.is_empty(), "{text}"),
        Ok(()) => {
            let parsed = TypedKey::parse(&key).unwrap_or_else(|error| panic!("{error}: {text}"));
            // The key of a route to an allocated address is ambiguous, because the key does not show where the reference ends.
            // Writing the parsed key must still give the same text.
            let ambiguous = key.contains("/alloc:") && parsed.to_key() == key;
            assert!(parsed == model.typed_key() || ambiguous, "{parsed:?}: {text}");
            assert_eq!(Model::decode(&key, text.as_bytes()).as_ref(), Ok(model), "{text}");
            assert_eq!(Model::decode(&key, &binary).as_ref(), Ok(model), "{text}");
            value_of(model).unwrap_or_else(|error| panic!("what is valid cannot be used: {error:?}: {text}"));
        }
    }
    // Check the agent's own decoder, which combines decoding and validation.
    let stored = decode(&RawKey::from(key.as_bytes()), &Key::new(&key), text.as_bytes());
    let usable = model.validate().is_ok();
    assert!(usable == stored.is_ok() || TypedKey::parse(&key).is_err(), "{stored:?}: {text}");
}
