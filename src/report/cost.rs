//! The cost of a run: estimates at AWS's list prices in us-east-1.

use super::source_operations::SourceOperations;
use crate::destination::operation::{Operation, Requests};
use crate::sync::counts::ByteCounts;

/// S3: dollars per request. `PUT`, `COPY`, `POST` and `LIST` cost more than `GET` and `HEAD`; `DELETE` is free.
const WRITE_USD: f64 = 0.005 / 1000.0;
const READ_USD: f64 = 0.0004 / 1000.0;
/// EFS with Elastic throughput: dollars per byte read. Each operation is metered as at least 4 KiB.
const EFS_READ_USD: f64 = 0.03 / 1e9;
const EFS_LEAST_BYTES: f64 = 4096.0;

pub(super) fn request_cost_usd(requests: &Requests) -> f64 {
    Operation::ALL.iter().fold(0.0, |sum, &operation| {
        let usd = match operation {
            Operation::Delete | Operation::DeleteObjects | Operation::AbortMultipartUpload => 0.0,
            Operation::Head
            | Operation::Get
            | Operation::GetObjectAttributes
            | Operation::GetObjectTagging
            | Operation::ListParts => READ_USD,
            Operation::List
            | Operation::ListMultipartUploads
            | Operation::Put
            | Operation::Copy
            | Operation::CreateMultipartUpload
            | Operation::UploadPart
            | Operation::UploadPartCopy
            | Operation::CompleteMultipartUpload => WRITE_USD,
        };
        float(requests.sent(operation)).mul_add(usd, sum)
    })
}

pub(super) fn efs_read_cost_usd(operations: SourceOperations, bytes: &ByteCounts) -> f64 {
    let least_bytes = float(operations.total()) * EFS_LEAST_BYTES;
    (least_bytes + float(bytes.uploaded + bytes.read_for_compare)) * EFS_READ_USD
}

#[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]
fn float(count: u64) -> f64 {
    count as f64
}
