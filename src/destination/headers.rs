//! What an object is stored with besides its content: type, caching, storage class, encryption.

use std::collections::BTreeMap;
use std::str::FromStr;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::filter::{Filter, FilterError};
use crate::object::StorageClass;

/// What S3 calls content of an unknown type.
pub(super) const UNKNOWN_TYPE: &str = "binary/octet-stream";

/// Headers for the files that a pattern matches; the first rule that matches and names a header wins.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// DataSync patterns, as for `--include`.
    pub pattern: String,
    /// Cache-Control.
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// Content-Type.
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Content-Encoding.
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// Content-Disposition.
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
}

fn checked_header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    header_value(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

/// A Content-Type for an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// The extension in lower case, without its dot.
    pub extension: String,
    /// The type, as the header holds it.
    pub value: String,
}

impl FromStr for ContentType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((extension, value)) if !extension.is_empty() && value.contains('/') => {
                Ok(Self { extension: extension.trim_start_matches('.').to_lowercase(), value: header_value(value)? })
            }
            _ => Err(format!("'{text}' is not EXT=TYPE, as in html=text/html")),
        }
    }
}

/// A value that becomes a header: visible ASCII and blanks, so that no request is refused for it halfway.
///
/// # Errors
/// What is wrong with it.
pub fn header_value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{}' is no header value: visible ASCII characters and blanks only", text.escape_debug()))
    }
}

/// The headers of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// Content-Type.
    pub content_type: String,
    /// Cache-Control.
    pub cache_control: Option<String>,
    /// Content-Encoding.
    pub content_encoding: Option<String>,
    /// Content-Disposition.
    pub content_disposition: Option<String>,
    /// Content-Language.
    pub content_language: Option<String>,
    /// Expires, as an HTTP date.
    pub expires: Option<String>,
    /// The place that a website sends readers to.
    pub website_redirect: Option<String>,
    /// User metadata, without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// The storage class; the bucket's default where there is none.
    pub storage_class: Option<StorageClass>,
    /// Encryption at rest; the bucket's default where there is none.
    pub encryption: Option<Encryption>,
}

/// Encryption at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub algorithm: String,
    /// The KMS key, where it is not the account's own.
    pub kms_key_id: Option<String>,
    /// Whether S3 asks KMS once for many objects.
    pub bucket_key: Option<bool>,
}

/// Sets an object's headers on any of the requests that write one; their builders have no trait in common.
macro_rules! set_headers {
    ($request:expr, $headers:expr) => {{
        let headers: &$crate::destination::headers::ObjectHeaders = $headers;
        let encryption = headers.encryption.as_ref();
        $request
            .content_type(&headers.content_type)
            .set_cache_control(headers.cache_control.clone())
            .set_content_encoding(headers.content_encoding.clone())
            .set_content_disposition(headers.content_disposition.clone())
            .set_content_language(headers.content_language.clone())
            .set_expires(headers.expires_at())
            .set_website_redirect_location(headers.website_redirect.clone())
            .set_metadata(Some(headers.metadata.clone().into_iter().collect()))
            .set_storage_class(headers.storage_class.as_ref().map(|class| class.name().into()))
            .set_server_side_encryption(encryption.map(|encryption| encryption.algorithm.as_str().into()))
            .set_ssekms_key_id(encryption.and_then(|encryption| encryption.kms_key_id.clone()))
            .set_bucket_key_enabled(encryption.and_then(|encryption| encryption.bucket_key))
    }};
}
pub(super) use set_headers;

impl ObjectHeaders {
    /// Expires in the SDK's form.
    pub(super) fn expires_at(&self) -> Option<DateTime> {
        DateTime::from_str(self.expires.as_ref()?, DateTimeFormat::HttpDate).ok()
    }
}

/// Which headers a file gets: by rules on its path, then by its extension.
#[derive(Clone, Debug, Default)]
pub struct HeaderRules {
    /// Each with a filter that excludes what the rule is for.
    rules: Vec<(Filter, HeaderRule)>,
    content_types: Vec<ContentType>,
    cache_control: Option<String>,
    storage_class: Option<StorageClass>,
    encryption: Option<Encryption>,
}

impl HeaderRules {
    /// From the config file's rules and the command line's options.
    ///
    /// # Errors
    /// Where a rule's pattern is none.
    pub fn new(
        rules: Vec<HeaderRule>,
        content_types: Vec<ContentType>,
        cache_control: Option<String>,
        storage_class: Option<StorageClass>,
        encryption: Option<Encryption>,
    ) -> Result<Self, FilterError> {
        let rules = rules
            .into_iter()
            .map(|rule| Ok((Filter::new(None, Some(&rule.pattern))?, rule)))
            .collect::<Result<_, _>>()?;
        Ok(Self { rules, content_types, cache_control, storage_class, encryption })
    }

    /// The headers of a directory or link, which nobody reads as a page or an image.
    #[must_use]
    pub fn of_no_file(&self) -> ObjectHeaders {
        ObjectHeaders {
            content_type: UNKNOWN_TYPE.to_owned(),
            storage_class: self.storage_class.clone(),
            encryption: self.encryption.clone(),
            ..ObjectHeaders::default()
        }
    }

    /// The headers of the file with this key below the prefix.
    #[must_use]
    pub fn of(&self, key: &str) -> ObjectHeaders {
        let rule = |pick: fn(&HeaderRule) -> Option<&String>| {
            self.rules.iter().filter(|(others, _)| !others.admits(key)).find_map(|(_, rule)| pick(rule)).cloned()
        };
        ObjectHeaders {
            content_type: rule(|rule| rule.content_type.as_ref()).unwrap_or_else(|| self.type_by_name(key)),
            cache_control: rule(|rule| rule.cache_control.as_ref()).or_else(|| self.cache_control.clone()),
            content_encoding: rule(|rule| rule.content_encoding.as_ref()),
            content_disposition: rule(|rule| rule.content_disposition.as_ref()),
            ..self.of_no_file()
        }
    }

    fn type_by_name(&self, key: &str) -> String {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        // `.css` is a hidden file without an extension, not a style sheet.
        let Some((_, extension)) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
            return UNKNOWN_TYPE.to_owned();
        };
        let extension = extension.to_lowercase();
        let chosen =
            self.content_types.iter().find(|chosen| chosen.extension == extension).map(|chosen| chosen.value.clone());
        chosen
            .or_else(|| mime_guess::from_ext(&extension).first_raw().map(str::to_owned))
            .unwrap_or_else(|| UNKNOWN_TYPE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_comes_from_the_name() {
        let rules = HeaderRules::default();
        for (name, expected) in [
            ("i.html", "text/html"),
            ("a.b/s.css", "text/css"),
            ("j.JPG", "image/jpeg"),
            ("v.svg", "image/svg+xml"),
            ("w.woff2", "font/woff2"),
            ("d.pdf", "application/pdf"),
            ("x.unknownext", UNKNOWN_TYPE),
            ("noext", UNKNOWN_TYPE),
            (".css", UNKNOWN_TYPE),
            ("a.css/noext", UNKNOWN_TYPE),
        ] {
            assert_eq!(rules.of(name).content_type, expected, "{name}");
        }
    }

    #[test]
    fn a_rule_on_the_path_beats_the_options_and_these_beat_the_table() {
        let rule = HeaderRule {
            pattern: "/assets/*|*.map".to_owned(),
            cache_control: Some("immutable".to_owned()),
            ..HeaderRule::default()
        };
        let chosen = vec!["map=application/json".parse().unwrap()];
        let rules = HeaderRules::new(vec![rule], chosen, Some("no-cache".to_owned()), None, None).unwrap();
        assert_eq!(rules.of("assets/a.css").cache_control.as_deref(), Some("immutable"));
        assert_eq!(rules.of("assets/a.css").content_type, "text/css");
        assert_eq!(rules.of("b/a.map").content_type, "application/json");
        assert_eq!(rules.of("b/a.css").cache_control.as_deref(), Some("no-cache"));
    }

    #[test]
    fn a_header_cannot_break_out_of_its_line() {
        assert!(header_value("max-age=60\r\nx-evil: 1").is_err());
        assert!("html=text/html\n".parse::<ContentType>().is_ok_and(|given| given.value == "text/html"));
        assert!("html".parse::<ContentType>().is_err());
    }
}
