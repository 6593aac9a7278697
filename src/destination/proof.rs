//! Proof: what a response must contain before the run counts its request as done.
//!
//! A gateway, a proxy or a login page can respond with status 200 in the place of S3. Such a response has no ETag, no
//! upload ID and not the document that S3 sends. So a status alone proves nothing: [`WriteProof`] can only be made of an
//! ETag that S3 sent, and each function that writes an object or a part returns one.

use crate::object::ETag;

/// Proof that S3 stores what was sent: the ETag of the object or part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteProof(ETag);

impl WriteProof {
    /// Reads the proof from the ETag of a response to a write.
    pub(super) fn of_response(etag: Option<&str>) -> Result<Self, Unproven> {
        etag_of(etag).map(Self)
    }

    /// The proof that a HEAD gives: the object with this ETag is the one that was sent.
    pub(super) const fn of_head(etag: ETag) -> Self {
        Self(etag)
    }

    /// The proof that a list of parts gives: S3 has the part. `None` if the list shows no ETag.
    pub(super) fn of_listed_part(etag: &ETag) -> Option<Self> {
        (!etag.is_empty()).then(|| Self(etag.clone()))
    }

    pub(crate) const fn etag(&self) -> &ETag {
        &self.0
    }

    /// Compares the ETag with that of the sent content, if the ETag can be an MD5.
    pub(super) fn checked(self, sent: &ETag, etag_is_md5: bool) -> Result<Self, Unproven> {
        if etag_is_md5 && self.0 != *sent {
            let (received, sent) = (self.0.text(), sent.text());
            let message = format!("S3 received other content than this run sent: ETag {received} instead of {sent}");
            return Err(Unproven { message, is_missing: false });
        }
        Ok(self)
    }
}

/// Why a response proves nothing. The request may or may not have had its effect, so the run repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    pub(super) message: String,
    /// Whether the response lacks what S3's responses have. Its effect may then be found another way.
    pub(super) is_missing: bool,
}

impl Unproven {
    /// The response does not have what S3's responses have.
    pub(super) fn without(part: &str) -> Self {
        Self::missing(format!("the response has no {part}: {IN_ITS_PLACE}"))
    }

    pub(super) const fn missing(message: String) -> Self {
        Self { message, is_missing: true }
    }
}

/// What a response that is not S3's means.
pub(super) const IN_ITS_PLACE: &str = "something between this program and S3 responds in its place";

/// What a response means that has nothing of S3's.
pub(super) const BARE: &str = "the response has neither a body nor a request ID, so a proxy may have sent it";

/// Reads an ETag that S3 always sends.
pub(super) fn etag_of(text: Option<&str>) -> Result<ETag, Unproven> {
    let etag = text.map(ETag::new).filter(|etag| !etag.is_empty());
    etag.ok_or_else(|| Unproven::without("ETag"))
}

/// Reads the status with which S3 confirms a delete or an abort.
pub(super) fn no_content(status: Option<u16>) -> Result<(), Unproven> {
    match status {
        Some(204) => Ok(()),
        Some(status) => {
            Err(Unproven::missing(format!("the response has HTTP status {status} instead of 204: {IN_ITS_PLACE}")))
        }
        None => Err(Unproven::without("status")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_etag_proves_a_write() {
        assert!(WriteProof::of_response(Some("\"abc\"")).is_ok());
        for nothing in [None, Some(""), Some("\"\"")] {
            let Unproven { message, .. } = WriteProof::of_response(nothing).unwrap_err();
            assert!(message.contains("no ETag") && message.contains("between this program and S3"), "{message}");
        }
    }

    #[test]
    fn another_md5_proves_nothing_unless_the_etag_is_not_an_md5() {
        let (proof, other) = (WriteProof::of_response(Some("abc")).unwrap(), ETag::new("abd"));
        assert!(proof.clone().checked(&other, true).is_err());
        assert_eq!(proof.clone().checked(&other, false), Ok(proof));
    }
}
