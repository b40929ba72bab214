//! Configuration documents in YAML: the initial configuration file, REST bodies, and files given on the command line.
//!
//! [`models::document`] defines the contents of a document. JSON documents are accepted as well, because JSON is valid YAML.

use std::collections::BTreeMap;

use models::{
    Model,
    document::{Item, member_of, read_document, write_document},
};

/// Error for text that is not a configuration document.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct DocumentError(String);

/// Reads a document. Does not validate its values. Empty text is a document without values.
///
/// # Errors
/// Fails if the text is not YAML, if a member is unknown or has the wrong type, or if two values have the same key. The error includes the
/// position.
pub fn parse(text: &str) -> Result<Vec<Item>, DocumentError> {
    let has_content = |line: &str| !matches!(line.trim(), "" | "---" | "{}") && !line.trim_start().starts_with('#');
    if !text.lines().any(has_content) {
        return Ok(Vec::new());
    }
    let mut failure = None;
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, limits(text.len()), |deserializer| {
        read_document(deserializer).map_err(|error| {
            failure = Some((error.path, error.reason.is_some()));
            error.source
        })
    });
    let items = read.map_err(|error| match failure {
        Some((path, _)) if !path.is_empty() => DocumentError(format!("{path}: {error}")),
        _ => DocumentError(crate::yaml::words(&error)),
    })?;
    refuse_doubles(&items)?;
    Ok(items)
}

/// Returns the parser limits for a text of this length. The caller must limit the length of the text.
///
/// A text cannot have more nodes than bytes. The parser's default limits for aliases still apply, because aliases can expand to
/// much more than the length of the text.
fn limits(length: usize) -> serde_saphyr::Options {
    let budget = serde_saphyr::Budget::default();
    let budget = serde_saphyr::budget! {
        max_nodes: budget.max_nodes.max(length),
        max_events: budget.max_events.max(length.saturating_mul(2)),
        max_total_scalar_bytes: budget.max_total_scalar_bytes.max(length),
    };
    serde_saphyr::options! { budget: budget }
}

/// Fails if two values have the same key, because one of them would be lost silently.
fn refuse_doubles(items: &[Item]) -> Result<(), DocumentError> {
    let mut places = BTreeMap::new();
    for item in items {
        let key = item.model.key();
        if let Some(other) = places.insert(key.clone(), &item.place) {
            let message = match item.model.validate_key_fields() {
                // Invalid key fields can make two keys equal, so report the invalid fields instead.
                Err(error) => format!("{}.{}: {}", item.place, error.fields.join(" and "), error.message),
                Ok(()) => format!("{other} and {} have the same key {key}; remove one of them", item.place),
            };
            return Err(DocumentError(message));
        }
    }
    Ok(())
}

/// Writes values as a document. The values of each model stay in the given order.
///
/// # Errors
/// Fails if a value has no JSON form. This cannot happen for values that were read from a document, the store or a client.
pub fn write<'a>(models: impl IntoIterator<Item = &'a Model>) -> Result<String, DocumentError> {
    let json = write_document(models).map_err(|error| DocumentError(error.to_string()))?;
    let value: serde_json::Value = serde_json::from_str(&json).map_err(|error| DocumentError(error.to_string()))?;
    serde_saphyr::to_string(&value).map_err(|error| DocumentError(error.to_string()))
}

/// Writes one value, without the surrounding document.
///
/// # Errors
/// Returns the errors of [`write()`].
pub fn write_value(model: &Model) -> Result<String, DocumentError> {
    let wrong = |error: &dyn std::fmt::Display| DocumentError(error.to_string());
    let json = write_document([model]).map_err(|error| wrong(&error))?;
    let document: serde_json::Value = serde_json::from_str(&json).map_err(|error| wrong(&error))?;
    let member = member_of(model.kind());
    serde_saphyr::to_string(&document[member.group][member.json_name][0]).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# what a user writes
netallocConfig:
  ipAddresses:
    - {networkName: net1, interfaceName: d1, address: 10.0.0.1/24}
linuxConfig:
  interfaces:
    - name: d1
      type: DUMMY
      enabled: true
      ip_addresses: [10.20.30.1/24]
  routes:
    - outgoingInterface: d1
      scope: GLOBAL
      dstNetwork: 10.50.0.0/16
      gwAddr: 10.20.30.254
";

    #[test]
    fn written_document_is_read_as_same_values() {
        let items = parse(TEXT).expect("a valid document");
        let keys: Vec<String> = items.iter().map(|item| item.model.key().to_string()).collect();
        let want = [
            "config/linux/interfaces/v2/interface/d1",
            "config/linux/l3/v2/route/10.50.0.0/16/d1",
            "config/netalloc/v1/ip/network/net1/interface/d1",
        ];
        assert_eq!(keys, want);
        let text = write(items.iter().map(|item| &item.model)).expect("writable");
        assert_eq!(parse(&text).expect("a written document must be readable"), items, "{text}");
    }

    #[test]
    fn document_has_no_limit_but_its_length() {
        let address = |number: usize| format!("10.{}.{}.{}/8", number >> 16, number >> 8 & 255, number & 255);
        let addresses: Vec<String> = (0..300_000).map(address).collect();
        let text = format!(
            "linuxConfig: {{interfaces: [{{name: d, ipAddresses: [{}]}}]}}",
            addresses.join(", ")
        );
        let items = parse(&text).expect("a valid document");
        assert!(matches!(&items[0].model, Model::Interface(interface) if interface.ip_addresses == addresses));
    }

    #[test]
    fn errors_include_position() {
        for (text, parts) in [
            (
                "linuxConfig:\n  interfaces:\n    - nme: d\n",
                &["linuxConfig.interfaces[0]", "nme", "line 3"][..],
            ),
            ("linuxConfig: [1, 2\n", &["line"]),
            (
                "linuxConfig: {routes: [{outgoingInterface: a, dstNetwork: 10.7.0.1}, {outgoingInterface: a, dstNetwork: 10.7.0.2}]}\n",
                &["linuxConfig.routes[1].dst_network: `10.7.0.2` has no prefix length; write 10.7.0.2/32"],
            ),
            (
                "linuxConfig: {}\n---\nlinuxConfig: {}\n",
                &["a second YAML document begins at line"],
            ),
            ("linuxConfig: 3\n", &["linuxConfig"]),
            (
                "linuxConfig:\n  interfaces:\n    - name: d\n    - name: d\n",
                &["linuxConfig.interfaces[0]", "linuxConfig.interfaces[1]", "same key"],
            ),
        ] {
            let error = parse(text).expect_err("refused").to_string();
            for part in parts {
                assert!(error.contains(part), "{error:?} must mention {part:?}");
            }
        }
    }

    #[test]
    fn empty_text_is_document_without_values() {
        for text in ["", "# nothing\n", "---\n", "{}"] {
            assert_eq!(parse(text), Ok(vec![]), "{text:?}");
        }
        assert_eq!(write([]).expect("writable").trim(), "{}");
    }
}
