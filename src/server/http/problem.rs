//! Refusals: application/problem+json (RFC 9457) for the API, one line of text for the original's paths.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::conditional::Malformed;
use super::path::QueryError;
use crate::Error;
use crate::files::tsv::LoadFailure;
use crate::server::files::Refused;

/// Why a request was not done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: u16,
    /// What programs tell refusals apart by. Stays the same.
    pub(super) code: &'static str,
    /// For people.
    pub(super) detail: String,
    /// A header that belongs to it.
    header: Option<(HeaderName, HeaderValue)>,
    /// Whether somebody may be guessing secrets.
    pub(super) guesses: bool,
}

impl Problem {
    pub(super) fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Problem {
        let header = (status == 401).then(|| {
            let value = HeaderValue::from_static("Bearer realm=\"atbr\"");
            (WWW_AUTHENTICATE, value)
        });
        Problem {
            status,
            code,
            detail: detail.into(),
            header,
            guesses: false,
        }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.header = Some((name, value));
        self
    }

    pub(super) fn wrong_secret(mut self, guesses: bool) -> Problem {
        self.guesses = guesses;
        self
    }

    pub(super) fn key_not_found() -> Problem {
        Problem::new(404, "key_not_found", "no such key")
    }

    pub(super) fn bad_body(detail: impl Into<String>) -> Problem {
        Problem::new(400, "invalid_body", detail)
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The members of the JSON object.
    pub(super) fn json(&self) -> serde_json::Value {
        let title = self.status().canonical_reason().unwrap_or("Error");
        json!({
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        })
    }

    /// As a line of text, as the original's paths answer.
    pub(super) fn line(self) -> Response {
        let detail = self.detail.replace(['\r', '\n'], " ");
        let body = Body::from(format!("{detail}\n"));
        self.answer("text/plain; charset=utf-8", body)
    }

    fn answer(self, content_type: &'static str, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body::from(self.json().to_string());
        self.answer("application/problem+json", body)
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        let detail = match error {
            QueryError::Encoding(name) => format!("{name}: a '%' lacks its two digits"),
            QueryError::Twice(name) => format!("{name} is given twice"),
            QueryError::Value(name, expected) => format!("{name} has to be {expected}"),
        };
        Problem::new(400, "invalid_parameter", detail)
    }
}

impl From<Malformed> for Problem {
    fn from(Malformed(name): Malformed) -> Problem {
        Problem::new(
            400,
            "invalid_header",
            format!("{name} is no list of entity tags"),
        )
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let (status, code) = match &error {
            Error::KeyTooLong(_) => (413, "key_too_long"),
            Error::ValueTooLong(_) => (413, "value_too_large"),
            Error::TtlOutOfRange(_) => (400, "invalid_ttl"),
            Error::StoreFull | Error::NothingToEvict => (507, "store_full"),
            Error::OutOfMemory | Error::NotEnoughMemory { .. } => (507, "out_of_memory"),
            Error::ArenaFull => (507, "shard_full"),
            Error::Closed => (503, "store_closed"),
            Error::Broken => (503, "shard_broken"),
            Error::NotAnInteger | Error::IntegerOverflow => (409, "not_an_integer"),
            Error::MalformedRow { .. } => (422, "malformed_row"),
            Error::BadRow { .. } => (422, "bad_row"),
            Error::NotRepresentable(_) => (409, "not_representable"),
            Error::Cancelled => (499, "cancelled"),
            _ => (500, "internal"),
        };
        Problem::new(status, code, error.to_string())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Name(why) => {
                Problem::new(400, "invalid_file_name", format!("no file name: {why}"))
            }
            Refused::Forbidden(why) => {
                Problem::new(403, "file_refused", format!("this file is refused: {why}"))
            }
            Refused::Missing => {
                Problem::new(404, "file_not_found", "no such file in the data folder")
            }
            Refused::Io(error) => Problem::new(500, "file_error", error.to_string()),
        }
    }
}

impl From<LoadFailure> for Problem {
    fn from(failure: LoadFailure) -> Problem {
        let rows = failure.report.rows;
        let problem = Problem::from(failure.error);
        let detail = format!("{} ({rows} rows are in)", problem.detail);
        Problem { detail, ..problem }
    }
}
