//! Contents of a key: a message or text.
//!
//! A message is encoded only when it is sent or compared with text. Encoding each message at once would delay the caller, usually without benefit,
//! because most states are replaced before they are written.

use std::{borrow::Cow, sync::Arc};

use super::message::Published;

/// Contents to publish under a key.
#[derive(Clone, Debug)]
pub enum Content {
    /// A message, stored as JSON.
    Message(Arc<Published>),
    /// Text stored unchanged.
    Text(Arc<[u8]>),
}

impl Content {
    /// Returns the bytes to store under the key.
    pub(crate) fn text(&self) -> Cow<'_, [u8]> {
        match self {
            Content::Message(message) => Cow::Owned(message.json().into_bytes()),
            Content::Text(text) => Cow::Borrowed(text),
        }
    }

    /// Estimates the length of [`Self::text`] in bytes. The JSON form of a message is about three times as long as its binary
    /// form, because of the field names.
    pub(crate) fn size(&self) -> usize {
        match self {
            Content::Message(message) => 3 * message.encoded_len(),
            Content::Text(text) => text.len(),
        }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Content::Message(one), Content::Message(other)) => Arc::ptr_eq(one, other) || one == other,
            _ => self.text() == other.text(),
        }
    }
}

impl Eq for Content {}

impl From<Arc<Published>> for Content {
    fn from(message: Arc<Published>) -> Self {
        Content::Message(message)
    }
}

impl From<Vec<u8>> for Content {
    fn from(text: Vec<u8>) -> Self {
        Content::Text(text.into())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use models::proto::status::PluginStatus;

    use super::*;

    fn message(error: &str) -> Content {
        let status = PluginStatus {
            error: error.to_owned(),
            ..PluginStatus::default()
        };
        Arc::new(Published::Part(status)).into()
    }

    #[test]
    fn message_equals_its_text_and_an_equal_message() {
        let text = Content::from(message("gone").text().into_owned());
        assert_eq!(message("gone"), text);
        assert_eq!(message("gone"), message("gone"));
        assert_ne!(message("back"), text);
        assert_ne!(message("back"), message("gone"));
    }
}
