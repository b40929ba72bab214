//! Protobuf messages that are stored in their binary form.

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{self, DecodeContext, WireType},
};

/// Message in its binary form, including fields that a generated type would drop.
///
/// Responses use this type for protobuf file descriptors, which contain custom options. Requests use it for VPP messages. A field of this type has
/// the same encoding as the original message.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Encoded(Vec<u8>);

impl Encoded {
    /// Creates a message from its binary form.
    pub fn new(message: Vec<u8>) -> Self {
        Encoded(message)
    }

    /// Returns true if the message has no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the binary form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(&mut self, tag: u32, wire_type: WireType, from: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
        let to = &mut self.0;
        match wire_type {
            WireType::Varint => {
                let number = encoding::decode_varint(from)?;
                encoding::encode_key(tag, wire_type, to);
                encoding::encode_varint(number, to);
            }
            WireType::SixtyFourBit => {
                let mut number = 0;
                encoding::fixed64::merge(wire_type, &mut number, from, context)?;
                encoding::fixed64::encode(tag, &number, to);
            }
            WireType::ThirtyTwoBit => {
                let mut number = 0;
                encoding::fixed32::merge(wire_type, &mut number, from, context)?;
                encoding::fixed32::encode(tag, &number, to);
            }
            WireType::LengthDelimited => {
                let mut bytes = Vec::new();
                encoding::bytes::merge(wire_type, &mut bytes, from, context)?;
                encoding::bytes::encode(tag, &bytes, to);
            }
            // Groups are dropped, because proto3 does not have groups.
            WireType::StartGroup | WireType::EndGroup => encoding::skip_field(wire_type, tag, from, context)?,
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FILE_DESCRIPTOR_SET, proto::ligato::generic::ProtoFileDescriptorResponse};

    #[test]
    fn message_survives_decoding_and_encoding() {
        let message = Encoded::new(FILE_DESCRIPTOR_SET.to_vec());
        assert_eq!(Encoded::decode(FILE_DESCRIPTOR_SET), Ok(message.clone()));
        let answer = ProtoFileDescriptorResponse {
            file_descriptor: Some(Encoded::new(vec![0x08, 0x96, 0x01, 0x15, 1, 2, 3, 4, 0x19, 1, 2, 3, 4, 5, 6, 7, 8])),
            file_import_descriptors: Some(message),
        };
        assert_eq!(ProtoFileDescriptorResponse::decode(answer.encode_to_vec().as_slice()), Ok(answer));
    }
}
