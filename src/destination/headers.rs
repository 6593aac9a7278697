//! Headers of an object: what S3 stores with its content, such as type, caching, storage class and encryption.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::media_type;
use crate::filter::{Filter, FilterError};
use crate::object::StorageClass;

/// S3's name for content of an unknown type.
pub(super) const UNKNOWN_TYPE: &str = "binary/octet-stream";

/// Headers for the files that a pattern matches. For each header, the first rule that matches and names it counts.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// DataSync patterns, as in `--include`.
    pub(crate) pattern: String,
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(default, deserialize_with = "checked_header", skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
}

fn checked_header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    header_value(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

/// The Content-Type of all files with an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// In lower case, without the dot.
    pub(crate) extension: String,
    pub(crate) value: String,
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

/// Checks and trims the value of a header: visible ASCII and spaces, so that S3 refuses no request for it.
pub(crate) fn header_value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{}' is not a header value: use visible ASCII characters and spaces", text.escape_debug()))
    }
}

/// The headers of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectHeaders {
    pub(crate) content_type: String,
    pub(crate) cache_control: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_language: Option<String>,
    /// An HTTP date, or what another writer has stored in its place.
    pub(crate) expires: Option<String>,
    /// Where a website redirects to (`x-amz-website-redirect-location`).
    pub(crate) website_redirect: Option<String>,
    /// User metadata by name, without `x-amz-meta-`.
    pub(crate) metadata: BTreeMap<String, String>,
    /// `None`: S3's default.
    pub(crate) storage_class: Option<StorageClass>,
    /// As a query: `team=web&keep=7y`. A HEAD does not show the tags, and a copy keeps them.
    pub(crate) tags: Option<String>,
    pub(crate) lock: ObjectLock,
    /// Of a stored object. What a write sends is in its write headers.
    pub(crate) encryption: Option<Encryption>,
}

/// What protects a version of an object against deletion. A copy is a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectLock {
    /// The mode, and the date in ISO 8601. `None`: what the bucket sets for new versions.
    pub(crate) retention: Option<(String, String)>,
    pub(crate) legal_hold: bool,
}

/// Encryption at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub(crate) algorithm: String,
    /// `None`: the key that AWS manages for the account.
    pub(crate) kms_key_id: Option<String>,
    /// Whether S3 calls KMS once for many objects.
    pub(crate) bucket_key: Option<bool>,
}

impl Encryption {
    /// Returns this encryption; what it leaves open is as `stored` has it, if that is not another encryption.
    pub(super) fn completed_by(self, stored: Option<Self>) -> Self {
        match stored {
            Some(stored) if self.algorithm == stored.algorithm && self.names_key_of(&stored) => stored,
            _ => self,
        }
    }

    /// Whether this encryption names no key, or that of `stored`. S3 returns the ARN of a key, which ends in its ID.
    fn names_key_of(&self, stored: &Self) -> bool {
        let Some(named) = &self.kms_key_id else {
            return true;
        };
        stored.kms_key_id.as_ref().is_some_and(|key| key == named || key.ends_with(&format!("/{named}")))
    }
}

impl ObjectHeaders {
    /// The headers by their names in HTTP, without the encryption.
    pub(super) fn by_name(&self) -> impl Iterator<Item = (Cow<'static, str>, &str)> {
        let Self { content_type, metadata, storage_class, lock, .. } = self;
        let (mode, until) = lock.retention.as_ref().map(|(mode, until)| (mode, until)).unzip();
        let optional = [
            ("content-type", Some(content_type)),
            ("cache-control", self.cache_control.as_ref()),
            ("content-encoding", self.content_encoding.as_ref()),
            ("content-disposition", self.content_disposition.as_ref()),
            ("content-language", self.content_language.as_ref()),
            ("expires", self.expires.as_ref()),
            ("x-amz-website-redirect-location", self.website_redirect.as_ref()),
            ("x-amz-tagging", self.tags.as_ref()),
            ("x-amz-object-lock-mode", mode),
            ("x-amz-object-lock-retain-until-date", until),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((Cow::Borrowed(name), value?.as_str())));
        let class = storage_class.as_ref().map(|class| (Cow::Borrowed("x-amz-storage-class"), class.name()));
        let metadata = metadata.iter().map(|(name, value)| (Cow::Owned(format!("x-amz-meta-{name}")), value.as_str()));
        let hold = lock.legal_hold.then_some((Cow::Borrowed("x-amz-object-lock-legal-hold"), "ON"));
        optional.chain(class).chain(hold).chain(metadata)
    }

    /// The permissions that a write with these headers needs besides `s3:PutObject`.
    pub(super) fn permissions(&self) -> String {
        let needed = [
            (self.tags.is_some(), "s3:PutObjectTagging"),
            (self.lock.retention.is_some(), "s3:PutObjectRetention"),
            (self.lock.legal_hold, "s3:PutObjectLegalHold"),
        ];
        needed.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    }
}

/// Which headers a file gets: by the rules for its path, then by its extension.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderRules {
    /// Each rule with a filter that *excludes* the files that the rule is for.
    rules: Vec<(Filter, HeaderRule)>,
    content_types: Vec<ContentType>,
    cache_control: Option<String>,
    storage_class: Option<StorageClass>,
}

impl HeaderRules {
    /// Combines the rules of the config file with the options.
    ///
    /// # Errors
    /// Returns an error if the pattern of a rule is not valid.
    pub(crate) fn new(
        rules: Vec<HeaderRule>,
        content_types: Vec<ContentType>,
        cache_control: Option<String>,
        storage_class: Option<StorageClass>,
    ) -> Result<Self, FilterError> {
        let rules = rules
            .into_iter()
            .map(|rule| Ok((Filter::new(None, Some(&rule.pattern))?, rule)))
            .collect::<Result<_, _>>()?;
        Ok(Self { rules, content_types, cache_control, storage_class })
    }

    /// Returns the headers of a directory or a link.
    pub(crate) fn for_non_file(&self) -> ObjectHeaders {
        ObjectHeaders {
            content_type: UNKNOWN_TYPE.to_owned(),
            storage_class: self.storage_class.clone(),
            ..ObjectHeaders::default()
        }
    }

    /// Returns the headers of a file. `key` is relative to the prefix.
    pub(crate) fn for_file(&self, key: &str) -> ObjectHeaders {
        let rule = |pick: fn(&HeaderRule) -> Option<&String>| {
            self.rules.iter().filter(|(filter, _)| !filter.admits(key)).find_map(|(_, rule)| pick(rule)).cloned()
        };
        ObjectHeaders {
            content_type: rule(|rule| rule.content_type.as_ref()).unwrap_or_else(|| self.type_by_name(key)),
            cache_control: rule(|rule| rule.cache_control.as_ref()).or_else(|| self.cache_control.clone()),
            content_encoding: rule(|rule| rule.content_encoding.as_ref()),
            content_disposition: rule(|rule| rule.content_disposition.as_ref()),
            ..self.for_non_file()
        }
    }

    fn type_by_name(&self, key: &str) -> String {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        // `.css` is a hidden file without an extension, not a style sheet.
        let Some((_, extension)) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
            return UNKNOWN_TYPE.to_owned();
        };
        let extension = extension.to_lowercase();
        // The last one counts, as for every option.
        let option = self.content_types.iter().rfind(|option| option.extension == extension);
        option
            .map(|option| option.value.clone())
            .or_else(|| media_type::of_extension(&extension).map(str::to_owned))
            .unwrap_or_else(|| UNKNOWN_TYPE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_the_content_type() {
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
            assert_eq!(rules.for_file(name).content_type, expected, "{name}");
        }
    }

    #[test]
    fn a_rule_overrides_the_options_and_these_override_the_built_in_types() {
        let rule = HeaderRule {
            pattern: "/assets/*|*.map".to_owned(),
            cache_control: Some("immutable".to_owned()),
            ..HeaderRule::default()
        };
        let chosen = vec!["map=application/json".parse().unwrap()];
        let rules = HeaderRules::new(vec![rule], chosen, Some("no-cache".to_owned()), None).unwrap();
        assert_eq!(rules.for_file("assets/a.css").cache_control.as_deref(), Some("immutable"));
        assert_eq!(rules.for_file("assets/a.css").content_type, "text/css");
        assert_eq!(rules.for_file("b/a.map").content_type, "application/json");
        assert_eq!(rules.for_file("b/a.css").cache_control.as_deref(), Some("no-cache"));
    }

    #[test]
    fn a_header_value_cannot_contain_a_line_break() {
        assert!(header_value("max-age=60\r\nx-evil: 1").is_err());
        assert!("html=text/html\n".parse::<ContentType>().is_ok_and(|given| given.value == "text/html"));
        assert!("html".parse::<ContentType>().is_err());
    }
}
