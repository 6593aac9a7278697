//! A fault of the service: what happens to a request instead of the regular response.

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum ServiceFault {
    /// The service responds with an error.
    Error {
        /// The HTTP status.
        status: u16,
        /// The name of the error.
        code: &'static str,
        /// The error message.
        message: String,
    },
    /// The server closes the connection.
    Reset,
    /// The server does not respond.
    Silence,
}

impl ServiceFault {
    /// [`ServiceFault::Error`] with these values.
    #[must_use]
    pub fn error(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self::Error { status, code, message: message.into() }
    }
}
