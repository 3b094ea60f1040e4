//! What a call says: query parameters, names in paths, bodies. Parameters are parsed once and
//! completely: an unknown or doubled one is refused, because a misspelt filter would answer
//! something else than was asked.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use seg_compliance::record::REASON_MAX;

use super::error::ApiError;

/// The parameters of a query that nobody has taken yet. An empty value counts as none.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Takes a parameter as text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.0.swap_remove(place);
        Some(value).filter(|value| !value.is_empty())
    }

    /// Takes a parameter and parses it.
    pub(super) fn parsed<T>(&mut self, name: &str) -> Result<Option<T>, ApiError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text(name)
            .map(|text| text.parse().map_err(|error| refuse(name, error)))
            .transpose()
    }

    /// Takes a parameter that is `true` or `false`.
    pub(super) fn truth(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(refuse(name, format!("{other:?} is not true or false"))),
        }
    }

    /// Refuses what nobody has taken.
    pub(super) fn end(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::bad_request(format!(
                "the parameter {name:?} is not known here, or stands twice"
            ))
            .about(name.as_str())),
        }
    }
}

fn refuse(name: &str, error: impl Display) -> ApiError {
    ApiError::bad_request(format!("{name}: {error}")).about(name)
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|_| ApiError::bad_request("the query can't be read"))
    }
}

/// The one name in a path, percent-decoded.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Path::from_request_parts(parts, state)
            .await
            .map(|Path(name)| Self(name))
            .map_err(|_| ApiError::bad_request("the name in the path is not UTF-8"))
    }
}

/// A body that is read whole, within the router's limit.
#[derive(Debug)]
pub(super) struct Payload(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state)
            .await
            .map(Self)
            .map_err(|error| {
                ApiError::bad_request(format!("the body can't be read: {}", error.body_text()))
            })
    }
}

/// Refuses a reason that could not stand in a log line or an answer.
pub(super) fn check_reason(reason: Option<&str>) -> Result<(), ApiError> {
    let unfit = |reason: &str| reason.len() > REASON_MAX || reason.chars().any(char::is_control);
    if reason.is_some_and(unfit) {
        return Err(ApiError::bad_request(format!(
            "reason: at most {REASON_MAX} bytes without control characters"
        ))
        .about("reason"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("http://a/?{query}").parse().unwrap();
        Params(Query::try_from_uri(&uri).unwrap().0)
    }

    #[test]
    fn parameters_are_taken_once_and_nothing_is_left() {
        let mut query = params("user=a%40b&known=true&limit=10&after=");
        assert_eq!(query.text("user").as_deref(), Some("a@b"));
        assert_eq!(query.truth("known").unwrap(), Some(true));
        assert_eq!(query.parsed::<usize>("limit").unwrap(), Some(10));
        assert_eq!(query.text("after"), None);
        assert_eq!(query.text("verdict"), None);
        assert!(query.end().is_ok());
    }

    #[test]
    fn what_is_unknown_doubled_or_unreadable_is_refused() {
        assert!(params("usr=a").end().is_err());
        let mut doubled = params("user=a&user=b");
        doubled.text("user");
        assert!(doubled.end().is_err());
        assert!(params("limit=many").parsed::<usize>("limit").is_err());
        assert!(params("known=yes").truth("known").is_err());
    }
}
