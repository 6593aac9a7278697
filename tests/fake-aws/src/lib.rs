//! S3 and DataSync servers that listen on 127.0.0.1 and fail on request.

pub mod datasync;
pub mod s3;
