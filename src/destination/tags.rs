//! The tags of an object. S3 keeps them in a copy. An upload loses them unless it sends them again.

use aws_sdk_s3::operation::get_object_tagging::GetObjectTaggingOutput;
use aws_sdk_s3::types::Tag;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Destination;
use super::error::{ErrorKind, S3Error};
use super::idle_timeout::Activity;
use super::operation::Operation;
use super::proof::Unproven;
use crate::key::RelativeKey;

impl Destination {
    /// Requests the tags of an object, in the form in which a write sends them. Returns `None` if there are none.
    ///
    /// HeadObject shows the number of tags only to those who may read them. So the lack of a number proves nothing.
    pub(crate) async fn tags(&self, key: &RelativeKey) -> Result<Option<String>, S3Error> {
        let request = self
            .client
            .get_object_tagging()
            .bucket(self.bucket.as_str())
            .key(self.prefix.object_key(key))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let attempt = async |activity: Activity| {
            let response = request.clone().customize().interceptor(activity.clone()).send().await?;
            Ok((response, activity.document()))
        };
        let read = |(response, document): (GetObjectTaggingOutput, Option<_>)| {
            document.ok_or_else(|| Unproven::without("whole document"))?;
            Ok(query_of(response.tag_set()))
        };
        match self.sender.send(Operation::GetObjectTagging, attempt, read).await {
            Err(error) if has_no_tags(&error) => Ok(None),
            Err(error) if error.is_denied_by_s3() => {
                Err(error.advising("to upload this object again would lose its tags: allow s3:GetObjectTagging"))
            }
            other => other,
        }
    }
}

/// Whether the server has no tags, for this object or at all.
fn has_no_tags(error: &S3Error) -> bool {
    error.kind == ErrorKind::NotImplemented
        || matches!(error.code.as_deref(), Some("NoSuchTagSet" | "NoSuchTagSetError" | "MethodNotAllowed"))
}

fn query_of(tags: &[Tag]) -> Option<String> {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let pairs: Vec<_> = tags.iter().map(|tag| format!("{}={}", encoded(tag.key()), encoded(tag.value()))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_encoded_like_a_query() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().unwrap();
        assert_eq!(query_of(&[]), None);
        let query = query_of(&[tag("team", "web & mobile"), tag("über", "a=b+c"), tag("empty", "")]);
        assert_eq!(query.as_deref(), Some("team=web%20%26%20mobile&%C3%BCber=a%3Db%2Bc&empty="));
    }
}
