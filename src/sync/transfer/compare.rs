//! The comparison of one file with its object, as its job asks: what is left to be done about it.

use super::content::{Content, compare_content, compare_with_object};
use crate::destination::head::HeadResponse;
use crate::metadata::{Preserve, StoredMetadata};
use crate::object::{ETagForm, Object, md5_of};
use crate::source::entry::Stat;
use crate::sync::context::Context;
use crate::sync::job::{Job, SourceFile};
use crate::sync::reason::Reason;
use crate::sync::verdict::{FileError, Rewrite, StepError, Verdict};

/// Compares as the job asks.
pub(crate) async fn compare(context: &Context, job: &Job) -> Verdict {
    let compared = match job {
        Job::Upload { reason, .. } => return Verdict::Upload(*reason),
        Job::Compare { file, object } => compare_all(context, file, object).await,
        Job::CompareLink { file, object } => compare_link(context, file, object).await,
        Job::CompareMetadata { file, object } => compare_metadata(context, file, object, false).await,
        Job::CompareOnlyMetadata { file, object } => compare_metadata(context, file, object, true).await,
    };
    compared.unwrap_or_else(Verdict::from)
}

/// Compares as the job asks, and downloads the object if nothing else can show whether the contents are equal.
pub(crate) async fn compare_by_reading(context: &Context, job: &Job) -> Verdict {
    let verdict = compare(context, job).await;
    if !matches!(verdict, Verdict::Upload(Reason::Unverifiable)) {
        return verdict;
    }
    let file = job.file();
    let compared = async {
        Ok(match compare_with_object(context, file).await? {
            Content::Equal(stat) => match context.rules.preserve {
                Some(preserve) => equal(context.destination.head(&file.key).await?, preserve, stat),
                None => Verdict::Equal(Reason::SameContent, stat),
            },
            Content::Different | Content::Unverifiable => Verdict::Upload(Reason::Content),
        })
    };
    compared.await.unwrap_or_else(|error: StepError| Verdict::from(error))
}

/// The text of a link, whose dates show that its object is newer. In the other mode, a run wrote the content of the file
/// behind the link to the same key. Where neither the ETag nor the size of that file excludes this, the run compares as it
/// compares everything else, with requests.
async fn compare_link(context: &Context, file: &SourceFile, object: &Object) -> Result<Verdict, StepError> {
    let link = context.source.open_file(&file.key, &file.entry).await?;
    let (stat, length) = (*link.stat(), usize::try_from(object.size_bytes).unwrap_or(usize::MAX));
    let text = link.read(0, length).await?;
    let is_text = stat.size_bytes == object.size_bytes && object.etag.form() == ETagForm::Single(md5_of(&text));
    let is_settled = stat.is_same_content(&file.entry.stat);
    if is_settled && (is_text || context.source.size_behind(&file.key).await != Some(object.size_bytes)) {
        return Ok(Verdict::Equal(Reason::Older, stat));
    }
    compare_all(context, file, object).await
}

/// The contents and, if the mode stores metadata, the metadata.
async fn compare_all(context: &Context, file: &SourceFile, object: &Object) -> Result<Verdict, StepError> {
    let headers = match context.rules.preserve {
        Some(preserve) => Some((context.destination.head(&file.key).await?, preserve)),
        None => None,
    };
    compare_with_headers(context, file, object, headers).await
}

/// The metadata, and the contents only if the mtime differs and nothing shows that the contents are equal.
async fn compare_metadata(
    context: &Context,
    file: &SourceFile,
    object: &Object,
    has_equal_content: bool,
) -> Result<Verdict, StepError> {
    let Some(preserve) = context.rules.preserve else {
        return compare_with_headers(context, file, object, None).await;
    };
    let headers = context.destination.head(&file.key).await?;
    let (stored, stat) = (StoredMetadata::read(&headers.stored.metadata), file.entry.stat);
    if stored.matches(&stat, preserve) {
        return Ok(Verdict::Equal(Reason::SameMetadata, stat));
    }
    // The times prove that the content is equal, and DataSync would not copy the file for this mtime.
    let is_proven = has_equal_content && headers.etag == object.etag;
    if is_proven || !preserve.mtime || stored.has_mtime_of(&stat) {
        return Ok(rewrite(headers, stat));
    }
    compare_with_headers(context, file, object, Some((headers, preserve))).await
}

async fn compare_with_headers(
    context: &Context,
    file: &SourceFile,
    object: &Object,
    headers: Option<(HeadResponse, Preserve)>,
) -> Result<Verdict, StepError> {
    let known = headers.as_ref().map(|(headers, _)| headers);
    Ok(match (compare_content(context, file, object, known).await?, headers) {
        (Content::Equal(stat), Some((headers, preserve))) => equal(headers, preserve, stat),
        (Content::Equal(stat), None) => Verdict::Equal(Reason::SameContent, stat),
        (Content::Different, _) => Verdict::Upload(Reason::Content),
        (Content::Unverifiable, _) => Verdict::Upload(Reason::Unverifiable),
    })
}

/// The verdict on equal contents, by the metadata.
fn equal(headers: HeadResponse, preserve: Preserve, stat: Stat) -> Verdict {
    if StoredMetadata::read(&headers.stored.metadata).matches(&stat, preserve) {
        Verdict::Equal(Reason::SameContent, stat)
    } else {
        rewrite(headers, stat)
    }
}

fn rewrite(headers: HeadResponse, stat: Stat) -> Verdict {
    Verdict::Rewrite(Box::new(Rewrite { headers, stat }))
}

impl From<StepError> for Verdict {
    fn from(error: StepError) -> Self {
        match error {
            // A file that changes while it is compared differs. Its upload waits until it has settled.
            StepError::Changed | StepError::Stale => Self::Upload(Reason::Content),
            StepError::Skipped(reason) => Self::Skip(reason),
            // Another writer has deleted the object since it was listed.
            StepError::Failed(FileError::Destination(error)) if error.is_without_object() => {
                Self::Upload(Reason::Absent)
            }
            StepError::Failed(error) => Self::Failed(error),
        }
    }
}
