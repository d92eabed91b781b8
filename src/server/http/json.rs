//! Keys and values in JSON: `key` and `value` where they are UTF-8, `key64` and `value64` (base64url) where not.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Written without padding, read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of base64url; None where it is none.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A key, and perhaps a value, as a client sends them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item<'a> {
    #[serde(borrow, default)]
    pub(super) key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) key64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) value64: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) ttl_ms: Option<i64>,
}

impl<'a> Item<'a> {
    /// The key's bytes.
    ///
    /// # Errors
    /// 400 where there are none or two.
    pub(super) fn take_key(&mut self) -> Result<Cow<'a, [u8]>, Problem> {
        one_of("key", self.key.take(), self.key64.take())
    }

    /// The value's bytes.
    ///
    /// # Errors
    /// 400 where there are none or two.
    pub(super) fn take_value(&mut self) -> Result<Cow<'a, [u8]>, Problem> {
        one_of("value", self.value.take(), self.value64.take())
    }
}

fn one_of<'a>(
    name: &str,
    text: Option<Cow<'a, str>>,
    base64: Option<Cow<'a, str>>,
) -> Result<Cow<'a, [u8]>, Problem> {
    match (text, base64) {
        (Some(Cow::Borrowed(text)), None) => Ok(Cow::Borrowed(text.as_bytes())),
        (Some(Cow::Owned(text)), None) => Ok(Cow::Owned(text.into_bytes())),
        (None, Some(text)) => from_base64(text.as_bytes())
            .map(Cow::Owned)
            .ok_or_else(|| Problem::bad_body(format!("{name}64 is no base64url"))),
        _ => Err(Problem::bad_body(format!(
            "an item needs either {name} or {name}64"
        ))),
    }
}

/// A key as the server sends it.
#[derive(Debug, Serialize)]
pub(super) struct Key<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key64: Option<String>,
}

impl<'a> Key<'a> {
    pub(super) fn new(key: &'a [u8]) -> Key<'a> {
        match std::str::from_utf8(key) {
            Ok(text) => Key {
                key: Some(text),
                key64: None,
            },
            Err(_) => Key {
                key: None,
                key64: Some(to_base64(key)),
            },
        }
    }
}

/// Adds a text, or its base64url where it is not UTF-8, to an object that is being written: `"name":"text"`.
pub(super) fn write_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.extend_from_slice(b"\":");
            // Writing into a vector does not fail.
            let _ = serde_json::to_writer(&mut *out, text);
        }
        Err(_) => {
            out.extend_from_slice(b"64\":\"");
            out.extend_from_slice(to_base64(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(text: &str) -> Item<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_key_is_given_in_one_way() {
        assert_eq!(*item(r#"{"key":"a"}"#).take_key().unwrap(), *b"a");
        assert_eq!(
            *item(r#"{"key":"\u00e9\n"}"#).take_key().unwrap(),
            *"é\n".as_bytes()
        );
        for text in [r#"{"key64":"_w"}"#, r#"{"key64":"_w=="}"#] {
            assert_eq!(*item(text).take_key().unwrap(), *b"\xff");
        }
        for text in [
            "{}",
            r#"{"key":"a","key64":"_w"}"#,
            r#"{"key64":"/w"}"#,
            r#"{"key64":"_"}"#,
        ] {
            assert_eq!(
                item(text).take_key().unwrap_err().code,
                "invalid_body",
                "{text}"
            );
        }
        assert!(serde_json::from_str::<Item<'_>>(r#"{"kex":"a"}"#).is_err());
    }

    proptest! {
        #[test]
        fn bytes_written_are_read_again(bytes: Vec<u8>) {
            let mut text = b"{".to_vec();
            write_bytes(&mut text, "key", &bytes);
            text.push(b'}');
            let mut read: Item<'_> = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(read.take_key().unwrap().into_owned(), bytes.clone());
            let by_serde = serde_json::to_vec(&Key::new(&bytes)).unwrap();
            prop_assert_eq!(by_serde, text);
        }
    }
}
